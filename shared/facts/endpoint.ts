/**
 * Where the cluster is reached, by several witnesses: ConfigMaps in etcd's data, and this node's kubeconfigs. No
 * worker's kubelet may write them. kubeadm-config is only what kubeadm was told last: an address changes, or a
 * balancer comes later; somebody then edits what runs with it. Where they disagree, what answers with a certificate of
 * the cluster's CA counts, and among those the majority. A control plane node's own API server proves nothing against a
 * balancer that does not answer: that may not send a node back to itself, or has not seen yet that the API is back.
 * Everybody can answer at a balancer's address: an answer that is not the cluster's is named, and counts as none. The
 * operator decides the rest with --endpoint. Reads only.
 */
import { again } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import { memberHosts } from "../etcd-location/reach-etcd.ts";
import { may, type SourceName } from "../evidence/sources.ts";
import { attempt, Refused } from "../fail.ts";
import { readable } from "../files/readable.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import type { Node } from "../node/node.ts";
import { movedHere, savedOptionOf } from "../node/words.ts";
import { configMapIn } from "../objects/stored.ts";
import {
  asMoved,
  canonicalHost,
  endpointHost,
  endpointUrl,
  hostAndPort,
  isEndpoint,
  isFor,
  ofMachines,
} from "../pki/addresses.ts";
import { trustedKeys } from "../pki/certificate.ts";
import { type ClusterFacts, certRow } from "../pki/certs.ts";
import { bothCas } from "../pki/examine.ts";
import type { Difference } from "../pki/judge.ts";
import {
  KUBECONFIGS,
  leadsToEndpoint,
  localServer,
  parseKubeconfig,
  ROOTS,
  readKubeconfig,
  serverIn,
} from "../pki/kubeconfigs.ts";
import { type Answerer, whoAnswers } from "../pki/served.ts";
import { say } from "../run.ts";
import type { Cluster, ClusterConfiguration } from "./cluster-before.ts";
import { believedPeers } from "./known-nodes.ts";
import { ownCertificates } from "./names-before.ts";
import type { Repair } from "./repair.ts";
import { shownBeside } from "./signed-elsewhere.ts";

interface Witness {
  /** "kube-proxy", "admin.conf". */
  name: string;
  /** "host:port"; "": that it has none, and each control plane node is reached by itself. */
  place: string;
  /** Pods run with what kube-proxy has: it counts twice. The kubeconfigs of one node are one voice. */
  weight: number;
}

export interface EndpointPlace extends Pick<Repair, "data" | "rescue" | "earlier"> {
  cluster: Cluster;
  facts: ClusterFacts;
  node: Node;
  etcd: EtcdFolders;
}

/** Beside kubeadm-config. */
// biome-ignore format: a table
const STORED: readonly { name: string; namespace: string; key: string; source: SourceName; weight: number }[] = [
  { name: "cluster-info", namespace: "kube-public", key: "kubeconfig",      source: "cluster-info in etcd", weight: 1 },
  { name: "kube-proxy",   namespace: "kube-system", key: "kubeconfig.conf", source: "kube-system in etcd",  weight: 2 },
];

const KUBEADM = "kubeadm-config";

const EDITS: Record<string, string> = {
  [KUBEADM]: "kubectl -n kube-system edit configmap kubeadm-config",
  "cluster-info": "kubectl -n kube-public edit configmap cluster-info",
  "kube-proxy": "kubectl -n kube-system edit configmap kube-proxy",
};

/** kubeadm-config first, which only kubeadm reads. */
export function storedPlaces(
  data: EtcdData,
  { controlPlaneEndpoint: told }: ClusterConfiguration,
  port: number,
): Witness[] {
  const all: Witness[] = [
    { name: KUBEADM, place: told ? serverPlace(endpointUrl(told, port)) : "", weight: 1 },
  ];
  for (const { name, namespace, key, weight } of STORED.filter(({ source }) => may(source, "facts"))) {
    const map = attempt(() => configMapIn(data, `${namespace}/${name}`), undefined);
    const server = serverIn(map?.[key] ?? "");
    if (server && !isLocal(serverHost(server))) all.push({ name, place: serverPlace(server), weight });
  }
  return all;
}

interface ConfigHere {
  name: string;
  server: string;
  tlsServerName?: string | undefined;
}

