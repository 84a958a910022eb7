/**
 * A plan needs this beside the assessment: the cluster, which of its nodes will not come back, and what lies here.
 * Reads only; it asks etcd.
 */

import { again, BACKUP, command, type LeftOut, leftNames } from "../again.ts";
import { membersNow, refuseLiving, refuseMembersElsewhere } from "../etcd/all-members.ts";
import { isOwnEtcd, type Peer, peersOf, quorumOf, SOON, showsOtherCa } from "../etcd/peers.ts";
import { refuseNoQuorum } from "../etcd/unheard.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless } from "../etcd-data/members.ts";
import { etcdClient } from "../etcd-location/client.ts";
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import { ownMember } from "../etcd-location/reach-etcd.ts";
import { clusterCaSeen, hasNewKeys } from "../facts/ca-copies.ts";
import { onlyLabelled } from "../facts/cluster.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import { type LostNodes, NONE_LOST } from "../facts/course.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { isControlPlaneName } from "../facts/known-nodes.ts";
import { lastLeaderElsewhere } from "../facts/leaders.ts";
import type { LostFile } from "../facts/lost-file.ts";
import type { ControlPlaneNode, PartialFacts } from "../facts/node-facts.ts";
import { nodesAmong, nodesOnAgain, nodesToSkip, withSavedOptions } from "../facts/typed-options.ts";
import { attempt, failOf, Refused } from "../fail.ts";
import { exists, list } from "../files/files.ts";
import { backupState } from "../hand-over/backup-mark.ts";
import { hostFiles } from "../manifests/command.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import { endSavedOptions, lastRestore, movedHere, savedOptionOf, savedOptionsOf } from "../node/words.ts";
import { typed as inKitsFolder } from "../options.ts";
import type { Moved } from "../pki/addresses.ts";
import { trustedKeys } from "../pki/certificate.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";
import { oldSaPub } from "../pki/sa-keys.ts";
import { isHeard } from "../pki/served.ts";
import { listed } from "../plain.ts";
import { Disk, deviceOf } from "../salvage/disk/disk.ts";
import { wantedManifests } from "../static-pods/wanted-manifests.ts";
import type { List } from "./decision-ways.ts";
import { ROOT } from "./login.ts";
import { type AnsweredNode, NONE_SEEN, type NodeAnswers, readSeen } from "./node-answers.ts";
import { isName } from "./plan-node.ts";

export interface PlanFacts {
  clusterData: { cluster: Cluster; data: EtcdData } | undefined;
  lost: LostNodes;
  /** Were away, as was said before, and their machines are on again. */
  onAgain: readonly string[];
  answers: NodeAnswers;
  folder: string | undefined;
  isKept: boolean;
  /**
   * The repair of this node is finished, and part 5's checks here are all good now: every node that was not
   * said to be away renews its Lease, and answers by the API. Unset: they were not made, as nothing depends on it.
   */
  isProved?: boolean;
  /** The last change by a script here. */
  repairedAt: Date | undefined;
  /** The one that led last, where it is on another node. */
  leader: { host: string; nodes: readonly string[] } | undefined;
  /** At the address of these members something answers: an etcd, also one whose files are gone, or a stranger. */
  running: readonly string[];
  /** At the address of these nothing answers, also by ssh where they were asked; nor is a word said of them. */
  silent: readonly string[];
  /** Where this cluster's etcd runs; undefined: not known. */
  etcdRuns?: EtcdHome["runs"] | undefined;
  certificatesDir: string;
  /** In this repair. */
  hasNewKeys: boolean;
  /**
   * At a repair's end. `backup` may still lie here; part 4 takes `oldKey` away: the public half of a lost service-
   * account key.
   */
  made: { backup: boolean; backupHere: boolean; report: boolean; oldKey: boolean };
  /** Why the disk below /etc/kubernetes cannot be searched. */
  noDisk: string | undefined;
  named: readonly Pick<LostFile, "path" | "program" | "namedBy">[];
  /** True if etcd keeps its quorum without this node. */
  othersServe: boolean;
  /** Machines that have other addresses than before. */
  moved: Moved;
  isRestored: boolean;
  bundles: readonly string[];
  user: string;
  /** Also what was said before: a plan that is made elsewhere has to be told all of it. */
  options: PlanOptions;
  /** Flags, and paths of files. */
  givenUp: readonly string[];
  /** The options to repeat on a plan's line, without the saved ones. */
  unkept: Partial<PlanOptions>;
}

export interface PlanOptions extends Record<List, readonly string[]> {
  "etcd-data": string | undefined;
  endpoint: string | undefined;
  user: string | undefined;
}

interface Asked extends LeftOut {
  "lost-on": readonly string[];
  "start-without"?: readonly string[];
  worker: readonly string[];
  user?: string | undefined;
  seen?: string | undefined;
  endpoint?: string | undefined;
  "etcd-data"?: string | undefined;
}

/**
 * `Asked`: as typed. Errors: Refused as by part 2, where no plan can be for what remains, and where the
 * operator has to say what a node is: a plan carries keys.
 */
