/** Lines to paste into a bash window on a machine that reaches all nodes by ssh. Nothing here but what the runbook and the node table say. */
import { isIPv6 } from "node:net";
import { Fail } from "../fail.ts";
import { FEW } from "../plain.ts";
import type { PlanNode } from "./plan-nodes.ts";

/** The kit's place on every node. */
const KIT_PLACE = "/run/kube-pki-repair";

/** What an earlier line printed, put into the next one; it stops where nothing was printed. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: it is bash's
const PRINTED = "${line:?nothing was printed: there is nothing to do in this step}";

/** Many nodes have their addresses in a file on the operator's machine. */
const MANY_FILE = "workers";
const AT_ONCE = `xargs -P 20 -I{}`;

/** `at`: the node, in words; unset: the operator's machine. */
export interface Line {
  at?: string;
  text: string;
}

/** ssh, which leaves the rest of what is pasted alone (-n). */
export function sshLines(nodes: readonly PlanNode[], command: string): Line[] {
  return onEach(nodes, (address) => `ssh -n root@${address} ${quoted(inKit(command))}`);
}

/** The same, with what the command prints kept for the next step. */
export function keptLine({ name, address }: PlanNode, command: string): Line {
  return { at: name, text: `line=$(ssh -n root@${address} ${quoted(inKit(command))})` };
}

/** The line that was kept, typed on these nodes. */
export function printedLines(nodes: readonly PlanNode[]): Line[] {
  return onEach(nodes, (address) => `ssh -n root@${address} "${inKit(PRINTED, true)}"`);
}

export function scpLines(from: PlanNode, nodes: readonly PlanNode[], file: string): Line[] {
  const [path, folder] = file.startsWith("/") ? [file, file.slice(0, file.lastIndexOf("/"))] : [`${KIT_PLACE}/${file}`, KIT_PLACE];
  return onEach(nodes, (address) => `scp -3 -p root@${forScp(from.address)}:${path} root@${forScp(address)}:${folder}/`);
}

/** The kit on these nodes: RUNBOOK.md's line for one node, `ssh root@NODE '…' < kit.tar.gz`. Errors: Fail where it is another. */
export function kitLines(nodes: readonly PlanNode[], line: string): Line[] {
  const [, program, file] = /^ssh root@NODE ('[^']*') < (\S+)$/.exec(line) ?? [];
  if (!program) throw new Fail(`RUNBOOK.md's line for the kit has another form: ${line}`, { hint: "unpack the kit again" });
  const { few, many } = sizes(nodes);
  return [
    { text: `export unpack=${program}` },
    ...few.map(({ name, address }) => ({ at: name, text: `ssh root@${address} "$unpack" < ${file}` })),
    ...(many.length > 0 ? [{ at: ALL, text: `${AT_ONCE} sh -c 'ssh root@{} "$unpack" < ${file}' < ${MANY_FILE}` }] : []),
  ];
}

/** The file of addresses, where there are too many workers for a line each; undefined where there are not. */
export function workersFile(nodes: readonly PlanNode[]): Line[] | undefined {
  const { many } = sizes(nodes);
  return many.length > 0 ? [{ text: `cat > ${MANY_FILE} <<END\n${many.map(({ address }) => address).join("\n")}\nEND` }] : undefined;
}

function onEach(nodes: readonly PlanNode[], line: (address: string) => string): Line[] {
  const { few, many } = sizes(nodes);
  return [
    ...few.map(({ name, address }) => ({ at: name, text: line(address) })),
    ...(many.length > 0 ? [{ at: ALL, text: `${AT_ONCE} ${line("{}")} < ${MANY_FILE}` }] : []),
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
  return always || !/^(systemctl|pkill|kubectl) /.test(command) ? `cd ${KIT_PLACE} && ${command}` : command;
}

/** One word for bash. */
function quoted(command: string): string {
  return `'${command.replaceAll("'", `'\\''`)}'`;
}

function forScp(address: string): string {
  return isIPv6(address) ? `[${address}]` : address;
}
