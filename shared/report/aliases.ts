/**
 * Host names and addresses of a cluster, replaced by aliases: the same name has the same alias everywhere in
 * a bundle.
 */
import { isIP } from "node:net";
import type { Cluster } from "../facts/cluster-before.ts";
import { endpointHost } from "../pki/addresses.ts";

/** Texts by an author: names known from there, hosts of URLs, and addresses. */
export interface Written {
  names: readonly string[];
  texts: readonly string[];
}

const KEPT = ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost", "kubernetes", "cluster.local"];

/**
 * Limits for names that only one node knows, and for their letters. An honest node has fewer, and none is
 * longer.
 */
const MOST = 5000;
const LONGEST = 253;

/**
 * Replaces names and addresses in a text, in linear time. `others`, by node: names known only from there are
 * replaced only in that node's texts (`by`). Otherwise a worker could choose words of our own texts that
 * become unreadable.
 */
export function aliasesOf(
  cluster: Cluster | undefined,
  ours: Written,
  others: ReadonlyMap<string, Written> = new Map(),
) {
  const named = namesOf(cluster);
  const ownWords = [...hostsOf(cluster), ...wordsOf(ours)];
  const wordsByNode = new Map([...others].map(([node, written]) => [node, wordsOf(written).slice(0, MOST)]));
  const words = [...new Set([...ownWords, ...[...wordsByNode.values()].flat()])]
    .filter((word) => !named.has(word))
    .sort();
  const alias = new Map(named);
  for (const [i, name] of words.filter((word) => !isIP(word)).entries()) alias.set(name, `host-${i + 1}`);
  for (const [i, ip] of words.filter((word) => isIP(word)).entries()) alias.set(ip, `address-${i + 1}`);
  const tree = treeOf([...named.keys(), ...ownWords], alias);
  const byNode = new Map([...wordsByNode].map(([node, its]) => [node, treeOf(its, alias)]));
  return (text: string, by?: string) => {
    const its = by === undefined ? undefined : byNode.get(by);
    const trees = its ? [tree, its] : [tree];
    return text.replace(WORD, (word) => replaced(word, trees));
  };
}

function namesOf(cluster: Cluster | undefined): Map<string, string> {
  const found = new Map<string, string>();
  const add = (name: string | undefined, alias: string) => {
    if (name && isNamed(name) && !found.has(name)) found.set(name, alias);
  };
  const nodes = (cluster?.nodes ?? []).toSorted((a, b) => a.name.localeCompare(b.name));
  for (const [role, its] of [
    ["control-plane", nodes.filter(({ controlPlane }) => controlPlane)],
    ["worker", nodes.filter(({ controlPlane }) => !controlPlane)],
  ] as const)
    for (const [i, { name, claimed }] of its.entries()) {
      add(name, `${role}-${i + 1}`);
      for (const other of claimed.names) add(other, `${role}-${i + 1}.host`);
    }
  add(cluster?.name, "the-cluster");
  add(cluster?.dnsDomain, "cluster.domain");
  return found;
}

function hostsOf(cluster: Cluster | undefined): string[] {
  const { apiServer, etcd } = cluster?.configuration ?? {};
  const sans = [
    ...(apiServer?.certSANs ?? []),
    ...(etcd?.local?.serverCertSANs ?? []),
    ...(etcd?.local?.peerCertSANs ?? []),
  ];
  const hosts = [
    ...(cluster?.endpoint ? [endpointHost(cluster.endpoint)] : []),
    ...sans.map((name) => name.replace(/^\*\./, "")),
  ];
  return hosts.filter((host) => isNamed(host) && !isIP(host));
}

function wordsOf({ names, texts }: Written): string[] {
  const urls = texts.flatMap((text) => [...text.matchAll(/\bhttps?:\/\/([A-Za-z0-9][\w.-]*)/g)]);
  const hosts = urls.map(([, host]) => host!.replace(/\.$/, ""));
  const words = [...names, ...hosts, ...texts.flatMap(addressesIn)];
  return [...new Set(words)].filter(isNamed);
}

function isNamed(name: string): boolean {
  return name.length > 1 && name.length <= LONGEST && !KEPT.includes(name);
}

const IPV4 = /(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)/g;

function addressesIn(text: string): string[] {
  const long = (text.match(/[\w.:]+/g) ?? []).filter((word) => word.length <= 46 && word.includes(":"));
  const found = long.flatMap((word) => [word, word.replace(/[.:]$/, "")]);
  return [...(text.match(IPV4) ?? []), ...found].filter((address) => isIP(address));
}

/**
 * A word that may contain a name: alone, or with a dash, a dot or a colon beside it, as in
 * kube-apiserver-cp1.
 */
const WORD = /[A-Za-z0-9:][A-Za-z0-9_.:-]*/g;

/** Names, part by part: "rack7", ".", "example". */
interface Tree {
  alias?: string;
  next?: Map<string, Tree>;
}

const partsOf = (name: string) => name.match(/[A-Za-z0-9]+|[^A-Za-z0-9]+/g) ?? [];

function treeOf(names: readonly string[], aliases: ReadonlyMap<string, string>): Tree {
  const root: Tree = {};
  for (const name of names) {
    let at = root;
    for (const part of partsOf(name.toLowerCase())) {
      at.next ??= new Map();
      const next: Tree = at.next.get(part) ?? {};
      at.next.set(part, next);
      at = next;
    }
    const alias = aliases.get(name);
    if (alias !== undefined) at.alias ??= alias;
  }
  return root;
}

/** If two names fit at one position, the longer one is replaced. */
function replaced(word: string, trees: readonly Tree[]): string {
  const parts = partsOf(word);
  const lower = parts.map((part) => part.toLowerCase());
  let result = "";
  for (let at = 0; at < parts.length; ) {
    const found = isEdge(lower, at, 0) ? trees.flatMap((tree) => longest(tree, lower, at) ?? []) : [];
    const [best] = found.sort((a, b) => b.to - a.to);
    result += best?.alias ?? parts[at];
    at = best?.to ?? at + 1;
  }
  return result;
}

/**
 * No letter and no digit may stand before or behind a name; it begins or ends with another sign only if the
 * word does.
 */
function isEdge(parts: readonly string[], part: number, end: number): boolean {
  return part === end || /^[a-z0-9]/.test(parts[part]!);
}

/** `to`: the part behind it. */
function longest(tree: Tree, parts: readonly string[], from: number) {
  let best: { alias: string; to: number } | undefined;
  let at: Tree | undefined = tree;
  for (let i = from; i < parts.length; i++) {
    at = at.next?.get(parts[i]!);
    if (!at) break;
    if (at.alias && isEdge(parts, i, parts.length - 1)) best = { alias: at.alias, to: i + 1 };
  }
  return best;
}
