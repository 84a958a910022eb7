/**
 * What the operator decides, or mends, before a plan has steps: a line behind it would be refused, and by then an
 * earlier line has stopped something. Each way is a note of its own, with the machine that its line is typed on.
 */
import { command } from "../again.ts";
import type { Assessment } from "../assess/assessment.ts";
import { REFUSALS, type Refusal } from "../assess/refusals.ts";
import { namerOf } from "../facts/lost-files.ts";
import { isKubeadms } from "../manifests/on-disk.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import { choices, choicesInWords, isGivenUp } from "../static-pods/without-files.ts";
import { sshLines } from "./paste.ts";
import { tarPipe } from "./paste-files.ts";
import type { PlanFacts, Said } from "./plan-facts.ts";
import type { PlanNode } from "./plan-nodes.ts";

export interface Note {
  text: string;
  /** Typed on the first control plane node, in the kit's folder. */
  commands: string[];
}

interface Decisions {
  /** A sentence for the operator. */
  aim: string;
  notes: Note[];
}

interface Around {
  facts: PlanFacts;
  nodes: readonly PlanNode[];
}

/** Undefined: nothing is open, or no line of part 1 or 2 is coming. */
export function decisionsOf(assessed: Assessment, around: Around): Decisions | undefined {
  if (!assessed.course?.includes("control-plane") || !around.nodes[0]) return undefined;
  const all = [silentMembers(around), lostFiles(assessed, around), refusals(assessed, around)];
  const open = all.filter((one) => one !== undefined);
  if (open.length === 0) return undefined;
  return { aim: open.map(({ aim }) => aim).join("; "), notes: open.flatMap(({ notes }) => notes) };
}

/** Of the same answers. `page`: the file that it is printed into. */
export function planAgain(
  { folder, unkept }: Pick<PlanFacts, "folder" | "unkept">,
  more: Partial<Said> = {},
  page?: string,
): string {
  const said = { seen: folder, ...unkept, ...more };
  return page === undefined ? command("plan", said) : command(shell`plan ${page}`, said);
}

/** The line on the first control plane node that prints the plan of the same answers, with more words. */
function planLine({ facts, nodes }: Around, more: Partial<Said>): string[] {
  return on(nodes[0]!, facts, planAgain(facts, more));
}

function on(node: PlanNode, { user }: Pick<PlanFacts, "user">, line: string): string[] {
  return sshLines(user, [node], line).map(({ text }) => text);
}

function silentMembers(around: Around): Decisions | undefined {
  const { silent, unkept } = around.facts;
  if (silent.length === 0) return undefined;
  const names = listed(silent);
  const more = (option: "without" | "lost") => ({ [option]: [...(unkept[option] ?? []), ...silent] });
  return {
    aim: `Say first what ${names} is: nothing answers there, and part 2 would stop for it`,
    notes: [
      {
        text: `${names}: nothing answers at the address of its etcd${silent.some((name) => around.facts.seen.silent.includes(name)) ? ", nor by ssh" : ""}. Start it, and ask again; or, if it is away for now, and comes back some day: it stays in the cluster and in etcd, nobody waits for it, and its pods are evicted once the controller-manager runs in full.`,
        commands: planLine(around, more("without")),
      },
      {
        text: `Only if its disk is lost for good: part 2 takes ${names} out of etcd, which cannot be taken back.`,
        commands: planLine(around, more("lost")),
      },
    ],
  };
}

/** Parts 1 and 2 go on without what other static pods need: those wait in the rescue folder. */
function isNeeded({ program }: { program: string }): boolean {
  return isKubeadms(program) || program === "kubelet";
}

/** Files of other static pods are lost here: part 1 goes on beside a living API server only when it is told so. */
export function filesCome({ lostFiles = [] }: Assessment): boolean {
  return lostFiles.some((file) => !isNeeded(file));
}

interface OpenFile {
  path: string;
  program: string;
  namedBy: string;
  /** A process of this node still has it. */
  mounted: boolean;
  /** Names of the nodes on which it is lost. */
  lostOn: string[];
}

/** Lost files that no script makes, and that nobody has given up: here, and where a node has said so. */
function openFiles(
  { node: here, lostFiles = [] }: Assessment,
  { seen, named, givenUp }: PlanFacts,
): OpenFile[] {
  const lackers = (path: string) =>
    seen.nodes.flatMap(({ name, lostFiles }) => (lostFiles.includes(path) ? [name] : []));
  const own = lostFiles.map((file) => ({ ...file, lostOn: [here, ...lackers(file.path)] }));
  const there = named
    .filter(({ path }) => !lostFiles.some((file) => file.path === path))
    .map((file) => ({ ...file, mounted: false, lostOn: lackers(file.path) }));
  return [...own, ...there].filter(
    (file) => file.lostOn.length > 0 && isNeeded(file) && !isGivenUp(file, givenUp),
  );
}

function lostFiles(assessed: Assessment, around: Around): Decisions | undefined {
  const open = openFiles(assessed, around.facts);
  if (open.length === 0) return undefined;
  const names = new Set(open.flatMap(({ lostOn }) => lostOn));
  const copies = around.nodes
    .filter(({ name }) => names.has(name))
    .flatMap((node) => on(node, around.facts, "./bunw scripts/00-salvage.ts files --backup DIR"));
  return {
    aim: `Decide first about lost files: ${listed(open.map(({ path }) => path))}`,
    notes: [
      ...open.map((file) => fileNote(file, assessed.node, around)),
      { text: "From your own copies, which lie in the folder DIR of that node:", commands: copies },
      ...giveUp(open, around),
    ],
  };
}

