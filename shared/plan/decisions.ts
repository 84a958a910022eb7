/**
 * What the operator decides, or mends, before a plan has steps: a line behind it would be refused, and by then an
 * earlier line has stopped something. Each way is a note of its own, with the machine that its line is typed on.
 */
import { command } from "../again.ts";
import type { Assessment } from "../assess/assessment.ts";
import { REFUSALS, type Refusal } from "../assess/refusals.ts";
import { listed } from "../plain.ts";
import { fileDecisions } from "./lost-file-notes.ts";
import { type Decisions, linesOn, type Note, planLine, type Surroundings } from "./note.ts";

/** Undefined: nothing is open, or no line of part 1 or 2 is coming. */
export function decisionsOf(assessed: Assessment, around: Surroundings): Decisions | undefined {
  if (!assessed.course?.includes("control-plane") || !around.nodes[0]) return undefined;
  const all = [silentMembers(around), fileDecisions(assessed, around), refusals(assessed, around)];
  const open = all.filter((one) => one !== undefined);
  if (open.length === 0) return undefined;
  return { aim: open.map(({ aim }) => aim).join("; "), notes: open.flatMap(({ notes }) => notes) };
}

function silentMembers(around: Surroundings): Decisions | undefined {
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

/** What a look of parts 1 to 3 refuses now. Another node's own words are not repeated. */
function refusals(
  { node: here, refusals: all = [] }: Assessment,
  around: Surroundings,
): Decisions | undefined {
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
        commands: at(one.name) ? linesOn(at(one.name)!, facts, `${SCRIPT[one.part]} --dry-run`) : [],
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
  return hint.split(/(?<=\.) (?=[A-Z])/);
}

const SCRIPT: Record<Refusal["part"], string> = {
  1: command("01-etcd"),
  2: command("02-control-plane"),
  3: command("03-workers open"),
};
