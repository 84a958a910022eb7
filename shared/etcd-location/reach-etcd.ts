/**
 * How to reach etcd: which member is this machine, and the others' addresses, by their URLs; its JSON
 * gateway, which this kit uses; and etcdctl in its container, for the operator.
 *
 * Sources: etcdutl, snapshot/v3_snapshot.go and etcdutl/snapshot_command.go. A restore without
 * --initial-cluster makes one member `default` at http://localhost:2380. At its start it publishes its name
 * and client URLs, and keeps that peer URL. Flags or variables of its static pod name the gateway:
 * embed/config.go and etcdmain/config.go: a variable is `ETCD_` and the flag's name;
 * --listen-client-http-urls takes the gateway away from the client port.
 */
import { isIP } from "node:net";
import { basename } from "node:path";
import type { EtcdData } from "../etcd-data/data.ts";
import type { Member } from "../etcd-data/members.ts";
import { attempt, Refused } from "../fail.ts";
import { commandOf, flags, mainContainer, podFlags } from "../manifests/command.ts";
import { mirrorPodsOf } from "../manifests/mirror-pods.ts";
import { savedOptionsOf } from "../node/words.ts";
import type { PodSpec } from "../objects/objects.ts";
import { configMapIn, readObject, registryPrefix } from "../objects/stored.ts";
import { asMoved, endpointHost, endpointUrl, hostAndPort, isLoopback, type Moved } from "../pki/addresses.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { shell } from "../shell-line.ts";
import { readYaml } from "../yaml.ts";

/**
 * The member whose data this is, if one of its URLs has an address of this machine. A lone member at
 * localhost fits every machine, and URLs with names alone fit any: then other facts prove that the data is
 * this machine's, its API server's address (facts/issue-facts.ts) or its CA (etcd-place.ts).
 */
export function ownMember(
  { members, memberId }: Pick<EtcdData, "members" | "memberId">,
  addresses: readonly string[],
): Member | undefined {
  const own = members.find(({ id }) => id === memberId);
  if (!own) return undefined;
  const hosts = urlsOf(own).map(hostOf);
  const isAlone = members.length === 1 && hosts.every(isLoopback);
  const hasNames =
    hosts.some((host) => host !== "" && !isLoopback(host)) &&
    hosts.every((host) => isLoopback(host) || !isIP(host));
  return isHere(own, addresses) || isAlone || hasNames ? own : undefined;
}

export function isHere(member: Urls, addresses: readonly string[]): boolean {
  return urlsOf(member).some((url) => addresses.includes(hostOf(url)));
}

type Urls = Pick<Member, "peerURLs" | "clientURLs">;

function urlsOf({ peerURLs, clientURLs }: Urls): string[] {
  return [...peerURLs, ...clientURLs];
}

