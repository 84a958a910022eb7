/**
 * A worker's kubelet that joins by TLS bootstrapping, as the real one does: its key is in memory until it has
 * the certificate. So when it is stopped before, it asks anew, with another key, and nobody can use the
 * certificate of the first request.
 */
import type { Pair } from "../../shared/pki/issue.ts";
import type { pretendApi } from "./api.ts";
import { CSRS, clientCsr } from "./csrs.ts";
import { bootstrap, LEASE } from "./joining.ts";
import type { pretendNode } from "./node.ts";
import { lease } from "./running.ts";

/** How far it gets; a test lets it go on. */
const STAGES = ["nothing", "asks", "is approved", "has its certificate", "renews its Lease"] as const;
export type Stage = (typeof STAGES)[number];

interface Around {
  node: Awaited<ReturnType<typeof pretendNode>>;
  api: ReturnType<typeof pretendApi>;
  ca: Pair;
}

/** `upTo`: where it waits. */
export function askingKubelet({ node, api, ca }: Around, upTo: Stage) {
  const state = { upTo, asked: 0, csr: "", busy: false };
  const may = (stage: Stage) => STAGES.indexOf(state.upTo) >= STAGES.indexOf(stage);
  const runs = () => {
    const turned = node.calls().filter((call) => /^systemctl (stop|start|restart) kubelet/.test(call));
    return turned.at(-1) !== "systemctl stop kubelet";
  };
  const isApproved = () => (api.objects.get(`${CSRS}/${state.csr}`)?.status?.conditions ?? []).length > 0;
  const bootstraps = () => node.exists("/etc/kubernetes/bootstrap-kubelet.conf");
  const conf = "/etc/kubernetes/kubelet.conf";
  // it writes this file last
  const hasCertificate = () => bootstraps() && node.exists(conf) && node.read(conf).includes(btoa(ca.cert));
  const ask = async () => {
    state.csr = `csr-${++state.asked}`;
    api.objects.set(`${CSRS}/${state.csr}`, await clientCsr({ name: state.csr }));
  };
  const act = async () => {
    if (!runs() || !bootstraps()) state.csr = "";
    else if (hasCertificate()) {
      if (may("renews its Lease")) api.objects.set(LEASE, { metadata: { name: "w1" }, ...lease(-60) });
    } else if (state.csr === "") {
      if (may("asks")) await ask();
    } else if (may("has its certificate") && isApproved())
      await bootstrap(node, ca, () => runs() && bootstraps());
  };
  const look = setInterval(() => {
    if (state.busy) return;
    state.busy = true;
    void act().finally(() => {
      state.busy = false;
    });
  }, 20);
  return {
    goOn: (stage: Stage) => {
      state.upTo = stage;
    },
    /** Whether it has come so far. */
    is: (stage: Stage) =>
      ({
        nothing: runs() && bootstraps(),
        asks: state.asked > 0,
        "is approved": state.csr !== "" && isApproved(),
        "has its certificate": hasCertificate(),
        "renews its Lease": false,
      })[stage],
    asked: () => state.asked,
    [Symbol.dispose]: () => clearInterval(look),
  };
}
