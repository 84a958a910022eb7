/**
 * Where the cluster is reached, by several witnesses: kubeadm-config is only what kubeadm was told last. An
 * address changes, or a balancer comes later; somebody then edits what runs with it, kube-proxy's ConfigMap,
 * the kubeconfigs, cluster-info, and nothing breaks. Where they disagree, what answers with a certificate of
 * the cluster's CA counts, and among those the majority. A control plane node's own API server proves nothing
 * against a balancer that is silent: it always answers, and the balancer may not send a node back to itself, or
 * has not seen yet that the API is back. Everybody can answer at a balancer's address: an answer that is not the
 * cluster's is named, and counts as silence. What cannot be decided so, the operator decides with --endpoint. Reads
 * only.
 */

import { isIP } from "node:net";
import { again } from "../again.ts";
import { Refused } from "../fail.ts";
import { wordOf } from "../node/words.ts";
import { endpointHost, endpointUrl, isDnsName, isFor } from "../pki/addresses.ts";
import { type ClusterFacts, certRow } from "../pki/certs.ts";
import { bothCas } from "../pki/examine.ts";
import type { Difference } from "../pki/judge.ts";
import { localServer } from "../pki/kubeconfigs.ts";
import { type Answerer, whoAnswers } from "../pki/served.ts";
import { say } from "../run.ts";
import {
  type ConfigHere,
  type EndpointPlace,
  isLocal,
  KUBEADM,
  kubeconfigsHere,
  serverHost,
  serverPlace,
  type Witness,
  witnessesOf,
} from "./endpoint-witnesses.ts";
import { ownCertificates } from "./names-before.ts";
import { believedPeers } from "./next.ts";
import { shownBeside } from "./signed-elsewhere.ts";

/** What the witnesses say. */
export interface EndpointSeen {
  witnesses: readonly Witness[];
  /** As `controlPlaneEndpoint`: "host:port", or undefined where the cluster has none. */
  value: string | undefined;
  /** Nothing decides between them: `value` is kubeadm-config's then. */
  undecided: boolean;
  /** By place and by server, of those that were asked: who answers there. */
  answers: ReadonlyMap<string, Answerer>;
}

/** Without asking anybody. */
export function endpointSeen(place: EndpointPlace): EndpointSeen {
  return decided(place, new Map());
}

/**
 * The same, where something has to be asked. `given`: the operator's --endpoint. What was said before counts, too,
 * but never against a place that answers for the whole cluster. Errors: Refused where `given` is no place.
 */
export async function askedEndpoint(place: EndpointPlace, given?: string): Promise<EndpointSeen> {
  const { facts, cluster } = place;
  const known = given === undefined ? endpointSeen(place) : byWord(place, given);
  const [places, configs] = [new Set(known.witnesses.map(({ place }) => place)), kubeconfigsHere(place)];
  const said = wordOf("endpoint")?.value;
  const kept = given === undefined && said !== undefined && isPlace(said) ? said : undefined;
  const usual = [urlOf(kept ?? known.value, facts), localServer(facts)];
  if (!kept && places.size < 2 && configs.every(({ server }) => usual.includes(server))) return known;
  const cas = `${bothCas(facts.certificatesDir, cluster.oldCaPem)}\n${shownBeside(place) ?? ""}`;
  const names = new Map(configs.map(({ server, tlsServerName }) => [server, tlsServerName]));
  const servers = [...new Set([...usual, ...[...places].map((one) => urlOf(one, facts)), ...names.keys()])];
  const answers = new Map(
    await Promise.all(servers.map(async (to) => [to, await whoAnswers(to, cas, names.get(to))] as const)),
  );
  if (given !== undefined) return { ...known, answers };
  const seen = decided(place, answers);
  const isBeaten =
    answers.get(usual[0]!) !== "ours" && [...places].some((at) => isServed(at, answers, place));
  return kept && !isBeaten ? { ...seen, value: kept, undecided: false } : seen;
}

/**
 * This cluster's endpoint as the facts have it, and what follows of it: which servers are right, and which
 * names are needed.
 */
export function withEndpoint(place: EndpointPlace, seen: EndpointSeen): ClusterFacts {
  const facts = { ...place.facts, controlPlaneEndpoint: seen.value };
  const servers = kubeconfigsHere(place).filter((config) => isRight(config, seen, place));
  const used = seen.witnesses.filter(
    ({ name, place: at }) => isInUse(name) && at !== "" && isUsed(at, seen, facts),
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
    servers: [...new Set(servers.map(({ server }) => server))],
    clients: [...new Set(hosts)],
  };
}

/** Whoever goes there reaches that node's API server, and shows this one's certificate to nobody. */
function isOfAnother(host: string, { cluster, node }: Pick<EndpointPlace, "cluster" | "node">): boolean {
  return believedPeers(cluster, { node }).some(({ name, places }) => [name, ...places].includes(host));
}

/** Of what lies in etcd's data: kubeadm alone reads kubeadm-config. */
function isInUse(name: string): boolean {
  return name !== KUBEADM && Object.hasOwn(EDITS, name);
}

/**
 * The place that was decided for; another one only where somebody is there whose certificate then lacks that
 * name.
 */
function isUsed(at: string, { value, answers }: EndpointSeen, facts: ClusterFacts): boolean {
  const url = urlOf(at, facts);
  return (
    url === urlOf(value, facts) || answers.get(url) === "ours" || answers.get(url) === "not for this name"
  );
}

/**
 * Whether a kubeconfig's server is one of this cluster's: by what answers there. If that is not this
 * cluster's API, this machine's own addresses are; and what another witness says as well, unless another
 * endpoint answers. While nobody answers, a tunnel's is, if it wants a name of the API server's certificate.
 */
