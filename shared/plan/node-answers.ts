/**
 * Other nodes' words about themselves: a folder with the answer of `00-assess --json` of each, NODE.json. Whoever may
 * write there may have made them: they decide where the operator looks and which steps are on the page, and never who
 * gets keys.
 */
import { basename } from "node:path";
import { REFUSALS, type Refusal, type RefusalId } from "../assess/look-here.ts";
import { budgetOf } from "../budget.ts";
import type { Check } from "../checks/check.ts";
import { HOLD } from "../facts/course.ts";
import { Fail } from "../fail.ts";
import { list, stat } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { ANSWER_SCHEMA } from "../json-answer.ts";
import { parseSavedOptions, type SavedOption } from "../node/words.ts";
import { SHARED_KEYS } from "../pki/certs.ts";
import { formatNumber } from "../progress.ts";
import { isName } from "./plan-node.ts";

export interface AnsweredNode {
  name: string;
  made: Date;
  controlPlane: boolean;
  /** Shared keys, as files and in memory. Undefined where nobody has searched there. */
  lacks: readonly string[] | undefined;
  /** A process may hold one of them, and was not read to its end. */
  unread?: boolean;
  /** True if no server of the control plane runs on the node. */
  noServers: boolean;
  /** Has lost what only a join brings back. */
  joins: boolean;
  damaged: boolean;
  /** Nothing else is damaged: all shared keys are there. */
  onlyExpired: boolean;
  kinds: readonly string[];
  /** It is well, and knows of a backup of its keys. */
  hasBackup: boolean;
  /** Etcd's, on a control plane node. */
  lostData: boolean;
  otherKeys: boolean;
  /** Files without which a static pod there does not start, or its kubelet; only such as are named here, too. */
  lostFiles: readonly string[];
  /** A worker's static pods: "all" where the folder of its manifests is lost. */
  lostPods: readonly string[] | "all";
  /** Includes files that have a replacement. */
  missing: readonly string[];
  /** Parts 1 to 3 would refuse this there: ids that are known here. */
  refusals: readonly Pick<Refusal, "part" | "id">[];
  words: readonly SavedOption[];
  /** How far part 0's first lines are done there. */
  held: Observation | undefined;
  /** Fingerprints of its kubelet's CAs. */
  trusts: readonly string[];
  /** Containers that run there beside the control plane's servers. */
  workloads: number | undefined;
}

/** Down to its memory: what it lacks is nowhere there. */
export function isSearched({ lacks, unread }: Pick<AnsweredNode, "lacks" | "unread">): boolean {
  return lacks !== undefined && !(unread && lacks.length > 0);
}

/** False if no node of this name has answered. */
const saysSo =
  (is: (node: AnsweredNode) => boolean) =>
  (name: string, { nodes }: Pick<NodeAnswers, "nodes">): boolean =>
    nodes.some((node) => node.name === name && is(node));
export const hasAnswered = saysSo(() => true);
export const wasSearched = saysSo(isSearched);
export const nothingDamaged = saysSo(({ damaged }) => !damaged);
export const hasNoServers = saysSo(({ noServers }) => noServers);
export const hasOnlyExpired = saysSo(({ onlyExpired }) => onlyExpired);

export interface NodeAnswers {
  nodes: readonly AnsweredNode[];
  /** Were asked, and did not answer. */
  silent: readonly string[];
  /** With the reason. */
  leftOut: readonly string[];
}

export const NONE_SEEN: NodeAnswers = { nodes: [], silent: [], leftOut: [] };

/** To the plan's own node. */
interface AnswerContext {
  /** When a script has last changed something on that node, and may have made new keys. */
  repairedAt?: Date | undefined;
  nodes: readonly { name: string; controlPlane: boolean }[];
  /** Fingerprints of the cluster's CA. */
  hashes: readonly string[];
  /** Paths that this node's own static pods and its kubelet name. */
  files?: readonly string[];
  /** The files that a worker's kubelet names, too. */
  ofKubelet?: readonly string[];
  now: Date;
}

