/**
 * etcd on hosts of its own, by kubeadm's guide: the control plane nodes are wiped, and with them the API server's pair for
 * etcd, or all certificates have expired. What the refusal prints mends that on etcd's hosts; then all is as with any
 * other cluster.
 */
import { ETCD_PKI, external, HOSTS } from "../machine/external.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { followGuide } from "../scene/follow-repair.ts";
import { deleteKubernetes, type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { aYearPasses, TAGS as EXPIRED, expired } from "./expired.ts";
import { pkiLostAlive, TAGS } from "./keys-in-memory.ts";
import { followOnThree, wellBefore } from "./kubespray.ts";

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

/**
 * The refusal's own lines: etcd's expired certificates are renewed on each host, a pair is made on the first; ca.crt,
 * client.crt and client.key go where it says.
 */
function asRefused(wanted: RegExp): Line {
  return {
    title: "The refusal's lines are typed on etcd's hosts, and bring a client pair here",
    async run(scene) {
      const hosts = etcdsHosts(scene.lab);
      for (const cp of scene.lab.controlPlanes) {
        const { stderr } = await type(scene, cp, "./bunw scripts/01-etcd.ts", { exit: [3], part: 1 });
        const isFirst = cp === scene.lab.controlPlanes[0];
        const ok = isFirst ? wanted.test(stderr) : stderr.includes("This cluster's etcd is external");
        scene.checks.push({ name: `${cp.name}: part 1 says what to make`, ok, detail: stderr.slice(-1500) });
        const renew = /for c in .*?; rm -f ext new/.exec(stderr)?.[0];
        if (renew) for (const host of hosts) await sh(host, `cd ${ETCD_PKI} && ${renew}; rm ca.srl`);
        await bringPair(stderr, hosts[0]!, cp);
      }
      await etcdLeads(scene, hosts);
    },
  };
}

async function bringPair(refusal: string, host: Machine, cp: Machine) {
  const make = /\(umask 077; openssl req .* -out client\.crt\)/.exec(refusal)?.[0] ?? "false";
  const folders = /Here: (mkdir -p [^,]*),/.exec(refusal)?.[1] ?? "false";
  await sh(host, `cd ${ETCD_PKI} && ${make}`);
  await sh(cp, folders);
  for (const [, from, to] of refusal.matchAll(/([\w.]+) to (\/[\w./-]+)/g)) {
    const { stdout } = await host.run(["cat", `${ETCD_PKI}/${from}`]);
    await cp.run(["sh", "-c", `umask 077; cat > ${to}`], { input: stdout });
  }
  await sh(host, `rm -f ${ETCD_PKI}/client.* ${ETCD_PKI}/ca.srl`);
}

/** Its unit is active when it serves clients: it needs the other host's for that. */
async function etcdLeads(scene: Scene, hosts: readonly Machine[]) {
  const isActive = async (host: Machine) =>
    (await host.run(["systemctl", "is-active", "etcd"])).stdout.trim() === "active";
  const all = async () => (await Promise.all(hosts.map(isActive))).every(Boolean);
  const hint = "journalctl -u etcd -n 50 on the hosts";
  await sayAndWait(scene, "etcd to lead on its hosts", all, { seconds: 180, hint });
}

const [kept, keptOnThree] = [untouched(), untouched()];

const kubeletsStopped: Line = {
  title: "The kubelets of the control plane nodes are stopped",
  run: ({ lab }) => Promise.all(lab.controlPlanes.map((node) => sh(node, "systemctl stop kubelet"))),
};

const deleted: Line = {
  title: "/etc/kubernetes is deleted on the control plane nodes",
  run: (scene) => deleteKubernetes(scene, scene.lab.controlPlanes),
};

const LOST = /no client pair for it is here/;

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
    kubeletsStopped,
    deleted,
    asRefused(LOST),
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    kept.asBefore,
  ],
};

/** On its hosts: the same key, subject and names, and valid again. */
const etcdIsRenewed: Line = {
  title: "etcd's certificates are renewed with their own keys and names",
  async run({ lab, checks }) {
    for (const node of etcdsHosts(lab)) {
      const line = `cd ${ETCD_PKI} && openssl verify -CAfile ca.crt server.crt && openssl x509 -noout -subject -ext subjectAltName -in server.crt && openssl x509 -noout -pubkey -in server.crt | cmp - <(openssl pkey -pubout -in server.key)`;
      const { stdout, stderr, exitCode } = await node.run(["bash", "-c", line]);
      const ok = exitCode === 0 && stdout.includes(`etcd-member-${node.name}`) && stdout.includes(node.ip);
      checks.push({ name: `${node.name}: etcd's certificate is renewed`, ok, detail: stdout + stderr });
    }
  },
};

export const externalExpired: Scenario = {
  ...expired,
  name: "external-expired",
  title:
    "etcd is on two hosts of its own; no certificate is renewed for a year, there neither, then every machine restarts",
  workers: 2,
  profile: () => external({ days: 365 }),
  lines: [
    aYearPasses,
    asRefused(/its own certificates have expired: \S+ \S+, \S+ \S+; the API server's certificate for it has/),
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, EXPIRED) },
    etcdIsRenewed,
  ],
};

/** Each of them has to get the pair; the rest is as with any three. */
export const haExternal: Scenario = {
  ...externalLost,
  name: "ha-external",
  title: `${externalLost.title}; three control plane nodes`,
  controlPlanes: 3,
  lines: [
    keptOnThree.look,
    kubeletsStopped,
    deleted,
    asRefused(LOST),
    followOnThree(["look-around", ...TAGS]),
    keptOnThree.asBefore,
  ],
};