/** Each machine has these. */
export const OWN_ALONE = ["", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"];

/** Hosts at which other machines reach a member, without this machine's loopback. */
export function memberHosts(member: Urls): string[] {
  return urlsOf(member)
    .map(hostOf)
    .filter((host) => !isLoopback(host));
}

export function hostOf(url: string): string {
  return URL.canParse(url) ? endpointHost(new URL(url).host) : "";
}

/** The host of its client URLs, if its peer URL is localhost. */
export function placeOf({ peerURLs, clientURLs }: Pick<Member, "peerURLs" | "clientURLs">): {
  host: string;
  port: number;
} {
  const url = peerURLs.find((one) => !isLoopback(hostOf(one))) ?? peerURLs[0] ?? "https://0.0.0.0:2380";
  const published = isLoopback(hostOf(url))
    ? clientURLs.map(hostOf).find((host) => host && !isLoopback(host))
    : undefined;
  return { host: published ?? hostOf(url), port: hostAndPort(url).port };
}

/**
 * Members of an etcd beside kubeadm by the names of their nodes: kubespray calls them etcd1, KubeKey etcd-HOST. A
 * member is of the node whose API server's mirror pod advertises its address, and only where no other Node claims
 * that address, by a mirror pod, deleted ones too, or by its status: each kubelet writes its own. Or by the operator's
 * `--control-plane`. A member that no node proves keeps its name.
 */
export function withNodeNames(data: EtcdData): EtcdData {
  const nodes = attempt(() => data.keys(`${registryPrefix(data)}/minions/`), []).map((key) => basename(key));
  const isNodes = ({ name }: Member) => nodes.includes(name);
  if (data.members.every(isNodes) || !attempt(() => hasExternalEtcd(data), false)) return data;
  const claims = claimsOf(data, nodes);
  const words = namedControlPlanes();
  const named = (member: Member): Member => {
    const hosts = urlsOf(member)
      .map(hostOf)
      .filter((host) => !OWN_ALONE.includes(host));
    const isSaid = ({ name, served }: Claim) =>
      words.includes(name) && served.some((host) => hosts.includes(host));
    const name = (servedAlone(claims, hosts) ?? claims.find(isSaid))?.name;
    return name === undefined ? member : { ...member, name };
  };
  return withMembers(data, named);
}

const namedControlPlanes = () => savedOptionsOf("control-plane").map(({ value }) => value);

interface Claim {
  name: string;
  /** Addresses at which its API server serves, by its mirror pod; and those with what its Node says. */
  served: string[];
  all: string[];
  port: string;
}

function claimsOf(data: EtcdData, nodes: readonly string[]): Claim[] {
  const pods = mirrorPodsOf(data, nodes);
  return nodes.map((name) => {
    const pod = pods.get(name)?.find((mirror) => mirror.name === "kube-apiserver")?.pod;
    const words = podFlags(pod);
    const served = [words.get("advertise-address") ?? []].flat();
    return { name, served, all: [...served, ...statusOf(name)], port: words.get("secure-port") ?? "6443" };
  });
  function statusOf(name: string): string[] {
    type Stored = { status?: { addresses?: { address: string }[] } };
    const node = attempt(() => readObject<Stored>(data, `minions/${name}`), undefined);
    return node?.status?.addresses?.map(({ address }) => address) ?? [];
  }
}

/** The node whose API server serves at one of these hosts, if no other Node claims one. */
function servedAlone(claims: readonly Claim[], hosts: readonly string[]): Claim | undefined {
  const isAt = (all: readonly string[]) => all.some((host) => hosts.includes(host));
  const [one, ...more] = claims.filter(({ all }) => isAt(all));
  return one && more.length === 0 && isAt(one.served) ? one : undefined;
}

/**
 * Data of an etcd on other machines: the control plane nodes take the place of its members. Where an API server runs, or
 * ran a moment ago, API servers alone write (`masterleases`, pkg/controlplane/reconcilers/lease.go); a mirror pod or a
 * label could be a worker's word: of one that was off for longer, `--control-plane` counts. This machine is one.
 */
export function withControlPlanes(data: EtcdData): EtcdData {
  const { addresses, name: ownName } = data.elsewhere!;
  const nodes = attempt(() => data.keys(`${registryPrefix(data)}/minions/`), []).map((key) => basename(key));
  const leases = attempt(() => `${registryPrefix(data)}/masterleases/`, "");
  const hosts = leases ? [...data.keys(leases), ...data.deletedKeys(leases)].map((key) => basename(key)) : [];
  const claims = attempt(() => claimsOf(data, nodes), []);
  // who else claims an address of theirs takes nothing from this machine, or from one that the operator names
  const words = namedControlPlanes();
  const isSure = ({ name, served }: Claim) =>
    name === ownName
      ? served.some((host) => addresses.includes(host))
      : words.includes(name) && served.length > 0;
  const found = [
    ...claims.filter(isSure),
    ...[addresses, ...hosts.map((host) => [host])].flatMap((some) => servedAlone(claims, some) ?? []),
  ];
  const members = [...new Set(found)].map(({ name, served, port }) => ({
    ...{ id: `node ${name}`, name, isLearner: false, clientURLs: [] },
    peerURLs: served.map((host) => endpointUrl(host, Number(port))),
  }));
  const memberId = members.find((one) => isHere(one, addresses))?.id ?? "";
  return Object.create(data, { members: { value: members }, memberId: { value: memberId } }) as EtcdData;
}

/**
 * Whether this node hosts a member of the cluster's etcd, and is a worker: no API server of it is or was in this data, by
 * its pod or its lease, and its Node has no label of a control plane node.
 */
export function isWorkerByData(
  data: EtcdData,
  { name, addresses }: { name: string; addresses: readonly string[] },
) {
  const prefix = registryPrefix(data);
  const own = readObject<{ metadata: { labels?: object } }>(data, `minions/${name}`);
  if (!own || !hasExternalEtcd(data) || CONTROL_PLANE_LABEL in (own.metadata.labels ?? {})) return false;
  const ofApi = [`pods/kube-system/kube-apiserver-${name}`, ...addresses.map((ip) => `masterleases/${ip}`)];
  return !ofApi.some((key) => data.history(`${prefix}/${key}`).length > 0);
}

export const CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane";

function hasExternalEtcd(data: EtcdData): boolean {
  const text = configMapIn(data, "kube-system/kubeadm-config")?.ClusterConfiguration ?? "";
  const config = readYaml(text) as { etcd?: { external?: unknown } } | undefined;
  return config?.etcd?.external !== undefined;
}

/** Members whose names are no node's, but this machine's own. */
export function nodelessMembers(data: EtcdData, addresses: readonly string[]): Member[] {
  const own = ownMember(data, addresses);
  const isNode = (name: string) => data.get(`${registryPrefix(data)}/minions/${name}`) !== undefined;
  return data.members.filter((member) => member !== own && !isNode(member.name));
}

/** etcd's data as if the machines had always had their current addresses. */
export function withMoved(data: EtcdData, moved: Moved): EtcdData {
  if (moved.size === 0) return data;
  const urls = (all: readonly string[]) => all.map((url) => asMoved(url, moved));
  const asToday = (one: Member) => ({
    ...one,
    peerURLs: urls(one.peerURLs),
    clientURLs: urls(one.clientURLs),
  });
  return Object.create(withMembers(data, asToday), {
    asToday: { value: <T>(object: T): T => moveInPlace(object, moved) },
  }) as EtcdData;
}

function withMembers(data: EtcdData, change: (member: Member) => Member): EtcdData {
  let read: Member[] | undefined;
  let members: Member[] = [];
  // read again, they change; until then they are the same objects: `peersOf` compares them
  const get = () => {
    if (read !== data.members) members = data.members.map(change);
    read = data.members;
    return members;
  };
  return Object.create(data, { members: { get } }) as EtcdData;
}

/** Changes the object itself, as `unknownFields` belong to it. */
function moveInPlace<T>(value: T, moved: Moved): T {
  if (typeof value === "string") return asMoved(value, moved) as T;
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  for (const [key, child] of Object.entries(value))
    (value as Record<string, unknown>)[key] = moveInPlace(child, moved);
  return value;
}

type EtcdPod = { spec: PodSpec };

const [OFF, ELSEWHERE] = ["enable-grpc-gateway", "listen-client-http-urls"];

/**
 * The one at this node's `address`, if there is one. Undefined: the gateway is at the client port, or off.
 */
export function gatewayUrl(pod: EtcdPod, address: string): string | undefined {
  const urls = gatewayUrls(pod).filter((url) => url.startsWith("https://"));
  const own = urls.find((url) => hostOf(url) === address);
  const wildcard = urls.find((url) => ["0.0.0.0", "::"].includes(hostOf(url)));
  return own ?? (wildcard ? endpointUrl(address, hostAndPort(wildcard).port) : urls[0]);
}

/** Why this kit cannot ask such an etcd; undefined if it can. `path`: its manifest. */
export function gatewayTrouble(pod: EtcdPod, path: string): Refused | undefined {
  const setting = settingOf(pod, OFF);
  const urls = gatewayUrls(pod);
  const isOff = setting !== undefined && /^(0|f|false)$/i.test(setting);
  if (!isOff && (urls.length === 0 || urls.some((url) => url.startsWith("https://")))) return undefined;
  const flag = isOff ? `--${OFF}=${setting}` : `--${ELSEWHERE}=${urls.join(",")}`;
  const why = isOff
    ? "has no JSON gateway"
    : "has its JSON gateway at a URL without TLS: nothing proves who answers there";
  return new Refused(`etcd ${why} (${flag}), and this kit asks etcd through it`, {
    unchanged: true,
    hint:
      `${isOff ? "remove that flag from" : "make it an https: URL in"} ${path}; its kubelet restarts etcd, and the API is unavailable for some ` +
      "seconds. Wait until kubectl answers, then run the same line again. Put the flag back when 05-verify is well",
  });
}

function gatewayUrls(pod: EtcdPod): string[] {
  return (settingOf(pod, ELSEWHERE) ?? "").split(",").filter(Boolean);
}

function settingOf(pod: EtcdPod, name: string): string | undefined {
  const variable = `ETCD_${name.toUpperCase().replaceAll("-", "_")}`;
  const words = [...commandOf(pod), ...(mainContainer(pod)?.args ?? [])];
  return flags(words).get(name) ?? mainContainer(pod)?.env?.find((one) => one.name === variable)?.value;
}

export const FULL =
  "etcd's database is full (alarm NOSPACE): it takes no write, so no Lease is renewed and no object changes";

/**
 * Typed where etcd runs. etcd compacts nothing more by itself: the API server's compaction is a write, too.
 */
export function makeRoom(facts: Asked, revision: number): string {
  const etcdctl = (words: string) => etcdctlLine(words, facts);
  return `${etcdctl(shell`compact ${String(revision)}`)}; ${etcdctl("defrag")}; ${etcdctl("alarm disarm")}`;
}

type Asked = Pick<ClusterFacts, "certificatesDir" | "externalEtcd">;

/**
 * Runs in the container of this node's static pod: most nodes have no etcdctl. kubespray and KubeKey install it.
 * `words`: its arguments.
 */
export function etcdctlLine(words: string, facts: Asked, option = ""): string {
  const own = facts.externalEtcd;
  if (own)
    return `${shell`etcdctl --endpoints=${own.server} --cacert=${own.ca} --cert=${own.cert} --key=${own.key}`} ${words}`;
  const at = `${facts.certificatesDir}/etcd`;
  const etcdctl = shell`etcdctl --cacert ${at}/ca.crt --cert ${at}/healthcheck-client.crt --key ${at}/healthcheck-client.key`;
  const container = "$(crictl ps -q --name '^etcd$' --label io.kubernetes.pod.namespace=kube-system)";
  return ["crictl exec", ...(option ? [option] : []), container, etcdctl, words].join(" ");
}

/** The command that completes the join of a learner, for a node where etcd answers. */
export function promotion(
  { id }: Pick<Member, "id">,
  facts: Pick<ClusterFacts, "certificatesDir" | "externalEtcd">,
): string {
  return etcdctlLine(shell`member promote ${id}`, facts);
}
