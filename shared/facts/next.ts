/**
 * Each script prints as next what is open behind its own task, from what it has seen. The order, and
 * what belongs to a repair, is the table of course.ts. Pure.
 */
import { command, type LeftOut, leftNames, type Todo } from "../again.ts";
import { behind, EACH, type OldSaKey, part1, TOKEN_KEY } from "./course.ts";
import { otherControlPlanes } from "./known-nodes.ts";

/** All commands of one run have this in common. */
export interface Route {
  lost: readonly string[];
  own?: string;
  /** Names of the other control plane nodes, except those that are left out. */
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
export function afterTokenKey(seen: { saKeyIsHere: boolean; carry: readonly Todo[] }): Todo[] {
  const part2 = { command: command("02-control-plane") };
  return [...(seen.saKeyIsHere ? [] : [part1(["sa"])]), ...seen.carry, part2];
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
  /** Unset: this repair has not replaced the service-account key. */
  oldKey?: OldSaKey | undefined;
}

/** After part 1. */
export function afterEtcd({ peers, silent, makesKeys, newKeys, answers, oldKey = "lost" }: EtcdSeen): Todo[] {
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
export function afterControlPlane(
  route: Route,
  seen: TrustSeen & { part3: boolean; reduced: readonly string[] },
): Todo[] {
  const part2 = { command: command("02-control-plane"), called: "part 2" };
  const open = { command: command("03-workers open") };
  return [
    ...onOthers(route, part2),
    ...(seen.part3 ? [open] : [...closeOn(seen.reduced, route), ...afterPart3(seen, route)]),
  ];
}

/** Where only this node has to, it need not be named. */
function closeOn(nodes: readonly string[], route: Route): Todo[] {
  const close = command("03-workers close");
  if (nodes.length === 0) return [];
  return [nodes.join() === route.own ? { command: close } : { command: close, on: nodes.join(", ") }];
}

/** After `open` and `approve`. */
export function closing(): Todo[] {
  return [{ command: command("03-workers close"), on: EACH }];
}

/** After an `open` where no worker has to join. `closeOn`: where `close` still has something to do. */
export function afterIdleOpen(
  route: Route,
  seen: TrustSeen & { silentControlPlanes: readonly string[]; closeOn: readonly string[] },
): Todo[] {
  if (seen.silentControlPlanes.length > 0)
    return [{ command: command("02-control-plane"), on: seen.silentControlPlanes.join(", ") }];
  return seen.closeOn.length > 0 ? closeOn(seen.closeOn, route) : afterPart3(seen, route);
}

export function afterClose(route: Route, seen: TrustSeen): Todo[] {
  return [
    ...onOthers(route, { command: command("03-workers close"), called: "the same" }),
    ...afterPart3(seen, route),
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

export function afterTokens(route: Route, { oldSaKey, later, skipped }: TokensSeen): Todo[] {
  const names = skipped.map(({ name }) => name);
  if (later) return [{ command: part4(names) }];
  const byHand =
    skipped.length > 1 ? [{ command: "", called: `the ${skipped.length} commands of 4.7` }] : skipped;
  return [...byHand, ...behind("tokens", { lost: ["sa"], oldKey: oldSaKey ? "here" : "lost" }, route.lost)];
}

export function afterRetire(route: Route): Todo[] {
  return [
    ...onOthers(route, { command: command("04-sa-tokens retire"), called: "the same" }),
    ...behind("retire", {}, route.lost),
  ];
}
