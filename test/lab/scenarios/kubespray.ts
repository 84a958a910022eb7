/**
 * kubespray's layout: etcd is a unit beside kubeadm and lives on, and the kubelet has its flags and its configuration
 * from /etc/kubernetes. Its etcd, its kubelet's flags and configuration, and the servers of its kubeconfigs have to be
 * afterwards what they were.
 */

import { globSync, readFileSync } from "node:fs";
import { KUBELET_CONFIG, kubekey, kubespray, SSL } from "../machine/kubespray.ts";
import { type Machine, sh } from "../machine/machine.ts";
import type { Profile } from "../machine/profile.ts";
import { changedFiles, filesOf } from "../report/footprint.ts";
import { ageFile } from "../scene/expire.ts";
import { followRunbook } from "../scene/follow.ts";
import { askedBy, byHand, followGuide, followRepair } from "../scene/follow-repair.ts";
import {
  controlPlaneSamples,
  damage,
  deleteKubernetes,
  type Scenario,
  type Scene,
  sayAndWait,
  type,
} from "../scene/scene.ts";
import { TAGS as LOST } from "./all-lost.ts";
import { aYearPasses, TAGS as EXPIRED, expired } from "./expired.ts";
import { pkiLostAlive, TAGS } from "./keys-in-memory.ts";

type Line = Scenario["lines"][number];

/** What must be as before, by a line of shell on the control plane node. */
const KEPT: [name: string, line: string][] = [
  ["etcd is the same process", "systemctl show etcd -p MainPID,NRestarts"],
  [
    "etcd's settings and certificates are untouched",
    "stat -c '%n %Y %a %U %i' /etc/etcd.env /etc/ssl/etcd/ssl/*",
  ],
  [
    "the kubelet has the same flags",
    "tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value kubelet)/cmdline | sort",
  ],
  [
    "the kubelet has the same configuration",
    "kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /api/v1/nodes/$(hostname)/proxy/configz",
  ],
  ["kubeconfigs lead where they led", "grep -H server: /etc/kubernetes/*.conf"],
  [
    "manifests have the names that they had",
    "ls /etc/kubernetes/manifests; readlink /etc/kubernetes/pki; true",
  ],
];

/** The same on a worker, whose kubelet reaches the API by a balancer of its own. */
const KEPT_ON_WORKER = KEPT.slice(2).filter(([name]) => !/configuration/.test(name));

async function seen(node: Machine): Promise<Map<string, string>> {
  const all = (node.name.startsWith("cp") ? KEPT : KEPT_ON_WORKER).map(async ([name, line]) => {
    const { stdout, stderr } = await node.run(["bash", "-c", line]);
    return [name, stdout.trim() || stderr.trim()] as const;
  });
  return new Map(await Promise.all(all));
}

/** `changes`: what is meant to be another one afterwards. */
export function kept(changes = (_node: Machine, _name: string) => false): { look: Line; asBefore: Line } {
  const before = new Map<Machine, Map<string, string>>();
  return {
    look: {
      title: "What has to be as it is now",
      async run({ lab }) {
        for (const node of lab.nodes) before.set(node, await seen(node));
      },
    },
    asBefore: {
      title: "etcd, the kubelet's flags and configuration, the kubeconfigs' servers are as before",
      async run({ checks }) {
        for (const [node, was] of before)
          for (const [name, now] of await seen(node)) {
            if (changes(node, name)) continue;
            const ok = now === was.get(name);
            checks.push({
              name: `${node.name}: ${name}`,
              ok,
              detail: ok ? now.slice(0, 80) : `${was.get(name)} → ${now}`,
            });
          }
      },
    },
  };
}

/** Typed on a healthy node: each says that it is well, and nothing changes. A drill may miss what only copies bring. */
const ON_A_GOOD_DAY: [line: string, exit: number[]][] = [
  ["00-assess.ts", [0]],
  ["05-verify.ts", [0]],
  ["drill.ts", [0, 2]],
  ["plan.ts", [0]],
  ["01-etcd.ts", [0]],
  ["02-control-plane.ts", [0]],
];

export const wellBefore: Line = {
  title: "On a good day every script says that it is well, and changes nothing",
  async run(scene) {
    const [node] = scene.lab.controlPlanes as [Machine];
    for (const [line, exit] of ON_A_GOOD_DAY) {
      const before = filesOf(node);
      const { stdout, stderr, exitCode } = await type(scene, node, `./bunw scripts/${line}`, { exit });
      const changed = changedFiles(before, filesOf(node));
      const ok = exit.includes(exitCode) && changed.length === 0;
      const detail = ok
        ? "nothing changes"
        : `exit ${exitCode}; ${changed}; ${(stdout + stderr).slice(-600)}`;
      scene.checks.push({ name: `${line} on a healthy node of kubespray's`, ok, detail });
    }
  },
};

