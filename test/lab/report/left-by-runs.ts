/**
 * What the runs of a repair have left on the nodes: each that changed a node has its transcript there, none
 * holds a secret, and `report` makes its page and its bundle of all of them.
 */
import { existsSync } from "node:fs";
import { PACK_RUNS } from "../../../shared/node/rescue-folder.ts";
import { type Kept, keptOn, secretsIn } from "../../pretend/kept.ts";
import type { Machine } from "../machine/machine.ts";
import { nodesOn } from "../scene/power.ts";
import { KIT, type Scene } from "../scene/scene.ts";
import type { Check, Step } from "./rehearsal.ts";

/** Where a node has keys and tokens on its disk; with the copy of etcd's data, which holds every Secret. */
const SECRET_PLACES = ["/etc/kubernetes", "/var/lib/kubelet/pki", "/root"];

/** Those in the kit's folder, which is memory: a token, a passphrase, an identity. */
const IN_MEMORY =
  "cat token passphrase identity 2>/dev/null | grep -v -e '^-----' -e '^#' | grep -E '.{12}'; true";

/**
 * The page is in `scene.report` then. A replaced node was set up anew in between; one that was off may still
 * be off where the repair has failed.
 */
export async function transcriptChecks(scene: Scene): Promise<Check[]> {
  const there = scene.failed === undefined ? scene.lab.nodes : nodesOn(scene);
  const nodes = there.filter(({ name }) => !scene.replaced.includes(name));
  const kept = new Map(nodes.map((node) => [node.name, keptOn(node.path("/"))]));
  const changing = scene.steps.filter((step) => kept.has(step.node) && changedFiles(step));
  const missing = changing.filter((step) => !hasRun(kept.get(step.node)!, step));
  const all = [...kept.values()].flat();
  const written = await writeDown(scene, nodes);
  const texts = [
    ...all.flatMap(({ text, record }) => [text, JSON.stringify(record)]),
    written.page,
    written.bundle,
  ];
  const secrets = (await Promise.all(nodes.map((node) => secretsOf(node, texts)))).flat();
  const unnamed = nodes.filter(
    (node) => (kept.get(node.name) ?? []).length > 0 && !written.page.includes(`>${node.nodeName}<`),
  );
  const names = nodes
    .flatMap(({ nodeName, ip }) => [nodeName, ip])
    .filter((name) => holds(written.bundle, name));
  scene.report = written.page;
  return [
    {
      name: "each run that changed a file left its transcript",
      ok: missing.length === 0 && (all.length > 0 || changing.length === 0),
      detail:
        missing.map(({ node, command }) => `${node}: ${command}`).join("; ") ||
        `${all.length} on ${nodes.length} nodes`,
    },
    {
      name: "no secret of any node is in a transcript, in the report or in the bundle",
      ok: secrets.length === 0,
      detail: secrets.slice(0, 20).join("; ") || `${texts.join("").length} characters looked through`,
    },
    {
      name: "report writes the page and the bundle, of all nodes, and the bundle without their names",
      ok: written.ok && unnamed.length === 0 && names.length === 0,
      detail: [
        written.said,
        ...unnamed.map(({ name }) => `${name} is not in the page`),
        ...names.map((name) => `${name} is in the bundle`),
      ].join("; "),
    },
  ];
}

/** Whether its output says that it wrote, moved or removed something outside of memory. */
function changedFiles({ command, stderr }: Step): boolean {
  const changes = stderr.match(/^ {2}(wrote|moved|removed|copied) \/(?!run\/|dev\/|\S*\/words\.json )/m);
  return /^\.\/bunw scripts\/(0|hand-over)/.test(command) && changes !== null;
}

function hasRun(kept: readonly Kept[], { command }: Step): boolean {
  const [, script, word] = /scripts\/([\w-]+)\.ts(?:\s+([a-z]+))?/.exec(command)!;
  return kept.some(({ run }) => run === script || run === `${script}-${word}`);
}

async function secretsOf(node: Machine, texts: string[]): Promise<string[]> {
  const onDisk = SECRET_PLACES.filter((place) => existsSync(node.path(place))).flatMap((place) =>
    secretsIn(texts, node.path(place)).map(([what, file]) => `${what}, of ${node.name}:${place}/${file}`),
  );
  const { stdout } = await node.run(["sh", "-c", IN_MEMORY], { cwd: KIT });
  const inMemory = stdout
    .split("\n")
    .filter((line) => line && texts.some((text) => text.includes(line.trim())));
  return [
    ...onDisk,
    ...inMemory.map(
      (line) => `a line of ${line.length} characters of ${node.name}'s token, passphrase or identity`,
    ),
  ];
}

/** As RUNBOOK.md says under 5.4, on the first control plane node. */
async function writeDown({ lab }: Scene, nodes: readonly Machine[]) {
  const [first] = lab.controlPlanes as [Machine];
  const sh = (node: Machine, line: string, input?: string) =>
    node.run(["sh", "-c", line], { cwd: KIT, ...(input === undefined ? {} : { input }) });
  for (const node of nodes) {
    const { stdout } = await sh(node, `(${PACK_RUNS}) | base64 -w0`);
    await sh(first, `base64 -d > ${node.nodeName}.tar`, stdout);
  }
  const { exitCode, stderr } = await sh(
    first,
    "env HOME=/root ./bunw scripts/report.ts report.html --bundle case.tar --logs .",
  );
  const read = async (line: string) => (await sh(first, line)).stdout;
  const [page, bundle] = [await read("cat report.html"), await read("tar -xOf case.tar && tar -tf case.tar")];
  return { ok: exitCode === 0, page, bundle, said: stderr.trim().split("\n").slice(-6).join(" | ") };
}

/** As a word of its own; behind a dash, too. */
function holds(text: string, name: string): boolean {
  return new RegExp(`(?<![A-Za-z0-9.])${RegExp.escape(name)}(?![A-Za-z0-9])`).test(text);
}
