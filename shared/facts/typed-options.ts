/**
 * The operator's words for a run: what was typed, and what was said before and still holds; and which nodes are left out.
 */
import { command, type LeftOut, leftNames } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless, memberName } from "../etcd-data/members.ts";
import { type EtcdClient, etcdClient, type LiveMember, unlessSilent } from "../etcd-location/client.ts";
import { readFolders } from "../etcd-location/etcd-folders.ts";
import { Refused } from "../fail.ts";
import {
  isTyped,
  kindOf,
  SAVED_OPTION_NAMES,
  type SavedOption,
  type SavedOptionKind,
  type SavedOptionName,
  savedOptionLine,
  savedOptionsHere,
  savedOptionsOf,
  savePlaces,
  saveTypedOptions,
  type TypedOptions,
  useTypedOptions,
} from "../node/words.ts";
import { knock } from "../pki/served.ts";
import { say } from "../run.ts";
import { readCluster } from "./cluster.ts";
import type { Cluster } from "./cluster-before.ts";
import type { KnownNode } from "./known-node.ts";
import { memberNames, uidOf } from "./known-nodes.ts";
import type { LostFile } from "./lost-file.ts";
import { lostHere } from "./lost-files.ts";
import type { ControlPlaneNode } from "./node-facts.ts";

type List = Exclude<SavedOptionName, "endpoint" | "etcd-data">;
const LISTS = SAVED_OPTION_NAMES.filter(
  (option) => option !== "endpoint" && option !== "etcd-data",
) as List[];
type Typed = TypedOptions & { [option in List]?: readonly string[] | undefined };

interface Place {
  cluster: Cluster;
  data: EtcdData;
  node: { name: string };
  dataFrom: string;
  etcd: { dir: string };
  earlier?: { data: EtcdData };
}

/** These words are rows of 00-assess and 05-verify. */
export const IN_ROWS: readonly SavedOptionKind[] = ["without", "start-without"];

/**
 * `typed` with all that was said: of `start-without`, the paths that were given up. Says what this run's line does
 * not say itself, without options that are `shown` in another way. Errors: Refused as `refuseUnknownNodes`, for typed
 * names; a kept one of which there is no node any more does not count.
 */
export function withSavedOptions<V extends Typed>(
  typed: V,
  cp: Place,
  { shown = [], ...options }: { mayBeDeleted?: boolean; shown?: readonly SavedOptionKind[] } = {},
): V & Record<List, string[]> {
  refuseUnknownNodes({ without: typed.without ?? [], lost: typed.lost ?? [] }, cp, options);
  const saved = SAVED_OPTION_NAMES.map((option) => {
    const values = [typed[option] ?? []].flat();
    return [option, values.filter((value) => isKnown({ option, value }, cp))] as const;
  });
  useTypedOptions(Object.fromEntries(saved));
  savePlaces(cp.node.name);
  const kept = savedOptionsHere().filter((word) => !isTyped(word) && isKnown(word, cp));
  for (const word of kept)
    if (!shown.includes(word.option) && !kindOf(word).isJudged) say(savedOptionLine(word));
  const lists = LISTS.map((option) => {
    const values = kept.flatMap((word) => (word.option === option ? (word.files ?? word.value) : []));
    return [option, [...new Set([...(typed[option] ?? []), ...values])]] as const;
  });
  return { ...typed, ...(Object.fromEntries(lists) as Record<List, string[]>) };
}

/**
 * Checks the names after --without and --lost: of nodes and, as `memberName`, of etcd's members. Those of a
 * repair that is over count: their Nodes may be deleted since. `mayBeDeleted`: where the repair has no copy
 * of etcd's data, and so no proof that a name never was one, it is said. Errors: Refused where one is this
 * node's own, or etcd never knew it: it is mistyped.
 */
