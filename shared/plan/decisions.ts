/**
 * What the operator decides, or mends, before a plan has steps: a line behind it would be refused, and by then an
 * earlier line has stopped something. Each way is a note of its own, with the machine that its line is typed on.
 */
import { command } from "../again.ts";
import type { Assessment } from "../assess/assessment.ts";
import { REFUSALS, type Refusal } from "../assess/refusals.ts";
import { choiceOf, namerOf } from "../facts/lost-files.ts";
import { isKubeadms } from "../manifests/on-disk.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import { isGivenUp } from "../static-pods/without-files.ts";
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

/** Of the same answers. */
export function planAgain(
  { folder, unkept }: Pick<PlanFacts, "folder" | "unkept">,
  more: Partial<Said>,
): string {
  const all = { ...unkept, ...more };
  return folder === undefined ? command("plan", all) : command(shell`plan --seen ${folder}`, all);
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

/** By what was really looked at: who lacks a file has said so, and who is away cannot give it. */
function lostFiles({ node: here, lostFiles = [] }: Assessment, around: Around): Decisions | undefined {
  const { facts, nodes } = around;
  const lacksIt = (path: string) => facts.seen.nodes.filter((one) => one.lostFiles.includes(path));
  const there = facts.named.filter((file) => lacksIt(file.path).length > 0);
  const open = [...lostFiles, ...there.filter(({ path }) => !lostFiles.some((one) => one.path === path))]
    .filter(isNeeded)
    .filter((file) => !isGivenUp(file, facts.givenUp))
    .map((file) => ({ mounted: false, ...file }));
  if (open.length === 0) return undefined;
  const lackers = (path: string) => [
    ...(lostFiles.some((one) => one.path === path) ? [here] : []),
    ...lacksIt(path).map(({ name }) => name),
  ];
  const at = (name: string) => nodes.find((one) => one.name === name);
  const notes = open.flatMap((file): Note[] => {
    const lost = lackers(file.path);
    const others = nodes.filter(({ name, role }) => role !== "worker" && !lost.includes(name));
    const isSeen = ({ name }: PlanNode) => name === here || facts.seen.nodes.some((one) => one.name === name);
    const [has, unseen] = [others.filter(isSeen), others.filter((one) => !isSeen(one))];
    const { away } = facts.lost;
    const who = [
      ...(has.length > 0 ? [`Not lost on ${listed(has.map(({ name }) => name))}, as was seen`] : []),
      ...(unseen.length > 0
        ? [`Not looked at: ${listed(unseen.map(({ name }) => name))}; the lines that ask all nodes do it`]
        : []),
      ...(away.length > 0 ? [`${listed(away)} is away, and may have it`] : []),
    ];
    const without = file.program === "kubelet" ? "its kubelet" : file.program;
    const from = has[0];
    const lines = lost.flatMap((name) => {
      const to = at(name);
      if (!to) return [];
      const names = shell`${file.path.slice(1)}`;
      const ends = { from: from?.address ?? "", to: to.address };
      const brings = from ? [`(${tarPipe(facts.user, ends, { folder: "/", names, keep: true })})`] : [];
      const mounted = name === here && file.mounted ? on(to, facts, command("00-salvage files")) : [];
      return [...mounted, ...brings];
    });
    const nobody = who.length > 0 ? "" : ". No other control plane node has it";
    return [
      {
        text: `${file.path} (${namerOf({ ...file, kind: "file", without: "", inside: "" })}) is lost on ${listed(lost)}, and ${without} does not start without it. kubeadm did not make it. ${who.join(". ")}${nobody}.${lines.length > 0 ? " Typed on your machine, this brings it. Then print the plan again:" : ""}`,
        commands: lines,
      },
    ];
  });
  const backup = open.flatMap(({ path }) => lackers(path)).flatMap((name) => at(name) ?? []);
  const copies = [...new Set(backup)].flatMap((node) =>
    on(node, facts, "./bunw scripts/00-salvage.ts files --backup DIR"),
  );
  return {
    aim: `Decide first about lost files: ${listed(open.map(({ path }) => path))}`,
    notes: [
      ...notes,
      { text: "From your own copies, which lie in the folder DIR of that node:", commands: copies },
      ...giveUp(open, around),
    ],
  };
}

/** The flags that can be given up, and what that loosens. */
function giveUp(open: readonly { program: string; namedBy: string }[], around: Around): Note[] {
  const flags = [
    ...new Set(open.filter(({ program }) => program === "kube-apiserver").map((one) => one.namedBy)),
  ];
  const known = flags.filter((flag) => choiceOf(flag) !== undefined);
  if (known.length === 0) return [];
  const names = [...(around.facts.unkept["start-without"] ?? []), ...known.map((flag) => flag.slice(2))];
  const means = known.map((flag) => `${flag}: ${choiceOf(flag)}`).join("; ");
  return [
    {
      text: `If nobody has them, this prints the plan with lines that start the API server without the flags that name them (${means}):`,
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
