/** Host names and addresses of a cluster, replaced by aliases: the same name has the same alias everywhere in a bundle. */
import { isIP } from "node:net";
import type { Cluster } from "../facts/cluster.ts";
import { endpointHost } from "../pki/addresses.ts";

/** Words that are a machine's, and that nobody is told. */
export interface KnownNames {
  cluster: Cluster | undefined;
  /** Host names, etcd's member names and the like. */
  others: readonly string[];
}

const KEPT = ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost", "kubernetes", "cluster.local"];

/** What replaces names and addresses in a text; `texts`: where addresses are looked for. */
export function aliasesOf(names: KnownNames, texts: readonly string[]): (text: string) => string {
  const found = new Map<string, string>();
  const add = (name: string | undefined, alias: string) => {
    if (name && name.length > 1 && !KEPT.includes(name) && !found.has(name)) found.set(name, alias);
  };
  const nodes = (names.cluster?.nodes ?? []).toSorted((a, b) => a.name.localeCompare(b.name));
  for (const [i, node] of nodes.filter(({ controlPlane }) => controlPlane).entries()) addNode(node, `control-plane-${i + 1}`, add);
  for (const [i, node] of nodes.filter(({ controlPlane }) => !controlPlane).entries()) addNode(node, `worker-${i + 1}`, add);
  add(names.cluster?.name, "the-cluster");
  add(names.cluster?.dnsDomain, "cluster.domain");
  const hosts = [...names.others, ...hostsOf(names.cluster), ...texts.flatMap(hostsInUrls)].filter((name) => !isIP(name));
  for (const [i, name] of [...new Set(hosts)].sort().entries()) add(name, `host-${i + 1}`);
  for (const [i, ip] of [...new Set(texts.flatMap(addressesIn))].sort().entries()) add(ip, `address-${i + 1}`);
  return replacing(found);
}

type Add = (name: string | undefined, alias: string) => void;

function addNode({ name, names }: { name: string; names: readonly string[] }, alias: string, add: Add) {
  add(name, alias);
  for (const other of names) add(other, `${alias}.host`);
}

/** The API's endpoint, and names in certificates. */
function hostsOf(cluster: Cluster | undefined): string[] {
  const { apiServer, etcd } = cluster?.configuration ?? {};
  const sans = [...(apiServer?.certSANs ?? []), ...(etcd?.local?.serverCertSANs ?? []), ...(etcd?.local?.peerCertSANs ?? [])];
  return [...(cluster?.endpoint ? [endpointHost(cluster.endpoint)] : []), ...sans.map((name) => name.replace(/^\*\./, ""))];
}

function hostsInUrls(text: string): string[] {
  return [...text.matchAll(/\bhttps?:\/\/([A-Za-z0-9][\w.-]*)/g)].map(([, host]) => host!.replace(/\.$/, ""));
}

const ADDRESS = /(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)|(?<![\w:])[0-9a-fA-F:]*:[0-9a-fA-F:]+(?![\w:])/g;

function addressesIn(text: string): string[] {
  return (text.match(ADDRESS) ?? []).filter((address) => isIP(address));
}

/** A word in which a name may stand: alone, or with a dash, a dot or a colon beside it, as in kube-apiserver-cp1. */
const WORD = /[A-Za-z0-9:][A-Za-z0-9.:-]*/g;

/** A longer word is no name, and holds none. */
const LONGEST = 400;

/** By look-ups, as a cluster has thousands of names. Of two names that fit at one place the longer one is replaced. */
function replacing(aliases: ReadonlyMap<string, string>): (text: string) => string {
  const lower = new Map([...aliases].map(([name, alias]) => [name.toLowerCase(), alias]));
  return (text) => text.replace(WORD, (word) => (word.length > LONGEST ? word : replaced(word, lower)));
}

function replaced(word: string, aliases: ReadonlyMap<string, string>): string {
  const edges = [...word.matchAll(/(?<![A-Za-z0-9])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?![A-Za-z0-9])/g)].map(({ index }) => index);
  const places = [...new Set([0, ...edges, word.length])];
  let result = "";
  for (let from = 0; from < word.length; ) {
    const to = places.includes(from) ? places.findLast((end) => end > from && aliases.has(word.slice(from, end).toLowerCase())) : undefined;
    result += to === undefined ? word[from] : aliases.get(word.slice(from, to).toLowerCase());
    from = to ?? from + 1;
  }
  return result;
}
