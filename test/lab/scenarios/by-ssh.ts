/**
 * The lines of the plan as they stand on the page, pasted into one terminal on a machine beside the cluster:
 * by real ssh and scp to each node.
 */
import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { FLEET_PACKAGES } from "../machine/operator.ts";
import { followPlan, planOfAllNodes } from "../scene/follow-plan.ts";
import { makeReachable, operatorsTerminal, type Way } from "../scene/reachable.ts";
import { blockThatBegins } from "../scene/runbook-block.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import type { Terminal } from "../scene/terminal.ts";
import { everythingDeleted } from "./all-lost.ts";
import { haAllLost } from "./several-control-planes.ts";

export const bySsh: Scenario = {
  ...haAllLost,
  name: "by-ssh",
  title:
    "As ha-all-lost; the plan's lines are pasted into a terminal on a machine beside the cluster, whose ssh has never met the nodes",
  packages: FLEET_PACKAGES,
  lines: pasted({ unknown: true }),
};

export const bySshAndSudo: Scenario = {
  ...bySsh,
  name: "by-ssh-sudo",
  title:
    "As by-ssh; nobody logs in as root but a user who may use sudo, and all nodes but the first are reached through it",
  lines: pasted({ user: "ops", jump: true }),
};

const PASSWORD_WAY: Way = { user: "ops", password: randomBytes(12).toString("base64url"), unknown: true };

export const bySshAndPassword: Scenario = {
  ...bySsh,
  name: "by-ssh-password",
  title:
    "As by-ssh; nobody logs in as root, and sudo asks for a password: the operator types it once on each node",
  lines: [
    {
      title: "The operator has a machine that reaches all nodes by ssh",
      run: (scene) => makeReachable(scene, PASSWORD_WAY),
    },
    ...everythingDeleted,
    {
      title: "The operator finds that sudo asks, and types the lines of RUNBOOK-MORE.md and the plan",
      run: withPassword,
    },
  ],
};

async function withPassword(scene: Scene) {
  await using bash = operatorsTerminal(PASSWORD_WAY);
  const { exitCode, stderr } = await bash.paste(
    `ssh -n ops@${scene.lab.nodes[0]!.ip} "sudo -n sh -c 'systemctl stop kubelet'"`,
  );
  const asked = exitCode !== 0 && stderr.includes("sudo: a password is required");
  scene.checks.push({
    name: "a line of the plan stops where sudo asks, and says so",
    ok: asked,
    detail: stderr.trim(),
  });
  await onEachNode(scene, bash, "ssh -t ubuntu@NODE");
  await followAll(scene, bash, PASSWORD_WAY.user);
  await onEachNode(scene, bash, "ssh ubuntu@NODE sudo -n rm");
  const left = scene.lab.nodes.filter((node) => readdirSync(node.path("/etc/sudoers.d")).length > 0);
  scene.checks.push({
    name: "sudo asks again afterwards",
    ok: left.length === 0,
    detail: left.map(({ name }) => name).join() || "on every node",
  });
}

/**
 * Follows the plan made from all nodes' answers: one node's own plan may send to another one first, whose
 * etcd ends late.
 */
async function followAll(scene: Scene, bash: Terminal, user: string | undefined) {
  await followPlan(scene, { bash, user, page: await planOfAllNodes(scene, bash, user) });
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

function pasted(way: Way): Scenario["lines"] {
  return [
    {
      title: "The operator has a machine that reaches all nodes by ssh",
      run: (scene) => makeReachable(scene, way),
    },
    ...everythingDeleted,
    {
      title: "The operator pastes the plan there, step by step",
      async run(scene) {
        await using bash = operatorsTerminal(way);
        await followAll(scene, bash, way.user);
      },
    },
  ];
}
