/**
 * CSRs for kubelets' serving certificates. Nobody approves them automatically. Here one is approved only if a node that etcd knew asks for
 * nothing but its own names and addresses. The Node object of today is not asked, and that of before decides little: the kubelet writes it.
 */
import { type Csr, hasUsages, nodeIn, requestIn, subjectObjection } from "./csr.ts";
import { type Identities, nameObjection } from "./identities.ts";

/** Kept in each CSR that is approved. */
export const SERVING_MESSAGE = "etcd knew this node with these names and addresses, and no other node has them";

/** Why a CSR must not be approved; undefined if it may be. */
export function servingObjection(csr: Csr, identities: Identities): string | undefined {
  const { username, groups, usages } = csr.spec;
  const name = nodeIn(username);
  if (!identities.byName.has(name)) return `etcd knew no node "${username}"`;
  if (!groups?.includes("system:nodes")) return "the requester is not in the group system:nodes";
  if (!hasUsages(csr, "server auth")) return `usages ${usages}`;
  const asked = requestIn(csr);
  if (!asked) return "the request cannot be read";
  const subject = subjectObjection(asked, name);
  if (subject) return subject;
  if (asked.names.length === 0) return "it names no address";
  return asked.names.map((san) => nameObjection(san, name, identities)).find((why) => why !== undefined);
}
