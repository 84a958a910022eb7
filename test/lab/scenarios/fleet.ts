/** Five nodes repaired from one machine: the playbook for parts 0 to 3, then the runbook. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab, Machine, Output } from "../machine/machine.ts";
import { GATEWAY, SWITCH } from "../machine/network.ts";
import { FLEET_PACKAGES, type Group, makeOperator, newKey, operatorEnv, sshdConfig } from "../machine/operator.ts";
import { LAB } from "../machine/state.ts";
import { followRunbook } from "../scene/follow.ts";
import { KIT, type Scenario, type Scene, type } from "../scene/scene.ts";
import { everythingDeleted } from "./all-lost.ts";
import { haAllLost } from "./several-control-planes.ts";

const OPERATOR = join(LAB, "operator");
const HOST_KEY = "/etc/ssh/ssh_host_ed25519_key";

export const fleet: Scenario = {
  ...haAllLost,
  name: "fleet",
  title: "As ha-all-lost; the operator runs RUNBOOK.md's playbook from one machine, then follows parts 4 and 5",
  packages: FLEET_PACKAGES,
  lines: [
    { title: "The operator has a machine that reaches all nodes by ssh", run: makeReachable },
    ...everythingDeleted,
    { title: "The operator runs the playbook without new_cas; its first gate stops it", run: stopAtGate },
    { title: "The operator runs the playbook as RUNBOOK.md says", run: (scene) => followRunbook(scene, ["fleet"], { parts: [-1] }) },
    { title: "The operator follows RUNBOOK.md from part 4 on", run: (scene) => followRunbook(scene, ["new-cas"], { parts: [4, 5] }) },
  ],
};

async function makeReachable(scene: Scene) {
  const { lab, kit } = scene;
  const hosts = lab.nodes.map(({ name, ip }) => ({ name, group: groupOf(lab, name), address: ip }));
  const { publicKey } = await makeOperator(OPERATOR, { hosts, kit });
  const hostKeys = await Promise.all(lab.nodes.map((node) => startSshd(node, publicKey)));
  writeFileSync(join(OPERATOR, "known_hosts"), hosts.map(({ address }, i) => `${address} ${hostKeys[i]}\n`).join(""));
  lab.operator = operatorMachine();
}

/** Debian's own unit, which returns when sshd listens. Returns the node's host key. */
async function startSshd(node: Machine, authorizedKey: string): Promise<string> {
  for (const folder of ["/etc/ssh", "/root/.ssh"]) mkdirSync(node.path(folder), { recursive: true, mode: 0o700 });
  const hostKey = await newKey(node.path(HOST_KEY));
  writeFileSync(node.path("/root/.ssh/authorized_keys"), `${authorizedKey}\n`, { mode: 0o600 });
  writeFileSync(node.path("/etc/ssh/sshd_config"), sshdConfig({ hostKey: HOST_KEY, authorizedKeys: "/root/.ssh/authorized_keys" }));
  const { exitCode, stderr } = await node.run(["systemctl", "start", "ssh.service"]);
  if (exitCode !== 0) throw new Error(`${node.name}: sshd does not start: ${stderr.trim()}; ${await journalOf(node)}`);
  return hostKey;
}

async function journalOf(node: Machine): Promise<string> {
  return (await node.run(["journalctl", "-u", "ssh.service", "-n", "10", "--no-pager", "-o", "cat"])).stdout.trim();
}

/** This machine's files with the switch's network: it reaches all nodes and nothing else. Its folder is the operator's checkout. */
function operatorMachine(): Machine {
  const stays = async () => {
    throw new Error("the operator's machine is this machine: it is never switched off");
  };
  return {
    ...{ name: "operator", nodeName: "operator", ip: GATEWAY, kill: stays, boot: stays },
    path: (path) => join(OPERATOR, path),
    async run(command, options = {}): Promise<Output> {
      const child = Bun.spawn(["ip", "netns", "exec", SWITCH, ...command], {
        cwd: OPERATOR,
        // One connection for each task: none is left behind.
        env: { ...operatorEnv(OPERATOR), ANSIBLE_SSH_ARGS: "-o ControlMaster=no -o ControlPath=none", ...options.env },
        stdin: options.input === undefined ? "ignore" : new Blob([options.input as BlobPart]),
        stdout: "pipe",
        stderr: "pipe",
      });
      const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
      return { stdout, stderr, exitCode: await child.exited };
    },
  };
}

/** Without new_cas part 1 refuses on the first control plane node. The next play would make an identity on each other control plane node. */
async function stopAtGate(scene: Scene) {
  const { lab } = scene;
  const step = await type(scene, lab.operator!, "ansible-playbook -i inventory.yaml scripts/fleet.yaml", { exit: [2] });
  const refused = step.stdout.includes("is needed and cannot be used");
  // An API server that still runs may have given its sa.key to the salvage in part 0: that is no later play.
  const untouched = ["test", "!", "-e", `${KIT}/identity`, "-a", "!", "-e", "/etc/kubernetes/pki/ca.key"];
  const answers = await Promise.all(lab.controlPlanes.map((node) => node.run(untouched)));
  const touched = lab.controlPlanes.filter((_, i) => answers[i]!.exitCode !== 0).map(({ name }) => name);
  scene.checks.push({
    name: "the first failed gate stops the playbook, and no later play begins",
    ok: step.ok && refused && touched.length === 0,
    detail: `exit ${step.exitCode}; part 1 ${refused ? "refused" : "did not refuse"}; changed nodes: ${touched.join(", ") || "none"}`,
  });
}

function groupOf(lab: Lab, name: string): Group {
  if (lab.controlPlanes[0]!.name === name) return "first_control_plane";
  return lab.controlPlanes.some((node) => node.name === name) ? "other_control_planes" : "workers";
}