export async function factsForPlan(
  { cp, cluster, data, home }: Partial<PartialFacts>,
  { user = ROOT, seen: folder, ...typed }: Asked,
): Promise<PlanFacts> {
  const all = cluster?.nodes ?? [];
  const peers = cp ? await peersOf(cp) : [];
  const living = peers.filter(isOwnEtcd).map(({ name }) => name);
  if (cp)
    endSavedOptions(({ option, value }) => option === "lost" && living.includes(value), "its etcd answers");
  const words = cp ? withSavedOptions(typed, cp) : typed;
  refuseUnclear(all, [...words.without, ...words.lost, ...words.worker], data?.elsewhere !== undefined);
  const left = cp
    ? await lostNodes(cp, words, peers)
    : { ...NONE_LOST, names: words.lost, away: words.without };
  const on = await nodesOnAgain(all, left.away);
  const lost = { ...left, away: left.away.filter((name) => !on.includes(name)) };
  const named = cp ? namedFiles(cp) : [];
  const answers = cluster
    ? seenIn(folder, { cp, cluster, peers, files: named.map(({ path }) => path) })
    : NONE_SEEN;
  const running = peers.flatMap((peer) => (isNameless(peer) || peer.shows === "nothing" ? [] : peer.name));
  const unkept = { user: user === ROOT ? undefined : user };
  const options = saidHere(typed, words, { lost, ...unkept });
  return {
    clusterData: cluster && data && { cluster, data },
    // what a restore has left behind needs no word, and nothing of it is believed
    lost: cp
      ? lost
      : { ...lost, names: [...lost.names, ...all.flatMap((one) => (one.former ? one.name : []))] },
    ...{ onAgain: on, answers, folder, running, named, user, options },
    isKept: rescueFolders().length > 0,
    repairedAt: rescueFolders()[0]?.made,
    leader: cp && lastLeaderElsewhere(cp),
    silent: await silentPeers(peers, [...left.names, ...left.away], { ...answers, running }),
    etcdRuns: home?.runs,
    certificatesDir: cp?.facts.certificatesDir ?? CERTIFICATES_DIR,
    hasNewKeys: cp !== undefined && hasNewKeys(cp),
    made: madeHere(cp),
    noDisk: (await failOf(async () => new Disk((await deviceOf("/etc/kubernetes")).path)[Symbol.dispose]()))
      ?.message,
    othersServe: cp !== undefined && quorumOf(cp.data.members, answering(peers)).isEnough,
    moved: movedHere(),
    isRestored: lastRestore() !== undefined,
    bundles: lyingHere(".age").filter((name) => !name.endsWith(".etcd.age")),
    givenUp: words["start-without"] ?? [],
    unkept: cp ? unkept : options,
  };
}

function madeHere(cp: ControlPlaneNode | undefined): PlanFacts["made"] {
  return {
    backup: cp !== undefined && attempt(() => backupState(cp.facts.certificatesDir).fits, false),
    // where RUNBOOK.md's line makes it
    backupHere: exists(BACKUP.split(" ").at(-1)!),
    report: lyingHere("report.html").includes("report.html"),
    oldKey: cp !== undefined && exists(oldSaPub(cp.facts.certificatesDir)),
  };
}

function lyingHere(ending: string): string[] {
  return list(inKitsFolder(".")).filter((name) => name.endsWith(ending) && !name.startsWith("-"));
}

function namedFiles(cp: ControlPlaneNode): PlanFacts["named"] {
  const pods = attempt(() => wantedManifests(cp), []);
  const ofKubelet = cp.node.kubelet.files.map(({ path, flag }) => ({
    path,
    program: "kubelet",
    namedBy: flag,
  }));
  return [
    ...pods.flatMap(({ name, manifest }) => hostFiles(manifest).map((file) => ({ ...file, program: name }))),
    ...ofKubelet,
  ];
}

/** The value that was typed, or the saved one. */
function saidHere(
  typed: Asked,
  words: Asked,
  { lost, user }: Pick<PlanFacts, "lost"> & Pick<PlanOptions, "user">,
): PlanOptions {
  const flags = [
    ...(typed["start-without"] ?? []),
    ...savedOptionsOf("start-without").map(({ value }) => value),
  ];
  return {
    ...{ without: lost.away, lost: lost.names, "lost-on": words["lost-on"], worker: words.worker },
    "start-without": [...new Set(flags)],
    "etcd-data": typed["etcd-data"] ?? savedOptionOf("etcd-data")?.value,
    endpoint: typed.endpoint ?? savedOptionOf("endpoint")?.value,
    user,
  };
}

interface Here {
  cp: ControlPlaneNode | undefined;
  cluster: Cluster;
  peers: readonly Peer[];
  files: readonly string[];
}

