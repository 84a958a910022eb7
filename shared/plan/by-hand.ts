/**
 * Acts as lines that a person types: in a root shell of the named node, in the kit's folder, or on his own machine. What is
 * carried goes through a pipe of two ssh: no copy of it is ever on his disk.
 */

import { basename, dirname } from "node:path";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { urlHost } from "../pki/addresses.ts";
import { listed, plainLine } from "../plain.ts";
import { shell, wordThere } from "../shell-line.ts";
import { type Act, actsOn, type Carry } from "./act.ts";
import { KIT_PLACE } from "./kit-place.ts";
import { kitProgram } from "./kit-program.ts";
import { asRoot, ROOT } from "./login.ts";
import { isName, type PlanNode } from "./plan-node.ts";
import type { Reached } from "./reached.ts";

/** `at`: the nodes, in words, or the operator's machine; unset: on the node that has printed it. */
export interface Line {
  at?: string;
  text: string;
}

export const YOUR_MACHINE = "your machine";

export interface ByHand {
  /** Undefined if nothing proves the node's address. */
  reach: (name: string) => Reached | undefined;
  /** The line that the step of this number has printed. */
  printed?: (step: string) => string | undefined;
  /** The line that brings the kit to one NODE, as root. */
  kitLine?: string | undefined;
}

/** Lines for so many nodes. */
const MOST = 10;

/** The commands of an act; names with special characters add no further line. `on`: only these nodes of the act. */
export function linesOfAct(act: Act, hands: ByHand, on: readonly string[] = actsOn(act)): Line[] {
  const all = lines(act, hands, on);
  // the program that unpacks the kit has several lines of its own
  return act.do === "kit" ? all : all.map((line) => ({ ...line, text: plainLine(line.text) }));
}

function lines(act: Act, hands: ByHand, on: readonly string[]): Line[] {
  if (on.length === 0) return [];
  switch (act.do) {
    case "type":
      return [{ at: listed(on), text: act.command }];
    case "type-printed": {
      const line = hands.printed?.(act.keptBy) ?? `# the line that step ${act.keptBy} has printed`;
      const aside = act.moveAside.filter((name) => on.includes(name));
      const more = aside.length > 0 ? `   # on ${listed(aside)} with --move-aside` : "";
      return [{ at: listed(on), text: `${line}${more}` }];
    }
    case "kit":
      return kitLines(hands, on);
    case "fetch":
      return [{ at: YOUR_MACHINE, text: fetchLine(hands.reach(act.from), act.file) }];
    case "carry":
      return each(hands, on, (to, from) => carryLine(act, from, to), act.from);
    case "gather":
      return each(
        hands,
        on,
        (from, to) => `${FAILS_WITH_BOTH}${printedInto(`${act.into}/${from.name}.tar`, from, to, PACK_RUNS)}`,
        act.to,
      );
  }
}

/** `other`: the node at the other end of each line. */
function each(
  { reach }: ByHand,
  on: readonly string[],
  line: (node: Reached, other: Reached) => string,
  other: string,
): Line[] {
  const end = reach(other);
  if (!end) return [];
  return onYourMachine(on, (name) => {
    const node = reach(name);
    return node ? line(node, end) : `# ${name}: nothing proves its address`;
  });
}

/** A line for each of these nodes, up to ten: a fleet is no work for hands. */
export function onYourMachine(names: readonly string[], line: (name: string) => string): Line[] {
  const more = names.slice(MOST);
  const texts = names.slice(0, MOST).map(line);
  if (more.length > 0) texts.push(`# and in the same way for ${listed(more)}`);
  return texts.map((text) => ({ at: YOUR_MACHINE, text }));
}

/** Says for each node of a plan how the printed commands reach it. */
export function reachIn(nodes: readonly PlanNode[], user: string): ByHand["reach"] {
  return (name) => {
    const node = nodes.find((one) => one.name === name);
    return node && reachedAs(node, user);
  };
}

/** A worker's address is what its own kubelet says: by its name ssh finds out which machine it is. */
export function reachedAs({ name, address, role }: PlanNode, user: string): Reached {
  return { name, address, user, kit: KIT_PLACE, ...(role === "worker" && isName(name) && { alias: name }) };
}

function keyOf(alias: string | undefined): string {
  return alias ? shell`-o ${`HostKeyAlias=${alias}`} ` : "";
}

/** A name decides which machine it is, wherever the address leads. */
function sshTo({ user, address, alias, isHere }: Reached, command: string, options = ""): string {
  if (isHere) return command;
  return `ssh ${options}${keyOf(alias)}${shell`${`${user}@${address}`}`} ${asRoot(user, command)}`;
}

/** It reads nothing (-n): the next line that is pasted is not its input. */
const outOf = (from: Reached, command: string) => sshTo(from, command, "-n ");

/** bash, zsh, ksh and POSIX of 2024: a pipe fails where either half fails. A cut archive may unpack without a word. */
const FAILS_WITH_BOTH = "set -o pipefail; ";

function piped(first: string, second: string): string {
  return `${FAILS_WITH_BOTH}${first} | ${second}`;
}

/** Whoever has a secret can become a node: it goes to the machine that ssh knows by that name, also where it is no worker. */
function carryLine(act: Carry, from: Reached, to: Reached): string {
  const { pack, unpack } = carriedTo(act, from, to);
  const target = act.secret && isName(to.name) ? { ...to, alias: to.name } : to;
  return piped(outOf(from, pack), sshTo(target, unpack));
}