/** RUNBOOK-MORE, "Before you stop a kubelet". */
const KEEP =
  "P=$(systemctl show -p MainPID --value kubelet); (umask 077; tr '\\0' '\\n' < /proc/$P/environ > /run/kubelet.environ)";

type Hit = (scene: Scene) => readonly Machine[];

function stoppedOn(hit: Hit): Line {
  return {
    title: "The kubelet of each is stopped, and what it was given is kept",
    async run(scene) {
      for (const node of hit(scene)) await sh(node, `${KEEP}; systemctl stop kubelet`);
    },
  };
}

/** What is done to the control plane nodes from the Nth on. */
function lost(from = 0) {
  const hit = ({ lab }: Scene) => lab.controlPlanes.slice(from);
  const stopped = stoppedOn(hit);
  const deleted: Line = {
    title: "/etc/kubernetes is deleted there",
    run: (scene) => deleteKubernetes(scene, hit(scene)),
  };
  return { stopped, deleted, configFromWorker: configFrom(0, hit) };
}

/** From a worker that has it; addresses of its own are not in it here. */
function configFrom(worker: number, to: (scene: Scene) => readonly Machine[]): Line {
  return {
    title: "The kubelet's configuration comes from a worker",
    async run(scene) {
      const { stdout } = await scene.lab.workers[worker]!.run(["cat", KUBELET_CONFIG]);
      for (const node of to(scene))
        await node.run(["sh", "-c", `install -D -m 600 /dev/stdin ${KUBELET_CONFIG}`], { input: stdout });
    },
  };
}

const apiGone: Line = {
  title: "The API stops, and etcd lives on",
  async run(scene) {
    const ended = async (node: Machine) =>
      !(await node.run(["crictl", "ps", "-q", "--name", "kube-apiserver"])).stdout.trim();
    // nobody finds the keys in its memory any more
    const isGone = async () =>
      controlPlaneSamples(scene).every((samples) => samples.at(-1)?.api === false) &&
      (await Promise.all(scene.lab.controlPlanes.map(ended))).every(Boolean);
    const hint = "systemctl status kubelet: the kubelet stops the static pods";
    await sayAndWait(scene, "the API to stop", isGone, { seconds: 120, hint });
    const lives = controlPlaneSamples(scene).every((samples) => samples.at(-1)?.etcd === true);
    scene.checks.push({ name: "etcd outlives /etc/kubernetes", ok: lives, detail: String(lives) });
  },
};

export const { stopped, deleted, configFromWorker } = lost();
const [inMemory, nowhere, inventory] = [kept(), kept(), kept()];

export const kubesprayLost: Scenario = {
  ...pkiLostAlive,
  name: "kubespray",
  title:
    "etcd is a unit beside the control plane, as kubespray makes it; the kubelet is stopped, then /etc/kubernetes is deleted on the control plane node; the keys come from memory",
  profile: () => kubespray(),
  lines: [
    wellBefore,
    inMemory.look,
    stopped,
    deleted,
    configFromWorker,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    inMemory.asBefore,
  ],
};

/** The kubelet stops the servers, and with them the last copies of the keys; what it was given itself is still there. */
export const kubesprayNewCas: Scenario = {
  ...kubesprayLost,
  name: "kubespray-new-cas",
  title:
    "As kubespray, but the kubelet runs while /etc/kubernetes is deleted: the keys are nowhere, and the worker joins again",
  oldKeys: false,
  lines: [
    nowhere.look,
    deleted,
    apiGone,
    stopped,
    configFromWorker,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, LOST) },
    nowhere.asBefore,
  ],
};

const three = lost(2);

export function followOnThree(tags: readonly string[]): Line {
  return {
    title: "The operator follows RUNBOOK.md",
    async run(scene) {
      if (scene.guide === "runbook")
        return followRunbook(scene, [...tags, "several-control-planes"], { asHinted: true });
      await followRepair(scene, {});
    },
  };
}

/** The same, on three control plane nodes and two workers. */
function onThree(scenario: Scenario, lines: Line[], tags: string[], { look, asBefore } = kept()): Scenario {
  return {
    ...scenario,
    name: `ha-${scenario.name}`,
    title: `${scenario.title}; three control plane nodes and two workers`,
    controlPlanes: 3,
    workers: 2,
    profile: () => kubespray({ controlPlanes: 3, generation: "2.30" }),
    lines: [look, ...lines, followOnThree(tags), asBefore],
  };
}