export function refuseUnknownNodes(out: LeftOut, cp: Place, { mayBeDeleted = false } = {}) {
  const { data, node } = cp;
  const names = leftNames(out);
  refuseStrangers(names, cp, mayBeDeleted);
  const refuse = (message: string, hint: string) => {
    throw new Refused(message, { unchanged: true, hint });
  };
  const own = data.members.find(({ id }) => id === data.memberId);
  const here = names.find((name) => name === node.name || (own && name === memberName(own)));
  if (here !== undefined)
    refuse(
      `"${here}" is this node, and it is not ${out.lost.includes(here) ? "lost" : "away"}`,
      "name only other nodes, which are away or lost",
    );
  const nameless = data.members.filter(isNameless).map(({ id }) => id);
  const id = out.without.find((name) => nameless.includes(name));
  if (id !== undefined)
    refuse(
      `${id} is not a node that is away, but a member of etcd that never started`,
      `take it out in part 2: ${command("02-control-plane", { lost: [id] })}`,
    );
  const both = out.without.find((name) => out.lost.includes(name));
  if (both !== undefined)
    refuse(`"${both}" cannot be away (--without) and lost for good (--lost)`, "name it once");
}

function refuseStrangers(names: readonly string[], place: Place, mayBeDeleted: boolean) {
  const { cluster, data, dataFrom, etcd, earlier } = place;
  const nodesBefore = earlier ? readCluster(earlier.data).nodes : [];
  const members = [...data.members, ...(earlier?.data.members ?? [])].map(memberName);
  const nodesKnown = [...cluster.nodes, ...nodesBefore].map(({ name }) => name);
  const nodeNames = new Set([...nodesKnown, ...members, ...(data.formerMembers ?? [])]);
  const strangers = names.filter((name) => !nodeNames.has(name));
  const nodes = [...nodeNames].join(", ");
  if (strangers.length > 0 && mayBeDeleted && dataFrom === etcd.dir)
    say(
      `${strangers.join(", ")}: not a node of this cluster any more. If it is mistyped, the nodes are ${nodes}`,
    );
  else if (strangers.length > 0)
    throw new Refused(`etcd knew no node "${strangers.join('", "')}"`, {
      hint: `name one of its nodes: ${nodes}`,
    });
}

/** `lost`: of other nodes, which the same flags name. */
export function saveOptions(
  cp: Pick<ControlPlaneNode, "data" | "node" | "facts" | "etcd" | "ran">,
  lost: readonly Pick<LostFile, "path" | "namedBy">[] = [],
) {
  const here = savedOptionsOf("start-without").some(isTyped)
    ? lostHere({ ...cp, certificatesDir: cp.facts.certificatesDir }).filter(({ stored }) => !stored)
    : [];
  const byFlag = Map.groupBy([...here, ...lost], ({ namedBy }) => namedBy.slice(2));
  saveTypedOptions(
    cp.node.name,
    new Map([...byFlag].map(([flag, files]) => [flag, files.map(({ path }) => path)])),
  );
}

/** This node, and who is none of the cluster's, cannot be meant. A member that never started has no name. */
function isKnown(word: Pick<SavedOption, "option" | "value">, { cluster, data, node }: Place): boolean {
  const members = data.members.filter((member) => !isNameless(member)).map(memberName);
  const names = [...cluster.nodes.map(({ name }) => name), ...members];
  const mayBeHere = word.option === "lost-on" || word.value !== node.name;
  return !kindOf(word).ofNodes || (names.includes(word.value) && mayBeHere);
}

/** The kubelet's, ssh's, that of etcd's peers. */
const PORTS = [10250, 22, 2380];
/** Milliseconds: who is there answers sooner. */
const SOON = 1500;

/**
 * Names of those whose machines are on: a program takes connections there. That a port is closed a firewall says, too,
 * for a machine that is off.
 */
