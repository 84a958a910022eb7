/**
 * To which node a name or an address belongs. A kubelet's certificate is valid for every name in it, so a
 * node gets only its own names and addresses. The Node's status is written by the node itself: it may name
 * only what nobody else has (evidence/sources.ts), and nothing of the cluster's own.
 */

import { isIP } from "node:net";
import type { EtcdData } from "../etcd-data/data.ts";
import { may, type SourceName } from "../evidence/sources.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import { storedPlaces } from "../facts/endpoint.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { apiEndpoint } from "../facts/known-nodes.ts";
import { apiNamesHere } from "../facts/names-before.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt } from "../fail.ts";
import { readObjects, registryPrefix } from "../objects/stored.ts";
import { canonicalIp, endpointHost, isDnsName, isWithin } from "../pki/addresses.ts";
import { quoteUntrusted } from "../plain.ts";

interface IdentitySources {
  nodes: readonly KnownNode[];
  /** Addresses of control plane nodes, keyed by node, from etcd's members and API servers' mirror pods. */
  proved: ReadonlyMap<string, readonly string[]>;
  /** Where the nodes were that a restore left behind: a claim. */
  left?: readonly (readonly [node: KnownNode, host: string])[];
  /** Hosts by which the API is reached, by whoever says so in etcd's data. */
  endpoints?: readonly string[];
  /** Names and addresses of API servers, by kubeadm-config and by their certificates. */
  apiNames: readonly string[];
  /** Hosts that webhooks name by a URL: the API server sends objects there, Secrets, too. */
  called?: readonly string[];
  serviceSubnets: readonly string[];
  dnsDomain: string;
  /** `name.namespace` */
  services: readonly string[];
  /** Ranges in which no node has an address of its own: see RESERVED_RANGES. */
  nobodys: readonly string[];
}

interface Claim {
  node: KnownNode;
  source: SourceName;
  /** When the certificate began that says so, in milliseconds: who had an address once may not have it today. */
  since?: number;
}

export type Identities = ReturnType<typeof identities>;

/** Loopback, link-local (cloud metadata), multicast, unspecified. */
export const RESERVED_RANGES = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
  "::/127",
  "fe80::/10",
  "ff00::/8",
];

/** The same, with indexes for thousands of nodes. */
export function identities(sources: IdentitySources) {
  /** A name or an address in its plain form → the nodes that claim it, and the source of each claim. */
  const claims = new Map<string, Claim[]>();
  const claim = (node: KnownNode, source: SourceName, values: readonly string[]) => {
    for (const value of new Set(values.flatMap((one) => asPlain(one) ?? []))) {
      const before = claims.get(value) ?? [];
      if (!before.some((one) => one.node === node)) claims.set(value, [...before, { node, source }]);
    }
  };
  for (const node of sources.nodes) {
    claim(node, "kube-system in etcd", [node.name, ...(sources.proved.get(node.name) ?? [])]);
    claim(node, "a kubelet's status", [...node.claimed.names, ...node.claimed.ips]);
  }
  for (const [node, host] of sources.left ?? []) claim(node, "a kubelet's status", [host]);
  /** Names by which pods find a Service, in its own namespace (`name`) and in others (`name.namespace`). */
  const serviceNames = new Set(
    sources.services.flatMap((name) => [name, name.slice(0, name.lastIndexOf("."))]),
  );
  return {
    ...sources,
    claims,
    serviceNames,
    byName: new Map(sources.nodes.map((node) => [node.name, node])),
  };
}

/** `began`: the serving certificate that has these values. */
export function prove({ claims, byName }: Identities, name: string, values: readonly string[], began: Date) {
  const node = byName.get(name)!;
  const since = began.getTime();
  for (const value of values.flatMap((one) => asPlain(one) ?? [])) {
    const others = (claims.get(value) ?? []).filter((one) => one.node !== node || isProved(one));
    claims.set(value, [...others, { node, source: "an old serving certificate", since }]);
  }
}

/** The workers that claim one of these, if nothing decides between them, or a certificate that may be the older one. */
export function competingWorkers(
  sans: readonly { type: string; value: string }[],
  identities: Identities,
): KnownNode[] {
  const found = sans
    .map((san) => plain(san) ?? "")
    .map((value) => {
      const first = owners(value, identities);
      return first.some(wasSigned) ? identities.claims.get(value)! : first;
    })
    .filter((all) => all.length > 1 && !all.some(isProved));
  return [...new Set(found.flatMap((all) => all.map(({ node }) => node)))];
}

