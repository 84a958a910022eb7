/**
 * Lines to paste into a bash window on a machine that reaches all nodes by ssh, as root or as a user who may
 * use sudo there. Nothing here but what the runbook and the node table say.
 */
import { command } from "../again.ts";
import { Fail, Refused } from "../fail.ts";
import { FEW } from "../plain.ts";
import { programWord } from "../shell-line.ts";
import type { PlanNode } from "./plan-nodes.ts";

export const ROOT = "root";

/**
 * A user name that every system takes: the portable filename characters, not with a hyphen first
 * (POSIX.1-2024, 3.408 "User Name" and 3.265 "Portable Filename Character Set"). So it needs no quotes in any
 * line.
 */
export function isUserName(name: string): boolean {
  return /^[A-Za-z0-9._][A-Za-z0-9._-]*$/.test(name);
}

/** Errors: Refused where that is no name: no line is made of it. */
export function refuseNoUser(name: string) {
  if (isUserName(name)) return;
  throw new Refused(`"${name}" is no name of a user`, {
    hint: `use letters, digits, ".", "_", and "-" but not as the first: ${command("plan --user ubuntu")}`,
  });
}

/** What comes before a program that root runs. It never asks for a password: nobody could answer. */
export function sudo(user: string): string {
  return user === ROOT ? "" : "sudo -n ";
}

/** A command line that root runs there, as one word. */
export function asRoot(user: string, command: string): string {
  if (user === ROOT) return programWord(command);
  return /^[^'"\\$`!]*$/.test(command)
    ? `"sudo -n sh -c '${command}'"`
    : programWord(`sudo -n sh -c ${programWord(command)}`);
}

/** The kit's place on every node. */
export const KIT_PLACE = "/run/kube-pki-repair";

/** The step that has printed a line, and what it means where it prints none; unset: that is a failure. */
interface PrintedBy {
  step: string;
  none?: string | undefined;
  /** Names of nodes where other keys are in the way. */
  aside?: readonly string[];
}

/**
 * What a step printed, put into the next line; it stops where this window does not have it: a new one, or
 * nothing was printed.
 */
const printedBy = ({ step, none }: PrintedBy) =>
  `\${line:?this window has no line of step ${step}: repeat ${step} here${none ? `. If it prints none, ${none}` : ""}}`;

/** ssh says nothing of it. */
const SHOW_CODE = 'echo "exit code $?"';

/** Many nodes have their addresses and names in a file on the operator's machine, a line each. */
const MANY_FILE = "workers";
const AT_ONCE = `cut -d" " -f1 ${MANY_FILE} | xargs -P 20 -I{}`;

/** `at`: the node, in words; unset: the operator's machine. */
export interface Line {
  at?: string;
  text: string;
}

/**
 * ssh, which leaves the rest of what is pasted alone (-n). `user`: who the operator is there; it needs root,
 * or sudo.
 */
export function sshLines(user: string, nodes: readonly PlanNode[], command: string): Line[] {
  const isScript = command.includes("./bunw ");
  return onEach(nodes, (address) => `ssh -n ${user}@${address} ${asRoot(user, inKit(command))}`).map(
    (line) => (isScript ? withCode(line) : line),
  );
}

function withCode({ text, ...at }: Line): Line {
  return { ...at, text: `${text}; ${SHOW_CODE}` };
}

/**
 * A script on several nodes at the same time, in a shell of their own, which prints nothing of its jobs. Each
 * line that comes has its node's name before it.
 */
export function sideBySide(lines: readonly Line[]): Line[] {
  const each = lines.map(({ at, text }) => `{ ${text}; } 2>&1 | sed 's/^/${at}: /' &`);
  return [{ text: ["(", ...each, "wait", ")"].join("\n") }];
}

/** The same, with what the command prints kept for the next step. */
export function keptLine(user: string, { name, address }: PlanNode, command: string): Line {
  return {
    at: name,
    text: `line=$(ssh -n ${user}@${address} ${asRoot(user, inKit(command))}); echo "exit code $?: $line"`,
  };
}

/**
 * ssh with a terminal: the command shows something there, or asks. It is pasted alone: what comes behind it
 * would be its answer.
 */
export function terminalLines(user: string, nodes: readonly PlanNode[], command: string): Line[] {
  return nodes.map(({ name, address }) => ({
    at: name,
    text: `ssh -t ${user}@${address} ${asRoot(user, inKit(command))}`,
  }));
}

/**
 * The line that a step has kept, typed on these nodes: this bash puts it in. A word that is quoted in it has
 * no blanks: an IPv6 address.
 */
export function printedLines(user: string, nodes: readonly PlanNode[], by: PrintedBy): Line[] {
  const line = (address: string, name: string) => {
    const command = `${inKit(printedBy(by), true)}${by.aside?.includes(name) ? " --move-aside" : ""}`;
    return `ssh -n ${user}@${address} "${user === ROOT ? command : `${sudo(user)}sh -c '${command}'`}"`;
  };
  return onEach(nodes, line).map(withCode);
}

/**
 * What unpacks the kit there, and the kit: of RUNBOOK.md's line, `ssh root@NODE '…' < kit.tar.gz`. Errors:
 * Fail where it is another.
 */
export function kitProgram(line: string): { program: string; file: string } {
  const [, program, file] = /^ssh root@NODE '([^']*)' < (\S+)$/.exec(line) ?? [];
  if (!program || !file)
    throw new Fail(`RUNBOOK.md's line for the kit has another form: ${line}`, {
      hint: "unpack the kit again",
    });
  return { program, file };
}