/** Minutes: an older answer does not know what happened since; and a clock may be so far ahead of ours. */
const [OLD, AHEAD] = [60, 5];

/** Errors: Fail where there is no such folder, or no answer in it. What the time is over for is left out. */
export function readSeen(
  dir: string,
  state: AnswerContext,
  budget = budgetOf(dir, "take away what is no answer of a node"),
): NodeAnswers {
  const files = stat(dir)?.kind === "dir" ? list(dir).filter((name) => name.endsWith(".json")) : [];
  if (files.length === 0)
    throw new Fail(`"${dir}" holds no answer of a node (NODE.json)`, {
      hint: "print the plan without --seen: it has the lines that ask all nodes",
    });
  const nodes: AnsweredNode[] = [];
  const silent: string[] = [];
  const leftOut: string[] = [];
  let strange = 0;
  for (const [i, file] of files.toSorted().entries()) {
    const over = budget.over();
    if (over) {
      leftOut.push(`${formatNumber(files.length - i)} file(s) are not read: ${over}`);
      break;
    }
    const node = state.nodes.find(({ name }) => name === basename(file, ".json") && isName(name));
    if (!node) {
      strange++;
      continue;
    }
    const answer = asJson(smallText(`${dir}/${file}`) ?? "");
    // a look that was refused or has failed says nothing of the node
    if (stat(`${dir}/${file}`)?.size === 0 || isStopped(answer)) silent.push(node.name);
    else {
      const why = whyLeftOut(answer, node.name, state);
      if (why) leftOut.push(`${file}: ${why}`);
      else nodes.push(seenNode(answer!, node, state));
    }
  }
  if (strange > 0) leftOut.push(`${strange} other file(s): no node of this cluster is called so`);
  return { nodes, silent, leftOut };
}

function isStopped(answer: Json | undefined): boolean {
  return answer?.schemaVersion === ANSWER_SCHEMA && answer.ended !== "ok";
}

function whyLeftOut(
  answer: Json | undefined,
  name: string,
  { hashes, now, repairedAt }: AnswerContext,
): string | undefined {
  if (answer?.schemaVersion !== ANSWER_SCHEMA || !Array.isArray(answer.damage))
    return "no answer of 00-assess --json";
  if (answer.node !== name) return "it is of another node than its name says";
  const minutes = (now.getTime() - new Date(String(answer.made)).getTime()) / 60_000;
  if (!(minutes <= OLD)) return `older than ${OLD} minutes, or without a time: ask again`;
  if (minutes < -AHEAD) return "its time is ahead of this node's: one of the two clocks is wrong";
  // a worker that has just started has no pod's CA to compare its files with
  const copies = listOf(answer.ca?.copies).map(hashOf);
  if ([...listOf(answer.ca?.hashes), ...copies].some((hash) => hashes.includes(hash as string)))
    return undefined;
  return isOlder(new Date(String(answer.made)), repairedAt) ? OLDER : "nothing in it names this cluster's CA";
}

const OLDER = "older than the repair of this node: ask again";
const isOlder = (made: Date, repairedAt = made) => made < repairedAt;

/** Where this node is repaired: a damage that another one had before that may be repaired, too. */
export function withoutOlder(answers: NodeAnswers, repairedAt: Date | undefined): NodeAnswers {
  const isStale = ({ damaged, made }: AnsweredNode) => damaged && isOlder(made, repairedAt);
  const stale = answers.nodes.filter(isStale).map(({ name }) => `${name}.json: ${OLDER}`);
  return {
    ...answers,
    nodes: answers.nodes.filter((node) => !isStale(node)),
    leftOut: [...answers.leftOut, ...stale],
  };
}

const hashOf = (copy: unknown) => String((copy as { hash?: unknown } | null)?.hash);

