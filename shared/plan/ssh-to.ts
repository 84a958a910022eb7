/**
 * How ssh reaches a node from the operator's machine. The address of a worker is only its own claim, and may be one of
 * another cluster, whose host key ssh knows by that address. So ssh compares a worker's host key with that of the worker's
 * name, wherever the address leads (HostKeyAlias in ssh_config(5)): no address decides where a line goes.
 */
import type { PlanNode } from "./plan-node.ts";

export type Reached = Pick<PlanNode, "name" | "address" | "role">;

/** Seconds, for a node that is off. */
export const WITHIN = "-o ConnectTimeout=10";

/** One word: a node without a name of its own is "node 3". */
export function hostKeyName(name: string): string {
  return name.replace(" ", "-");
}

/** The words between ssh and the command there. `isByName`: a secret goes there, so a name decides for every node. */
export function sshWords(user: string, node: Reached, { isByName = false } = {}): string {
  const option = isByName || node.role === "worker" ? `-o HostKeyAlias=${hostKeyName(node.name)} ` : "";
  return `${option}${user}@${node.address}`;
}

/** Stands for a node in a loop over $a and $n. */
export const IN_LOOP: Reached = { name: "$n", address: "$a", role: "worker" };

/** A line for `meetLoop`: the address, and the name where that decides. */
export function toMeet({ name, address, role }: Reached): string {
  return role === "worker" ? `${address} ${hostKeyName(name)}` : address;
}

/**
 * A loop over lines with an address and maybe a name. ssh asks about each host key that it does not know, by the name where
 * there is one. By a name it asks also where it is told never to ask, and it says by which other names, or address, it
 * knows that key. `fields`: of a line, for `read`.
 */
export function meetLoop(user: string, fields = "a n"): string {
  const ssh = `ssh -n ${WITHIN} \${n:+-o StrictHostKeyChecking=ask -o HostKeyAlias=$n} ${user}@$a true`;
  const ask = `ssh-keygen -F \${n:-$a} > /dev/null 2>&1 || ${ssh}`;
  return `while read -r ${fields}; do ${ask}; done`;
}

/** `meetLoop` over some nodes, each one's lines as one word. */
export function meetLine(user: string, lines: readonly string[]): string {
  const words = lines.map((line) => (line.includes(" ") ? `"${line}"` : line));
  return `printf "%s\\n" ${words.join(" ")} | ${meetLoop(user)}`;
}
