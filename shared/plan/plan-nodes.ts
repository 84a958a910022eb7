/**
 * The nodes of a plan, and the addresses that get into lines to paste. A Node's status is written by its own kubelet: only an address that
 * nobody else has, and that is one, gets there. Everything else becomes a placeholder, with the reason.
 */
import { isIP } from "node:net";
import type { EtcdData } from "../etcd-data/data.ts";
import type { Cluster, KnownNode } from "../facts/cluster.ts";
import { canonicalIp, isDnsName } from "../pki/addresses.ts";
import { strangers } from "../plain.ts";
import { type Identities, identitiesOf, nameObjection } from "../workers/identities.ts";
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
export function planNodes({ cluster, data }: { cluster: Cluster; data: EtcdData }, { here, without }: Where): PlanNode[] {
  const known = identitiesOf({ cluster, data });
  const rank = (node: KnownNode) => (node.name === here ? 0 : node.controlPlane ? 1 : 2);
  return cluster.nodes
    .filter(({ name }) => !without.includes(name))
    .toSorted((a, b) => rank(a) - rank(b))
    .map((node, index) => {
      const name = isName(node.name) ? node.name : `node ${index + 1}`;
      const role = (["first control plane node", "control plane node", "worker"] as const)[rank(node)]!;
      return { name, role, ...addressOf(node, known, name) };
    });
}

export function isName(name: string): boolean {
  return isDnsName(name) && !name.includes("*");
}

/** What etcd's members and the API servers say comes first; a control plane node's kubelet, or a worker's, is asked only after them. */
function addressOf(node: KnownNode, known: Identities, name: string): Pick<PlanNode, "address" | "why"> {
  const proved = known.proved.get(node.name)?.find((ip) => !LOOPBACK.includes(ip));
  if (proved) return { address: proved };
  const objections = node.ips.map((ip) => nameObjection({ type: "ip", value: ip }, node.name, known));
  const own = node.ips[objections.indexOf(undefined)];
  if (own && isIP(own)) return { address: canonicalIp(own) };
  const why = node.ips.length === 0 ? "its Node has no address" : strangers(objections.join("; "));
  return { address: `ADDRESS-OF-${name.replace(" ", "-")}`, why };
}

const LOOPBACK = ["127.0.0.1", "::1"];

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