interface ClusterFiles extends Partial<Pick<ControlPlaneNode, "facts" | "rescue" | "earlier">> {
  cluster: Cluster;
  data: EtcdData;
}

/** `shown`: names of the other API servers, by what they show. */
export function identitiesOf(state: ClusterFiles, shown: readonly string[] = []): Identities {
  const { cluster, data, facts, rescue } = state;
  const { nodes, endpoint, configuration, serviceSubnets, dnsDomain } = cluster;
  const places = storedPlaces(data, configuration, 6443).map(({ place }) => place);
  const services = `${registryPrefix(data)}/services/specs/`;
  return identities({
    nodes,
    proved: new Map(nodes.map(({ name, places }) => [name, places.filter((host) => isIP(host))])),
    left: leftBehind(nodes, data),
    endpoints: [endpoint ?? "", ...places].filter(Boolean).map(endpointHost),
    apiNames: [
      ...(configuration.apiServer?.certSANs ?? []),
      ...(facts && rescue ? apiNamesHere({ ...state, facts, rescue }) : []),
      ...shown,
    ],
    called: calledHosts(data),
    serviceSubnets,
    dnsDomain,
    services: data.keys(services).map((key) => key.slice(services.length).split("/").reverse().join(".")),
    nobodys: RESERVED_RANGES,
  });
}

const DELETED = { uid: "", controlPlane: true, claimed: { names: [], ips: [] }, places: [] };

/**
 * Their addresses by mirror pods: a lost node's status may name another address, and its place may be
 * claimed.
 */
function leftBehind(nodes: readonly KnownNode[], data: EtcdData): [KnownNode, string][] {
  return (data.formerMembers ?? []).flatMap((name) => {
    const host = attempt(() => apiEndpoint(name, data)?.host, undefined);
    const node = nodes.find((one) => one.name === name) ?? { name, ...DELETED };
    return host ? [[node, host]] : [];
  });
}

/** Leaves out objects that are encrypted at rest, and cannot be decrypted here. */
function calledHosts(data: EtcdData): string[] {
  const all = WEBHOOKS.flatMap((path) => attempt(() => readObjects<Called>(data, path).toArray(), []));
  return all
    .flatMap(({ webhooks = [], spec }) => [...webhooks, spec?.conversion?.webhook])
    .map((one) => one?.clientConfig?.url ?? "")
    .flatMap((url) => (URL.canParse(url) ? [endpointHost(new URL(url).host)] : []));
}

const WEBHOOKS = [
  "validatingwebhookconfigurations/",
  "mutatingwebhookconfigurations/",
  "apiextensions.k8s.io/customresourcedefinitions/",
];

interface Webhook {
  clientConfig?: { url?: string };
}

type Called = { webhooks?: Webhook[]; spec?: { conversion?: { webhook?: Webhook } } };

/**
 * Names and addresses are compared in this form: "API.example." is "api.example", and 0x7f.1 is 127.0.0.1.
 * Undefined if it is neither.
 */
function plain({ type, value }: { type: string; value: string }): string | undefined {
  if (type === "ip") return isIP(value) && !value.includes("%") ? canonicalIp(value) : undefined;
  const name = value.toLowerCase().replace(/\.$/, "");
  if (type !== "dns" || !isDnsName(name) || name.includes("*")) return undefined;
  return URL.canParse(`http://${name}`) ? new URL(`http://${name}`).hostname : undefined;
}

const asPlain = (value: string) => plain({ type: isIP(value) ? "ip" : "dns", value });

/**
 * Whose it is: who is proved to have it, else who had it in the newest serving certificate, else the control plane
 * nodes that claim it, else the workers that do. Several owners are none.
 */
function owners(value: string, identities: Identities): readonly Claim[] {
  const all = identities.claims.get(value) ?? [];
  const ranks = [isProved, wasSigned, ({ node }: Claim) => node.controlPlane, () => true];
  const first = ranks.map((rank) => all.filter(rank)).find((those) => those.length > 0) ?? [];
  const newest = Math.max(...first.map(({ since = 0 }) => since));
  return first.filter(({ since = 0 }) => since === newest);
}

interface Wanted {
  value: string;
  node: KnownNode;
  owners: readonly Claim[];
  identities: Identities;
}