/** This node is looked at now, whatever it said before. */
function seenIn(folder: string | undefined, { cp, cluster, peers, files }: Here): NodeAnswers {
  if (folder === undefined) return NONE_SEEN;
  const copies = cp ? clusterCaSeen(cp.node, { ...cp, ...cp.facts }).copies : [];
  const made = copies.flatMap(({ is, hash }) => (is === "new in this repair" ? (hash ?? []) : []));
  const hashes = [...trustedKeys(cluster.oldCaPem ?? ""), ...made];
  const answers = readSeen(folder, {
    nodes: cluster.nodes,
    hashes,
    files,
    ofKubelet: cp?.node.kubelet.files.map(({ path }) => path) ?? [],
    now: new Date(),
    repairedAt: made.length > 0 ? rescueFolders()[0]?.made : undefined,
  });
  const nodes = answers.nodes.filter(({ name }) => name !== cp?.node.name);
  return { ...answers, nodes: cp ? withOtherEtcd(nodes, peers, cp) : nodes };
}

/**
 * Who was away while etcd's CA was made anew cannot know that it is damaged: this node sees that its etcd shows a CA
 * that is not this node's, while most members show this node's.
 */
function withOtherEtcd(
  nodes: readonly AnsweredNode[],
  peers: readonly Peer[],
  cp: ControlPlaneNode,
): AnsweredNode[] {
  const own = ownMember(cp.data, cp.node.addresses);
  const answers = answering(peers);
  if (!quorumOf(cp.data.members, (one) => one.id === own?.id || answers(one)).isEnough) return [...nodes];
  const others = peers.filter(showsOtherCa).map(({ name }) => name);
  return nodes.map((node) =>
    others.includes(node.name)
      ? {
          ...node,
          damaged: true,
          onlyExpired: false,
          otherKeys: true,
          kinds: [...new Set([...node.kinds, "etcd"])],
        }
      : node,
  );
}

/** Whether a member of etcd answers with a certificate of this node's CA. */
function answering(peers: readonly Peer[]) {
  return ({ id }: { id: string }) => peers.some((peer) => peer.id === id && peer.shows === "ours");
}

/** A machine that is off says nothing at all; one whose etcd has ended says that nobody listens. */
async function silentPeers(
  peers: readonly Peer[],
  namesGiven: readonly string[],
  { nodes, silent, running }: Pick<NodeAnswers, "nodes" | "silent"> & { running: readonly string[] },
): Promise<string[]> {
  const names = [...namesGiven, ...running, ...nodes.map(({ name }) => name)];
  const open = peers.filter((peer) => !isNameless(peer) && !names.includes(peer.name));
  const heard = await Promise.all(open.map(({ host, port }) => isHeard(host, port, SOON)));
  return open.flatMap(({ name }, i) => (silent.includes(name) || heard[i] === undefined ? [name] : []));
}

/** The label of these Nodes says control plane, and nothing proves it. */
class Unclear extends Refused {
  constructor(names: readonly string[], message: string, options: { hint: string }) {
    const ways = [
      { does: `${listed(names)} is a worker`, says: { worker: [...names] } },
      { does: `${listed(names)} was a control plane node, and is lost for good`, says: { lost: [...names] } },
    ];
    super(message, { ...options, more: { decisions: [{ id: "label", question: [message], ways }] } });
  }
}

function refuseUnclear(nodes: readonly KnownNode[], namesGiven: readonly string[], isElsewhere: boolean) {
  const names = onlyLabelled(nodes).filter((name) => !namesGiven.includes(name));
  if (names.length === 0) return;
  throw new Unclear(
    names,
    `${listed(names)}: by the label of the Node a control plane node, and ${isElsewhere ? "no API server of it has written into etcd lately" : "etcd knows no member of it"}`,
    {
      hint: `say which it is, because whoever may write a Node's status can set the label. A worker: ${again({ worker: names })}. A control plane node ${isElsewhere ? `that was off: ${command("00-assess", { "control-plane": names })}; then the same line again` : `whose member is gone: ${again({ lost: names })}`}`,
    },
  );
}

async function lostNodes(cp: ControlPlaneNode, words: Asked, peers: readonly Peer[]): Promise<LostNodes> {
  const { without, lost, "lost-on": lostOn } = words;
  const named = { without, lost };
  const strange = leftNames(named).find((name) => !isName(name));
  if (strange !== undefined)
    throw new Refused(`"${strange}" is no name of a node: the plan makes no line with it`, {
      hint: "look at etcd's members: ./bunw scripts/00-assess.ts",
    });
  const nodes = nodesAmong(lost, cp);
  const never = lost.filter((name) => !nodes.includes(name));
  if (never.length > 0)
    throw new Refused(`${never.join(", ")} is no node, but a member of etcd that never started`, {
      hint: `print the plan without it. Part 2 names it, and takes it out: ${command("02-control-plane", { lost: never })}`,
    });
  const { without: away, lost: names } = await nodesToSkip(cp, named);
  if (names.length === 0) return { ...NONE_LOST, away };
  const controlPlanes = names.filter((name) => isControlPlaneName(name, cp));
  refuseMembersElsewhere(cp.facts, controlPlanes);
  refuseLiving(peers, { lost, lostOn }, cp);
  refuseNoQuorum(await membersNow(etcdClient(cp.facts), cp.data), lost);
  const silent = peers.flatMap(({ name, shows }) => (names.includes(name) || shows === "ours" ? [] : name));
  return { names, away, controlPlanes, silent };
}