/** The kubeconfigs from before the repair, if the rescue folder has a copy of them. */
function kubeconfigsHere({ rescue, node }: EndpointPlace): ConfigHere[] {
  const moved = movedHere();
  return KUBECONFIGS.flatMap((row) => {
    const { name, path } = row;
    const at = name === "kubelet" ? node.kubelet.kubeconfig : path;
    const text = readable(`${rescue.dir}/before${at}`) ?? readable(at);
    if (!text) return [];
    const now = asMoved(text, leadsToEndpoint(row) ? moved : ofMachines(moved));
    const config = attempt(() => parseKubeconfig(now, at), undefined);
    if (!config || !URL.canParse(config.server)) return [];
    return [{ name: `${name}.conf`, server: config.server, tlsServerName: config.tlsServerName }];
  });
}

/** The kubeconfigs of one node are one witness; those that lead to the node itself say nothing of an endpoint. */
export function endpointSources(place: EndpointPlace, configs: readonly ConfigHere[]): Witness[] {
  const { data, cluster, facts, node } = place;
  const stored = storedPlaces(data, cluster.configuration, facts.bindPort);
  // another address of this machine may be a guest, a VIP, which leads to another node next
  const proved = cluster.nodes.find(({ name }) => name === node.name)?.places ?? [];
  const here = proved.length > 0 ? proved : node.addresses;
  const own = [...here, ...cluster.nodes.flatMap(({ places }) => places)];
  // without an endpoint kubeadm writes the address of the first control plane node
  const none = stored[0]!.place === "";
  const isOwn = (at: string) => isLocal(endpointHost(at)) || here.includes(endpointHost(at));
  const files = configs.map(({ name, server }): Witness => ({ name, place: serverPlace(server), weight: 0 }));
  const far = files.filter((one) => !isOwn(one.place));
  const byPlace = [...Map.groupBy(far, ({ place }) => place).values()];
  const most = byPlace.sort((a, b) => b.length - a.length)[0]?.[0];
  const voice = most ?? (none && files.length > 0 ? { ...files[0]!, place: "" } : undefined);
  const all = [...stored, ...(voice ? [{ ...voice, weight: 1 }] : []), ...far.filter((one) => one !== most)];
  return all.map((one) => (none && own.includes(endpointHost(one.place)) ? { ...one, place: "" } : one));
}

/**
 * Which addresses are guests on the machine that was `node`: the cluster's record names them, as an endpoint or in a
 * static pod (kube-vip), and none is an API server's or an etcd's own.
 */
export function floatingAddresses({
  data,
  cluster,
  node,
}: Pick<EndpointPlace, "data" | "cluster"> & { node: Pick<Node, "name"> }): (ip: string) => boolean {
  const members = data.members.flatMap(memberHosts).map(canonicalHost);
  const own = new Set([...cluster.nodes.flatMap(({ places }) => places), ...members]);
  const pods = findMirrorPods(data, node.name).map(({ pod }) => pod.spec);
  const cacheKey = JSON.stringify([
    cluster.configuration,
    storedPlaces(data, cluster.configuration, 0),
    pods,
  ]);
  return (ip) => !own.has(ip) && asMoved(cacheKey, new Map([[ip, "-"]])) !== cacheKey;
}

function serverHost(server: string): string {
  return endpointHost(new URL(server).host);
}

/** "https://lb.example" → "lb.example:443". */
export function serverPlace(server: string): string {
  const { host, port } = new URL(server);
  return port ? host : `${host}:443`;
}

/** Loopback: on each node its own proxy or API server. */
function isLocal(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.0\.0\.\d+$/.test(host);
}

/** Server → who answers there. */
type Answers = ReadonlyMap<string, Answerer>;

export interface EndpointSeen {
  witnesses: readonly Witness[];
  configs: readonly ConfigHere[];
  /** As `controlPlaneEndpoint`: "host:port", or undefined where the cluster has none. */
  value: string | undefined;
  /** Nothing decides between the witnesses: `value` is kubeadm-config's then. */
  undecided: boolean;
  answers: Answers;
}

export function endpointSeen(place: EndpointPlace): EndpointSeen {
  const configs = kubeconfigsHere(place);
  return decideEndpoint(place, { configs, witnesses: endpointSources(place, configs), answers: new Map() });
}

/**
 * The same, where something has to be asked. `given`: the operator's --endpoint. What was said before counts, too,
 * but never against a place that answers for the whole cluster. Errors: Refused where `given` is no place.
 */
