/**
 * Requests for kubelets' serving certificates. Nobody approves them automatically; here they are approved only if a node that etcd knew asks for
 * nothing but what is its own. What the Node object says now is not asked, and what it said before decides little: the kubelet writes it.
 */
import { type Csr, hasUsages, NODE_USER, requestIn, subjectObjection } from "./csr.ts";
import { type Identities, nameObjection } from "./identities.ts";

/** Kept with each request that is approved. */
export const SERVING_MESSAGE = "the node, its names and addresses are those that etcd knew, and nobody else's";

/** Why a request must not be approved; undefined if it may be. `name` is the node that asks, one that etcd knew. */
export function servingObjection(csr: Csr, name: string | undefined, identities: Identities): string | undefined {
  const { username, groups, usages } = csr.spec;
  if (name === undefined || username !== NODE_USER + name) return `"${username}" is no node that etcd knew`;
  if (!groups?.includes("system:nodes")) return "the requester is not in the group system:nodes";
  if (!hasUsages(csr, "server auth")) return `usages ${usages}`;
  const asked = requestIn(csr);
  if (!asked) return "the request cannot be read";
  const subject = subjectObjection(asked, name);
  if (subject) return subject;
  if (asked.names.length === 0) return "it names no address";
  for (const san of asked.names) {
    const why = nameObjection(san, name, identities);
    if (why) return why;
  }
  return undefined;
}