/** How files go from one node to another: root's tar packs and unpacks them, with owner and mode. */
export function carriedTo(
  { files, keep }: Pick<Carry, "files" | "keep">,
  source: Reached,
  target: Reached,
): { pack: string; unpack: string } {
  const paths = files.map((file) => file.replace("NODE", target.name));
  const folder = dirname(paths[0]!);
  const names = paths.map((path) => wordThere(basename(path))).join(" ");
  const isAbsolute = folder.startsWith("/");
  const own = isAbsolute ? folder : folder === "." ? source.kit : `${source.kit}/${folder}`;
  const into = isAbsolute ? folder : target.kit;
  return {
    pack: `tar -C ${wordThere(own)} -cf - ${names}`,
    unpack: `tar -C ${wordThere(into)} -xp${keep ? "k" : ""}f - ${names}`,
  };
}

/** How a file of one node differs from one that another node has; diff ends with 1 where it does. */
export function differenceLine(
  path: string,
  from: Reached,
  { own, to }: { own: string; to: Reached },
): string {
  return `${outOf(from, shell`cat ${path}`)} | ${sshTo(to, shell`diff ${own} /dev/stdin`)}`;
}

/** A folder, into the kit's folder of another node. */
export function folderTo(
  { parent, seen }: Record<"parent" | "seen", string>,
  from: Reached,
  to: Reached,
): string {
  return piped(
    outOf(from, `tar -C ${wordThere(parent)} -cf - ${wordThere(seen)}`),
    sshTo(to, `tar -C ${to.kit} -xpf - ${wordThere(seen)}`),
  );
}

/** The output of a line on one node, into a file of the kit's folder of another one. What its exit code means, its reader knows. */
export function printedInto(file: string, from: Reached, to: Reached, line: string): string {
  const folder = dirname(file);
  const make = folder === "." ? "" : shell`mkdir -p -m 700 ${folder} && `;
  return `${outOf(from, line)} | ${sshTo(to, `cd ${to.kit} && umask 077 && ${make}${shell`cat > ${file}`}`)}`;
}

/** The output of a line on one node, as a new file of another one. */
export function printedAs(path: string, from: Reached, to: Reached, line: string): string {
  return piped(outOf(from, `cd ${from.kit} && ${line}`), sshTo(to, newFile(path)));
}

/** Its folder is made, and a file that is there already stays. */
function newFile(path: string): string {
  return shell`set -C; umask 077; mkdir -p ${dirname(path)} && cat > ${path}`;
}

/**
 * Into a new folder of the operator's home: elsewhere a file of that name may be another user's link, and in the home
 * another cluster's.
 */
function fetchLine(from: Reached | undefined, file: string): string {
  if (!from) return `# ${file}`;
  const path = file.startsWith("/") ? file : `${from.kit}/${file}`;
  const place = `"$d"/${shell`${basename(path)}`}`;
  return `d=$(mktemp -d ~/kube-pki-repair.XXXXXX) && ${copyTo(place, from, path)} && ls ${place}`;
}

function copyTo(place: string, from: Reached, path: string): string {
  const { user, address, alias, isHere } = from;
  if (isHere) return `${shell`cp -p ${path}`} ${place}`;
  if (user !== ROOT) return `${outOf(from, shell`cat ${path}`)} > ${place}`;
  return `scp -p ${keyOf(alias)}${shell`${`${user}@${urlHost(address)}:${path}`}`} ${place}`;
}

/** One line for all: NODE stands for each address; beside NAME, which ssh knows the machine by, ADDRESS does. */
function kitLines({ kitLine, reach }: ByHand, to: readonly string[]): Line[] {
  if (kitLine === undefined)
    return [
      {
        at: YOUR_MACHINE,
        text: `# bring the kit to ${plainLine(listed(to))}: RUNBOOK.md, part 0, has the line`,
      },
    ];
  const { program, file } = kitProgram(kitLine);
  const ends = to.flatMap((name) => reach(name) ?? []);
  const kinds = [ends.filter(({ alias }) => !alias), ends.filter(({ alias }) => alias)];
  return kinds.flatMap(([end, ...more]) => {
    if (!end) return [];
    const all = [end, ...more];
    const many = end.alias ? { ...end, alias: "NAME", address: "ADDRESS" } : { ...end, address: "NODE" };
    const { user, alias, address } = more.length > 0 ? many : end;
    const told = end.alias
      ? `NAME, ADDRESS: ${listed(all.map((one) => `${one.alias} ${one.address}`))}`
      : `NODE: ${listed(all.map((one) => one.address))}`;
    const note = more.length > 0 ? `   # ${plainLine(told)}` : "";
    const text = `ssh ${keyOf(alias)}${shell`${`${user}@${address}`}`} ${asRoot(user, program)} < ${file}${note}`;
    return [{ at: YOUR_MACHINE, text }];
  });
}

/** The commands as a page shows them: the place, followed by the commands to type there. */
export function inText(lines: readonly Line[]): string[] {
  return lines.flatMap(({ at, text }, index) =>
    at === undefined || at === lines[index - 1]?.at ? text : [`# on ${plainLine(at)}:`, text],
  );
}
