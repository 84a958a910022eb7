/**
 * The one table of what comes next: a repair's tasks in the order of RUNBOOK.md, whose fences say `task=…`,
 * and when each is part of the course. A plan is all of a course, 00-assess prints its beginning, and each script
 * what is open behind its own task, from what it has seen. Pure.
 */
import { command, commandChain, type LeftOut, leftNames, type Todo } from "../again.ts";
import { certRow, isInternal } from "../pki/certs.ts";
import { shell, signalLine } from "../shell-line.ts";
import { otherControlPlanes } from "./other-control-planes.ts";

/** This decides: the damage before anything is done, or what a repair has made new so far. Unset: it is not so. */
export interface RepairState {
  /** Part 1 makes new ones, or has made them. */
  lost?: readonly string[];
  /** 00-salvage brings other lost keys back. */
  found?: boolean;
  oldKey?: OldSaKey;
  /** All that is damaged, or some of it. */
  expired?: "all" | "some" | "none";
  /**
   * The cluster's CA has expired, and is renewed with its own key: who has the old certificate in memory
   * trusts no server.
   */
  caEnded?: boolean;
  others?: readonly string[];
  leavesOut?: boolean;
}

/** The nodes that the operator named with --lost. */
export interface LostNodes {
  names: readonly string[];
  /** With --without. */
  away: readonly string[];
  /** Part 2 takes them out of etcd's members. */
  controlPlanes: readonly string[];
  /** Other members of etcd that do not answer. Looked for only where a node is lost. */
  silent: readonly string[];
}

export const NONE_LOST: LostNodes = { names: [], away: [], controlPlanes: [], silent: [] };

/**
 * The public half of a lost service-account key: computed and here, to be computed from old tokens, or gone.
 */
export type OldSaKey = "here" | "in tokens" | "lost";

interface Row {
  if: (state: RepairState) => boolean;
  /** Where it is one command, whatever is known. */
  typed?: (lost: readonly string[]) => string;
  /** Unset: it is typed on this node. */
  on?: string;
  /** Its script says what comes next: no line before it goes on behind it. */
  says?: true;
}

export const EACH = "each control plane node";
export const TOKEN_KEY: Todo = {
  command: command("00-token-key"),
  note: "old tokens stay valid beside new ones",
};
const deleteNodes = (names: readonly string[]) =>
  shell`kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found ${names}`;

const always = () => true;
const several = ({ others = [] }: RepairState) => others.length > 0;
const option = ({ lost = [] }: RepairState) => newCasOption(lost);
/** Somebody beside the control plane nodes trusts what is made new. */
const isNew = (state: RepairState) => option(state) === "--new-cas";
/** All members need it at the same time: those under the old one refuse it. */
const makesEtcdCa = ({ lost = [] }: RepairState) =>
  ["etcd-ca", certRow("etcd-ca").file].some((name) => lost.includes(name));
const onlyExpired = (state: RepairState) => state.expired === "all" && option(state) === "" && !state.found;
const keepsTokens = ({ lost = [], oldKey = "lost" }: RepairState) => lost.includes("sa") && oldKey !== "lost";

// biome-ignore format: a table
export const TASKS = {
  hold:               { if: (state) => !onlyExpired(state) },
  look:               { if: (state) => several(state) && !onlyExpired(state) && !state.found && !isNew(state) },
  "look-around":      { if: (state) => several(state) && isNew(state) },
  salvage:            { if: ({ found = false }) => found },
  "token-key":        { if: (state) => keepsTokens(state) && state.oldKey === "in tokens" },
  "end-etcd":         { if: (state) => several(state) && makesEtcdCa(state) },
  "new-cas":          { if: isNew },
  "old-cas":          { if: (state) => option(state) === "" },
  "new-internal-cas": { if: (state) => option(state) === "--new-internal-cas" },
  "hand-over":        { if: (state) => several(state) && !onlyExpired(state) },
  unpack:             { if: (state) => several(state) && !onlyExpired(state) },
  "etcd-there":       { if: several },
  "old-key-there":    { if: (state) => several(state) && keepsTokens(state) },
  "control-plane":    { if: always, typed: () => command("02-control-plane"), says: true },
  open:               { if: always, typed: () => command("03-workers open"), says: true },
  join:               { if: ({ lost = [], expired = "none", caEnded }) => lost.includes("ca") || expired !== "none" || caEnded === true },
  close:              { if: always, typed: () => command("03-workers close"), says: true },
  "delete-nodes":     { if: ({ leavesOut = false }) => leavesOut, typed: deleteNodes },
  tokens:             { if: (state) => isNew(state) || state.caEnded === true, typed: () => command("04-sa-tokens"), says: true },
  retire:             { if: (state) => keepsTokens(state) || state.oldKey === "here", typed: () => command("04-sa-tokens retire"), on: EACH },
  verify:             { if: always, typed: () => command("05-verify"), says: true },
  backup:             { if: always },
  "backup-there":     { if: several },
  "backup-away":      { if: always },
  report:             { if: always },
  remove:             { if: always },
  "verify-again":     { if: always },
  "remove-kit":       { if: always },
} as const satisfies Record<string, Row>;

