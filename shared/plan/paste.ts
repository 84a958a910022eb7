/**
 * Lines to paste into a bash window on a machine that reaches all nodes by ssh, as root or as a user who may use sudo there. Nothing here but
 * what the runbook and the node table say.
 */
import { basename, dirname } from "node:path";
import { command } from "../again.ts";
import { Fail, Refused } from "../fail.ts";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { FEW } from "../plain.ts";
import { forScp, programWord } from "../shell-line.ts";
import { isName, type PlanNode } from "./plan-nodes.ts";

export const ROOT = "root";

/**
 * A user name that every system takes: the portable filename characters, not with a hyphen first (POSIX.1-2024, 3.408 "User Name" and 3.265
 * "Portable Filename Character Set"). So it needs no quotes in any line.
 */
export function isUserName(name: string): boolean {
  return /^[A-Za-z0-9._][A-Za-z0-9._-]*$/.test(name);
}

/** Errors: Refused where that is no name: no line is made of it. */
export function refuseNoUser(name: string) {
  if (isUserName(name)) return;
  throw new Refused(`"${name}" is no name of a user`, {
    hint: `letters, digits, ".", "_" and "-", which is not the first: ${command("plan --user ubuntu")}`,
  });
}

/** What comes before a program that root runs. It never asks for a password: nobody could answer. */
export function sudo(user: string): string {
  return user === ROOT ? "" : "sudo -n ";
}