export async function machinesOn(nodes: readonly KnownNode[]): Promise<string[]> {
  const isOn = async ({ claimed: { ips } }: KnownNode) => {
    const open = await Promise.all(PORTS.map((port) => ips[0] && knock(ips[0], port, SOON)));
    return open.includes(true);
  };
  const on = await Promise.all(nodes.map(isOn));
  return nodes.flatMap(({ name }, i) => (on[i] ? [name] : []));
}

/** This run's line counts as it is. */
export async function nodesOnAgain(
  nodes: readonly KnownNode[],
  without: readonly string[],
): Promise<string[]> {
  return await machinesOn(nodesAwayBefore(nodes, without));
}

export function nodesAwayBefore(nodes: readonly KnownNode[], without: readonly string[]): KnownNode[] {
  const kept = savedOptionsOf("without").flatMap((word) => (isTyped(word) ? [] : word.value));
  return nodes.filter(({ name }) => without.includes(name) && kept.includes(name));
}

/**
 * The names after --lost that are nodes. A member of etcd that never started is none: part 2 only removes it
 * from etcd.
 */
export function nodesAmong(names: readonly string[], { data }: Pick<ControlPlaneNode, "data">): string[] {
  return names.filter((name) => !data.members.some((member) => isNameless(member) && member.id === name));
}

/**
 * Nodes whose member left etcd since the copy was made, as part 2 does with --lost. So a name given once
 * holds on every control plane node and in every later script, until a machine of that name joins again, as a
 * member or with a Node of its own. Only etcd's own answer proves it; if it does not answer, only nodes that
 * restore.ts left behind are known. `members`: where etcd has listed them already.
 */
export async function removedMembers(cp: NodeData, members?: readonly LiveMember[]): Promise<string[]> {
  const client = cp.facts.externalEtcd?.elsewhere ? undefined : etcdClient(cp.facts);
  return (client && (await unlessSilent(() => outByEtcd(client, cp, members)))) ?? leftBehind(cp);
}

/**
 * Reads this member's own copy, so it works even if most others are offline. A failed read is no deleted
 * Node.
 */
async function outByEtcd(
  client: EtcdClient,
  { data, cluster }: NodeData,
  members?: readonly LiveMember[],
): Promise<string[]> {
  const live = (members ?? (await client.members())).map(({ name }) => name);
  const candidates = cluster.nodes.filter(
    ({ name }) => !live.includes(name) && memberNames(data).includes(name),
  );
  const uids = await Promise.all(
    candidates.map(({ name }) => uidOf(client, data, `minions/${name}`, { agreed: false })),
  );
  return candidates.flatMap(({ name, uid }, i) => ([undefined, uid].includes(uids[i]) ? [name] : []));
}

type NodeData = Pick<ControlPlaneNode, "data" | "facts" | "cluster" | "etcd">;

/** Reads etcd's current data: the copy of a repair may be older than a join. */
function leftBehind({ data: { formerMembers = [] }, cluster, etcd }: NodeData): string[] {
  if (formerMembers.length === 0) return [];
  using today = readFolders(etcd);
  const isLeft = (name: string) =>
    formerMembers.includes(name) && !today.members.some((member) => member.name === name);
  return cluster.nodes.flatMap(({ name }) => (isLeft(name) ? [name] : []));
}

/**
 * The nodes to leave out: those that the operator names (`nodesAmong`), and those that left etcd before
 * (`gone`), which this names as lost.
 */
export async function nodesToSkip(
  cp: NodeData,
  named: LeftOut,
  members?: readonly LiveMember[],
): Promise<LeftOut & { gone: readonly string[] }> {
  const removed = await removedMembers(cp, members);
  const unsaid = removed.filter((name) => !named.lost.includes(name));
  for (const name of unsaid) {
    const script = cp.data.formerMembers?.includes(name) ? "restore" : "02-control-plane --lost";
    say(`${name}: no member of etcd any more (${script}): left out here, too`);
  }
  return {
    gone: removed,
    without: named.without.filter((name) => !removed.includes(name)),
    lost: [...nodesAmong(named.lost, cp), ...unsaid],
  };
}
