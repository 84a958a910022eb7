/** One command on the operator's machine, whose ssh has never met the nodes, and no kit on any of them. */
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { FLEET_PACKAGES } from "../machine/operator.ts";
import { USUAL } from "../machine/profile.ts";
import { repairByOneCommand, repairByRelease, repairHere, withoutKit } from "../scene/by-repair.ts";
import { cutAgainAndAgain } from "../scene/cut-repair.ts";
import { restartBarePods } from "../scene/printed.ts";
import { makeReachable, operatorsTerminal, reachableFromFirst, type Way } from "../scene/reachable.ts";
import { blockThatBegins } from "../scene/runbook-block.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import type { Terminal } from "../scene/terminal.ts";
import { allLost, everythingDeleted } from "./all-lost.ts";
import { haAllLost } from "./several-control-planes.ts";

/** The old key of tokens: the pods that part 4 has named come first. */
const NOT_NOW = /^Not now/;

/** Only where the old key of tokens was computed. */
async function again(scene: Scene, repair: () => Promise<unknown>) {
  const isLeft = scene.lab.controlPlanes.some((node) =>
    existsSync(node.path("/etc/kubernetes/pki/sa-old.pub")),
  );
  if (!isLeft) return;
  await restartBarePods(scene);
  await repair();
}

function byOneCommand(way: Way): Scenario["lines"] {
  return [
    {
      title: "The operator has a machine that reaches all nodes by ssh",
      run: (scene) => makeReachable(scene, way),
    },
    { title: "No node has the kit", run: (scene) => withoutKit(scene) },
    ...everythingDeleted,
    {
      title: "The operator types one command",
      run: (scene) => repairByOneCommand(scene, { way, ways: [NOT_NOW] }),
    },
    {
      title: "Pods that part 4 left to people are restarted, and the same command ends it",
      run: (scene) => again(scene, () => repairByOneCommand(scene, { way })),
    },
  ];
}

export const byRepair: Scenario = {
  ...haAllLost,
  name: "by-repair",
  title:
    "As ha-all-lost; the operator types npm run repair -- root@cp1 on a machine beside the cluster, and numbers",
  packages: FLEET_PACKAGES,
  lines: byOneCommand({ unknown: true }),
};

export const byRepairOne: Scenario = {
  ...allLost,
  name: "by-repair-one",
  title:
    "As all-lost; the operator types npm run repair -- root@cp1 on a machine beside the cluster, and numbers",
  packages: FLEET_PACKAGES,
  lines: byOneCommand({ unknown: true }),
};

const BARE: Way = { unknown: true, bare: true };

export const byRelease: Scenario = {
  ...allLost,
  name: "by-release",
  title:
    "As all-lost; the operator's machine has the archive of a release, no node, npm, git and curl: unpack it, one command",
  packages: FLEET_PACKAGES,
  lines: [
    {
      title: "The operator has a machine that reaches all nodes by ssh",
      run: (scene) => makeReachable(scene, BARE),
    },
    { title: "No node has the kit", run: withoutKit },
    ...everythingDeleted,
    {
      title: "The operator unpacks the archive, and types one command",
      run: (scene) => repairByRelease(scene, BARE, [NOT_NOW]),
    },
    {
      title: "Pods that part 4 left to people are restarted, and the same command ends it",
      run: (scene) => again(scene, () => repairByRelease(scene, BARE, [])),
    },
  ],
};

/** Workloads run on the only node, as its operator wants it: kubeadm's taint is taken away. */
const alone = () => ({
  ...USUAL,
  afterJoin: [["taint", "nodes", "--all", "node-role.kubernetes.io/control-plane:NoSchedule-"]],
});

const onTheNode: Scenario["lines"] = [
  ...everythingDeleted,
  {
    title: "The operator has no other machine, and types the script's line on the node",
    run: (scene) => repairHere(scene, [NOT_NOW]),
  },
  {
    title: "Pods that part 4 left to people are restarted, and the same command ends it",
    run: (scene) => again(scene, () => repairHere(scene)),
  },
];

export const byRepairHere: Scenario = {
  ...allLost,
  name: "by-repair-here",
  title:
    "As all-lost, on a cluster of one node; the operator has nothing but its console, and types scripts/repair.ts there",
  workers: 0,
  profile: alone,
  lines: onTheNode,
};

