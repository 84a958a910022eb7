/** A sentence beside a plan's steps, with lines to type: those that ask all nodes, and print it again. */
import { command } from "../again.ts";
import { isServer } from "../pki/addresses.ts";
import { programWord, shell } from "../shell-line.ts";
import type { Act } from "./act.ts";
import { asRoot, KIT_PLACE, sshLines, sudo, terminalLines, withName } from "./paste.ts";
import { kitProgram } from "./paste-files.ts";
import type { List, PlanFacts, Said } from "./plan-facts.ts";
import { isName, type PlanNode } from "./plan-node.ts";
import { meetLoop, sshWords, toMeet, WITHIN } from "./ssh-to.ts";

export interface Note {
  text: string;
  /** Pasted on the operator's machine; before any plan typed on this node. */
  commands: string[];
  /** It is about lines to paste alone: who follows the plan as data has done it. */
  isForHands?: true;
  /** Ways to decide, for who is asked with numbers. */
  ways?: Way[];
  /** The question that they answer; set with `ways`. */
  decides?: DecisionId;
}

/** Questions that the operator may have to decide. */
export type DecisionId =
  | "first"
  | "silent-control-planes"
  | "silent-workers"
  | "no-data"
  | "lost-keys-elsewhere"
  | "said-elsewhere"
  | "lost-files"
  | "label"
  | "new-keys";

/** One way to decide, and what has to be said or done for it. */
export interface Way {
  /** "it is away for now: nobody waits for it". */
  does: string;
  /** Its cost for the cluster. */
  costs?: string;
  /** A sentence about what cannot be taken back. */
  irreversible?: string;
  /** With these words the plan is made again. */
  says?: Partial<Record<List, readonly string[]>>;
  /** This brings what is missing; then the nodes are looked at again. */
  acts?: Act[];
  /** The operator names a file of his machine: it becomes this one on these nodes. */
  upload?: { path: string; to: string[] };
  /** The operator names a bundle of hand-over.ts. */
  bundle?: true;
  /** The disk is searched. */
  deep?: true;
  /** The plan's steps that make keys may be done. */
  newKeys?: true;
}

export interface Surroundings {
  facts: PlanFacts;
  nodes: readonly PlanNode[];
}

/** `page`: the file that it is printed into. */
export function planAgain(
  { folder, unkept }: Pick<PlanFacts, "folder" | "unkept">,
  more: Partial<Said> = {},
  page?: string,
): string {
  const said = { seen: folder, ...unkept, ...more };
  return page === undefined ? command("plan", said) : command(shell`plan ${page}`, said);
}

export function planWith(
  asked: Pick<PlanFacts, "folder" | "unkept">,
  option: List,
  names: readonly string[],
): string {
  return planAgain(asked, { [option]: [...(asked.unkept[option] ?? []), ...names] });
}

export function linesOn(node: PlanNode, { user }: Pick<PlanFacts, "user">, line: string): string[] {
  // with a terminal, if the script asks there
  const lines = (ASKS.test(line) ? terminalLines : sshLines)(user, [node], line);
  return lines.map(({ text }) => text);
}

/** Asks for a passphrase, or for kubeadm's certificate key. */
const ASKS = /^\.\/bunw scripts\/(hand-over\.ts (?!.*--passphrase-file )|00-salvage\.ts secret)/;

/** A line that asks is pasted alone: the next one would be its answer. */
export function pastes({ commands }: Note): string[][] {
  const asks = (line: string) => line.startsWith("ssh -t ");
  const all: string[][] = [];
  for (const line of commands) {
    const last = all.at(-1);
    if (last && !asks(line) && !asks(last[0]!)) last.push(line);
    else all.push([line]);
  }
  return all;
}

/** On the first control plane node. Where the cluster's nodes are not known, as it is typed there. */
export function linesHere(
  { nodes: [first], user }: { nodes: readonly PlanNode[]; user: string },
  ...lines: readonly string[]
): string[] {
  return first ? lines.flatMap((line) => linesOn(first, { user }, line)) : [...lines];
}

/** In the kit's folder, and on the operator's machine. */
const SEEN = "seen.d";
const LOOK = "./bunw scripts/00-assess.ts --deep --no-disk --json";

/** Etcd's data where the operator has said that it is, on nodes with such a folder. */
function lookAt(place: string | undefined): string {
  if (!place) return LOOK;
  const line = `${LOOK} ${shell`--etcd-data ${place}`}`;
  return isServer(place) ? line : `if ${shell`[ -d ${place} ]`}; then ${line}; else ${LOOK}; fi`;
}

interface Asked {
  user: string;
  said: Partial<Said>;
  unkept: Partial<Said>;
  nodes: readonly PlanNode[];
  kit: string;
}

/**
 * Asks all nodes what 00-assess says there, and makes the plan of their answers: pasted on the operator's machine, twenty
 * at the same time, with or without the kit. Before that, one after the other, ssh asks about each host key that it does
 * not know. A node that does not answer leaves an empty file. One without a known address is not asked, nor one without a
 * name of its own: its words would be another one's. The files are in a new folder that nobody else can write to, and that
 * goes at the end: a shell of its own removes it, also after Ctrl-C.
 */
export function askLines({ user, said, unkept, nodes, kit }: Asked): string {
  const { program, file } = kitProgram(kit);
  const look = `[ -x ${KIT_PLACE}/bunw ] || { ${program}\n} >&2 && cd ${KIT_PLACE} && ${lookAt(said["etcd-data"])}`;
  const asked = nodes.filter(({ name, why }) => !why && isName(name));
  const plan = `tar -C ${KIT_PLACE} --no-same-permissions -xof - && cd ${KIT_PLACE} && ${command(`plan --seen ${SEEN}`, unkept)}`;
  // a third word is the name by which ssh knows the machine, where an address decides nothing
  const ask = `{ ssh ${WITHIN} \${2:+-o HostKeyAlias=$2} ${user}@$1 "$look" < ${file} > "$d/${SEEN}/$0.json"; } 2>&1 | ${withName('"$0"')}; exit 0`;
  return [
    "(",
    "set -C; umask 077",
    `export look=${programWord(sudo(user) ? `${sudo(user)}sh -c ${programWord(look)}` : look)}`,
    `nodes="${asked.map((node) => `${node.name} ${toMeet(node)}`).join("\n")}"`,
    `echo "$nodes" | ${meetLoop(user, "_ a n")}`,
    "d=$(mktemp -d) && export d || exit",
    `trap 'rm -rf "$d"' EXIT`,
    `mkdir "$d/${SEEN}" && echo "$nodes" | xargs -P 20 -L 1 sh -Cc '${ask}'`,
    `tar -C "$d" -cf - ${SEEN} | ssh ${sshWords(user, nodes[0]!)} ${asRoot(user, plan)}`,
    ")",
  ].join("\n");
}
