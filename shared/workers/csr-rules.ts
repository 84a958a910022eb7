/**
 * Which CSRs of kubelets are approved.
 *
 * CSRs for client certificates are made with the tokens of `open`: each worker has its own, and may ask in its own name
 * alone; with one token for all, any can ask in another's name. So only the kit approves them: once for each worker that
 * etcd knew, while it does not renew its Lease. No rule of the cluster does (none names the token's group), and `close`
 * removes the group's rights.
 *
 * Nobody approves CSRs for serving certificates automatically. Here one is approved only if a node that
 * etcd knew asks for nothing but its own names and addresses. The current Node object is not asked, and the old
 * one decides little: the kubelet writes it. If several nodes claim an address, their old certificates decide, which
 * `join` has left in the Nodes (token-file.ts).
 */
import { ANY_WORKER, TOKEN_GROUP } from "../api/bootstrap-tokens.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { KubeObject } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { attempt } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { asMoved, type Moved } from "../pki/addresses.ts";
import { infoOf, signedBy } from "../pki/certificate.ts";
import { act } from "../run.ts";
import { shell } from "../shell-line.ts";
import {
  type Asked,
  CLIENT_SIGNER,
  type Csr,
  hasUsages,
  isApproved,
  NODE_USER,
  nodeIn,
  requestIn,
  requestsTo,
  subjectObjection,
} from "./csr.ts";
import { type Identities, nameObjection, prove } from "./identities.ts";
import { annotateFormer, FORMER_SERVING } from "./token-file.ts";

export const CLIENT_MESSAGE =
  "a worker that etcd knew, and that does not renew its Lease, asks with the kit's token for the first time";

export interface Joining {
  /** Users of the kit's valid tokens, each with the node that it is for, or ANY_WORKER. */
  tokenUsers: ReadonlyMap<string, string>;
  /** Nodes that etcd knew, control plane nodes, too. */
  nodesByName: ReadonlyMap<string, KnownNode>;
  without: readonly string[];
  /** Nodes that have renewed their Lease since we began to watch. */
  renewing: Set<string>;
  /** `username common-name` → the approved CSR's name. */
  given: Map<string, string>;
}

export function givenKey(csr: Csr): string | undefined {
  const request = requestIn(csr);
  return request && `${csr.spec.username} ${request.cn}`;
}

/** CSRs that anybody approved for these tokens before we began. */
export async function givenBefore(api: KubeApi, users: Joining["tokenUsers"]): Promise<Map<string, string>> {
  const given = new Map<string, string>();
  await readAll("CSRs", api.items<Csr>(requestsTo(CLIENT_SIGNER)), (csr) => {
    const key = isApproved(csr) && isOfToken(csr, users) ? givenKey(csr) : undefined;
    if (key) given.set(key, csr.metadata.name);
  });
  return given;
}

export function isOfToken({ spec }: Csr, users: Joining["tokenUsers"]): boolean {
  return users.has(spec.username) && (spec.groups?.includes(TOKEN_GROUP) ?? false);
}

interface Judged {
  csr: Csr;
  joining: Joining;
  asked: Asked | undefined;
  name: string;
}

/** The first rule that holds is why it is not approved. */
// biome-ignore format: a table
const RULES: [holds: (judged: Judged) => boolean, why: (judged: Judged) => string][] = [
  [({ csr, joining }) => !isOfToken(csr, joining.tokenUsers),           ({ csr }) => `"${csr.spec.username}" does not use the token of open`],
  [({ csr }) => !hasUsages(csr, "client auth"),                         ({ csr }) => `usages ${csr.spec.usages}`],
  [({ asked }) => asked === undefined,                                  () => "the request cannot be read"],
  [({ asked, name }) => subjectObjection(asked!, name) !== undefined,   ({ asked, name }) => subjectObjection(asked!, name)!],
  [({ asked }) => asked!.names.length > 0,                              ({ asked }) => `it asks for the name "${asked!.names[0]!.value}"`],
  [({ csr, joining, name }) => ![ANY_WORKER, name].includes(joining.tokenUsers.get(csr.spec.username)!),                                     ({ csr, joining, name }) => `it asks for "${name}" with the token of "${joining.tokenUsers.get(csr.spec.username)}": look at both nodes`],
  [({ joining, name }) => !joining.nodesByName.has(name),                     ({ name }) => `etcd knew no node "${name}"`],
  [({ joining, name }) => joining.nodesByName.get(name)!.controlPlane,        ({ name }) => `"${name}" is a control plane node: part 2 gives it its certificate`],
  [({ joining, name }) => joining.without.includes(name),               ({ name }) => `"${name}" is left out: --without, --lost`],
  [({ joining, name }) => joining.renewing.has(name),                   ({ name }) => `"${name}" renews its Lease: it has a certificate`],
];

