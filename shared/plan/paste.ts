/**
 * Lines to paste into a bash window on a machine that reaches all nodes by ssh, as root or as a user with sudo. They hold
 * only what the runbook and the node table say.
 */
import { command } from "../again.ts";
import { Refused } from "../fail.ts";
import { listed } from "../plain.ts";
import { programWord, shell } from "../shell-line.ts";
import { fewAndMany, forMany, onEach } from "./many-workers.ts";
import type { Line, PlanNode } from "./plan-node.ts";
import { IN_LOOP, type Reached, sshWords, toMeet } from "./ssh-to.ts";

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

/** ssh itself shows no exit code. */
function withCode({ text, ...at }: Line): Line {
  return { ...at, text: `${text}; echo "exit code $?"` };
}

/**
 * ssh, which leaves the rest of what is pasted alone (-n). `user`: who the operator is there; it needs root, or sudo. A
 * script's exit code is each node's; what has none is one line for all.
 */
export function sshLines(user: string, nodes: readonly PlanNode[], command: string): Line[] {
  const word = asRoot(user, inKit(command));
  const line = (node: Reached) => `ssh -n ${sshWords(user, node)} ${word}`;
  const many = forMany((node) => `ssh -n ${sshWords(user, node)} "$0"`, word);
  const all = onEach(nodes, line, many);
  if (command.includes("./bunw ")) return all.map(withCode);
  const { few } = fewAndMany(nodes);
  const isWorker = ({ role }: PlanNode) => role === "worker";
  const [workers, others] = [few.filter(isWorker), few.filter((node) => !isWorker(node))];
  return [...inLoop(others, line), ...inLoop(workers, line), ...all.slice(few.length)];
}

/** All of them are workers, or none is. */
function inLoop(nodes: readonly PlanNode[], line: (node: Reached) => string): Line[] {
  if (nodes.length < 2) return nodes.map((node) => ({ at: node.name, text: line(node) }));
  const at = listed(nodes.map(({ name }) => name));
  const { role } = nodes[0]!;
  const words = nodes.map((node) => (role === "worker" ? `"${toMeet(node)}"` : node.address)).join(" ");
  const each = `do ${line({ ...IN_LOOP, role })}; done`;
  if (role !== "worker") return [{ at, text: `for a in ${words}; ${each}` }];
  return [{ at, text: `printf "%s\\n" ${words} | while read -r a n; ${each}` }];
}

/** Each line whole, with a node's name before it: `sed` writes pieces to a pipe. */
export function withName(name: string): string {
  return `while IFS= read -r l || [ "$l" ]; do printf "%s: %s\\n" ${name} "$l"; done`;
}

/** Ctrl-C ends the lines here; a script that has begun on a node runs on there to its end. */
const ON_CTRL_C = `trap 'for j in $(jobs -p); do kill -- -$j; done; echo "stopped here; what has begun on a node runs on there"; exit 130' INT`;

/**
 * In a shell of their own, which prints nothing of its jobs. Each line that comes has its node's name before it. With job
 * control (set -m) each line is a process group of its own: without it a shell lets what runs in the background ignore
 * Ctrl-C (POSIX.1-2024, 2.12 "Signals and Error Handling").
 */
export function sideBySide(lines: readonly Line[]): Line[] {
  const each = lines.map(({ at, text }) => `{ ${text}; } 2>&1 | as ${shell`${at!}`} &`);
  return [
    { text: ["(", `as() { ${withName('"$1"')}; }`, "set -m", ON_CTRL_C, ...each, "wait", ")"].join("\n") },
  ];
}

export function keptLine(user: string, node: PlanNode, command: string): Line {
  const text = `line=$(ssh -n ${sshWords(user, node)} ${asRoot(user, inKit(command))}); echo "exit code $?: $line"`;
  return { at: node.name, text };
}

/** The command shows something, or asks. It is pasted alone: what comes behind would be its answer. */
export function terminalLines(user: string, nodes: readonly PlanNode[], command: string): Line[] {
  const text = (node: PlanNode) => `ssh -t ${sshWords(user, node)} ${asRoot(user, inKit(command))}`;
  return nodes.map((node) => ({ at: node.name, text: text(node) }));
}

interface PrintedBy {
  step: string;
  /** That step, and those that carry what it makes. */
  repeat?: string;
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
  const repeat = `repeat ${by.repeat ?? step} here${none ? `. If it prints none, ${none}` : ""}`;
  const kept = `cd ${KIT_PLACE} && \${line:?this window has no line of step ${step}: ${repeat}}`;
  const wordFor = (name: string) => {
    const command = `${kept}${aside.includes(name) ? " --move-aside" : ""}`;
    return `"${user === ROOT ? command : `${sudo(user)}sh -c '${command}'`}"`;
  };
  const line = (node: Reached) => `ssh -n ${sshWords(user, node)} ${wordFor(node.name)}`;
  const many = forMany((node) => `ssh -n ${sshWords(user, node)} "$0"`, wordFor(""));
  return onEach(nodes, line, many).map(withCode);
}
