/**
 * Looks at this node once, for the assessment and for the plan. Reads only.
 *
 * Finds what parts 1 to 3 would refuse on this control plane node before anything is stopped, by their own
 * checks, each by itself, so that none hides the next. Checks that need another node's answer, or an earlier
 * step's files, are not here: the plan asks the other nodes, and its order makes the files.
 */
import { accessRefusal, unitSilent } from "../etcd/unheard.ts";
import { type EtcdStatus, etcdClient } from "../etcd-location/client.ts";
import { isKnown } from "../etcd-location/etcd-folders.ts";
import { isByKit } from "../etcd-location/etcd-home.ts";
import { type EtcdPlace, etcdDataOf, sayPlace } from "../etcd-location/etcd-place.ts";
import { refuseDoubtfulClock } from "../facts/clock.ts";
import { askControlPlaneNode } from "../facts/control-plane-node.ts";
import { ANSWERS } from "../facts/endpoint.ts";
import { joiningTrouble } from "../facts/joining-worker.ts";
import type { ControlPlaneNode, PartialFacts } from "../facts/node-facts.ts";
import { refuseUnlessMember } from "../facts/node-to-repair.ts";
import { attemptLater, Fail, failOf } from "../fail.ts";
import { exists } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import { CONTROL_PLANE, type Container, containers } from "../node/containers.ts";
import { type Node, readNode } from "../node/node.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { day } from "../pki/certificate.ts";
import { etcdClientFiles } from "../pki/certs.ts";
import { bothCas, type Finding } from "../pki/examine.ts";
import { clusterServer, localServer } from "../pki/kubeconfigs.ts";
import { whoAnswers } from "../pki/served.ts";
import { podsToRun, refuseFixedAtEtcd } from "../static-pods/first-screen.ts";
import { allRows, type Coming, type RefusingRow, refuseWhereNothingFits } from "../static-pods/preflight.ts";
import { etcdIsInPlace, etcdWork, refuseOtherFolder, sharedActions, type Work } from "../static-pods/work.ts";

export interface NodeLook {
  node: Node;
  /** Fail: they cannot be listed, which is no damage of the PKI. */
  all: Container[] | Fail;
  place: EtcdPlace;
  /** Undefined if this node has none. */
  partialFacts: PartialFacts | undefined;
}

/**
 * `etcdData`, `endpoint`: as typed. Errors: Fail if this is no kubeadm node at all, and as `etcdDataOf`;
 * Refused if the endpoint is no place.
 */
export async function lookHere(etcdData: string | undefined, endpoint?: string): Promise<NodeLook> {
  const node = await readNode();
  const all = await attemptLater(() => containers(node.runtimeEndpoint));
  const place = await etcdDataOf(etcdData, { node, all: listedContainers(all) });
  sayPlace(place);
  const ask = () => askControlPlaneNode(place, node, { given: endpoint, all: listedContainers(all) });
  return { node, all, place, partialFacts: isKnown(place) ? await ask() : undefined };
}

export function listedContainers(all: Container[] | Fail): Container[] {
  return all instanceof Fail ? [] : all;
}

/**
 * Says what was checked, and which servers answer; or, if this node's API server or etcd does not, that. `findings`: all
 * are right.
 */
export async function wellLine(
  cp: ControlPlaneNode,
  findings: readonly Finding[],
): Promise<{ well: string } | { silent: string }> {
  const { facts, node, cluster } = cp;
  const manifests = CONTROL_PLANE.map((name) => manifestPath({ node }, name));
  const { kubeconfig, clientPem } = node.kubelet;
  const files = new Set([...findings.flatMap(({ paths }) => paths), ...manifests, kubeconfig, clientPem]);
  const cas = `${bothCas(facts.certificatesDir, cluster.oldCaPem)}\n${facts.shown ?? ""}`;
  const etcdCa = readable(etcdClientFiles(facts).ca) ?? "";
  const { client, peer } = facts.etcdAt ?? { client: facts.advertiseAddress, peer: facts.advertiseAddress };
  const own = [endpointUrl(client, 2379), endpointUrl(peer, 2380)];
  const etcd = facts.externalEtcd ? [facts.externalEtcd.server] : own;
  const servers = [...new Set([localServer(facts), clusterServer(facts)])];
  const answers = await Promise.all([
    ...servers.map((to) => whoAnswers(to, cas)),
    ...etcd.map((to) => whoAnswers(to, etcdCa)),
  ]);
  const answering = answers.filter((answer) => answer === "ours").length;
  const away = [
    ...(answers[0] === "ours" ? [] : [`its API server ${ANSWERS[answers[0]!]}`]),
    ...(answers[servers.length] === "ours" ? [] : [`its etcd ${ANSWERS[answers[servers.length]!]}`]),
  ];
  if (away.length > 0) return { silent: away.join(", and ") };
  const silent =
    servers.length > 1 && answers[1] !== "ours"
      ? `; from here ${clusterServer(facts)} ${ANSWERS[answers[1]!]}`
      : "";
  const expiry = soonest(findings);
  const checked = `${[...files].filter(exists).length} files${expiry && ` (${expiry})`}`;
  return { well: `${checked}, ${answering} servers answer with certificates of this cluster's CA${silent}` };
}