/** Workers have no kit, and no machine but the first node reaches them. */
export const byRepairHereWorker: Scenario = {
  ...allLost,
  name: "by-repair-here-worker",
  title:
    "As all-lost; the operator types scripts/repair.ts on the control plane node, which alone reaches the worker",
  packages: FLEET_PACKAGES.slice(1),
  lines: [
    { title: "Only the control plane node reaches the worker by ssh", run: reachableFromFirst },
    { title: "The worker has no kit", run: (scene) => withoutKit(scene, scene.lab.workers) },
    ...onTheNode,
  ],
};

export const byRepairAndSudo: Scenario = {
  ...byRepair,
  name: "by-repair-sudo",
  title: "As by-repair; a user with sudo logs in, and all nodes but the first are reached through it",
  lines: byOneCommand({ user: "ops", jump: true }),
};

export const byRepairCut: Scenario = {
  ...byRepair,
  name: "by-repair-cut",
  title:
    "As by-repair; repair is cut at random moments by Ctrl-C, kill -9 and a dead network, and the same command is typed again",
  byRunbook: false,
  commandsMayFail: true,
  lines: [
    ...byOneCommand({ unknown: true }).slice(0, -2),
    {
      title: "The operator types one command, which is cut again and again",
      run: (scene) => cutAgainAndAgain(scene, { unknown: true }),
    },
    ...byOneCommand({ unknown: true }).slice(-1),
  ],
};

const PASSWORD_WAY: Way = { user: "ops", password: randomBytes(12).toString("base64url"), unknown: true };

export const byRepairAndPassword: Scenario = {
  ...byRepair,
  name: "by-repair-password",
  title:
    "As by-repair; nobody logs in as root, and sudo asks for a password: the operator types it once on each node",
  lines: [
    ...byOneCommand(PASSWORD_WAY).slice(0, -2),
    {
      title: "The operator finds that sudo asks, types RUNBOOK-MORE.md's lines, and one command",
      run: withPassword,
    },
    {
      title: "Pods that part 4 left to people are restarted, and the same command ends it",
      run: againAndClosed,
    },
  ],
};

async function withPassword(scene: Scene) {
  await using bash = operatorsTerminal(PASSWORD_WAY);
  const { exitCode, stderr } = await bash.paste(
    `ssh -n ops@${scene.lab.nodes[0]!.ip} "sudo -n sh -c 'systemctl stop kubelet'"`,
  );
  scene.checks.push({
    name: "a line by ssh stops where sudo asks, and says so",
    ok: exitCode !== 0 && stderr.includes("sudo: a password is required"),
    detail: stderr.trim(),
  });
  await onEachNode(scene, bash, "ssh -t ubuntu@NODE");
  await repairByOneCommand(scene, { way: PASSWORD_WAY, ways: [NOT_NOW] });
}

async function againAndClosed(scene: Scene) {
  await again(scene, () => repairByOneCommand(scene, { way: PASSWORD_WAY }));
  await using bash = operatorsTerminal(PASSWORD_WAY);
  await onEachNode(scene, bash, "ssh ubuntu@NODE sudo -n rm");
  const left = scene.lab.nodes.filter((node) => readdirSync(node.path("/etc/sudoers.d")).length > 0);
  scene.checks.push({
    name: "sudo asks again afterwards",
    ok: left.length === 0,
    detail: left.map(({ name }) => name).join() || "on every node",
  });
}

/** The line of RUNBOOK-MORE.md that begins so, in the operator's terminal. */
async function onEachNode(scene: Scene, bash: Terminal, begin: string) {
  const [line] = blockThatBegins(begin) as [string];
  for (const { ip, name } of scene.lab.nodes) {
    const { exitCode, stderr } = await bash.paste(
      line.replaceAll("ubuntu", PASSWORD_WAY.user!).replace("NODE", ip),
    );
    if (exitCode !== 0)
      throw new Fail(`"${line}" ended with ${exitCode} on ${name}: ${stderr.trim()}`, {
        hint: "see Where sudo asks for a password",
      });
  }
}
