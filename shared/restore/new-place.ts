/**
 * The machine that becomes a control plane node of the lost cluster: its address there, and whether the old
 * control plane still answers. Two clusters with one name would fight for the same workers.
 */
import { isIP } from "node:net";
import { again } from "../again.ts";
import { isOwnEtcd, type Peer, SOON, servedCertificateAt } from "../etcd/peers.ts";
import { askAboutStrangers } from "../etcd/unheard.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { memberName } from "../etcd-data/members.ts";
import { placeOf } from "../etcd-location/reach-etcd.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import { floatingAddresses } from "../facts/endpoint.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { apiEndpoint, controlPlaneNames } from "../facts/known-nodes.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { type Node, routedAddress } from "../node/node.ts";
import type { KubeletFlags } from "../node/started-with.ts";
import { canonicalIp, endpointUrl, hostAndPort, isWithin, namedHosts } from "../pki/addresses.ts";
import { infoOf, signedBy } from "../pki/certificate.ts";
import { shownSoon } from "../pki/served.ts";
import { say } from "../run.ts";
import { signalLine } from "../shell-line.ts";
import { inTime } from "../wait-for.ts";
import { type Content, refuseOtherName } from "./content.ts";
import { refuseNotEmpty } from "./write-data.ts";

/** Errors: as `refuseOtherName`, `newAddress`, `refuseNotEmpty`. */
export async function newPlace(
  found: Content,
  machine: Pick<Node, "hostName" | "addresses"> & { flags: KubeletFlags },
  given: { address: string | undefined; dir: string | undefined },
) {
  refuseOtherName(found, machine);
  const { addresses, hostName } = machine;
  const { cluster, node, data } = found;
  const old = oldAddress(node, data);
  const routed = old === undefined ? undefined : await routedAddress(old, floatingAddresses(found));
  const address = newAddress(found, { addresses, given: given.address, routed });
  const moved = old === address ? "as before" : `it was at ${old}`;
  say(`${node.name} at ${address} (${moved}), on the host ${hostName}`);
  const dir = given.dir ?? cluster.configuration.etcd?.local?.dataDir ?? "/var/lib/etcd";
  refuseNotEmpty(dir);
  return { ...machine, dir, old, address, peerUrl: endpointUrl(address, 2380) };
}

interface Here {
  addresses: readonly string[];
  given: string | undefined;
  /** The address of its default route; others may be those of a bridge. */
  routed: string | undefined;
}

/**
 * The given one, else the node's old one, that of the default route, or the only one of its family. Errors: Fail if
 * nothing decides; Refused if it cannot be a node's.
 */
export function newAddress(found: Content, { addresses, given, routed }: Here): string {
  const { cluster, node, data } = found;
  const isGuest = floatingAddresses(found);
  const old = oldAddress(node, data);
  const alike = addresses.map(canonicalIp).filter((ip) => old === undefined || isIP(ip) === isIP(old));
  if (given !== undefined) refuseAddress(given, { alike, old });
  const chosen = given
    ? canonicalIp(given)
    : old && alike.includes(old)
      ? old
      : (routed ?? onlyAddress(alike.filter((ip) => !isGuest(ip))));
  for (const range of [...cluster.serviceSubnets, ...(cluster.podSubnet?.split(",") ?? [])])
    if (isWithin(chosen, range))
      throw new Refused(`${chosen} is in the cluster's own range ${range}: no node can have it`, {
        unchanged: true,
        hint: `${again({ address: "IP" })}: another address of this machine`,
      });
  const others = cluster.nodes.filter(({ name }) => name !== node.name);
  const claims = others.find((one) => namedHosts(one).includes(chosen));
  const owner = others.find(({ places }) => places.includes(chosen));
  // any kubelet may claim an address, but this machine has it
  if (claims && !owner && chosen !== old)
    say(`warning: ${chosen} is also an address of ${claims.name}, says its Node; it is this machine's`);
  if (owner && chosen !== old)
    throw new Refused(`${chosen} was the address of "${owner.name}"`, {
      unchanged: true,
      hint: `type, if this machine is that node: ${again({ as: owner.name })}. If it is not, give this machine another address first`,
    });
  return chosen;
}

/** The address of its API server, or of its member of etcd. */
function oldAddress({ name, places }: KnownNode, data: EtcdData): string | undefined {
  const host = apiEndpoint(name, data)?.host ?? places[0];
  return host && isIP(host) ? canonicalIp(host) : undefined;
}

function refuseAddress(given: string, { alike, old }: { alike: readonly string[]; old: string | undefined }) {
  if (alike.includes(canonicalIp(given))) return;
  throw new Fail(`This machine has no address "${given}"${old ? ` of the family of ${old}` : ""}`, {
    hint: `see which addresses this machine has: ip -br addr (${alike.join(", ") || "none of this kind"})`,
  });
}

function onlyAddress(alike: readonly string[]): string {
  const [first, ...more] = alike;
  if (first && more.length === 0) return first;
  throw new Fail(
    `Cannot tell which address is the node's: this machine has ${alike.join(", ") || "none of its family"}`,
    {
      hint: again({ address: first ?? "IP" }),
    },
  );
}

/** A server of the lost cluster: of `name`, or of several nodes with one address. */
interface Asked extends Pick<Peer, "id" | "host" | "port"> {
  names: readonly string[];
  /** Its name for the operator: "m1's etcd at 10.0.0.11:2380". */
  what: string;
  isEtcd: boolean;
}

interface Answer extends Asked, Pick<Peer, "servedPem"> {
  /** "unproved": a person has to check. */
  by: "the old one" | "unproved" | "another's" | "nobody";
}

