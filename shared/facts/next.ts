/**
 * What comes next: the order of the runbook's parts is decided here and nowhere else. A script says what it has seen, and gets the commands
 * to print. Pure. A `Route` remembers what the operator said with --without and --lost, so that every command of this run that takes them has them, too.
 */

import { isInternal } from "../pki/certs.ts";
import { shell, signalLine } from "../shell-line.ts";
import { command, inArrows, type LeftOut, leftNames, type Todo } from "./todo.ts";

/** What all commands of one run have in common. */
export interface Route extends LeftOut {
  /** This node's name. */
  own?: string;
  /** Names of the other control plane nodes, except those that are left out. */
  others: readonly string[];
}

/** As much of a node as decides here. */
interface Known {
  name: string;
  controlPlane: boolean;
}

interface Place {
  node: Pick<Known, "name">;
  without?: readonly string[];
}

export function otherControlPlanes<N extends Known>({ nodes }: { nodes: readonly N[] }, { node, without = [] }: Place): N[] {
  return nodes.filter(({ controlPlane, name }) => controlPlane && name !== node.name && !without.includes(name));
}

export function routeOf({ cluster, node }: { cluster: { nodes: readonly Known[] } } & Place, out: LeftOut): Route {
  const others = otherControlPlanes(cluster, { node, without: leftNames(out) }).map(({ name }) => name);
  return { own: node.name, others, without: out.without, lost: out.lost };
}

/** A bundle that stays: one in the kit's folder, or in memory, is no backup. */
export const BACKUP = command("hand-over pack --out /root/keys.age");

const VERIFY: Todo = { command: command("05-verify") };
const EACH = "each control plane node";

function onOthers({ others }: Route, todo: Todo): Todo[] {
  return others.length > 0 ? [{ ...todo, on: others.join(", "), unlessDone: true }] : [];
}

/** The option of part 1 that makes these lost keys; "" where none is lost. */
export function newCasOption(lost: readonly string[]): "" | "--new-internal-cas" | "--new-cas" {
  if (lost.length === 0) return "";
  return lost.every(isInternal) ? "--new-internal-cas" : "--new-cas";
}

/** What takes the place of part 1 where etcd is not on the control plane nodes. */
export const KUBEADM_CERTS = `kubeadm init phase certs all --config FILE   # and what follows in RUNBOOK 1, "If etcd is external"`;

/** What takes the place of part 1; where etcd is the static pod that kubeadm makes, part 1 is right. */
const INSTEAD_OF_PART_1 = {
  "static pod": undefined,
  unknown: undefined,
  elsewhere: KUBEADM_CERTS,
  unit: `./bunw scripts/00-assess.ts   # says what to do by hand: RUNBOOK 1, "If etcd is a unit of this node"`,
};

interface EtcdRuns {
  etcd?: keyof typeof INSTEAD_OF_PART_1;
}

/** Part 1, which makes these keys; where etcd is not kubeadm's static pod, what takes its place. */
export function part1(lost: readonly string[] = [], { etcd = "static pod" }: EtcdRuns = {}): Todo {
  return { command: INSTEAD_OF_PART_1[etcd] ?? command(`01-etcd ${newCasOption(lost)}`.trim()) };
}

/** The public half of a lost service-account key: computed and here, to be computed from old tokens, or gone. */
export type OldSaKey = "here" | "in tokens" | "lost";

/** Where these keys are nowhere to be found: rung 4 where old tokens can be kept valid, and part 1. */
export function withoutKeys(lost: readonly string[], oldKey: OldSaKey, options: EtcdRuns = {}): Todo[] {
  return [...(lost.includes("sa") ? tokenKey(oldKey) : []), part1(lost, options)];
}

/** Before anything is looked for: what holds lost keys in its memory goes on, and changes nothing meanwhile. As in part 0 of RUNBOOK.md. */
export const HOLD: readonly Todo[] = [
  { command: "systemctl stop kubelet" },
  { command: signalLine("STOP", ["kube-controller-manager"]), note: "paused, it evicts nothing, and keeps its keys in memory" },
];

/** Before part 2, on one control plane node. */
function tokenKey(oldKey: OldSaKey): Todo[] {
  return oldKey === "in tokens" ? [{ command: command("00-token-key"), note: "old tokens stay valid beside new ones" }] : [];
}

/** The whole way from lost keys to the end, in one line: "00-token-key → 01-etcd --new-cas → …". */
export function wayFrom(lost: readonly string[], oldKey: OldSaKey): string {
  const cluster = lost.every(isInternal) ? [VERIFY] : [{ command: command("03-workers") }, { command: command("04-sa-tokens") }, VERIFY];
  return inArrows([...withoutKeys(lost, oldKey), { command: command("02-control-plane") }, ...cluster]);
}

/** Parts 1 and 2 on this node. */
export function partsHere(lost: readonly string[] = []): Todo[] {
  return [part1(lost), { command: command("02-control-plane") }];
}

/** From a repaired control plane node with a new CA to the end. */
export function partsForCluster(): Todo[] {
  return [{ command: command("03-workers open") }, { command: command("04-sa-tokens") }, VERIFY];
}

/** After `00-token-key`. `saKeyIsHere`: part 1 has made the new one. `carry`: what takes the old key to the other control plane nodes. */
export function afterTokenKey({ saKeyIsHere, carry }: { saKeyIsHere: boolean; carry: readonly Todo[] }): Todo[] {
  return [...(saKeyIsHere ? [] : [part1(["sa"])]), ...carry, { command: command("02-control-plane") }];
}

