/**
 * Lines to paste into a bash window on a machine that reaches all nodes by ssh, as root or as a user with sudo, and the
 * nodes with their addresses. They hold only what the runbook and the node table say. A Node's status is written by its
 * own kubelet: only what is an address, and nobody else's, gets into a line; else a placeholder, with the reason.
 */
import { command } from "../again.ts";
import type { KnownNode } from "../facts/known-nodes.ts";
import { Refused } from "../fail.ts";
import { isDnsName } from "../pki/addresses.ts";
import { FEW, listed } from "../plain.ts";
import { programWord, shell } from "../shell-line.ts";
import { addressToType, identitiesOf } from "../workers/identities.ts";
import type { Place } from "./runbook.ts";

export interface PlanNode {
  /** A DNS name, or "node 3". */
  name: string;
  role: "first control plane node" | "control plane node" | "worker";
  /** ssh gets it: an IP address, or a placeholder such as ADDRESS-OF-w1. */
  address: string;
  /** Why it is a placeholder. */
  why?: string;
}

/** All nodes but those of `without`: this one (`here`) first, then the other control plane nodes, then the workers. */
export function planNodes(
  from: Parameters<typeof identitiesOf>[0],
  { here, without }: { here: string; without: readonly string[] },
): PlanNode[] {
  const known = identitiesOf(from);
  const rank = (node: KnownNode) => (node.name === here ? 0 : node.controlPlane ? 1 : 2);
  return from.cluster.nodes
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

export const ROOT = "root";

/**
 * A user name that every system takes (POSIX.1-2024, 3.408 "User Name", 3.265 "Portable Filename Character Set"): it needs
 * no quotes in any line.
 */
export function isUserName(name: string): boolean {
  return /^[A-Za-z0-9._][A-Za-z0-9._-]*$/.test(name);
}

/** Errors: Refused: no line is made of it. */
export function requireUserName(name: string) {
  if (isUserName(name)) return;
  throw new Refused(`"${name}" is no name of a user`, {
    hint: `use letters, digits, ".", "_", and "-" but not as the first: ${command("plan --user ubuntu")}`,
  });
}

/** It never asks for a password: nobody could answer. */
export function sudo(user: string): string {
  return user === ROOT ? "" : "sudo -n ";
}

/** As one word. */
export function asRoot(user: string, command: string): string {
  if (user === ROOT) return programWord(command);
  return /^[^'"\\$`!]*$/.test(command)
    ? `"sudo -n sh -c '${command}'"`
    : programWord(`sudo -n sh -c ${programWord(command)}`);
}

export const KIT_PLACE = "/run/kube-pki-repair";

/** The kubelet, the processes and the cluster are everywhere, all else is in the kit's folder. */
function inKit(command: string): string {
  return /^(systemctl|for p in|kubectl|cd|rm|shred) /.test(command)
    ? command
    : `cd ${KIT_PLACE} && ${command}`;
}

/** `at`: the node, in words; unset: the operator's machine. */
export interface Line {
  at?: string;
  text: string;
}

/** ssh itself shows no exit code. */
function withCode({ text, ...at }: Line): Line {
  return { ...at, text: `${text}; echo "exit code $?"` };
}

/**
 * ssh, which leaves the rest of what is pasted alone (-n). `user`: who the operator is there; it needs root, or sudo. A
 * script's exit code is each node's; what has none is one line for all.
 */
export function sshLines(user: string, nodes: readonly PlanNode[], command: string): Line[] {
  const line = (address: string) => `ssh -n ${user}@${address} ${asRoot(user, inKit(command))}`;
  if (command.includes("./bunw ")) return onEach(nodes, line).map(withCode);
  const { few } = fewAndMany(nodes);
  const all = onEach(nodes, line);
  if (few.length < 2) return all;
  const addresses = few.map(({ address }) => address).join(" ");
  const at = listed(few.map(({ name }) => name));
  return [{ at, text: `for a in ${addresses}; do ${line("$a")}; done` }, ...all.slice(few.length)];
}

/** Each line whole, with a node's name before it: `sed` writes pieces to a pipe. */
export function withName(name: string): string {
  return `while IFS= read -r l || [ "$l" ]; do printf "%s: %s\\n" ${name} "$l"; done`;
}

/** In a shell of their own, which prints nothing of its jobs. Each line that comes has its node's name before it. */
export function sideBySide(lines: readonly Line[]): Line[] {
  const each = lines.map(({ at, text }) => `{ ${text}; } 2>&1 | as ${shell`${at!}`} &`);
  return [{ text: ["(", `as() { ${withName('"$1"')}; }`, ...each, "wait", ")"].join("\n") }];
}

export function keptLine(user: string, { name, address }: PlanNode, command: string): Line {
  const text = `line=$(ssh -n ${user}@${address} ${asRoot(user, inKit(command))}); echo "exit code $?: $line"`;
  return { at: name, text };
}

/** The command shows something, or asks. It is pasted alone: what comes behind would be its answer. */
export function terminalLines(user: string, nodes: readonly PlanNode[], command: string): Line[] {
  const text = (address: string) => `ssh -t ${user}@${address} ${asRoot(user, inKit(command))}`;
  return nodes.map(({ name, address }) => ({ at: name, text: text(address) }));
}

interface PrintedBy {
  step: string;
  /** Its meaning if none is printed; unset: a failure. */
  none?: string | undefined;
  aside?: readonly string[];
}

/**
 * The line that a step has kept, typed on these nodes: this bash puts it in, and stops if this window does not have it. A
 * word that is quoted in the line has no blanks: an IPv6 address.
 */
export function printedLines(user: string, nodes: readonly PlanNode[], by: PrintedBy): Line[] {
  const { step, none, aside = [] } = by;
  const repeat = `repeat ${step} here${none ? `. If it prints none, ${none}` : ""}`;
  const kept = `cd ${KIT_PLACE} && \${line:?this window has no line of step ${step}: ${repeat}}`;
  const line = (address: string, name: string) => {
    const command = `${kept}${aside.includes(name) ? " --move-aside" : ""}`;
    return `ssh -n ${user}@${address} "${user === ROOT ? command : `${sudo(user)}sh -c '${command}'`}"`;
  };
  return onEach(nodes, line).map(withCode);
}

/** Seconds, for a node that is off. */
export const WITHIN = "-o ConnectTimeout=10";

/** In a loop over $a: ssh asks about a host key that it does not know. */
export function meetLine(user: string): string {
  return `ssh-keygen -F $a > /dev/null 2>&1 || ssh -n ${WITHIN} ${user}@$a true`;
}

/** On the operator's machine: addresses and names, a line each. */
export const MANY_FILE = "workers";
export const AT_ONCE = `cut -d" " -f1 ${MANY_FILE} | xargs -P 20 -I{}`;
export const ALL = "the workers";

/** Workers beyond a handful get one line together; without those whose address is unknown. */
export function fewAndMany(nodes: readonly PlanNode[]): { few: PlanNode[]; many: PlanNode[] } {
  const workers = nodes.filter(({ role }) => role === "worker");
  if (workers.length <= FEW) return { few: [...nodes], many: [] };
  return { few: nodes.filter(({ role }) => role !== "worker"), many: workers.filter(({ why }) => !why) };
}

/** Undefined: each gets a line of its own. */
export function workersFile(nodes: readonly PlanNode[]): Line[] | undefined {
  const lines = fewAndMany(nodes).many.map(({ address, name }) => `${address} ${name}`);
  return lines.length > 0 ? [{ text: `cat > ${MANY_FILE} <<END\n${lines.join("\n")}\nEND` }] : undefined;
}

export type LineFor = (address: string, name: string) => string;

/** `together`: for many workers; unset: it needs no name. */
export function onEach(
  nodes: readonly PlanNode[],
  line: LineFor,
  together = `${AT_ONCE} ${line("{}", "")}`,
): Line[] {
  const { few, many } = fewAndMany(nodes);
  const own: Line[] = few.map(({ name, address }) => ({ at: name, text: line(address, name) }));
  return many.length > 0 ? [...own, { at: ALL, text: together }] : own;
}
