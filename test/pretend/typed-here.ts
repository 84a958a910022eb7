/**
 * A script's own `main`, in this process, with the modules of the test: `here()` for a whole run on a pretend
 * node, `typeHere` for words that are refused before any node is looked at. What is about a process itself
 * (signals, mounts, a terminal) runs in one of its own: see node.ts.
 */
import { expect, spyOn } from "bun:test";
import { join } from "node:path";
import { format } from "node:util";
import { clearOverlay } from "../../shared/files/root.ts";
import { mode, run } from "../../shared/run.ts";
import { leavesNothing, listenToRun } from "../../shared/this-run.ts";
import { ADDRESS } from "./cluster.ts";
import type { PretendNode } from "./in-process.ts";
import type { Run } from "./many-runs.ts";
import { onNode } from "./no-node.ts";
import { ended, type NodeOptions, pretendNode, SHOWN_ADDRESS, type Transcript } from "./node.ts";
import { changesIn, expectStop } from "./wrong-hands.ts";

const HOME = join(import.meta.dir, "../..");

/** Beside the script as others import it: there main is not exported. */
Bun.plugin({
  name: "a script whose main can be called",
  setup(build) {
    build.onLoad(
      { filter: new RegExp(`^${HOME}/(?:scripts|tools/pack)/[\\w-]+\\.ts\\?main$`) },
      async ({ path }) => ({
        contents: (await Bun.file(path.replace("?main", "")).text()).replace(
          "\nasync function main(",
          "\nexport async function main(",
        ),
        loader: "ts",
      }),
    );
  },
});

/** Thrown where a script ends its process. */
class Ended extends Error {
  readonly code: number;
  constructor(code: unknown) {
    super("process.exit");
    this.code = Number(code ?? process.exitCode ?? 0);
  }
}

/** As `node.run`: the exit code, and what is printed. Where no root is set, there is no node. */
export async function typeHere(line: string, env: Record<string, string> = {}): Promise<Transcript> {
  const [script, ...words] = line.split(" ");
  const path = `${HOME}/${script === "pack-kit" ? "tools/pack" : "scripts"}/${script}.ts`;
  const { main } = (await import(`${path}?main`)) as { main: () => Promise<unknown> };
  const said = { stdout: "", stderr: "" };
  const leave = [spied(said), inPlace(process, { argv: [process.argv[0], path, ...words], exitCode: 0 })];
  leave.push(inPlace(process.env, { PWD: "/root", ...env }));
  const end = withoutItsEnd();
  let exitCode = 1;
  try {
    exitCode = await codeOf(main);
    return { exitCode, ...said };
  } finally {
    end(exitCode);
    for (const back of leave.reverse()) back();
    clearOverlay();
    leavesNothing();
    Object.assign(mode, { dryRun: false, script: "", again: false });
  }
}

/** What is printed is kept in `said`; the script ends, and not its process. */
function spied(said: { stdout: string; stderr: string }) {
  const keep = (where: keyof typeof said) => (text: unknown, more?: unknown) => {
    said[where] += `${more === undefined ? text : format(text, more)}\n`;
  };
  const exit = (code: unknown): never => {
    throw new Ended(code);
  };
  const spies = [
    spyOn(console, "log").mockImplementation(keep("stdout")),
    spyOn(console, "error").mockImplementation(keep("stderr")),
    spyOn(process, "exit").mockImplementation(exit),
  ];
  return () => {
    for (const spy of spies) spy.mockRestore();
  };
}

/** Other values, until what is returned is called. */
function inPlace<T extends object>(of: T, values: Record<string, unknown>) {
  const before = Object.fromEntries(Object.keys(values).map((name) => [name, of[name as keyof T]]));
  Object.assign(of, values);
  return () => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined && of === process.env) delete of[name as keyof T];
      else Object.assign(of, { [name]: value ?? 0 });
    }
  };
}

/** What waits for the process's end is done at the script's: the lock goes, and nothing is kept any more. */
function withoutItsEnd() {
  const before = process.listeners("exit");
  return (exitCode: number) => {
    for (const listener of process.listeners("exit").filter((one) => !before.includes(one))) {
      listener.call(process, exitCode);
      process.removeListener("exit", listener);
    }
    listenToRun(undefined);
  };
}

/** The same node, on which `run` runs in this process. */
export function here<T extends PretendNode>(node: T): T {
  const run: T["run"] = (line, env = {}) => {
    const own = { ...node.env, KUBE_PKI_REPAIR_PATIENCE: "0.0005", ...env };
    return ended(
      onNode(node.root, () => typeHere(line, own)),
      node.root,
    );
  };
  return Object.assign(node, { run });
}

/** As `pretendNode`, for a test of what is decided: `run` runs in this process. */
export async function nodeHere(options: NodeOptions = {}): Promise<PretendNode> {
  return here(await pretendNode(options));
}

/** As a `runner`, in this process: for what only tries a decision. */
export const runsHere = {
  run: ({ line, env }: Run) => onNode(env.KUBE_PKI_REPAIR_ROOT!, () => typeHere(line, env)),
};

/** As `expectRefusal`, on a node that `lookAt` made. */
export async function refusedHere(
  node: PretendNode,
  line: string,
  error: string | RegExp,
  hint: string | RegExp,
  code = 1,
) {
  const before = node.fingerprint();
  const { stdout, stderr, exitCode } = await typeHere(line);
  const shown = stderr.replaceAll(node.root, "ROOT").replaceAll(ADDRESS, SHOWN_ADDRESS);
  expectStop({ stdout, stderr: shown, exitCode }, error, hint, code);
  expect([line, node.fingerprint()]).toEqual([line, before]);
  expect(changesIn(node.calls())).toEqual([]);
}

async function codeOf(main: () => Promise<unknown>): Promise<number> {
  try {
    await run(main);
    return Number(process.exitCode ?? 0);
  } catch (err) {
    if (err instanceof Ended) return err.code;
    throw err;
  }
}