/** A command line that root runs there, as one word. */
export function asRoot(user: string, command: string): string {
  if (user === ROOT) return programWord(command);
  return /^[^'"\\$`!]*$/.test(command) ? `"sudo -n sh -c '${command}'"` : programWord(`sudo -n sh -c ${programWord(command)}`);
}

/** The kit's place on every node. */
const KIT_PLACE = "/run/kube-pki-repair";

/** What an earlier line printed, put into the next one; it stops where nothing was printed. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: it is bash's
const PRINTED = "${line:?nothing was printed: there is nothing to do in this step}";

/** Many nodes have their addresses and names in a file on the operator's machine, a line each. */
const MANY_FILE = "workers";
const AT_ONCE = `cut -d" " -f1 ${MANY_FILE} | xargs -P 20 -I{}`;

/** `at`: the node, in words; unset: the operator's machine. */
export interface Line {
  at?: string;
  text: string;
}

/** ssh, which leaves the rest of what is pasted alone (-n). `user`: who the operator is there; it needs root, or sudo. */
export function sshLines(user: string, nodes: readonly PlanNode[], command: string): Line[] {
  return onEach(nodes, (address) => `ssh -n ${user}@${address} ${asRoot(user, inKit(command))}`);
}

/** The same, with what the command prints kept for the next step. */
export function keptLine(user: string, { name, address }: PlanNode, command: string): Line {
  return { at: name, text: `line=$(ssh -n ${user}@${address} ${asRoot(user, inKit(command))})` };
}

/** ssh with a terminal: the command shows something there, or asks. It is pasted alone: what comes behind it would be its answer. */
export function terminalLines(user: string, nodes: readonly PlanNode[], command: string): Line[] {
  return nodes.map(({ name, address }) => ({ at: name, text: `ssh -t ${user}@${address} ${asRoot(user, inKit(command))}` }));
}

/** A file of this node, to the operator's machine. */
export function toOperator(user: string, { name, address }: PlanNode, file: string): Line {
  const path = file.startsWith("/") ? file : `${KIT_PLACE}/${file}`;
  const text =
    user === ROOT ? `scp -p root@${forScp(address)}:${path} .` : `ssh -n ${user}@${address} ${sudo(user)}cat ${path} > ${basename(path)}`;
  return { at: name, text };
}

/** The transcripts of these nodes, to one, each under its node's name: a node is believed by the file that it came in. */
export function gatherLines(user: string, to: PlanNode, nodes: readonly PlanNode[], folder: string): Line[] {
  const put = (name: string) => `cd ${KIT_PLACE} && mkdir -p -m 700 ${folder} && cat > ${folder}/${name}.tar`;
  const there = (name: string) => (user === ROOT ? `"${put(name)}"` : `"${sudo(user)}sh -c '${put(name)}'"`);
  const pipe = (address: string, name: string) =>
    `set -o pipefail; ssh -n ${user}@${address} ${asRoot(user, PACK_RUNS)} | ssh ${user}@${to.address} ${there(name)}`;
  const named = nodes.filter(({ name }) => isName(name));
  return onEach(named, (address, name) => `(${pipe(address, name)})`, { named: `bash -c ${programWord(pipe("$0", "$1"))}` });
}

/** The line that was kept, typed on these nodes: this bash puts it in. A word that is quoted in it has no blanks: an IPv6 address. */
export function printedLines(user: string, nodes: readonly PlanNode[]): Line[] {
  const command = inKit(PRINTED, true);
  return onEach(nodes, (address) => `ssh -n ${user}@${address} "${user === ROOT ? command : `${sudo(user)}sh -c '${command}'`}"`);
}

/**
 * With owner and mode. Another user may not read such a file: root's tar packs and unpacks it, and no copy lies anywhere between. NODE in the
 * path is the name of the node that gets it: each has a file of its own.
 */
export function carryLines(user: string, from: PlanNode, nodes: readonly PlanNode[], file: string): Line[] {
  const path = file.startsWith("/") ? file : `${KIT_PLACE}/${file}`;
  const into = file.startsWith("/") ? dirname(path) : KIT_PLACE;
  const own = (name: string) => path.replace("NODE", name);
  const scp = (address: string, name: string) => `scp -3 -p root@${forScp(from.address)}:${own(name)} root@${forScp(address)}:${into}/`;
  const pipe = (address: string, name: string) =>
    tarPipe(user, { from: from.address, to: address }, { folder: dirname(own(name)), into, names: basename(path) });
  const line = user === ROOT ? scp : (address: string, name: string) => `(${pipe(address, name)})`;
  const program = user === ROOT ? scp : pipe;
  if (path !== own("")) return onEach(nodes, line, { named: `bash -c ${programWord(program("$0", "$1"))}` });
  return onEach(nodes, line, { same: user === ROOT ? scp("{}", "") : `bash -c ${programWord(pipe("{}", ""))}` });
}

/** It fails where either end does. `into`: unset, the same folder there. `keep`: what is there already stays. */
export function tarPipe(
  user: string,
  { from, to }: { from: string; to: string },
  { folder, into = folder, names, keep = false }: { folder: string; into?: string; names: string; keep?: boolean },
): string {
  const tar = (at: string) => `${sudo(user)}tar -C ${at}`;
  return `set -o pipefail; ssh -n ${user}@${from} ${tar(folder)} -cf - ${names} | ssh ${user}@${to} ${tar(into)} -xp${keep ? "k" : ""}f -`;
}

/** The kit on these nodes: RUNBOOK.md's line for one node, `ssh root@NODE '…' < kit.tar.gz`. Errors: Fail where it is another. */
export function kitLines(user: string, nodes: readonly PlanNode[], line: string): Line[] {
  const [, program, file] = /^ssh root@NODE ('[^']*') < (\S+)$/.exec(line) ?? [];
  if (!program) throw new Fail(`RUNBOOK.md's line for the kit has another form: ${line}`, { hint: "unpack the kit again" });
  const { few, many } = sizes(nodes);
  return [
    { text: `export unpack=${user === ROOT ? program : programWord(`${sudo(user)}sh -c ${program}`)}` },
    ...few.map(({ name, address }) => ({ at: name, text: `ssh ${user}@${address} "$unpack" < ${file}` })),
    ...(many.length > 0 ? [{ at: ALL, text: `${AT_ONCE} sh -c 'ssh ${user}@{} "$unpack" < ${file}'` }] : []),
  ];
}

/** The file of addresses and names, where there are too many workers for a line each; undefined where there are not. */
export function workersFile(nodes: readonly PlanNode[]): Line[] | undefined {
  const { many } = sizes(nodes);
  return many.length > 0
    ? [{ text: `cat > ${MANY_FILE} <<END\n${many.map(({ address, name }) => `${address} ${name}`).join("\n")}\nEND` }]
    : undefined;
}

/** For many: `same` is a command of xargs with {} for the address, `named` one with $0 for the address and $1 for the name. */
function onEach(
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
  return always || !/^(systemctl|for p in|kubectl|cd|rm|shred) /.test(command) ? `cd ${KIT_PLACE} && ${command}` : command;
}