function isRight(
  { server, name, tlsServerName = "" }: ConfigHere,
  { answers, witnesses }: EndpointSeen,
  { facts, cluster, node }: EndpointPlace,
): boolean {
  if (answers.get(server) === "ours") return true;
  if (isLocal(serverHost(server)) || node.addresses.includes(serverHost(server))) return true;
  const named = certRow("apiserver").names!(facts);
  if (isFor(named, tlsServerName) && answers.get(server) === "nobody") return true;
  const isSaid = witnesses.some((one) => one.name !== name && one.place === serverPlace(server));
  return isSaid && !witnesses.some((one) => isServed(one.place, answers, { facts, cluster, node }));
}

/** Somebody of this cluster answers there who is more than one of its machines. */
function isServed(
  at: string,
  answers: ReadonlyMap<string, Answerer>,
  place: Pick<EndpointPlace, "facts" | "cluster" | "node">,
): boolean {
  if (at === "" || answers.get(urlOf(at, place.facts)) !== "ours") return false;
  const host = endpointHost(at);
  return !isLocal(host) && !place.node.addresses.includes(host) && !isOfAnother(host, place);
}

function decided(place: EndpointPlace, answers: ReadonlyMap<string, Answerer>): EndpointSeen {
  const { cluster, facts } = place;
  const witnesses = witnessesOf(place);
  const certificates = ownCertificates(certRow("apiserver"), place);
  const scoreOf = (at: string) => {
    const named = at !== "" && certificates.some(({ sans }) => isFor(sans, endpointHost(at)));
    return witnesses
      .filter((one) => one.place === at)
      .reduce((sum, { weight }) => sum + weight, named ? 1 : 0);
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
  return { witnesses, answers, value: value || undefined, undecided: winner === undefined };
}

/** Hosts by which somebody may reach the API server, and that its certificate does not get by its row. */
export function reachedBy({
  endpoint: { witnesses },
  facts,
}: {
  endpoint: EndpointSeen;
  facts: ClusterFacts;
}): string[] {
  const own = certRow("apiserver").names!(facts);
  const hosts = witnesses.flatMap(({ name, place }) => (place && isInUse(name) ? [endpointHost(place)] : []));
  return [...new Set(hosts)].filter((host) => !isFor(own, host));
}

function isPlace(text: string): boolean {
  const host = endpointHost(text);
  return (isIP(host) > 0 || isDnsName(host.toLowerCase())) && /^([^:]+|\[.+\])(:\d{1,5})?$/.test(text);
}

function byWord(place: EndpointPlace, given: string): EndpointSeen {
  if (!isPlace(given))
    throw new Refused(`--endpoint "${given}" is no place`, {
      hint: `give HOST:PORT, or [ADDRESS]:PORT: ${again({ endpoint: "lb.example:6443" })}`,
    });
  return { witnesses: witnessesOf(place), answers: new Map(), value: given, undecided: false };
}

/** Says where the witnesses disagree, and which place counts. */
export function sayEndpoint({ endpoint, facts }: { endpoint: EndpointSeen; facts: ClusterFacts }) {
  const difference = endpointDifference(endpoint, facts);
  if (difference)
    say(
      `endpoint: ${difference.differs}${endpoint.undecided ? "" : `; ${urlOf(endpoint.value, facts)} counts`}`,
    );
}

/** Errors: Refused where nothing decides which place it is, with what each witness says. */
export function refuseUndecided({ endpoint: seen }: { endpoint: EndpointSeen }) {
  if (!seen.undecided) return;
  throw new Refused(`Nothing decides where this cluster's API is reached: ${saidBy(seen)}`, {
    unchanged: true,
    hint: `give it: ${again({ endpoint: "HOST:PORT" })}`,
  });
}

/** Where the witnesses disagree: what each of them says. */
export function endpointDifference(seen: EndpointSeen, facts: ClusterFacts): Difference | undefined {
  const right = seen.value ? serverPlace(endpointUrl(seen.value, facts.bindPort)) : "";
  const wrong = seen.witnesses.filter(({ place }) => place !== right);
  if (wrong.length === 0) return undefined;
  const edits = new Set(wrong.flatMap(({ name }) => EDITS[name] ?? []));
  return { differs: saidBy(seen), ...(edits.size > 0 && { before: [...edits].join("; ") }) };
}

const EDITS: Record<string, string> = {
  [KUBEADM]: "kubectl -n kube-system edit configmap kubeadm-config",
  "cluster-info": "kubectl -n kube-public edit configmap cluster-info",
  "kube-proxy": "kubectl -n kube-system edit configmap kube-proxy",
};

/** "kubeadm-config: lb-old:6443   cluster-info, kube-proxy, admin.conf: lb:6443 (answers)" */
function saidBy({ witnesses, answers }: EndpointSeen): string {
  const told = [...Map.groupBy(witnesses, ({ place }) => place)].map(([place, those]) => {
    const answer = answers.get(`https://${place}`);
    const words = answer === undefined ? "" : answer === "ours" ? " (answers)" : ` (${ANSWERS[answer]})`;
    return `${those.map(({ name }) => name).join(", ")}: ${place || "none"}${words}`;
  });
  return told.join("   ");
}

/** Who answers at a place, behind its name. */
export const ANSWERS: Record<Answerer, string> = {
  ours: "answers",
  "not for this name": "answers with a certificate that is not for this name",
  another: "answers with an unknown certificate",
  nobody: "does not answer",
};

function urlOf(at: string | undefined, facts: ClusterFacts): string {
  return at ? endpointUrl(at, facts.bindPort) : localServer(facts);
}