export interface EtcdSeen {
  /** Names of etcd's other members. */
  peers: readonly string[];
  /** This run made shared keys: no other control plane node can have them yet. */
  makesKeys: boolean;
  /** This repair made shared keys, in this run or before, here or on another node. */
  newKeys: boolean;
  /** Those of them that do not run. */
  silent: readonly string[];
  /** Enough members run: etcd answers. */
  answers: boolean;
  /** Of the service-account key that this repair has replaced; unset: it has not. */
  oldKey?: OldSaKey | undefined;
}

/** After part 1. */
export function afterEtcd({ peers, silent, makesKeys, newKeys, answers, oldKey = "lost" }: EtcdSeen): Todo[] {
  // A peer that runs with the new keys has got them: then they are handed over already.
  const notCarried = makesKeys || (newKeys && silent.length === peers.length);
  const pack = { command: command("hand-over pack") };
  const part1There = silent.length > 0 ? [{ command: command("01-etcd"), called: "part 1", on: silent.join(", ") }] : [];
  if (!answers) return [...(notCarried ? [pack] : []), ...part1There, ...tokenKey(oldKey)];
  const handOver = [pack, { command: command("hand-over unpack FILE"), called: "unpack it", on: peers.join(", ") }];
  return [
    ...(notCarried && peers.length > 0 ? handOver : []),
    ...part1There,
    ...tokenKey(oldKey),
    { command: command("02-control-plane") },
  ];
}

export interface TrustSeen {
  caIsNew: boolean;
  saKeyIsNew: boolean;
}

/** Part 4 where something old is still trusted, else the proof. Before both, lost nodes go; those that are away stay. */
function afterPart3({ caIsNew, saKeyIsNew }: TrustSeen, route: Route): Todo[] {
  const remove = { command: shell`kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found ${route.lost}` };
  return [...(route.lost.length > 0 ? [remove] : []), caIsNew || saKeyIsNew ? { command: command("04-sa-tokens", route) } : VERIFY];
}

/**
 * After part 2. `part3`: a kubelet has to join, or waits for its certificate, or somebody is away. `reduced`: the control plane nodes whose
 * controller-manager is reduced though everybody is back.
 */
export function afterControlPlane(route: Route, seen: TrustSeen & { part3: boolean; reduced: readonly string[] }): Todo[] {
  const part2 = { command: command("02-control-plane", route), called: "part 2" };
  const open = { command: command("03-workers open", route) };
  return [...onOthers(route, part2), ...(seen.part3 ? [open] : [...closeOn(seen.reduced, route), ...afterPart3(seen, route)])];
}

/** Where only this node has to, it need not be named. */
function closeOn(nodes: readonly string[], route: Route): Todo[] {
  const close = command("03-workers close", route);
  if (nodes.length === 0) return [];
  return [nodes.join() === route.own ? { command: close } : { command: close, on: nodes.join(", ") }];
}

/** After `open` and `approve`. */
export function closing(out: LeftOut): Todo[] {
  return [{ command: command("03-workers close", out), on: EACH }];
}

/** After `join`, on a worker: it knows of no other node but those that the line of `open` says are lost. */
export function afterJoin(route: LeftOut): Todo[] {
  return [{ command: command("03-join", route), called: "the same", on: "the other workers" }, ...closing(route)];
}

/** After an `open` where no worker has to join. `closeOn`: where `close` still has something to do. */
export function afterIdleOpen(
  route: Route,
  seen: TrustSeen & { silentControlPlanes: readonly string[]; closeOn: readonly string[] },
): Todo[] {
  if (seen.silentControlPlanes.length > 0)
    return [{ command: command("02-control-plane", route), on: seen.silentControlPlanes.join(", ") }];
  return seen.closeOn.length > 0 ? closeOn(seen.closeOn, route) : afterPart3(seen, route);
}

/** After `close`. */
export function afterClose(route: Route, seen: TrustSeen): Todo[] {
  return [...onOthers(route, { command: command("03-workers close", route), called: "the same" }), ...afterPart3(seen, route)];
}

interface TokensSeen {
  /** The API servers still accept the old key beside the new one. */
  oldSaKey: boolean;
  /** Old pods are left for another run. */
  later: boolean;
  /** `namespace/name` of what the operator restarts, and how. */
  skipped: readonly { name: string; command: string }[];
}

/** Part 4 without these, each `namespace/name`. */
export function part4(skipped: readonly string[], out: Partial<LeftOut> = {}): string {
  return skipped.length > 0 ? command(shell`04-sa-tokens --skip ${skipped.join(",")}`, out) : command("04-sa-tokens", out);
}

/** After part 4. */
export function afterTokens(route: Route, { oldSaKey, later, skipped }: TokensSeen): Todo[] {
  if (later)
    return [
      {
        command: part4(
          skipped.map(({ name }) => name),
          route,
        ),
      },
    ];
  const byHand = skipped.length > 1 ? [{ command: "", called: `the ${skipped.length} commands of 4.7` }] : skipped;
  return [...byHand, ...(oldSaKey ? [{ command: command("04-sa-tokens retire", route), on: EACH }] : []), VERIFY];
}

/** After `retire`. */
export function afterRetire(route: Route): Todo[] {
  return [...onOthers(route, { command: command("04-sa-tokens retire", route), called: "the same" }), VERIFY];
}
