/**
 * The nodes of a plan, and the addresses that get into lines to paste. A Node's status is written by its own
 * kubelet: only an address that nobody else has, and that is one, gets there. Everything else becomes a
 * placeholder, with the reason.
 */
import type { KnownNode } from "../facts/known-nodes.ts";
import { isDnsName } from "../pki/addresses.ts";
import { addressToType, identitiesOf } from "../workers/identities.ts";
import type { Place } from "./runbook.ts";

export interface PlanNode {
  /** A DNS name, or "node 3". */
  name: string;
  role: "first control plane node" | "control plane node" | "worker";
  /** For ssh: an IP address, or a placeholder such as ADDRESS-OF-w1. */
  address: string;
  /** Why it is a placeholder. */
  why?: string;
}

interface Where {
  /** The node that the plan is made on. */
  here: string;
  without: readonly string[];
}

/** All nodes but those of `without`: this one first, then the other control plane nodes, then the workers. */
export function planNodes(from: Parameters<typeof identitiesOf>[0], { here, without }: Where): PlanNode[] {
  const { cluster } = from;
  const known = identitiesOf(from);
  const rank = (node: KnownNode) => (node.name === here ? 0 : node.controlPlane ? 1 : 2);
  return cluster.nodes
    .filter(({ name }) => !without.includes(name))
    .toSorted((a, b) => rank(a) - rank(b))
    .map((node, index) => {
      const name = isName(node.name) ? node.name : `node ${index + 1}`;
      const role = (["first control plane node", "control plane node", "worker"] as const)[rank(node)]!;
      return { name, role, ...addressToType(node, known, name) };
    });
}

export function isName(name: string): boolean {
  return isDnsName(name) && !name.includes("*");
}

export function nodesAt(nodes: readonly PlanNode[], place: Place): PlanNode[] {
  const first = nodes.filter(({ role }) => role === "first control plane node");
  const others = nodes.filter(({ role }) => role === "control plane node");
  const workers = nodes.filter(({ role }) => role === "worker");
  const at: Record<Place, PlanNode[]> = {
    "first-control-plane": first,
    "other-control-planes": others,
    "each-control-plane": [...first, ...others],
    "each-worker": workers,
    "each-node": [...nodes],
    operator: [],
  };
  return at[place];
}