export const haKubespray = onThree(
  kubesprayLost,
  [stopped, deleted, configFromWorker],
  ["look-around", ...TAGS],
);

export const haKubesprayNewCas = onThree(
  kubesprayNewCas,
  [deleted, apiGone, stopped, configFromWorker],
  LOST,
);

const PLAYBOOK = "ansible-playbook -i inventory.yaml scripts/fleet.yaml -e new_cas=true";

/** The playbook stops the kubelets itself: their flags come back from their journals. */
export const fleetKubespray: Scenario = {
  ...haKubesprayNewCas,
  name: "fleet-kubespray",
  title:
    "As ha-kubespray-new-cas; the operator runs RUNBOOK.md's playbook from one machine, then parts 4 and 5",
  lines: [
    inventory.look,
    deleted,
    apiGone,
    configFromWorker,
    {
      title: "The operator runs the playbook; it asks whether the others, whose etcd lives, have the keys",
      async run(scene) {
        const step = await type(scene, scene.lab.operator!, PLAYBOOK, { exit: [2] });
        const isAsked = step.stdout.includes("-e lost_on=cp2,cp3");
        const detail = `exit ${step.exitCode}`;
        scene.checks.push({ name: "the playbook prints the word that it needs", ok: isAsked, detail });
      },
    },
    {
      title: "The operator types the line again, with that word",
      run: (scene) => type(scene, scene.lab.operator!, `${PLAYBOOK} -e lost_on=cp2,cp3`),
    },
    {
      title: "The operator follows RUNBOOK.md from part 4 on",
      run: (scene) => followRunbook(scene, ["new-cas"], { parts: [4, 5] }),
    },
    inventory.asBefore,
  ],
};

/** Two of three are well: the third gets its keys from them. */
export const kubesprayOneWiped: Scenario = {
  ...onThree(kubesprayLost, [three.stopped, three.deleted, three.configFromWorker], ["old-cas"]),
  name: "kubespray-one-wiped",
  title:
    "kubespray's layout: /etc/kubernetes is deleted on the third of three control plane nodes, its kubelet stopped before; it gets the keys of the others",
};

const etcdsFilesDeleted = (hit: (scene: Scene) => readonly Machine[]): Line => ({
  title: "/etc/ssl/etcd is deleted there, too",
  async run(scene) {
    for (const node of hit(scene)) await sh(node, "rm -rf /etc/ssl/etcd");
  },
});

const renewedEtcd = kept((_, name) => name.startsWith("etcd"));

/** Nobody has the key of etcd's CA: a new one, and etcd starts again with it. */
export const kubesprayEtcdPkiLost: Scenario = {
  ...kubesprayLost,
  name: "kubespray-etcd-pki-lost",
  title:
    "As kubespray, and /etc/ssl/etcd is deleted, too: the keys come from memory, but that of etcd's CA is nowhere",
  lines: [
    renewedEtcd.look,
    stopped,
    etcdsFilesDeleted(({ lab }) => lab.controlPlanes),
    deleted,
    configFromWorker,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    renewedEtcd.asBefore,
  ],
};

const onlyEtcds = kept((_, name) => name.startsWith("etcd"));

/** All else is well, and the API server still has open connections. */
export const kubesprayOnlyEtcdPkiLost: Scenario = {
  ...kubesprayEtcdPkiLost,
  name: "kubespray-only-etcd-pki-lost",
  title:
    "kubespray's layout: /etc/ssl/etcd alone is deleted, while everything runs; the key of etcd's CA is nowhere",
  lines: [
    onlyEtcds.look,
    {
      title: "/etc/ssl/etcd is deleted",
      run: (scene) => damage(scene, scene.lab.controlPlanes, "rm -rf /etc/ssl/etcd"),
    },
    {
      title: "The operator follows RUNBOOK.md",
      run: (scene) => followGuide(scene, ["new-internal-cas"]),
    },
    onlyEtcds.asBefore,
  ],
};

const third = kept((node, name) => node.name === "cp3" && /certificates/.test(name));