function seenNode(
  answer: Json,
  { name, controlPlane }: AnswerContext["nodes"][number],
  { files = [], ofKubelet = [] }: AnswerContext,
): AnsweredNode {
  const made = new Date(String(answer.made));
  const rows = rowsOf(answer);
  const lost = listOf(answer.lostFiles).map((file) => (file as { path?: unknown } | null)?.path);
  const missing = rows.filter(({ id }) => id === "lost-file").map(({ what }) => what);
  const isFailed = (ids: readonly string[]) =>
    rows.some(({ id, result }) => ids.includes(id) && result === "failed");
  const isKnown = answer.role === "control plane";
  return {
    name,
    made,
    controlPlane,
    lacks: controlPlane ? (isKnown ? lacking(answer, rows) : undefined) : [],
    unread: controlPlane && listOf(answer.deep?.unread).length > 0,
    noServers: listOf(answer.damage).some(
      (row) => (row as { serversStopped?: unknown } | null)?.serversStopped === true,
    ),
    joins: !controlPlane && isFailed(OF_JOIN),
    damaged: answer.damaged !== false,
    onlyExpired: rows.every(
      ({ result, isExpired, isStopped }) => result !== "failed" || isExpired || isStopped,
    ),
    kinds: kindsOf(rows),
    hasBackup: isKnown && answer.damaged === false && !rows.some(({ id }) => id === "backup"),
    lostData: controlPlane && (!isKnown || isFailed(["etcd-data", "etcd-damage"])),
    otherKeys: answer.deep?.moveToRescue === true,
    lostFiles: controlPlane
      ? files.filter((path) => lost.includes(path))
      : ofKubelet.filter((path) => missing.includes(path)),
    lostPods: controlPlane ? [] : lostPodsIn(rows),
    missing: controlPlane ? files.filter((path) => missing.includes(path)) : [],
    refusals: controlPlane ? refusedIn(answer) : [],
    words: controlPlane ? parseSavedOptions(answer.words) : [],
    held: heldAt({ damage: rows, deep: answer.deep, next: listOf(answer.next).map(String) }, name, made),
    trusts: listOf(answer.ca?.copies).map(hashOf),
    workloads: countOf(answer.workloads),
  };
}

function countOf(answer: unknown): number | undefined {
  return Number.isSafeInteger(answer) && (answer as number) >= 0 ? (answer as number) : undefined;
}

/** Unset: a shell's complaint, a file that was cut off. */
function asJson(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch (err) {
    if (err instanceof SyntaxError) return undefined;
    throw err;
  }
}

/** Nothing in it is sure to be there. */
interface Json {
  schemaVersion?: unknown;
  ended?: unknown;
  node?: unknown;
  role?: unknown;
  made?: unknown;
  ca?: { hashes?: unknown; copies?: unknown } | null;
  damaged?: unknown;
  damage?: unknown;
  next?: unknown;
  survivors?: unknown;
  lostFiles?: unknown;
  refusals?: unknown;
  words?: unknown;
  workloads?: unknown;
  deep?: { keys?: unknown; unread?: unknown; moveToRescue?: unknown } | null;
}

/**
 * Where no key is lost, survivors are not looked for; where one is, only a search of memory says that it is. A
 * CA that has expired is not lost.
 */
function lacking({ survivors, deep }: Json, rows: readonly Row[]): string[] | undefined {
  if (!deep) {
    const isLost = rows.some((row) => KEYS.includes(row.id) && row.result === "failed" && !row.isExpired);
    return listOf(survivors).length === 0 && !isLost ? [] : undefined;
  }
  const keys = listOf(deep.keys) as ({ name?: unknown; places?: unknown } | null)[];
  const found = (places: unknown) =>
    (listOf(places) as { found?: unknown }[]).some((place) => place?.found === true);
  return keys.flatMap((key) => {
    const name = SHARED_NAMES.find((one) => one === key?.name);
    return name !== undefined && !found(key?.places) ? [name] : [];
  });
}