/** By what was really looked at: who lacks a file has said so, and who is away cannot give it. */
function fileNote(file: OpenFile, here: string, { facts, nodes }: Around): Note {
  const { path, program, lostOn } = file;
  const others = nodes.filter(({ name, role }) => role !== "worker" && !lostOn.includes(name));
  const isSeen = ({ name }: PlanNode) => name === here || facts.seen.nodes.some((one) => one.name === name);
  const [has, unseen] = [others.filter(isSeen), others.filter((one) => !isSeen(one))];
  const named = (all: readonly PlanNode[]) => listed(all.map(({ name }) => name));
  const { away } = facts.lost;
  const who = [
    ...(has[0] ? [`Not lost on ${named(has)}, as was seen`] : []),
    ...(unseen[0] ? [`Not looked at: ${named(unseen)}; the lines that ask all nodes do it`] : []),
    ...(away.length > 0 ? [`${listed(away)} is away, and may have it`] : []),
  ];
  const commands = nodes
    .filter(({ name }) => lostOn.includes(name))
    .flatMap((to) => [
      ...(to.name === here && file.mounted ? on(to, facts, command("00-salvage files")) : []),
      ...(has[0] ? [bringLine(path, { from: has[0], to }, facts)] : []),
    ]);
  const namer = namerOf({ ...file, kind: "file", without: "", inside: "" });
  const sentences = [
    `${path} (${namer}) is lost on ${listed(lostOn)}, and ${program === "kubelet" ? "its kubelet" : program} does not start without it`,
    "kubeadm did not make it",
    ...(who.length > 0 ? who : ["No other control plane node has it"]),
  ];
  const brings =
    commands.length > 0 ? " Typed on your machine, this brings it. Then print the plan again:" : "";
  return { text: `${sentences.join(". ")}.${brings}`, commands };
}

function bringLine(
  path: string,
  { from, to }: { from: PlanNode; to: PlanNode },
  { user }: PlanFacts,
): string {
  const ends = { from: from.address, to: to.address };
  return `(${tarPipe(user, ends, { folder: "/", names: shell`${path.slice(1)}`, keep: true })})`;
}

/** The flags that can be given up, and what that loosens. */
function giveUp(open: readonly OpenFile[], around: Around): Note[] {
  const known = choices(open);
  if (known.length === 0) return [];
  const names = [...(around.facts.unkept["start-without"] ?? []), ...known.map(({ name }) => name)];
  return [
    {
      text: `If nobody has them, this prints the plan with lines that start the API server without the flags that name them (${choicesInWords(known)}):`,
      commands: planLine(around, { "start-without": names }),
    },
  ];
}

/** What a look of parts 1 to 3 refuses now. Another node's own words are not repeated. */
function refusals({ node: here, refusals: all = [] }: Assessment, around: Around): Decisions | undefined {
  const { facts, nodes } = around;
  const own = all.filter(isBeforeSteps);
  const others = facts.seen.nodes.flatMap(({ name, refusals }) =>
    refusals.filter(isBeforeSteps).map((one) => ({ ...one, name })),
  );
  if (own.length + others.length === 0) return undefined;
  const at = (name: string) => nodes.find((one) => one.name === name);
  const says = ({ part, id }: Pick<Refusal, "part" | "id">) =>
    `part ${part} would refuse it: ${REFUSALS[id].words}`;
  return {
    aim: `Mend first what would be refused: ${listed([...own.map((one) => `on ${here}, ${says(one)}`), ...others.map((one) => `on ${one.name}, ${says(one)}`)])}`,
    notes: [
      ...own.flatMap(({ part, message, hint }) =>
        [
          `On ${here}, part ${part} would refuse: ${message}.`,
          ...sentencesOf(hint),
          "Then print the plan again.",
        ].map((text) => ({ text, commands: [] })),
      ),
      ...others.map((one) => ({
        text: `On ${one.name}, ${says(one)}. Part ${one.part} there says what to do, and changes nothing:`,
        commands: at(one.name) ? on(at(one.name)!, facts, `${SCRIPT[one.part]} --dry-run`) : [],
      })),
    ],
  };
}

/** What part 3 needs is mended before part 3: part 2 would write over it. */
function isBeforeSteps({ part }: Pick<Refusal, "part">): boolean {
  return part < 3;
}

export function notesBeforePart3({ node, refusals = [] }: Assessment): Note[] {
  const own = refusals.filter((one) => !isBeforeSteps(one));
  return own.flatMap(({ message, hint }) =>
    [`On ${node}, part 3 would refuse: ${message}.`, ...sentencesOf(hint)].map((text) => ({
      text,
      commands: [],
    })),
  );
}

/** A note is not endless. */
function sentencesOf(hint: string): string[] {
  return hint.replace(/^nothing was changed[.:] /, "").split(/(?<=\.) (?=[A-Z])/);
}

const SCRIPT: Record<Refusal["part"], string> = {
  1: command("01-etcd"),
  2: command("02-control-plane"),
  3: command("03-workers open"),
};
