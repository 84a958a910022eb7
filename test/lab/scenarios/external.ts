/**
 * etcd on hosts of its own, by kubeadm's guide: the control plane node is wiped, and with it the API server's pair for
 * etcd. What the refusal prints makes a new one on an etcd host; then all is as with any other cluster.
 */
import { ETCD_PKI, external, HOSTS } from "../machine/external.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { followGuide } from "../scene/follow-plan.ts";
import { deleteKubernetes, type Scenario, type } from "../scene/scene.ts";
import { pkiLostAlive, TAGS } from "./keys-in-memory.ts";
import { wellBefore } from "./kubespray.ts";

type Line = Scenario["lines"][number];

/** etcd's process and files on its hosts. */
const KEPT = `systemctl show etcd -p MainPID,NRestarts; stat -c '%n %Y %a %i' /etc/etcd.env ${ETCD_PKI}/server.*`;

function etcdsHosts({ workers }: { workers: readonly Machine[] }) {
  return workers.filter(({ name }) => HOSTS.includes(name));
}

function untouched() {
  const before = new Map<Machine, string>();
  const seen = async (node: Machine) => (await node.run(["bash", "-c", KEPT])).stdout.trim();
  const look: Line = {
    title: "etcd's processes and files, as they are",
    async run({ lab }) {
      for (const node of etcdsHosts(lab)) before.set(node, await seen(node));
    },
  };
  const asBefore: Line = {
    title: "etcd's processes and files are as before",
    async run({ checks }) {
      for (const [node, was] of before) {
        const now = await seen(node);
        checks.push({ name: `${node.name}: etcd is untouched`, ok: now === was, detail: now.slice(0, 80) });
      }
    },
  };
  return { look, asBefore };
}

/** The refusal's own line, on an etcd host; ca.crt, client.crt and client.key go where it says. */
const newPair: Line = {
  title: "The refusal's lines make a client pair on an etcd host, and bring it here",
  async run(scene) {
    const [cp] = scene.lab.controlPlanes as [Machine];
    const [host] = etcdsHosts(scene.lab) as [Machine];
    const { stderr } = await type(scene, cp, "./bunw scripts/01-etcd.ts", { exit: [3], part: 1 });
    const make = /\(umask 077; openssl req .* -out client\.crt\)/.exec(stderr)?.[0] ?? "false";
    const folders = /Here: (mkdir -p [^,]*),/.exec(stderr)?.[1] ?? "false";
    await sh(host, `cd ${ETCD_PKI} && ${make}`);
    await sh(cp, folders);
    for (const [from, to] of [...stderr.matchAll(/([\w.]+) to (\/[\w./-]+)/g)].map((found) =>
      found.slice(1),
    )) {
      const { stdout } = await host.run(["cat", `${ETCD_PKI}/${from}`]);
      await cp.run(["sh", "-c", `umask 077; cat > ${to}`], { input: stdout });
    }
    await sh(host, `rm ${ETCD_PKI}/client.* ${ETCD_PKI}/ca.srl`);
    const ok = stderr.includes("This cluster's etcd is external");
    scene.checks.push({ name: "part 1 says what to make", ok, detail: stderr.slice(-300) });
  },
};

const kept = untouched();

export const externalLost: Scenario = {
  ...pkiLostAlive,
  name: "external",
  title:
    "etcd is on two hosts of its own; the kubelet is stopped, then /etc/kubernetes is deleted on the control plane node, with the API server's pair for etcd; the keys come from memory",
  workers: 2,
  profile: () => external(),
  lines: [
    wellBefore,
    kept.look,
    {
      title: "The kubelet of the control plane node is stopped",
      run: (scene) => scene.lab.controlPlanes[0]!.run(["systemctl", "stop", "kubelet"]),
    },
    {
      title: "/etc/kubernetes is deleted on the control plane node",
      run: (scene) => deleteKubernetes(scene, scene.lab.controlPlanes),
    },
    newPair,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    kept.asBefore,
  ],
};
