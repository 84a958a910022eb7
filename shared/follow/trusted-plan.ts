/**
 * A plan as a node has printed it. It chooses among known steps: nothing of it is typed anywhere, unless it is one of
 * the runbook's own lines word for word, or one of its scripts with options and values of a closed list. A name, an
 * address or a path of another form ends the repair before anything is typed.
 */
import { Fail } from "../fail.ts";
import { ANSWER_SCHEMA } from "../json-answer.ts";
import { isOnEachMachine } from "../pki/addresses.ts";
import { quoteUntrusted } from "../plain.ts";
import type { Act } from "../plan/act.ts";
import type { ConfigToBring, PutPod } from "../plan/decision-ways.ts";
import type { DecisionData, NoPlanData, PlanData } from "../plan/plan-answer.ts";
import { isName } from "../plan/plan-node.ts";
import { readRunbook } from "../plan/runbook.ts";

/** Errors: Fail where it is no plan of this kit, or has a line that no plan has. */
export function readPlanData(text: string, runbookLines: ReadonlySet<string>): PlanData | NoPlanData {
  const plan = asJson(text);
  if (plan?.schemaVersion !== ANSWER_SCHEMA) throw wrong("a plan of this kit's version", plan?.schemaVersion);
  if (!isShaped(plan)) throw wrong("a plan of this kit's version", text.slice(0, 100));
  if (plan.ended !== "ok") return { ...plan, decisions: knownWays(plan.decisions ?? [], [], runbookLines) };
  for (const { name, address, why } of plan.nodes) {
    if (!isName(name) && !/^node \d+$/.test(name)) throw wrong("the name of a node", name);
    if (why === undefined && !isOnEachMachine(address)) throw wrong("an IP address", address);
  }
  const names = plan.nodes.map(({ name }) => name);
  for (const { steps } of plan.parts)
    for (const { number, acts } of steps) {
      if (!/^\d[a-z]$/.test(number)) throw wrong("the number of a step", number);
      for (const act of acts) checkAct(act, names, runbookLines);
    }
  return { ...plan, decisions: knownWays(plan.decisions, names, runbookLines) };
}

/** A list where the plan has one: else a node's answer would be a fault of this kit. */
function isShaped(plan: PlanData | NoPlanData): boolean {
  const areObjects = (list: unknown) =>
    Array.isArray(list) && list.every((one) => typeof one === "object" && one !== null);
  if (!areObjects(plan.decisions ?? [])) return false;
  if (!(plan.decisions ?? []).every(({ ways, question }) => areObjects(ways) && Array.isArray(question)))
    return false;
  if (plan.ended !== "ok") return true;
  const lists = [plan.nodes, plan.parts];
  if (!lists.every(areObjects) || ![plan.notes, plan.lost, plan.away].every(Array.isArray)) return false;
  if (!plan.parts.every(({ steps }) => areObjects(steps))) return false;
  return plan.parts.every(({ steps }) =>
    steps.every(
      ({ acts, exit, irreversible, makesVoid }) =>
        areObjects(acts) && [exit, irreversible, makesVoid].every(Array.isArray),
    ),
  );
}

function asJson(text: string): PlanData | NoPlanData | undefined {
  try {
    return JSON.parse(text) as PlanData | NoPlanData;
  } catch (err) {
    if (err instanceof SyntaxError) return undefined;
    throw err;
  }
}

/** A way with a line that this kit does not type is no way: its words stand in the question, for hands. */
function knownWays(
  all: readonly DecisionData[],
  names: readonly string[],
  runbookLines: ReadonlySet<string>,
): DecisionData[] {
  return all.map((decision) => ({
    ...decision,
    ways: decision.ways.filter(({ acts = [], says = {}, upload, brings, puts }) => {
      for (const act of acts) if (act.do !== "type") checkAct(act, names, runbookLines);
      if (upload) checkFile(upload.path);
      if (brings) checkBrings(brings, names);
      if (puts) checkPod(puts, names);
      for (const value of Object.values(says).flat())
        if (!/^[\w.:-]+$/.test(value)) throw wrong("a name", value);
      return acts.every((act) => act.do !== "type" || isKnownLine(act.command, runbookLines));
    }),
  }));
}

