import { globSync, rmSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { kubectl, type Machine } from "../machine/machine.ts";
import { SERVING_BY_CA } from "../machine/pins.ts";
import { followRunbook } from "../scene/follow.ts";
import { cutPower, KIT, powerOn, type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { everythingDeleted } from "./all-lost.ts";
import { haAllLost, TAGS } from "./several-control-planes.ts";

/** One of three control plane nodes never comes back: the other two are repaired without it, then a new machine takes its place. */
export const haOneDestroyed: Scenario = {
  ...haAllLost,
  name: "ha-one-destroyed",
  title: "As ha-all-lost, and one control plane node is destroyed; the operator repairs the others, then puts a new machine in its place",
  machinesFail: true,
  lines: [
    ...everythingDeleted,
    { title: "The third control plane node is destroyed", run: (scene) => cutPower(scene, [lost(scene)]) },
    { title: "The operator follows RUNBOOK.md up to part 3, without that node", run: (scene) => follow(scene, [0, 1, 2, 3]) },
    { title: "The operator deletes its Node object", run: deleteNode },
    { title: "The operator follows parts 4 and 5", run: (scene) => follow(scene, [4, 5]) },
    { title: "The operator puts a new machine in its place", run: putNewControlPlane },
    { title: "The operator verifies again", run: (scene) => followRunbook(scene, TAGS, { parts: [5] }) },
  ],
};

function lost({ lab }: Scene) {
  return lab.controlPlanes[2]!;
}

function follow(scene: Scene, parts: number[]) {
  return followRunbook(scene, TAGS, { parts, without: [lost(scene).name] });
}

async function deleteNode(scene: Scene) {
  await type(scene, scene.lab.controlPlanes[0]!, whatPart2Printed(scene, "kubectl"), { part: 3 });
}

/** The lines that part 2 printed for a new control plane node, typed as they were printed. */
async function putNewControlPlane(scene: Scene) {
  const [first, node] = [scene.lab.controlPlanes[0]!, lost(scene)];
  const [carry, join] = ["tar", "kubeadm"].map((program) => whatPart2Printed(scene, program)) as [string, string];
  await bootEmpty(scene);
  await carryKeys(scene, carry);
  await type(scene, node, join, { cwd: "/root" });
  if (SERVING_BY_CA) await approveServing(scene, first, node.nodeName);
}

/** Both ends of the printed pipe, as printed; base64 between them replaces ssh, as this lab runs no sshd. */
async function carryKeys(scene: Scene, line: string) {
  const [pack, unpack] = line.split(/ \| ssh root@\S+ /) as [string, string];
  scene.say(line);
  const bash = (command: string) => ["env", "HOME=/root", "bash", "-c", `set -o pipefail; ${command}`];
  const { stdout, stderr, exitCode } = await scene.lab.controlPlanes[0]!.run(bash(`${pack} | base64 -w0`), { cwd: KIT });
  const there = await lost(scene).run(bash(`base64 -d | ${unpack}`), { input: stdout });
  if (exitCode !== 0 || there.exitCode !== 0)
    throw new Fail(`The keys were not carried to the new machine: ${stderr}${there.stderr}`, { hint: line });
}

/** The last printed line is advice: the CSR must be there, and its user must find it. */
async function approveServing(scene: Scene, first: Machine, nodeName: string) {
  const select = '{range .items[?(@.spec.username=="system:node:NODE")]}{.metadata.name} {.status.conditions[*].type}{"\\n"}{end}';
  const query = [
    "get",
    "csr",
    "-o",
    `jsonpath=${select.replace("NODE", nodeName)}`,
    "--field-selector",
    "spec.signerName=kubernetes.io/kubelet-serving",
  ];
  const pending = async () => (await kubectl(scene.lab, query)).stdout.split("\n").find((line) => /^\S+ $/.test(line));
  const name = await sayAndWait(scene, `a serving certificate request of ${nodeName}`, pending, { seconds: 60, hint: "kubectl get csr" });
  await type(scene, first, `kubectl --kubeconfig /etc/kubernetes/admin.conf certificate approve ${name!.trim()}`);
}

/** A new machine has the old one's name and address, and the images that the lab cannot fetch; nothing else of the old one. */
async function bootEmpty(scene: Scene) {
  const node = lost(scene);
  const folders = [
    "/etc/kubernetes",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    ...globSync("kube-pki-repair-*", { cwd: node.path("/root") }).map((name) => `/root/${name}`),
  ];
  for (const folder of folders) rmSync(node.path(folder), { recursive: true, force: true });
  scene.replaced.push(node.name);
  await powerOn(scene, [node]);
  await node.run(["crictl", "rmp", "--all", "--force"]);
}

/** The line of part 2's last output that begins with this program. */
function whatPart2Printed(scene: Scene, program: string): string {
  const said = scene.steps.findLast((step) => step.command.includes("02-control-plane"))?.stderr ?? "";
  const line = said
    .split("\n")
    .map((text) => text.trim())
    .find((text) => text.startsWith(`${program} `));
  if (!line) throw new Fail(`Part 2 printed no line that begins with ${program}`, { hint: "see --without in scripts/02-control-plane.ts" });
  return line;
}