/** Two of three have all of it: the third gets the key of etcd's CA from them, and its etcd runs on. */
export const kubesprayOneEtcdPkiLost: Scenario = {
  ...onThree(
    kubesprayLost,
    [
      three.stopped,
      etcdsFilesDeleted(({ lab }) => lab.controlPlanes.slice(2)),
      three.deleted,
      three.configFromWorker,
    ],
    ["old-cas"],
    third,
  ),
  name: "kubespray-one-etcd-pki-lost",
  title:
    "kubespray's layout: /etc/kubernetes and /etc/ssl/etcd are deleted on the third of three control plane nodes; it gets the keys of the others, and its etcd runs on",
};

/** As kubespray-etcd-pki-lost, on three: two CAs never form a quorum, so all members stop. */
export const haKubesprayEtcdPkiLost = onThree(
  kubesprayEtcdPkiLost,
  [stopped, etcdsFilesDeleted(({ lab }) => lab.controlPlanes), deleted, configFromWorker],
  ["look-around", ...TAGS, "end-etcd"],
  kept((_, name) => name.startsWith("etcd")),
);

/** RUNBOOK-MORE, "Workers with static pods of their own": what open prints is typed. */
const balancerBack: Line = {
  title: "The operator puts the balancer's manifest back on the worker, as open prints it",
  async run(scene) {
    const [cp] = scene.lab.controlPlanes as [Machine];
    const worker = scene.lab.workers[0]!;
    const { stderr } = await type(scene, cp, "./bunw scripts/03-workers.ts open", { part: 3 });
    const [, put, from] = /ssh root@NODE '(mkdir [^']+)' < (\S+)/.exec(stderr) ?? [];
    scene.checks.push({
      name: "open prints the line for the balancer's manifest",
      ok: put !== undefined,
      detail: `${from}: ${put}`,
    });
    if (!from || !put) return;
    const { stdout } = await cp.run(["cat", from]);
    await worker.run(["sh", "-c", `umask 077; ${put}`], { input: stdout });
  },
};

/** Nobody has the kubelet's configuration any more: the line that 00-assess prints is typed on each node. */
const configAsRefused: Line = {
  title: "No node has the kubelet's configuration: what 00-assess prints is typed on each",
  async run(scene) {
    const [cp] = scene.lab.controlPlanes as [Machine];
    const { stdout } = await type(scene, cp, "./bunw scripts/00-assess.ts", { exit: [2] });
    const line = /(install -D -m 600 \S+ \S+) +# if nobody has it/.exec(stdout)?.[1];
    scene.checks.push({
      name: "00-assess says how the kubelet gets a configuration that nobody has",
      ok: line !== undefined,
      detail: stdout.slice(-3000),
    });
    for (const node of scene.lab.nodes) await sh(node, line ?? "false");
  },
};

/** What is put back is shown first, and asked about once more. */
const PUT_BACK = [
  /^Copy \S+ from w\d+, which has it/,
  /^Copy it to /,
  /^Write a replacement of \S+ with kubeadm/,
  /^Put \S+ back on \S+: its manifest is shown first/,
  /^Put it back on /,
];

const byNumbers: Line = {
  title: "The operator follows repair: lost configurations and the balancer come back by numbers",
  async run(scene) {
    if (scene.guide === "runbook") return;
    await followRepair(scene, { ways: PUT_BACK });
    const asked = askedBy(scene);
    scene.checks.push({
      name: "repair has put the balancer back, after it has shown it",
      ok: asked.some((text) => / → Put it back on w1/.test(text)),
      detail: asked.join("; "),
    });
  },
};

interface Wiped {
  name: string;
  title: string;
  profile?: () => Promise<Profile>;
  workers?: number;
  hit: Hit;
  /** What happens before the operator follows the guide: the kubelets' files come back. */
  lines: Line[];
  kept?: ReturnType<typeof kept>;
}

/** Wiped while all runs: the keys are nowhere, and the worker has lost its own balancer. */
function wiped({ hit, lines, kept: { look, asBefore } = kept(), ...scenario }: Wiped): Scenario {
  const follow = (parts: number[]): Line =>
    byHand({
      title: `The operator follows RUNBOOK.md, parts ${parts}`,
      run: (scene) => followRunbook(scene, LOST, { parts }),
    });
  return {
    ...kubesprayNewCas,
    ...scenario,
    lines: [
      look,
      { title: "/etc/kubernetes is deleted there", run: (scene) => deleteKubernetes(scene, [...hit(scene)]) },
      apiGone,
      ...lines,
      follow([0, 1, 2]),
      byHand(balancerBack),
      follow([3, 4, 5]),
      byNumbers,
      asBefore,
    ],
  };
}

const everyNode: Hit = ({ lab }) => lab.nodes;
/** A second worker has all of it still. */
const firstWorkerToo: Hit = ({ lab }) => [...lab.controlPlanes, lab.workers[0]!];

