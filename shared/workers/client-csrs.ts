/**
 * Requests for kubelets' client certificates, made with the token of `open`. The token is on every worker, so whoever has it may ask in any node's
 * name: the kit itself approves them, each worker that etcd knew once, and only while it is not heard. No rule of the cluster's does (its group
 * has none), and the token's group ends with `close`.
 */
import { type KitToken, TOKEN_GROUP } from "../api/bootstrap-tokens.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { KnownNode } from "../facts/cluster.ts";
import { type Asked, CLIENT_SIGNER, type Csr, hasUsages, isApproved, NODE_USER, requestIn, requestsTo, subjectObjection } from "./csr.ts";

/** Kept with each request that is approved. */
export const CLIENT_MESSAGE = "a worker that etcd knew and that is not heard asks with the kit's token, for the first time";

export interface Joining {
  /** The kit's tokens that are valid now: one, or none. */
  tokens: readonly KitToken[];
  /** Nodes that etcd knew; control plane nodes among them, which get theirs in part 2. */
  known: ReadonlyMap<string, KnownNode>;
  without: readonly string[];
  /** Nodes that have renewed their Lease since we listen. */
  heard: Set<string>;
  /** What each token's holders have been given: `username common-name` → the request's name. */
  given: Map<string, string>;
}

/** What a request asks for, as `given` keeps it. */
export function givenKey(csr: Csr): string | undefined {
  const asked = requestIn(csr);
  return asked && `${csr.spec.username} ${asked.cn}`;
}

/** What was approved before we began, for users of these tokens. By whomever: another control plane node's close, an operator. */
export async function givenBefore(api: KubeApi, tokens: readonly KitToken[]): Promise<Map<string, string>> {
  const given = new Map<string, string>();
  for await (const csr of api.items<Csr>(requestsTo(CLIENT_SIGNER))) {
    const key = isApproved(csr) && isOfToken(csr, tokens) ? givenKey(csr) : undefined;
    if (key) given.set(key, csr.metadata.name);
  }
  return given;
}

/** Whether one of these tokens made it. */
export function isOfToken({ spec }: Csr, tokens: readonly KitToken[]): boolean {
  return tokens.some(({ user }) => user === spec.username) && (spec.groups?.includes(TOKEN_GROUP) ?? false);
}

interface Judged {
  csr: Csr;
  joining: Joining;
  asked: Asked | undefined;
  /** The node it is to be for. */
  name: string;
}

/** The first that holds is why it is left alone. */
// biome-ignore format: a table
const RULES: [holds: (judged: Judged) => boolean, why: (judged: Judged) => string][] = [
  [({ csr, joining }) => !isOfToken(csr, joining.tokens),               ({ csr }) => `"${csr.spec.username}" does not come with the token of open`],
  [({ csr }) => !hasUsages(csr, "client auth"),                         ({ csr }) => `usages ${csr.spec.usages}`],
  [({ asked }) => asked === undefined,                                  () => "the request cannot be read"],
  [({ asked, name }) => subjectObjection(asked!, name) !== undefined,   ({ asked, name }) => subjectObjection(asked!, name)!],
  [({ asked }) => asked!.names.length > 0,                              ({ asked }) => `it asks for the name "${asked!.names[0]!.value}"`],
  [({ joining, name }) => !joining.known.has(name),                     ({ name }) => `"${name}" is no node that etcd knew`],
  [({ joining, name }) => joining.known.get(name)!.controlPlane,        ({ name }) => `"${name}" is a control plane node: part 2 gives it its certificate`],
  [({ joining, name }) => joining.without.includes(name),               ({ name }) => `"${name}" is one of --without`],
  [({ joining, name }) => joining.heard.has(name),                      ({ name }) => `"${name}" is heard: it has a certificate`],
];

/** Why a request must not be approved; undefined if it may be, or is a double. */
export function clientObjection(csr: Csr, joining: Joining): string | undefined {
  const asked = requestIn(csr);
  const judged = { csr, joining, asked, name: nodeNamed(asked) };
  return RULES.find(([holds]) => holds(judged))?.[1](judged);
}

/** A kubelet that renews its own certificate: the cluster's rules decide on that, as always. */
export function isRenewal(csr: Csr): boolean {
  return csr.spec.username.startsWith(NODE_USER) && requestIn(csr)?.cn === csr.spec.username;
}

/** The node in the common name; "" where it is none. */
export function nodeNamed(asked: Asked | undefined): string {
  return asked?.cn.startsWith(NODE_USER) ? asked.cn.slice(NODE_USER.length) : "";
}

/** For the operator: one of the two is not that node's kubelet. */
export function sayDouble(csr: Csr, first: string): string {
  const name = nodeNamed(requestIn(csr));
  const own = csr.metadata.name;
  return `WARNING: ${own}: left alone: it asks for "${name}" as ${first} did, which was approved. One of the two may be a stranger's: look at both (kubectl get csr ${first} ${own} -o yaml) and at that node. Then ./bunw scripts/03-workers.ts open: it revokes the token and makes another, with which each node may ask once again`;
}