/**
 * The kit on these nodes: RUNBOOK.md's line for one node, on all at the same time. Before that ssh meets each
 * of them: twenty questions about host keys at once nobody can answer.
 */
export function kitLines(user: string, nodes: readonly PlanNode[], line: string): Line[] {
  const { program, file } = kitProgram(line);
  const { few, many } = sizes(nodes);
  const own = few.map(({ name, address }) => ({
    at: name,
    text: `ssh ${user}@${address} "$unpack" < ${file}`,
  }));
  const addresses = few.flatMap(({ address, why }) => (why ? [] : [address]));
  return [
    {
      text: `export unpack=${programWord(user === ROOT ? program : `${sudo(user)}sh -c ${programWord(program)}`)}`,
    },
    ...(own.length > 1 ? [{ text: `for a in ${addresses.join(" ")}; do ${meet(user)}; done` }] : []),
    ...(own.length > 1 ? sideBySide(own) : own),
    ...(many.length > 0
      ? [
          { text: `cut -d" " -f1 ${MANY_FILE} | while read -r a; do ${meet(user)}; done` },
          { at: ALL, text: `${AT_ONCE} sh -c 'ssh ${user}@{} "$unpack" < ${file}'` },
        ]
      : []),
  ];
}

/** A node that is off is not waited for; in seconds. */
export const WITHIN = "-o ConnectTimeout=10";

/** In a loop over $a: ssh asks about the host key of one that it does not know. */
export function meet(user: string): string {
  return `ssh-keygen -F $a > /dev/null 2>&1 || ssh -n ${WITHIN} ${user}@$a true`;
}

/** ssh compares the host key with that of this name, wherever the address leads. */
export function byName(name: string): string {
  return `-o HostKeyAlias=${name}`;
}

/**
 * Before a line for many workers at once, ssh meets each by its name: it asks about the host key of one that it does
 * not know by it, and says by which other names it knows that key.
 */
export function meetByName(user: string, nodes: readonly PlanNode[]): Line[] {
  if (sizes(nodes).many.length === 0) return [];
  const ask = `ssh-keygen -F $n > /dev/null 2>&1 || ssh -n ${WITHIN} ${byName("$n")} ${user}@$a true`;
  return [{ text: `while read -r a n; do ${ask}; done < ${MANY_FILE}` }];
}

/**
 * The file of addresses and names, where there are too many workers for a line each; undefined where there
 * are not.
 */
export function workersFile(nodes: readonly PlanNode[]): Line[] | undefined {
  const { many } = sizes(nodes);
  return many.length > 0
    ? [
        {
          text: `cat > ${MANY_FILE} <<END\n${many.map(({ address, name }) => `${address} ${name}`).join("\n")}\nEND`,
        },
      ]
    : undefined;
}

/**
 * For many: `same` is a command of xargs with {} for the address, `named` one with $0 for the address and $1
 * for the name.
 */
export function onEach(
  nodes: readonly PlanNode[],
  line: (address: string, name: string) => string,
  { same = line("{}", ""), named = "" } = {},
): Line[] {
  const { few, many } = sizes(nodes);
  const all = named ? `xargs -P 20 -n 2 ${named} < ${MANY_FILE}` : `${AT_ONCE} ${same}`;
  return [
    ...few.map(({ name, address }) => ({ at: name, text: line(address, name) })),
    ...(many.length > 0 ? [{ at: ALL, text: all }] : []),
  ];
}

const ALL = "the workers";

/** Workers beyond a handful get one line together; those without a known address are left out there. */
function sizes(nodes: readonly PlanNode[]): { few: PlanNode[]; many: PlanNode[] } {
  const workers = nodes.filter(({ role }) => role === "worker");
  if (workers.length <= FEW) return { few: [...nodes], many: [] };
  return { few: nodes.filter(({ role }) => role !== "worker"), many: workers.filter(({ why }) => !why) };
}

/** The kubelet, the processes and the cluster are everywhere, all else is in the kit's folder. */
function inKit(command: string, always = false): string {
  return always || !/^(systemctl|for p in|kubectl|cd|rm|shred) /.test(command)
    ? `cd ${KIT_PLACE} && ${command}`
    : command;
}