export interface Refusal {
  part: 1 | 2 | 3;
  id: RefusalId;
  message: string;
  hint: string;
}

interface Made {
  /** Part 1 makes a shared one. */
  makesKeys: boolean;
  /** Workers join with a token. */
  makesCa: boolean;
}

interface StepInput extends Made {
  work: Work;
  /** Asked once; undefined: without certificates nobody can. */
  etcd: EtcdStatus | Fail | undefined;
  pods: Coming["pods"];
  /** Part 1 stops etcd and its servers: its files are not valid, or it does not answer. */
  stops: boolean;
}

interface Look {
  part: Refusal["part"];
  /** The same for another node's screen, without this node's own words. */
  words: string;
  look: (cp: ControlPlaneNode, state: StepInput) => unknown;
}

/**
 * Judges the manifest as it will be: edits made before part 2 are in the older one, which is written over.
 */
function takesNoTokens(cp: ControlPlaneNode, { pods }: StepInput) {
  const pod = pods.find(({ name }) => name === "kube-apiserver");
  const trouble = pod && joiningTrouble(cp, pod.manifest);
  if (trouble) throw trouble;
}

async function refuseTurnedAway(cp: ControlPlaneNode, { etcd }: StepInput) {
  const { externalEtcd, etcdCa } = cp.facts;
  // part 1 makes its files, or has made them, and starts it
  if (externalEtcd?.toMake || (etcdCa && isByKit(etcdCa.pairs[0]!.cert))) return;
  if (etcd instanceof Fail && externalEtcd) throw unitSilent({ endpoint: externalEtcd.server }, etcd);
  const why = etcd instanceof Fail && (await accessRefusal(cp, etcd));
  if (why) throw why;
}

/** Each row of `preflight` that refuses is here under its own name, without a look. */
// biome-ignore format: a table
export const REFUSALS = {
  "member":            { part: 1, words: "etcd's data is of another machine's member", look: refuseUnlessMember },
  "folder":            { part: 1, words: "etcd's manifest is not found, or names another folder than that of its data", look: refuseOtherFolder },
  "clock":             { part: 1, words: "no time server sets its clock, and nothing proves its time", look: (cp, { makesKeys }) => makesKeys && refuseDoubtfulClock(cp) },
  "place":             { part: 1, words: "a folder there is full, cannot be written, or its kubelet would not start", look: (cp, { stops }) => stops && refuseWhereNothingFits(cp) },
  "fixed files":       { part: 1, words: "a file that is written there is immutable, or a mount", look: (cp, { stops, work }) => stops && refuseFixedAtEtcd(cp, work) },
  "images":            { part: 1, words: "an image is not there", look: undefined },
  "users of the pods": { part: 1, words: "nothing says as whom a static pod runs", look: undefined },
  "etcd's gateway":    { part: 1, words: "etcd's gateway is off", look: undefined },
  "etcd's release":    { part: 1, words: "etcd's manifest names an older release than its data", look: undefined },
  "room in etcd":      { part: 2, words: "etcd's database is full", look: undefined },
  "endpoint":          { part: 1, words: "nothing decides where the API is reached", look: undefined },
  "bootstrap tokens":  { part: 3, words: "its API server takes no bootstrap tokens", look: (cp, state) => state.makesCa && takesNoTokens(cp, state) },
  "etcd's answer":     { part: 1, words: "its etcd runs, and refuses this kit", look: refuseTurnedAway },
} as const satisfies Record<RefusingRow, Omit<Look, "look"> & { look: undefined }> &
  Record<string, Omit<Look, "look"> & { look: Look["look"] | undefined }>;

export type RefusalId = keyof typeof REFUSALS;

/** "the first expires on 2027-11-30", or "". */
export function soonest(findings: readonly Finding[]): string {
  const first = firstToExpire(findings);
  return first ? `the first expires on ${day(first)}` : "";
}

export function firstToExpire(findings: readonly Finding[]): Date | undefined {
  return findings.flatMap(({ cert }) => cert?.notAfter ?? []).sort((a, b) => +a - +b)[0];
}

/** Throws no Fail: each is a row. Other errors pass. */
export async function refusalsHere(cp: ControlPlaneNode, made: Made): Promise<Refusal[]> {
  const work = etcdWork(cp, sharedActions(cp, "all"));
  const etcd = await attemptLater(async () => etcdClient(cp.facts)?.status());
  const stops = !etcd || etcd instanceof Fail || !etcdIsInPlace(cp, work);
  const { pods, ...coming } = podsToRun(cp, work);
  const starts = pods.filter(({ name }) => stops || name !== "etcd");
  const rows = await attemptLater(() => allRows({ ...coming, pods: starts }), []);
  const ids = Object.keys(REFUSALS) as RefusalId[];
  const all = ids.map(async (id) => {
    const { part, look } = REFUSALS[id];
    const refuses = look
      ? await failOf(() => look(cp, { ...made, ...{ work, pods, etcd, stops } }))
      : rows.find(({ of }) => of === id)?.refuses;
    return refuses ? [{ part, id, message: refuses.message, hint: refuses.hint }] : [];
  });
  return (await Promise.all(all)).flat();
}
