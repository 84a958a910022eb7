/** The line that asks a node, and where its answer is kept for a plan. */
import { command } from "../again.ts";
import { isServer } from "../pki/addresses.ts";
import { shell } from "../shell-line.ts";
import type { PlanNode } from "./plan-node.ts";

/** In the kit's folder of the node that makes the plan. */
export const SEEN = "seen.d";

/**
 * A node's answer, of which a plan is made. A folder of etcd's data counts on control plane nodes that have it: another one
 * may have its data elsewhere.
 */
export function lookLine(etcdData: string | undefined, role: PlanNode["role"]): string {
  const place = etcdData && isServer(etcdData) ? { "etcd-data": etcdData } : {};
  const look = command("00-assess --deep --no-disk --json", place);
  if (etcdData === undefined || isServer(etcdData) || role === "worker") return look;
  const ifThere = shell`[ -d ${`${etcdData}/member`} ] && echo --etcd-data ${etcdData}`;
  return `${look} $(${ifThere})`;
}
