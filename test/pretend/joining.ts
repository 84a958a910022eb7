/** A worker, the API server that it joins by `03-join`, and what its kubelet then does. */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { certInfo } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf, type Pair } from "../../shared/pki/issue.ts";
import { kubeletKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { pretendApi, status } from "./api.ts";
import { ADDRESS, FACTS, otherCa, write, writeKubelet } from "./cluster.ts";
import { STATIC_UID } from "./memory.ts";
import { type pretendNode, type Transcript, WRITING } from "./node.ts";

type PretendNode = Awaited<ReturnType<typeof pretendNode>>;

const SERVER = `https://${ADDRESS}:6443`;
export const LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w1";
export const TOKEN = ["abcdef", "0123456789abcdef"].join(".");
export const newCa = await otherCa();
const newHash = certInfo(newCa.cert).publicKeyHash;

/**
 * An API server whose certificate is of `ca`. Like one of a hardened cluster it lets nobody in who shows no
 * credentials; `token` may see its version alone.
 */
export async function serve(ca: Pair, token = TOKEN) {
  return pretendApi({
    hostname: ADDRESS,
    port: 6443,
    tls: await issueLeaf(certRow("apiserver"), ca, FACTS),
    objects: { [LEASE]: { spec: { renewTime: "2026-01-01T00:00:00Z" } } },
    on: ({ path, token: shown }, { objects }) => {
      if (objects.has(path)) return undefined;
      return path === "/version" && shown === token ? Response.json({}) : status(401, "Unauthorized");
    },
  });
}

/** As `open` writes it. `at`: the address of its own API server; `pods`: this worker's own static pods. */
export function writeToken(root: string, ca = newCa.cert, at = "", pods: readonly string[] = []) {
  const own = pods.length > 0 ? `# pods ${pods.join(" ")}\n` : "";
  write(`${root}/root/token`, `${TOKEN}\n${at && `# at ${at}\n`}${own}${ca}`);
}

export function join(hash = newHash, server = SERVER) {
  return `03-join --server ${server} --ca-hash ${hash} --token-file token`;
}

/** The files of /etc and /var, without their times and folders: what a failed join has to leave as it was. */
export function kubeletFiles(node: PretendNode) {
  return node
    .fingerprint()
    .filter((line) => /^(etc|var)\//.test(line) && !/^\S+ 4/.test(line))
    .map((line) => line.split(" ").toSpliced(3, 1).join(" "));
}

/**
 * What a kubelet does with a bootstrap kubeconfig: a certificate of the new CA, and its own kubelet.conf.
 * `runs`: whether it still runs when its certificate comes; one that was stopped meanwhile writes nothing.
 */
export async function bootstrap(
  { root, env }: Pick<PretendNode, "root" | "env">,
  ca = newCa,
  runs = () => true,
) {
  const [made, writing] = [mkdtempSync(`${tmpdir()}/kubelet-`), `${env.FAKE}/${WRITING}`];
  await writeKubelet(made, "w1", { ca, server: SERVER });
  write(writing, "");
  if (runs()) install(made, root, ca);
  for (const path of [made, writing]) rmSync(path, { recursive: true });
}

function install(made: string, root: string, ca: Pair) {
  cpSync(`${made}/var/lib/kubelet/pki`, `${root}/var/lib/kubelet/pki`, {
    recursive: true,
    verbatimSymlinks: true,
  });
  write(`${root}/etc/kubernetes/kubelet.conf`, kubeletKubeconfig({ server: SERVER, ca: ca.cert }));
}

/** The whole join of a worker whose kubelet asks, gets its certificate, and renews its Lease. */
export async function joinToItsEnd(
  node: PretendNode,
  api: Awaited<ReturnType<typeof serve>>,
): Promise<Transcript> {
  const running = node.run(join(), { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl start kubelet");
  await bootstrap(node);
  api.objects.get(LEASE).spec.renewTime = new Date(Date.now() + 60_000).toISOString();
  return await running;
}

/** kubespray's balancer in front of the API, as a kubelet tells it. */
export function proxyOf(node: string) {
  const annotations = { "kubernetes.io/config.mirror": STATIC_UID, "kubernetes.io/config.hash": STATIC_UID };
  const container = { name: "nginx-proxy", image: "nginx:1.27", imagePullPolicy: "IfNotPresent" };
  return {
    ...{ apiVersion: "v1", kind: "Pod" },
    metadata: { name: `nginx-proxy-${node}`, namespace: "kube-system", annotations },
    spec: { nodeName: node, hostNetwork: true, containers: [container] },
  };
}