/** No node has these, whoever says so: addresses of Services, and names that only the cluster's DNS gives. */
const isReserved = ({ value, identities: { serviceSubnets, dnsDomain } }: Wanted) => {
  if (isIP(value)) return serviceSubnets.some((range) => isWithin(value, range));
  return (
    /(^|\.)(svc|pod)$/.test(shortName(value, dnsDomain)) ||
    /^kubernetes(\.default)?$/.test(shortName(value, dnsDomain))
  );
};

/** A node may have the name of one, as its own. */
const isServiceName = ({ value, identities: { dnsDomain, serviceNames } }: Wanted) =>
  serviceNames.has(shortName(value, dnsDomain));

function shortName(value: string, dnsDomain: string): string {
  return value.endsWith(`.${dnsDomain}`) ? value.slice(0, -dnsDomain.length - 1) : value;
}

const isProved = ({ source }: Claim) => may(source, "facts");
const wasSigned = ({ source }: Claim) => source === "an old serving certificate";

const namesOf = (claims: readonly Claim[]) => claims.map(({ node }) => node.name).join(" and ");

// biome-ignore format: a table
const RULES: [holds: (wanted: Wanted) => boolean, why: (wanted: Wanted) => string | undefined][] = [
  [({ value, identities }) => isIP(value) > 0 && identities.nobodys.some((range) => isWithin(value, range)), () => "means the local machine, on every machine"],
  [({ value }) => /(^|\.)localhost(\.localdomain)?$/.test(value), () => "means the local machine, on every machine"],
  [isReserved, () => "belongs to a Service"],
  [({ owners }) => owners.length > 1 && owners.every(isProved), ({ owners }) => `is proved for ${namesOf(owners)}, so it belongs to none of them`],
  [({ node, owners: [own] }) => own?.node === node && isProved(own), () => undefined],
  [isServiceName, () => "belongs to a Service"],
  [({ owners: [own] }) => own !== undefined && isProved(own), ({ owners }) => `belongs to ${owners[0]!.node.name}`],
  [({ value, identities }) => (identities.endpoints ?? []).some((host) => asPlain(host) === value), () => "is the API's endpoint"],
  [({ value, node, identities }) => !node.controlPlane && identities.apiNames.some((name) => covers(name, value)), () => "is one of the API server's names"],
  [({ value, node, owners: [own], identities }) => !(own?.node === node && wasSigned(own)) && (identities.called ?? []).some((host) => asPlain(host) === value), () => "is where the API server calls a webhook"],
  [({ node, owners }) => !owners.some((own) => own.node === node),
    ({ node, owners }) => owners.length > 0 ? `belongs to ${namesOf(owners)}` : `does not belong to ${node.name}, which had ${[...node.claimed.names, ...node.claimed.ips].join(", ")}`],
  [({ owners }) => owners.length > 1, ({ owners }) => `is claimed by ${namesOf(owners)}`],
];

/** Undefined where it may have it. */
export function nameObjection(
  san: { type: string; value: string },
  name: string,
  identities: Identities,
): string | undefined {
  const value = plain(san);
  const node = identities.byName.get(name);
  const shown = `${san.type} "${san.value}"`;
  if (value === undefined || !node) return `${shown} does not belong to ${name}`;
  const wanted = { value, node, owners: owners(value, identities), identities };
  const why = RULES.find(([holds]) => holds(wanted))?.[1](wanted);
  return why && `${shown} ${why}`;
}

/** A name of the API server's certificate may begin with a wildcard. */
function covers(name: string, value: string): boolean {
  return name.startsWith("*.") ? value.endsWith(name.slice(1).toLowerCase()) : asPlain(name) === value;
}

/** The proved address, else the one that its Node names; else a placeholder with `name`, and why. */
export function addressToType(
  node: KnownNode,
  nodesByName: Identities,
  name = node.name,
): { address: string; why?: string } {
  const proved = nodesByName.proved.get(node.name)?.[0];
  if (proved) return { address: proved };
  const objections = node.claimed.ips.map((ip) =>
    nameObjection({ type: "ip", value: ip }, node.name, nodesByName),
  );
  const own = node.claimed.ips[objections.indexOf(undefined)];
  if (own && isIP(own)) return { address: canonicalIp(own) };
  const why =
    node.claimed.ips.length === 0 ? "its Node has no address" : quoteUntrusted(objections.join("; "));
  return { address: `ADDRESS-OF-${name.replace(" ", "-")}`, why };
}