export type Task = keyof typeof TASKS;
export type Course = readonly Task[];

export function isTask(word: string): word is Task {
  return Object.hasOwn(TASKS, word);
}

/** The way to the proof, and behind it: from the damage, or from a later task on. */
export function courseFrom(state: RepairState, first: Task = "hold"): Course {
  const tasks = Object.keys(TASKS).filter(isTask);
  return tasks.slice(tasks.indexOf(first)).filter((task) => TASKS[task].if(state));
}

/** Open behind this task: up to the first whose script says what comes next. */
export function behind(task: Task, state: RepairState, lost: readonly string[]): Todo[] {
  const open = courseFrom({ ...state, leavesOut: lost.length > 0 }, task).filter((one) => one !== task);
  const last = open.findIndex((one) => "says" in TASKS[one]);
  return open.slice(0, last + 1).flatMap((one) => todosOf(one, lost));
}

function todosOf(task: Task, lost: readonly string[] = []): Todo[] {
  const { typed, on }: Row = TASKS[task];
  return typed ? [{ command: typed(lost), ...(on && { on }) }] : [];
}

/** "" where none is lost. */
export function newCasOption(lost: readonly string[]): "" | "--new-internal-cas" | "--new-cas" {
  if (lost.length === 0) return "";
  return lost.every(isInternal) ? "--new-internal-cas" : "--new-cas";
}

const INSTEAD_OF_PART_1 = {
  "static pod": undefined,
  unknown: undefined,
  elsewhere: `./bunw scripts/00-assess.ts   # says how etcd can be reached: RUNBOOK-MORE "If etcd is external"`,
  unit: `./bunw scripts/00-assess.ts   # says what to do by hand: RUNBOOK-MORE "If etcd is a unit of this node"`,
};

interface EtcdRuns {
  etcd?: keyof typeof INSTEAD_OF_PART_1;
}

/** Makes these keys; where etcd is not kubeadm's static pod, something else takes its place. */
export function todoOfPart1(lost: readonly string[] = [], { etcd = "static pod" }: EtcdRuns = {}): Todo {
  return { command: INSTEAD_OF_PART_1[etcd] ?? command(`01-etcd ${newCasOption(lost)}`.trim()) };
}

/** Where these keys are nowhere to be found: rung 4 where old tokens can be kept valid, and part 1. */
export function todosIfKeysAreLost(
  lost: readonly string[],
  oldKey: OldSaKey,
  options: EtcdRuns = {},
): Todo[] {
  return [...(TASKS["token-key"].if({ lost, oldKey }) ? [TOKEN_KEY] : []), todoOfPart1(lost, options)];
}

/**
 * Before anything is looked for: what holds lost keys in its memory goes on, and changes nothing meanwhile.
 * As in part 0 of RUNBOOK.md.
 */
export const HOLD: readonly Todo[] = [
  { command: "systemctl stop kubelet" },
  {
    command: signalLine("STOP", ["kube-controller-manager"]),
    note: "paused, it evicts nothing, and keeps its keys in memory",
  },
];

/**
 * The whole way from keys that are lost for the workers, too, to the end, in one line: "00-token-key →
 * 01-etcd --new-cas → …".
 */
export function wholeRepairLine(lost: readonly string[], oldKey: OldSaKey): string {
  const parts = [command("02-control-plane"), command("03-workers"), command("04-sa-tokens")];
  const todos = [...parts, command("05-verify")].map((line): Todo => ({ command: line }));
  return commandChain([...todosIfKeysAreLost(lost, oldKey), ...todos]);
}

export function partsHere(lost: readonly string[] = []): Todo[] {
  return [todoOfPart1(lost), ...todosOf("control-plane")];
}

export function partsForCluster(): Todo[] {
  return [...todosOf("open"), ...todosOf("tokens"), ...todosOf("verify")];
}

/* Behind each script. */

export interface Route {
  lost: readonly string[];
  own?: string;
  /** Except those that are left out. */
  others: readonly string[];
}

export function routeOf(
  { cluster, node }: { cluster: Parameters<typeof otherControlPlanes>[0]; node: { name: string } },
  out: LeftOut,
): Route {
  const others = otherControlPlanes(cluster, { node, without: leftNames(out) }).map(({ name }) => name);
  return { own: node.name, others, lost: out.lost };
}

function onOthers({ others }: Route, todo: Todo): Todo[] {
  return others.length > 0 ? [{ ...todo, on: others.join(", "), unlessDone: true }] : [];
}

/**
 * After `00-token-key`. `saKeyIsHere`: part 1 has made the new one. `carry`: what takes the old key to the
 * other control plane nodes.
 */
export function todosAfterTokenKey(tokenKey: { saKeyIsHere: boolean; carry: readonly Todo[] }): Todo[] {
  const part2 = { command: command("02-control-plane") };
  return [...(tokenKey.saKeyIsHere ? [] : [todoOfPart1(["sa"])]), ...tokenKey.carry, part2];
}

