/** Runs a script that loses power after its n-th change, then once more to its end. */
import { cpSync, readFileSync, rmSync } from "node:fs";
import type { pretendApi } from "./api.ts";
import { LAST_CHANGE } from "./cut-counter.ts";
import { contents, endState, settled, shapes } from "./end-state.ts";
import { type NodeOptions, pretendNode } from "./node.ts";

export type CutNode = Awaited<ReturnType<typeof pretendNode>>;

/** A script, a node on which it runs, and all that answers it there. */
export interface CutScene {
  /** As it is typed. */
  line: string;
  /** The node before it; made once. */
  before: () => Promise<CutNode>;
  options?: NodeOptions;
  /** Servers, and a kubelet; they run through the cut and the second run. */
  around?: (
    node: CutNode,
    before: CutNode,
  ) => Disposable & { objects?: ReturnType<typeof pretendApi>["objects"] };
  /** Files that are there only in the middle, each whole: they need only be readable. */
  between?: RegExp;
}

/** How everything is when a script is through. */
interface End {
  files: string[];
  api: string[];
  machine: string[];
  contents: Set<string>;
}

export interface Uncut extends End {
  /** How many changes the script makes. */
  changes: number;
  shapes: Set<string>;
}

const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };

/**
 * A run without a cut: what is there at its end, and how often it can be cut. Errors: Error where the script
 * fails.
 */
export async function uncut(scene: CutScene, before: CutNode): Promise<Uncut> {
  using node = await copyOf(scene, before);
  using around = scene.around?.(node, before);
  await through(node, scene.line, cutAfter(Number.POSITIVE_INFINITY));
  const changes = Number.parseInt(lastChange(node), 10);
  const known = [...shapes(before.root).values(), ...shapes(node.root).values()];
  return { ...endOf(node, around?.objects), changes, shapes: new Set(known) };
}

/**
 * Cuts the script off after change n. `cut`: what it changed last; undefined where it ended before.
 * `strange`: files that are neither as before nor as at the end. `lost`: how many files of before the end has
 * no longer that has them without a cut. Errors: Error where a file is half of one, or where the second run
 * fails.
 */
export async function cutAndAgain(
  scene: CutScene,
  before: CutNode,
  { after, whole }: { after: number; whole: Uncut },
) {
  using node = await copyOf(scene, before);
  using around = scene.around?.(node, before);
  const child = node.start(scene.line, { ...WAITS, ...cutAfter(after) });
  const stderr = await new Response(child.stderr).text();
  const exitCode = await child.exited;
  const cut =
    child.signalCode === "SIGKILL" ? settled(lastChange(node)).replaceAll(node.root, "") : undefined;
  if (!cut && exitCode !== 0) throw new Error(`exit code ${exitCode}: ${stderr}`);
  const strange = [...shapes(node.root)].filter(
    ([path, text]) => !whole.shapes.has(text) && !scene.between?.test(path),
  );
  await through(node, scene.line, {});
  const end = endOf(node, around?.objects);
  const here = contents(before.root);
  const lost = [...whole.contents].filter(
    (content) => here.has(content) && !end.contents.has(content),
  ).length;
  const { files, api, machine } = end;
  return { cut, strange: strange.map(([path]) => path), lost, files, api, machine };
}

async function copyOf({ options = {} }: CutScene, before: CutNode): Promise<CutNode> {
  const node = await pretendNode({ kind: "no node", ...options });
  rmSync(node.root, { recursive: true });
  cpSync(before.root, node.root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  return node;
}

export function cutAfter(n: number): Record<string, string> {
  return { BUN_OPTIONS: `--preload ${import.meta.dir}/cut-off.ts`, PRETEND_CUT_AFTER: String(n) };
}

/** The words of the change, as cut-fs.ts has them: "renamed /root/… to ". */
export function cutAt(words: string): Record<string, string> {
  return { BUN_OPTIONS: `--preload ${import.meta.dir}/cut-off.ts`, PRETEND_CUT_AT: words };
}

function lastChange(node: CutNode): string {
  return readFileSync(`${node.env.FAKE}/${LAST_CHANGE}`, "utf8");
}

async function through(node: CutNode, line: string, env: Record<string, string>) {
  const { exitCode, stderr } = await node.run(line, { ...WAITS, ...env });
  if (exitCode !== 0) throw new Error(`${line}: exit code ${exitCode}: ${stderr}`);
}

function endOf(node: CutNode, objects: ReturnType<typeof pretendApi>["objects"] = new Map()): End {
  const api = [...objects]
    .filter(([path]) => !path.includes("/leases/"))
    .map(([path, object]) => `${withoutIds(path)} ${kindOf(object)}`);
  const machine = ["stopped", "approving"].filter(
    (file) => node.exists("/") && Bun.file(`${node.env.FAKE}/${file}`).size > 0,
  );
  return { files: endState(node.root), api: api.sort(), machine, contents: contents(node.root) };
}

/** A bootstrap token's name is random, and each pod that was renewed has a new time. */
function withoutIds(text: string): string {
  return settled(text).replace(/bootstrap-token-[a-z0-9]{6}\b/g, "bootstrap-token-ID");
}

function kindOf(object: object): string {
  return withoutIds(JSON.stringify(Object.keys(object).sort()));
}