/** An answer's own words are not repeated. */
const SHARED_NAMES = SHARED_KEYS.map(({ name }) => name);

function lostPodsIn(rows: readonly Row[]): AnsweredNode["lostPods"] {
  const own = rows.filter(({ id, result }) => id === "manifest" && result !== "ok");
  const pods = own.flatMap(({ what }) => /^static pod kube-system\/(\S+)$/.exec(what)?.[1] ?? []);
  return own.some(({ what }) => what.startsWith("/")) ? "all" : pods;
}

function refusedIn({ refusals }: Json): AnsweredNode["refusals"] {
  return listOf(refusals).flatMap((one) => {
    const id = String((one as { id?: unknown } | null)?.id) as RefusalId;
    return Object.hasOwn(REFUSALS, id) ? [{ id, part: REFUSALS[id].part }] : [];
  });
}

const KEYS = ["certificate-ca", "certificate-front-proxy-ca", "certificate-etcd-ca", "service-account-key"];
const OF_JOIN = ["kubelet-ca", "kubelet-conf", "kubelet-client-certificate"];

interface Row extends Pick<Check, "what" | "result"> {
  id: string;
  isExpired: boolean;
  /** With an expired certificate no kubelet starts. */
  isStopped: boolean;
}

/** Other ids are damage, too. */
export function kindsOf(rows: readonly (Pick<Check, "result"> & { id: string })[]): string[] {
  const ids = rows.filter(({ result }) => result === "failed").map(({ id }) => id);
  return [...new Set(ids.map((id) => KINDS_OF.find(([is]) => is.test(id))?.[1] ?? "other"))];
}

const KINDS_OF: [ids: RegExp, kind: string][] = [
  [/^certificate/, "certificates"],
  [/^service-account-key$/, "the service-account key"],
  [/^kubeconfig/, "kubeconfigs"],
  [/manifest$/, "manifests"],
  [/^lost-file$/, "files that no script makes"],
  [/kubelet/, "the kubelet's files"],
  [/^etcd/, "etcd"],
];

function rowsOf({ damage }: Json): Row[] {
  const rows = listOf(damage) as ({ id?: unknown; what?: unknown; state?: unknown } | null)[];
  return rows.map((row) => {
    const state = String(row?.state);
    const result = /^!.+!$/.test(state) ? "failed" : state === "known" ? "warning" : "ok";
    return {
      id: String(row?.id),
      what: String(row?.what),
      result,
      isExpired: state === "!EXPIRED!",
      isStopped: state === "!STOPPED!",
    };
  });
}

export interface Observation {
  on: string;
  at: Date;
  /** "the kubelet is stopped". */
  what: string;
  isWhole: boolean;
}

interface HoldSeen {
  damage: readonly (Pick<Check, "what" | "result"> & { id: string })[];
  /** Unset: not searched, and `next` does not begin with what is still to be held. */
  deep?: unknown;
  next: readonly string[];
}

/**
 * Part 0's first two lines, by what 00-assess has seen on a node. Where no controller-manager was seen, only
 * a search says that none runs.
 */
export function heldAt({ damage, deep, next }: HoldSeen, on: string, at: Date): Observation | undefined {
  const isStopped = damage.some(({ id, result }) => id === "kubelet" && result !== "ok");
  if (!isStopped) return undefined;
  const paused = damage.find(
    ({ id, what, result }) => id === "stopped-process" && MANAGER.test(what) && result !== "failed",
  );
  const isOpen = !deep || HOLD.some(({ command }) => next.some((line) => line.startsWith(command)));
  const manager = paused ? `${paused.what} is paused` : isOpen ? "" : "no controller-manager runs";
  const what = `the kubelet is stopped${manager && `, ${manager}`}`;
  return { on, at, what, isWhole: manager !== "" };
}

/** An answer's own words are not repeated. */
const MANAGER = /^kube-controller-manager \(pid \d+\)$/;

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
