/**
 * Lines that bring files, with owner and mode, and no copy between: the kit to the nodes, files from node to node or to
 * the operator's machine.
 */
import { basename, dirname } from "node:path";
import { Fail } from "../fail.ts";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { urlHost } from "../pki/addresses.ts";
import { programWord, wordThere } from "../shell-line.ts";
import { ALL, FROM_LIST, fewAndMany, forMany, onEach } from "./many-workers.ts";
import { asRoot, KIT_PLACE, ROOT, sideBySide, sudo } from "./paste.ts";
import { isName, type Line, type PlanNode } from "./plan-node.ts";
import { hostKeyName, meetLine, meetLoop, type Reached, sshWords, toMeet } from "./ssh-to.ts";

/** The halves of RUNBOOK.md's line `ssh root@NODE '…' < kit.tar.gz`. Errors: Fail where it is another. */
export function kitProgram(line: string): { program: string; file: string } {
  const [, program, file] = /^ssh root@NODE '([^']*)' < (\S+)$/.exec(line) ?? [];
  if (program && file) return { program, file };
  throw new Fail(`RUNBOOK.md's line for the kit has another form: ${line}`, { hint: "unpack the kit again" });
}

/**
 * RUNBOOK.md's line, on all at the same time. Before that ssh meets each: twenty questions about host keys at once
 * nobody can answer.
 */
export function kitLines(user: string, nodes: readonly PlanNode[], line: string): Line[] {
  const { program, file } = kitProgram(line);
  const { few, many } = fewAndMany(nodes);
  const unpack = user === ROOT ? program : `${sudo(user)}sh -c ${programWord(program)}`;
  const send = (node: Reached) => `ssh ${sshWords(user, node)} "$unpack" < ${file}`;
  const own = few.map((node) => ({ at: node.name, text: send(node) }));
  const met = few.flatMap((node) => (node.why ? [] : toMeet(node)));
  const lines: Line[] = [{ text: `export unpack=${programWord(unpack)}` }];
  if (own.length > 1) lines.push({ text: meetLine(user, met) }, ...sideBySide(own));
  else lines.push(...own);
  if (many.length > 0)
    lines.push({ text: `${meetLoop(user)} ${FROM_LIST}` }, { at: ALL, text: forMany(send) });
  return lines;
}

/** Whoever has one of these can become a node, or open the bundle of the keys. */
export const isSecret = (files: readonly string[]) =>
  files.some((one) => /(^|\/)(token|passphrase)$/.test(one));

/**
 * `files` of one folder. Another user may not read such a file: root's tar packs and unpacks it. NODE in the path is the
 * name of the node that gets it. A secret goes to the machine that ssh knows by that name, and so does all that goes to a
 * worker: scp would take the name for both ends.
 */
export function carryLines(
  user: string,
  from: PlanNode,
  nodes: readonly PlanNode[],
  files: readonly string[],
): Line[] {
  const [file = "", ...more] = files;
  const inKitsFolder = `${KIT_PLACE}/${more.length > 0 ? `{${files.join(",")}}` : file}`;
  const [path, into] = file.startsWith("/") ? [file, dirname(file)] : [inKitsFolder, KIT_PLACE];
  const names = files.map((one) => basename(one));
  const isByName = isSecret(files);
  const pipe = (to: Reached) =>
    tarPipe(user, { from, to, isByName }, { folder: dirname(path.replace("NODE", to.name)), into, names });
  const scp = ({ address, name }: PlanNode) =>
    `scp -3 -p root@${urlHost(from.address)}:${path.replace("NODE", name)} root@${urlHost(address)}:${into}/`;
  const line = (to: PlanNode) =>
    isByName || user !== ROOT || to.role === "worker" ? `(${pipe(to)})` : scp(to);
  return [...(isByName ? meetByName(user, nodes) : []), ...onEach(nodes, line, forMany(pipe))];
}

/** Before a secret goes, ssh meets each by its name. */
function meetByName(user: string, nodes: readonly PlanNode[]): Line[] {
  const { few, many } = fewAndMany(nodes);
  const lines = few.map(({ address, name }) => `${address} ${hostKeyName(name)}`);
  return [
    ...(few.length > 0 ? [{ text: meetLine(user, lines) }] : []),
    ...(many.length > 0 ? [{ text: `${meetLoop(user)} ${FROM_LIST}` }] : []),
  ];
}

interface Piped {
  folder: string;
  /** Unset: the same folder there. */
  into?: string;
  /** Only these are unpacked, whatever comes. */
  names: readonly string[];
  /** A file that is there already stays. */
  keep?: boolean;
}

/** It fails where either end does. `isByName`: a secret goes there. */
export function tarPipe(
  user: string,
  { from, to, isByName = false }: { from: Reached; to: Reached; isByName?: boolean },
  { folder, into = folder, names, keep = false }: Piped,
): string {
  const tar = (at: string, how: string) =>
    `${sudo(user)}tar -C ${at} ${how} - ${names.map(wordThere).join(" ")}`;
  const receiver = sshWords(user, to, { isByName });
  return `set -o pipefail; ssh -n ${sshWords(user, from)} ${tar(folder, "-cf")} | ssh ${receiver} ${tar(into, `-xp${keep ? "k" : ""}f`)}`;
}

/** Into a file of the kit's folder. */
export function printedInto(
  file: string,
  user: string,
  { from, to }: { from: Reached; to: Reached },
  program: string,
): string {
  const put = asRoot(user, `umask 077; cat > ${KIT_PLACE}/${file}`);
  return `ssh -n ${sshWords(user, from)} ${asRoot(user, program)} | ssh ${sshWords(user, to)} ${put}`;
}

/**
 * Into a new folder of the operator's home, which nobody else can write to: in the folder where the line is pasted, a file
 * of that name may be another user's link. The line prints the path. The folder has another name than root's rescue folder.
 */
export function toOperator(user: string, node: PlanNode, file: string): Line {
  const path = file.startsWith("/") ? file : `${KIT_PLACE}/${file}`;
  const target = `"$d/${basename(path)}"`;
  const bring =
    user === ROOT
      ? `scp -p root@${urlHost(node.address)}:${path} ${target}`
      : `ssh -n ${sshWords(user, node)} ${sudo(user)}cat ${path} > ${target}`;
  const folder = `$(mktemp -d ~/from-${hostKeyName(node.name)}-XXXXXX)`;
  return { at: node.name, text: `(set -C; d=${folder} && ${bring} && echo ${target})` };
}

/** Each under its node's name: a node is believed by the file that it came in. */
export function gatherLines(user: string, to: PlanNode, nodes: readonly PlanNode[], folder: string): Line[] {
  const pipe = (from: Reached) => {
    const put = `cd ${KIT_PLACE} && mkdir -p -m 700 ${folder} && cat > ${folder}/${from.name}.tar`;
    const there = user === ROOT ? put : `${sudo(user)}sh -c '${put}'`;
    return `set -o pipefail; ssh -n ${sshWords(user, from)} ${asRoot(user, PACK_RUNS)} | ssh ${sshWords(user, to)} "${there}"`;
  };
  const named = nodes.filter(({ name }) => isName(name));
  return onEach(named, (from) => `(${pipe(from)})`, forMany(pipe));
}
