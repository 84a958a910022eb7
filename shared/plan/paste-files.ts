/**
 * Lines that bring files, with owner and mode, and no copy between: the kit to the nodes, files from node to node or to
 * the operator's machine.
 */
import { basename, dirname } from "node:path";
import { Fail } from "../fail.ts";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { urlHost } from "../pki/addresses.ts";
import { programWord, wordThere } from "../shell-line.ts";
import {
  ALL,
  AT_ONCE,
  asRoot,
  fewAndMany,
  isName,
  KIT_PLACE,
  type Line,
  type LineFor,
  MANY_FILE,
  meetLine,
  onEach,
  type PlanNode,
  ROOT,
  sideBySide,
  sudo,
  WITHIN,
} from "./paste.ts";

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
  const send = (address: string) => `ssh ${user}@${address} "$unpack" < ${file}`;
  const own = few.map(({ name, address }) => ({ at: name, text: send(address) }));
  const addresses = few.flatMap(({ address, why }) => (why ? [] : [address]));
  const lines: Line[] = [{ text: `export unpack=${programWord(unpack)}` }];
  if (own.length > 1)
    lines.push({ text: `for a in ${addresses.join(" ")}; do ${meetLine(user)}; done` }, ...sideBySide(own));
  else lines.push(...own);
  if (many.length > 0)
    lines.push(
      { text: `cut -d" " -f1 ${MANY_FILE} | while read -r a; do ${meetLine(user)}; done` },
      { at: ALL, text: `${AT_ONCE} sh -c '${send("{}")}'` },
    );
  return lines;
}

/** Where the line has the node's name, $0 is the address, $1 the name. */
function lineForMany(program: LineFor): string {
  return `xargs -P 20 -n 2 bash -c ${programWord(program("$0", "$1"))} < ${MANY_FILE}`;
}

/** ssh compares the host key with that of this name, wherever the address leads (HostKeyAlias in ssh_config(5)). */
function hostKeyOption(name: string): string {
  return `-o HostKeyAlias=${name}`;
}

/** Whoever has one of these can become a node, or open the bundle of the keys. */
export const isSecret = (files: readonly string[]) =>
  files.some((one) => /(^|\/)(token|passphrase)$/.test(one));

/**
 * `files` of one folder. Another user may not read such a file: root's tar packs and unpacks it. NODE in the path is the
 * name of the node that gets it. A secret goes to the machine that ssh knows by that name: a worker's address is only its
 * own claim. scp would take the name for both ends.
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
  const secret = isSecret(files);
  const isPiped = secret || user !== ROOT;
  const program = (address: string, name: string) => {
    const own = path.replace("NODE", name);
    if (!isPiped) return `scp -3 -p root@${urlHost(from.address)}:${own} root@${urlHost(address)}:${into}/`;
    const ends = { from: from.address, to: address, ...(secret && { called: name.replace(" ", "-") }) };
    return tarPipe(user, ends, { folder: dirname(own), into, names });
  };
  const line = isPiped ? (...one: Parameters<LineFor>) => `(${program(...one)})` : program;
  if (secret) return [...meetByName(user, nodes), ...onEach(nodes, line, lineForMany(program))];
  const same = isPiped ? `bash -c ${programWord(program("{}", ""))}` : program("{}", "");
  return onEach(nodes, line, `${AT_ONCE} ${same}`);
}

/**
 * Before a secret goes, ssh meets each by its name: it asks about the host key of one that it does not know by it, also if
 * it is told never to ask, and says by which other names, or address, it knows that key.
 */
function meetByName(user: string, nodes: readonly PlanNode[]): Line[] {
  const { few, many } = fewAndMany(nodes);
  const ask = `ssh-keygen -F $n > /dev/null 2>&1 || ssh -n ${WITHIN} -o StrictHostKeyChecking=ask ${hostKeyOption("$n")} ${user}@$a true`;
  const loop = `while read -r a n; do ${ask}; done`;
  const pairs = few.map(({ address, name }) => `${address} ${name.replace(" ", "-")}`).join(" ");
  return [
    ...(few.length > 0 ? [{ text: `printf "%s %s\\n" ${pairs} | ${loop}` }] : []),
    ...(many.length > 0 ? [{ text: `${loop} < ${MANY_FILE}` }] : []),
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

/** It fails where either end does. `called`: the name by which ssh knows the machine that gets it. */
export function tarPipe(
  user: string,
  { from, to, called }: { from: string; to: string; called?: string },
  { folder, into = folder, names, keep = false }: Piped,
): string {
  const tar = (at: string, how: string) =>
    `${sudo(user)}tar -C ${at} ${how} - ${names.map(wordThere).join(" ")}`;
  const receiver = `${called ? `${hostKeyOption(called)} ` : ""}${user}@${to}`;
  return `set -o pipefail; ssh -n ${user}@${from} ${tar(folder, "-cf")} | ssh ${receiver} ${tar(into, `-xp${keep ? "k" : ""}f`)}`;
}

/** Into a file of the kit's folder. */
export function printedInto(
  file: string,
  user: string,
  { from, to }: { from: string; to: string },
  program: string,
): string {
  const put = asRoot(user, `umask 077; cat > ${KIT_PLACE}/${file}`);
  return `ssh -n ${user}@${from} ${asRoot(user, program)} | ssh ${user}@${to} ${put}`;
}

export function toOperator(user: string, { name, address }: PlanNode, file: string): Line {
  const path = file.startsWith("/") ? file : `${KIT_PLACE}/${file}`;
  const text =
    user === ROOT
      ? `scp -p root@${urlHost(address)}:${path} .`
      : `ssh -n ${user}@${address} ${sudo(user)}cat ${path} > ${basename(path)}`;
  return { at: name, text };
}

/** Each under its node's name: a node is believed by the file that it came in. */
export function gatherLines(user: string, to: PlanNode, nodes: readonly PlanNode[], folder: string): Line[] {
  const pipe = (address: string, name: string) => {
    const put = `cd ${KIT_PLACE} && mkdir -p -m 700 ${folder} && cat > ${folder}/${name}.tar`;
    const there = user === ROOT ? put : `${sudo(user)}sh -c '${put}'`;
    return `set -o pipefail; ssh -n ${user}@${address} ${asRoot(user, PACK_RUNS)} | ssh ${user}@${to.address} "${there}"`;
  };
  const named = nodes.filter(({ name }) => isName(name));
  return onEach(named, (...one) => `(${pipe(...one)})`, lineForMany(pipe));
}
