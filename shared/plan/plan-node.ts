/**
 * The nodes of a plan, with their addresses. A Node's status is written by its own kubelet: only what is an address, and
 * nobody else's, gets into a line; else a placeholder, with the reason.
 */
import { isDnsName } from "../pki/addresses.ts";
import type { Place } from "./place.ts";

export interface PlanNode {
  /** A DNS name, or "node 3". */
  name: string;
  role: "first control plane node" | "control plane node" | "worker";
  /** ssh gets it: an IP address, or a placeholder such as ADDRESS-OF-w1. */
  address: string;
  /** Why it is a placeholder. */
  why?: string;
}

export function isName(name: string): boolean {
  return isDnsName(name) && !name.includes("*");
}

const ROLES_AT: Record<Place, readonly PlanNode["role"][]> = {
  "first-control-plane": ["first control plane node"],
  "other-control-planes": ["control plane node"],
  "each-control-plane": ["first control plane node", "control plane node"],
  "each-worker": ["worker"],
  "each-node": ["first control plane node", "control plane node", "worker"],
  operator: [],
};

export function nodesAt(nodes: readonly PlanNode[], place: Place): PlanNode[] {
  return nodes.filter(({ role }) => ROLES_AT[place].includes(role));
}

export function isNotFirst({ role }: PlanNode): boolean {
  return role !== "first control plane node";
}