export interface EtcdSeen {
  peers: readonly string[];
  /** This run made shared keys: no other control plane node can have them yet. */
  makesKeys: boolean;
  /** This repair made shared keys, in this run or before, here or on another node. */
  newKeys: boolean;
  /** The peers that do not run. */
  silent: readonly string[];
  answers: boolean;
  /** Unset: this repair has not replaced the service-account key. */
  oldKey?: OldSaKey | undefined;
}

export function todosAfterEtcd({
  peers,
  silent,
  makesKeys,
  newKeys,
  answers,
  oldKey = "lost",
}: EtcdSeen): Todo[] {
  // A peer that runs with the new keys has got them: then they are handed over already.
  const notCarried = makesKeys || (newKeys && silent.length === peers.length);
  const tokenKey = oldKey === "in tokens" ? [TOKEN_KEY] : [];
  const todos: Todo[] = [];
  if (notCarried && (peers.length > 0 || !answers)) todos.push({ command: command("hand-over pack") });
  if (notCarried && peers.length > 0 && answers)
    todos.push({ command: command("hand-over unpack FILE"), called: "unpack it", on: peers.join(", ") });
  if (silent.length > 0) todos.push({ command: command("01-etcd"), called: "part 1", on: silent.join(", ") });
  todos.push(...tokenKey);
  return answers ? [...todos, { command: command("02-control-plane") }] : todos;
}

export interface TrustSeen {
  caIsNew: boolean;
  /** Its certificate of before has expired: this repair has renewed it. */
  caEnded?: boolean;
  saKeyIsNew: boolean;
}

/**
 * The keys that are new count as lost ones. Lost nodes go before part 4 and the proof; those that are away
 * stay.
 */
function afterPart3({ caIsNew, caEnded = false, saKeyIsNew }: TrustSeen, route: Route): Todo[] {
  const lost = [...(caIsNew ? ["ca"] : []), ...(saKeyIsNew ? ["sa"] : [])];
  return behind("close", { lost, caEnded }, route.lost);
}

/**
 * After part 2. `part3`: a kubelet has to join, or waits for its certificate, or somebody is away. `reduced`:
 * the control plane nodes whose controller-manager is reduced though everybody is back.
 */
export function todosAfterControlPlane(
  route: Route,
  trust: TrustSeen & { part3: boolean; reduced: readonly string[] },
): Todo[] {
  const part2 = { command: command("02-control-plane"), called: "part 2" };
  const open = { command: command("03-workers open") };
  return [
    ...onOthers(route, part2),
    ...(trust.part3 ? [open] : [...closeOn(trust.reduced, route), ...afterPart3(trust, route)]),
  ];
}

/** Where only this node has to, it need not be named. */
function closeOn(nodes: readonly string[], route: Route): Todo[] {
  const close = command("03-workers close");
  if (nodes.length === 0) return [];
  return [nodes.join() === route.own ? { command: close } : { command: close, on: nodes.join(", ") }];
}

export function closing(): Todo[] {
  return [{ command: command("03-workers close"), on: EACH }];
}

/** After an `open` where no worker has to join. `closeOn`: where `close` still has something to do. */
export function todosAfterIdleOpen(
  route: Route,
  trust: TrustSeen & { silentControlPlanes: readonly string[]; closeOn: readonly string[] },
): Todo[] {
  if (trust.silentControlPlanes.length > 0)
    return [{ command: command("02-control-plane"), on: trust.silentControlPlanes.join(", ") }];
  return trust.closeOn.length > 0 ? closeOn(trust.closeOn, route) : afterPart3(trust, route);
}

export function todosAfterClose(route: Route, trust: TrustSeen): Todo[] {
  return [
    ...onOthers(route, { command: command("03-workers close"), called: "the same" }),
    ...afterPart3(trust, route),
  ];
}

interface TokensSeen {
  /** The API servers still accept the old key beside the new one. */
  oldSaKey: boolean;
  /** Old pods are left for another run. */
  later: boolean;
  /** `namespace/name` of what the operator restarts, and how. */
  skipped: readonly { name: string; command: string }[];
}

/** `skipped`: each `namespace/name`. */
export function part4(skipped: readonly string[]): string {
  return command("04-sa-tokens", { skip: skipped });
}

export function todosAfterTokens(route: Route, { oldSaKey, later, skipped }: TokensSeen): Todo[] {
  const names = skipped.map(({ name }) => name);
  if (later) return [{ command: part4(names) }];
  const byHand =
    skipped.length > 1 ? [{ command: "", called: `the ${skipped.length} commands of 4.7` }] : skipped;
  return [...byHand, ...behind("tokens", { lost: ["sa"], oldKey: oldSaKey ? "here" : "lost" }, route.lost)];
}

export function todosAfterRetire(route: Route): Todo[] {
  return [
    ...onOthers(route, { command: command("04-sa-tokens retire"), called: "the same" }),
    ...behind("retire", {}, route.lost),
  ];
}