export const kubesprayAllWiped = wiped({
  name: "kubespray-all-wiped",
  title:
    "kubespray's layout: /etc/kubernetes is deleted on every node while the kubelets run; the keys are nowhere, and no node has the kubelet's configuration",
  hit: everyNode,
  lines: [stoppedOn(everyNode), byHand(configAsRefused)],
  kept: kept((_, name) => /configuration/.test(name)),
});

/** Nothing restarts etcd for it: it reads its certificates at each handshake. */
const etcdsLeavesExpire: Line = {
  title: "etcd's certificates expire, those of the API server for it, too",
  async run({ lab }) {
    for (const node of lab.controlPlanes) {
      const key = readFileSync(node.path(`${SSL}/ca-key.pem`), "utf8");
      const names = globSync("{member,admin,node}-*.pem", { cwd: node.path(SSL) });
      for (const name of names) await ageFile(node.path(`${SSL}/${name}`), key);
    }
  },
};

/** As the files are renewed, only the process is compared where no machine restarts. */
const etcdIsTheSame: Line = {
  title: "etcd is the process that it was",
  async run({ lab, checks }) {
    for (const node of lab.controlPlanes) {
      const { stdout } = await node.run(["systemctl", "show", "etcd", "-p", "NRestarts"]);
      checks.push({
        name: `${node.name}: etcd has not restarted`,
        ok: stdout.trim() === "NRestarts=0",
        detail: stdout,
      });
    }
  },
};

/** The API server's pair for etcd is beside etcd's own here, and expires with it. */
export const kubekeyExpired: Scenario = {
  ...expired,
  name: "kubekey-expired",
  title:
    "KubeKey 3's layout: no certificate is renewed for a year, etcd's own neither, then every machine restarts; the key of etcd's CA is here",
  profile: () => kubekey({ days: 365 }),
  lines: [
    etcdsLeavesExpire,
    aYearPasses,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, EXPIRED) },
    etcdIsTheSame,
  ],
};

export const kubesprayExpired: Scenario = {
  ...kubekeyExpired,
  name: "kubespray-expired",
  title:
    "kubespray's layout: no certificate is renewed for a year, etcd's own neither, then every machine restarts; the key of etcd's CA is here",
  profile: () => kubespray({ days: 365 }),
};

const workersFiles: Line[] = [stopped, byHand(configFrom(1, firstWorkerToo))];

export const kubesprayWorkerLost = wiped({
  name: "kubespray-worker-lost",
  title:
    "kubespray's layout: /etc/kubernetes is deleted on the control plane node and on a worker with its own balancer; the keys are nowhere",
  workers: 2,
  hit: firstWorkerToo,
  lines: workersFiles,
});

/** The trap: that kubelet knows no pod, and ends the containers of all. */
const restartedBySomebody: Line = {
  title: "Somebody restarts the worker's kubelet, whose file of flags is gone",
  async run(scene) {
    const worker = scene.lab.workers[0]!;
    await sh(worker, "systemctl restart kubelet");
    const ended = async () => !(await worker.run(["crictl", "ps", "-q"])).stdout.trim();
    await sayAndWait(scene, "the worker's containers to end", ended, {
      seconds: 60,
      hint: "crictl ps there",
    });
    scene.checks.push({
      name: "a kubelet without its flags ends every container",
      ok: await ended(),
      detail: "crictl ps",
    });
    const { stdout } = await type(scene, worker, "./bunw scripts/00-assess.ts", { exit: [2] });
    const isSaid =
      stdout.includes("has stopped every pod of this node") && stdout.includes("from its journal");
    scene.checks.push({
      name: "00-assess says what it has done, and what is left",
      ok: isSaid,
      detail: stdout.slice(-600),
    });
  },
};

export const kubesprayRestarted: Scenario = {
  ...wiped({
    name: "kubespray-worker-restarted",
    title:
      "As kubespray-worker-lost, and somebody restarts that worker's kubelet before the operator comes: its containers end, and its flags are in its journal alone",
    workers: 2,
    hit: firstWorkerToo,
    lines: [restartedBySomebody, ...workersFiles],
  }),
  machinesFail: true,
};

export const kubekeyLost = wiped({
  name: "kubekey",
  title:
    "KubeKey 3's layout, etcd as a unit: /etc/kubernetes is deleted on the control plane node and on the worker with its own balancer; the keys are nowhere",
  profile: () => kubekey(),
  hit: firstWorkerToo,
  lines: [],
});