export async function askedEndpoint(place: EndpointPlace & Reached, given?: string): Promise<EndpointSeen> {
  const { facts, cluster, endpoint: choice } = place;
  if (given !== undefined && !isEndpoint(given))
    throw new Refused(`--endpoint "${given}" is no address`, {
      hint: `give HOST:PORT, or [ADDRESS]:PORT: ${again({ endpoint: "lb.example:6443" })}`,
    });
  const effective = given === undefined ? choice : { ...choice, value: given, undecided: false };
  const [places, { configs }] = [new Set(effective.witnesses.map(({ place }) => place)), effective];
  const saved = savedOptionOf("endpoint")?.value;
  const kept = given === undefined && saved !== undefined && isEndpoint(saved) ? saved : undefined;
  const usual = [urlOf(kept ?? effective.value, facts), localServer(facts)];
  if (!kept && places.size < 2 && configs.every(({ server }) => usual.includes(server))) return effective;
  const cas = `${bothCas(facts.certificatesDir, cluster.oldCaPem)}\n${shownBeside(place) ?? ""}`;
  const names = new Map(configs.map(({ server, tlsServerName }) => [server, tlsServerName]));
  const servers = [...new Set([...usual, ...[...places].map((one) => urlOf(one, facts)), ...names.keys()])];
  const answers = new Map(
    await Promise.all(servers.map(async (to) => [to, await whoAnswers(to, cas, names.get(to))] as const)),
  );
  if (given !== undefined) return { ...effective, answers };
  const isBeaten =
    answers.get(usual[0]!) !== "ours" && [...places].some((at) => isServed(at, answers, place));
  const asked = decideEndpoint(place, { ...choice, answers });
  return kept && !isBeaten ? { ...asked, value: kept, undecided: false } : asked;
}

function decideEndpoint(
  place: EndpointPlace,
  choice: Omit<EndpointSeen, "value" | "undecided">,
): EndpointSeen {
  const { cluster, facts } = place;
  const { witnesses, answers } = choice;
  const certificates = ownCertificates(certRow("apiserver"), place);
  const scoreOf = (at: string) => {
    const named = at !== "" && certificates.some(({ sans }) => isFor(sans, endpointHost(at)));
    const voices = witnesses.filter((one) => one.place === at);
    return voices.reduce((sum, { weight }) => sum + weight, named ? 1 : 0);
  };
  const places = [...new Set(witnesses.map(({ place }) => place))];
  const living = places.filter((at) => answers.get(urlOf(at, facts)) === "ours");
  const open = places.some((at) => isServed(at, answers, place)) ? living : places;
  const best = Math.max(...open.map(scoreOf));
  const winners = open.filter((at) => scoreOf(at) === best);
  const told = witnesses[0]!.place;
  // any of those that answer is right
  const winner =
    winners.length === 1 ? winners[0]! : living.length > 0 && winners.includes(told) ? told : undefined;
  const asTold = winner === undefined || winner === told;
  const value = asTold ? cluster.configuration.controlPlaneEndpoint : winner;
  return { ...choice, value: value || undefined, undecided: winner === undefined };
}

/** Somebody of this cluster answers there who is more than one of its machines. */
function isServed(at: string, answers: Answers, place: Pick<EndpointPlace, "facts" | "cluster" | "node">) {
  if (at === "" || answers.get(urlOf(at, place.facts)) !== "ours") return false;
  const host = endpointHost(at);
  return !isLocal(host) && !place.node.addresses.includes(host) && !isOfAnother(host, place);
}

/** Whether the host is another node's: a client then reaches the API server of that node, and never sees the certificate of this node's API server. */
function isOfAnother(host: string, { cluster, node }: Pick<EndpointPlace, "cluster" | "node">): boolean {
  return believedPeers(cluster, { node }).some(({ name, places }) => [name, ...places].includes(host));
}

/**
 * This cluster's endpoint as the facts have it, and what follows of it: which servers are right, and which
 * names are needed.
 */
export function withEndpoint(place: EndpointPlace, choice: EndpointSeen): ClusterFacts {
  const facts = { ...place.facts, controlPlaneEndpoint: choice.value };
  const servers = choice.configs.filter((config) => isRight(config, choice, place));
  const used = choice.witnesses.filter(
    ({ name, place: at }) => isInUse(name) && at !== "" && isUsed(at, choice, facts),
  );
  const hosts = [
    ...used.map(({ place: at }) => endpointHost(at)),
    ...servers.flatMap(({ server, tlsServerName }) =>
      isOfAnother(serverHost(server), place) ? [] : (tlsServerName ?? serverHost(server)),
    ),
  ];
  return {
    ...facts,
    shown: shownBeside(place),
    serverBefore: serverBefore(place),
    servers: [...new Set(servers.map(({ server }) => server))],
    clients: [...new Set(hosts)],
  };
}

/**
 * Where root's own copy of admin.conf leads, if that is this node's API server at loopback, and its certificate is for
 * it: kubespray's kubeconfigs all lead there.
 */