function checkBrings({ path, own, from, on, to }: ConfigToBring, nodes: readonly string[]) {
  checkFile(path);
  checkFile(own);
  for (const name of [from, on, ...to]) if (!nodes.includes(name)) throw wrong("a node of the plan", name);
}

function checkPod({ pod, file, on, to }: PutPod, nodes: readonly string[]) {
  for (const name of [pod, file]) if (!isName(name)) throw wrong("the name of a static pod", name);
  for (const name of [on, ...to]) if (!nodes.includes(name)) throw wrong("a node of the plan", name);
}

function checkAct(act: Act, nodes: readonly string[], runbookLines: ReadonlySet<string>) {
  const named = [
    ...("on" in act ? act.on : []),
    ...("to" in act ? [act.to].flat() : []),
    ...("from" in act ? [act.from].flat() : []),
  ];
  for (const name of named) if (!nodes.includes(name)) throw wrong("a node of the plan", name);
  if (act.do === "type" && !isKnownLine(act.command, runbookLines))
    throw wrong("a line of this kit's runbook", act.command);
  if (act.do === "carry") for (const file of act.files) checkFile(file);
  if (act.do === "fetch") checkFile(act.file);
  if (act.do === "gather") checkFile(act.into);
  if (!KINDS.includes(act.do)) throw wrong("an act of a plan", act.do);
}

const KINDS: readonly Act["do"][] = ["type", "type-printed", "kit", "carry", "fetch", "gather"];

function checkFile(path: string) {
  if (!/^\/?[\w.-]+(?:\/[\w.-]+)*$/.test(path) || path.split("/").includes(".."))
    throw wrong("the path of a file", path);
}

/** All lines that RUNBOOK.md has typed on a node. */
export function linesOfRunbook(runbook: string): ReadonlySet<string> {
  return new Set(readRunbook(runbook).blocks.flatMap(({ on, commands }) => (on ? commands : [])));
}

const VALUE = String.raw`(?:(?!-)[\w.:,@%+=/[\]-]+|'[\w.:,@%+=/[\] -]+')`;

/** Options that a plan, or a script that prints a line, may put behind a script. */
// biome-ignore format: a list
const OPTIONS = [
  "without", "lost", "lost-on", "start-without", "endpoint", "etcd-data", "server", "ca-hash", "token-file", "passphrase-file", "move-aside", "new-cas",
  "new-internal-cas", "force", "worker", "moved", "out", "recipient", "wait", "logs", "generate", "dry-run", "user", "no-disk", "control-plane",
];
const MORE = new RegExp(`^(?: --(?:${OPTIONS.join("|")})(?:=${VALUE})?(?= |$)| ${VALUE}(?= |$))*$`);

/** Lines between the runbook's parts, and those that its scripts print. */
const ALSO = [
  "./bunw scripts/03-join.ts",
  "./bunw scripts/hand-over.ts unpack",
  "./bunw scripts/move.ts",
  "./bunw scripts/00-salvage.ts files",
];
const EXACTLY: readonly RegExp[] = [
  /^install -D -m 600 \/var\/lib\/kubelet\/config\.yaml \/etc\/kubernetes\/[\w-][\w.-]*$/,
  /^systemctl restart kubelet$/,
  /^kubectl --kubeconfig \/etc\/kubernetes\/admin\.conf delete node --ignore-not-found(?: [a-z0-9][a-z0-9.-]*)+$/,
];

/** A line of the runbook, also with more options; or one that stands between its parts. */
export function isKnownLine(command: string, runbookLines: ReadonlySet<string>): boolean {
  if (runbookLines.has(command) || EXACTLY.some((one) => one.test(command))) return true;
  return scriptsOf(runbookLines).some(
    (script) => command.startsWith(script) && MORE.test(command.slice(script.length)),
  );
}

/** "./bunw scripts/03-workers.ts open". */
function scriptsOf(runbookLines: ReadonlySet<string>): string[] {
  return [...runbookLines, ...ALSO].flatMap(
    (line) => /^\.\/bunw scripts\/[\w-]+\.ts(?: [a-z]+)?(?= |$)/.exec(line)?.[0] ?? [],
  );
}

function wrong(what: string, value: unknown): Fail {
  return new Fail(`The plan has "${quoteUntrusted(String(value))}", which is not ${what}`, {
    hint: "look at that node by hand: its kit, or what it answers, is not this one's",
    unchanged: true,
  });
}
