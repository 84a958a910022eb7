/**
 * A control plane node comes in by the lines that part 2 printed with --lost: a new machine, or the same one.
 */
import { Fail } from "../../../shared/fail.ts";
import type { Machine } from "../machine/machine.ts";
import { FAILS_IN_THE_LAB, SERVING_BY_CA } from "../machine/pins.ts";
import { quiet } from "../report/footprint.ts";
import type { Step } from "../report/rehearsal.ts";
import { carryFile } from "./follow.ts";
import { KIT, type Scene, sayAndWait, type } from "./scene.ts";

/** How a line for kubectl begins: a sentence may begin with that word, too. */
const KUBECTL = "kubectl --kubeconfig";

const isPart2 = ({ command, ok }: Step) => ok && command.includes("02-control-plane.ts --lost");

/** The lines of part 2's last output that begin so. */
function printedByPart2(scene: Scene, beginning: string): string[] {
  const said = scene.steps.findLast(isPart2)?.stderr ?? "";
  const lines = said.split("\n").map((text) => text.trim());
  return lines.filter((line) => line.startsWith(beginning));
}

/** "Here" in these lines: where it ran. */
function nodeOfPart2({ steps, lab }: Scene): Machine {
  const name = steps.findLast(isPart2)?.node;
  return lab.controlPlanes.find((node) => node.name === name) ?? lab.controlPlanes[0]!;
}

/** The first of them, with these words. Errors: Fail where there is none. */
export function whatPart2Printed(scene: Scene, beginning: string, words = ""): string {
  const line = printedByPart2(scene, beginning).find((one) => one.includes(words));
  if (!line)
    throw new Fail(`Part 2 printed no line that begins with ${beginning}`, {
      hint: "see --lost in scripts/02-control-plane.ts",
    });
  return line;
}

export async function deleteNode(scene: Scene) {
  await type(scene, nodeOfPart2(scene), whatPart2Printed(scene, KUBECTL), { part: 3 });
}

/** The keys, then kubeadm's line of this beginning, then the line that approves the serving certificate. */
export async function joinByPrinted(scene: Scene, node: Machine, join: string) {
  await typePipe(scene, node, whatPart2Printed(scene, "tar", `root@${node.nodeName} `));
  const line = whatPart2Printed(scene, join);
  const ignored = FAILS_IN_THE_LAB ? ` --ignore-preflight-errors=${FAILS_IN_THE_LAB}` : "";
  await type(scene, node, join.startsWith("kubeadm") ? line + ignored : line, { cwd: "/root" });
  if (SERVING_BY_CA)
    await type(scene, nodeOfPart2(scene), whatPart2Printed(scene, "./bunw scripts/03-workers.ts close"));
}

/** Both ends of the printed pipe, as printed; base64 between them replaces ssh, as this lab runs no sshd. */
async function typePipe(scene: Scene, node: Machine, line: string) {
  const [pack, there] = line.split(/ \| ssh root@\S+ /) as [string, string];
  const unpack = there.replace(/^'(.*)'$/, "bash -c '$1'");
  scene.say(line);
  const bash = (command: string) => ["env", "HOME=/root", "bash", "-c", `set -o pipefail; ${command}`];
  const { stdout, stderr, exitCode } = await nodeOfPart2(scene).run(bash(`${pack} | base64 -w0`), {
    cwd: KIT,
  });
  const end = await node.run(bash(`base64 -d | ${unpack}`), { input: stdout });
  if (exitCode !== 0 || end.exitCode !== 0)
    throw new Fail(`Nothing was carried to the machine: ${stderr}${end.stderr}`, { hint: line });
}

/**
 * What a join does not bring: the printed kubectl lines, and the static pods that 05-verify names as changed.
 */
export async function putBackByPrinted(scene: Scene, nodes: readonly Machine[]) {
  const first = nodeOfPart2(scene);
  const verified = await type(scene, first, "./bunw scripts/05-verify.ts", { part: 5, exit: [2] });
  for (const line of printedByPart2(scene, KUBECTL).slice(1)) await type(scene, first, line);
  for (const [, from, name, to] of verified.stdout.matchAll(/scp -p (\S+) root@([^\s:]+):([^\s;]+)/g)) {
    const node = nodes.find(({ nodeName }) => nodeName === name);
    if (!node)
      throw new Fail(`05-verify names "${name}", which did not join`, { hint: "see what it prints there" });
    scene.say(`the operator carries ${from} to ${node.name}`);
    await carryFile(first, node, from!, `${to}${from!.split("/").at(-1)}`);
  }
  // a machine with another address
  for (const [line, name] of verified.stdout.matchAll(/sed '[^']+' \S+ \| ssh root@(\S+) '[^']+'/g))
    await typePipe(scene, nodes.find(({ nodeName }) => nodeName === name)!, line);
}

/**
 * Until the kubelet's mirror pods show the manifests that were put back. Its own API server restarts
 * meanwhile, so it is silent for a time.
 */
export async function untilAsBefore(scene: Scene) {
  const first = nodeOfPart2(scene);
  let last = "";
  const isWell = async () => {
    const verify = ["env", "HOME=/root", "./bunw", "scripts/05-verify.ts"];
    const { exitCode, stdout } = await first.run(verify, { cwd: KIT });
    const open = stdout.split("\n").filter((line) => /^ *(failed|outage) /.test(line));
    const now = open.map((line) => line.trim().replace(/ {2,}/g, " ")).join("; ");
    if (now !== last) scene.say(`  05-verify: ${now || "nothing failed"}`);
    last = now;
    return exitCode === 0;
  };
  await sayAndWait(scene, "05-verify to find nothing changed", isWell, {
    seconds: 300,
    hint: "./bunw scripts/05-verify.ts on cp1, with --keep",
  });
  await quiet(scene);
  await type(scene, first, "./bunw scripts/05-verify.ts --all", { part: 5 });
}