/** Undefined if it may be approved, or is a second one for the same node. */
export function clientObjection(csr: Csr, joining: Joining): string | undefined {
  const request = requestIn(csr);
  const judged = { csr, joining, asked: request, name: request?.node ?? "" };
  return RULES.find(([holds]) => holds(judged))?.[1](judged);
}

/** A kubelet renews its own certificate: the cluster's rules decide on that, as always. */
export function isRenewal(csr: Csr): boolean {
  return nodeIn(csr.spec.username) !== "" && requestIn(csr)?.cn === csr.spec.username;
}

/** One of two CSRs for one node is not from its kubelet. */
export function sayDouble(csr: Csr, first: string): string {
  const name = requestIn(csr)?.node ?? "";
  const own = csr.metadata.name;
  return `WARNING: ${own}: not approved: it asks for "${name}", and so did ${first}, which was approved. One of the two may come from an attacker: look at both (${shell`kubectl get csr -o yaml ${first} ${own}`}) and at that node. Then run ./bunw scripts/03-workers.ts open: it revokes the token and makes a new one, and each node may ask once again`;
}

export const SERVING_MESSAGE =
  "etcd knew this node with these names and addresses, and no other node has them";

export const MOVED_MESSAGE = "This machine has moved: ask with its new address";

/** Undefined if it may be approved. `moved`: its addresses are read as today's. */
export function servingObjection(
  csr: Csr,
  identities: Identities,
  moved: Moved = new Map(),
): string | undefined {
  const { username, groups, usages } = csr.spec;
  const name = nodeIn(username);
  if (!identities.byName.has(name)) return `etcd knew no node "${username}"`;
  if (!groups?.includes("system:nodes")) return "the requester is not in the group system:nodes";
  if (!hasUsages(csr, "server auth")) return `usages ${usages}`;
  const request = requestIn(csr);
  if (!request) return "the request cannot be read";
  const subject = subjectObjection(request, name);
  if (subject) return subject;
  if (request.names.length === 0) return "it names no address";
  return request.names
    .map((san) => nameObjection({ ...san, value: asMoved(san.value, moved) }, name, identities))
    .find((why) => why !== undefined);
}

const WRITES = 20;

/** `cas`: those of the old cluster. */
export async function proveByFormer(
  api: KubeApi,
  names: readonly string[],
  { identities, cas }: { identities: Identities; cas: readonly string[] },
) {
  await inParallel(names, WRITES, async (name) => {
    const node = await api.find(`/api/v1/nodes/${name}`);
    const info = infoOf(node?.metadata.annotations?.[FORMER_SERVING]);
    if (info?.cn !== NODE_USER + name || !info.usages.includes("server")) return;
    if (cas.some((ca) => attempt(() => signedBy(info.pem, ca)) === true))
      prove(identities, name, [...info.sans.dns, ...info.sans.ips], info.notBefore);
  });
}

export async function removeFormers(api: KubeApi) {
  const left: string[] = [];
  for await (const { metadata } of api.items<KubeObject>("/api/v1/nodes"))
    if (metadata.annotations?.[FORMER_SERVING]) left.push(metadata.name);
  if (left.length === 0) return;
  await act("remove", `annotation ${FORMER_SERVING} from Nodes (${left.length})`, () =>
    inParallel(left, WRITES, async (name) => void (await annotateFormer(api, name, null))),
  );
}