/**
 * Anybody can answer at the address of a machine that is off. `lostOn`: nodes that the operator has checked.
 * Errors: Refused if the answer is the old control plane's; it asks the operator if that is not certain.
 */
export async function refuseOldAnswers(
  { cluster, data }: Pick<Content, "cluster" | "data">,
  lostOn: readonly string[],
) {
  refuseUnknown(
    lostOn,
    [...cluster.nodes, ...data.members].map((one) => memberName({ id: "", ...one })),
  );
  const servers = [...apiServers(cluster, data), ...members(data)];
  const isOpen = ({ by, names }: Answer) =>
    by === "the old one" || (by === "unproved" && !names.every((name) => lostOn.includes(name)));
  let answers: Answer[] = [];
  const ask = async () => {
    answers = await Promise.all(servers.map((one) => answerOf(one, cluster)));
    return answers.some(isOpen);
  };
  // a server that is busy, or just starts, may miss one question
  await inTime("an answer of the old control plane", ask, { seconds: 10, hint: "wait: it ends by itself" });
  const old = answers.filter(({ by }) => by === "the old one");
  if (old.length > 0) throw stillThere(old);
  askWho(
    answers.filter(({ by }) => by === "unproved"),
    cluster,
    lostOn,
  );
  for (const { what } of answers.filter(({ by }) => by === "another's"))
    say(`${what}: another server answers: its certificate is not of this cluster's CA`);
  const silent = answers.filter(({ by }) => by === "nobody").map(({ what }) => what);
  if (silent.length > 0) say(`nobody answers at ${silent.join(", ")}`);
}

function refuseUnknown(lostOn: readonly string[], names: readonly string[]) {
  const strangers = lostOn.filter((name) => !names.includes(name));
  if (strangers.length === 0) return;
  throw new Refused(`etcd knew no node "${strangers.join('", "')}"`, {
    hint: `take one of its nodes: ${[...new Set(names)].join(", ")}`,
  });
}

/** Each control plane node's own, and the endpoint, which may be a balancer for all of them. */
function apiServers(cluster: Cluster, data: EtcdData): Asked[] {
  const nodes = controlPlaneNames(cluster.nodes);
  const servers = new Map<string, string[]>();
  for (const name of nodes) {
    const at = apiEndpoint(name, data);
    if (at) servers.set(endpointUrl(at.host, at.port), [name]);
  }
  const shared = cluster.endpoint && endpointUrl(cluster.endpoint, 6443);
  if (shared && !servers.has(shared)) servers.set(shared, nodes);
  return [...servers].map(([what, names]) => ({
    ...{ id: "", names, what, isEtcd: false },
    ...hostAndPort(what),
  }));
}

function members(data: EtcdData): Asked[] {
  return data.members.map((member) => {
    const [name, { host, port }] = [memberName(member), placeOf(member)];
    return {
      id: member.id,
      names: [name],
      what: `${name}'s etcd at ${host}:${port}`,
      isEtcd: true,
      host,
      port,
    };
  });
}

/**
 * A kubelet's serving certificate is of the cluster's CA, too. None of its keys is etcd's CA, so a member is
 * proved only if that CA is here; otherwise the answer may be its own.
 */
async function answerOf(asked: Asked, cluster: Cluster): Promise<Answer> {
  if (asked.isEtcd) {
    const shown = await servedCertificateAt(asked, cluster, SOON);
    const unproved = shown.shows === "nothing" ? "nobody" : "unproved";
    return { ...asked, ...shown, by: isOwnEtcd(shown) ? "the old one" : unproved };
  }
  const servedPem = await shownSoon(asked.host, asked.port);
  if (servedPem === undefined) return { ...asked, servedPem, by: "nobody" };
  if (attempt(() => signedBy(servedPem, cluster.oldCaPem)) !== true)
    return { ...asked, servedPem, by: "another's" };
  return { ...asked, servedPem, by: infoOf(servedPem)?.cn === API_SERVER ? "the old one" : "unproved" };
}

const API_SERVER = "kube-apiserver";

const TWICE = "two clusters would pull at the same workers";

const stopped = () =>
  `systemctl disable --now kubelet; ${signalLine("TERM", ["etcd", API_SERVER])}; then here ${again({})}`;

function stillThere(old: readonly Answer[]): Refused {
  const nodes = [...new Set(old.flatMap(({ names }) => names))].join(", ");
  return new Refused(`The old control plane still answers: ${old.map(({ what }) => what).join(", ")}`, {
    unchanged: true,
    hint: `repair the old control plane: on ${nodes} ./bunw scripts/00-assess.ts. If it shall go, as ${TWICE}: on those nodes ${stopped()}`,
  });
}

function askWho(unproved: readonly Answer[], cluster: Cluster, lostOn: readonly string[]) {
  const question = {
    ...{ lostOn, matters: TWICE, wrong: TWICE },
    honest: `the cluster lives, so repair it there: ./bunw scripts/00-assess.ts. If it shall go: there ${stopped()}`,
  };
  const answersOf = (isEtcd: boolean) =>
    unproved
      .filter((one) => one.isEtcd === isEtcd)
      .flatMap((one) => one.names.map((name) => ({ ...one, name })));
  askAboutStrangers(answersOf(true), { facts: cluster }, question);
  const shows = `the cluster's CA has signed it, as each kubelet's, and an API server of kubeadm's is named ${API_SERVER}`;
  askAboutStrangers(
    answersOf(false),
    { facts: cluster },
    { ...question, server: { name: API_SERVER, shows } },
  );
}