function serverBefore({ cluster, facts }: EndpointPlace): string | undefined {
  const own = attempt(() => readKubeconfig(ROOTS), undefined);
  if (!own || !URL.canParse(own.server) || !isLocal(serverHost(own.server))) return undefined;
  const isOurs = !trustedKeys(own.caPem).isDisjointFrom(trustedKeys(cluster.oldCaPem));
  const isNamed = isFor(certRow("apiserver").names!(facts), serverHost(own.server));
  return isOurs && isNamed && hostAndPort(own.server).port === facts.bindPort ? own.server : undefined;
}

/** A ConfigMap in etcd's data that more than kubeadm reads. */
function isInUse(name: string): boolean {
  return name !== KUBEADM && Object.hasOwn(EDITS, name);
}

/**
 * The place that was decided for; another one only where somebody is there whose certificate then lacks that
 * name.
 */
function isUsed(at: string, { value, answers }: EndpointSeen, facts: ClusterFacts): boolean {
  const url = urlOf(at, facts);
  return url === urlOf(value, facts) || ["ours", "not for this name"].includes(answers.get(url) ?? "");
}

/**
 * Whether a kubeconfig's server is one of this cluster's: by what answers there. If that is not this
 * cluster's API, this machine's own addresses are; and what another witness says as well, unless another
 * endpoint answers. While nobody answers, a tunnel's is, if it wants a name of the API server's certificate.
 */
function isRight(
  { server, name, tlsServerName = "" }: ConfigHere,
  { answers, witnesses }: EndpointSeen,
  place: EndpointPlace,
): boolean {
  if (answers.get(server) === "ours") return true;
  if (isLocal(serverHost(server)) || place.node.addresses.includes(serverHost(server))) return true;
  const named = certRow("apiserver").names!(place.facts);
  if (isFor(named, tlsServerName) && answers.get(server) === "nobody") return true;
  const isSaid = witnesses.some((one) => one.name !== name && one.place === serverPlace(server));
  return isSaid && !witnesses.some((one) => isServed(one.place, answers, place));
}

interface Reached {
  endpoint: EndpointSeen;
  facts: ClusterFacts;
}

/** Hosts by which somebody may reach the API server, and that its certificate does not get by its row. */
export function reachedBy({ endpoint: { witnesses }, facts }: Reached): string[] {
  const own = certRow("apiserver").names!(facts);
  const hosts = witnesses.flatMap(({ name, place }) => (place && isInUse(name) ? [endpointHost(place)] : []));
  return [...new Set(hosts)].filter((host) => !isFor(own, host));
}

export function sayEndpoint({ endpoint, facts }: Reached) {
  const difference = endpointDifference(endpoint, facts);
  const counts = endpoint.undecided ? "" : `; ${urlOf(endpoint.value, facts)} counts`;
  if (difference) say(`endpoint: ${difference.differs}${counts}`);
}

export function refuseUndecided({ endpoint: choice }: { endpoint: EndpointSeen }) {
  if (!choice.undecided) return;
  throw new Refused(`Nothing decides the address of this cluster's API: ${saidBy(choice)}`, {
    unchanged: true,
    hint: `give the API's address: ${again({ endpoint: "HOST:PORT" })}`,
  });
}

/** Where the witnesses disagree: what each of them says. */
export function endpointDifference(choice: EndpointSeen, facts: ClusterFacts): Difference | undefined {
  const right = choice.value ? serverPlace(endpointUrl(choice.value, facts.bindPort)) : "";
  const wrong = choice.witnesses.filter(({ place }) => place !== right);
  if (wrong.length === 0) return undefined;
  const edits = new Set(wrong.flatMap(({ name }) => EDITS[name] ?? []));
  return { differs: saidBy(choice), ...(edits.size > 0 && { before: [...edits].join("; ") }) };
}

function saidBy({ witnesses, answers }: EndpointSeen): string {
  const told = [...Map.groupBy(witnesses, ({ place }) => place)].map(([place, those]) => {
    const answer = answers.get(`https://${place}`);
    const names = those.map(({ name }) => name).join(", ");
    return `${names}: ${place || "none"}${answer ? ` (${ANSWERS[answer]})` : ""}`;
  });
  return told.join("   ");
}

export const ANSWERS: Record<Answerer, string> = {
  ours: "answers",
  "not for this name": "answers with a certificate that is not for this name",
  another: "answers with an unknown certificate",
  nobody: "does not answer",
};

function urlOf(at: string | undefined, facts: ClusterFacts): string {
  return at ? endpointUrl(at, facts.bindPort) : localServer(facts);
}
