/**
 * Decided, or mended, before a plan has steps: a later line would be refused, and by then an earlier one has stopped
 * something. Each way is a note, with the machine of its line.
 */
import { command } from "../again.ts";
import type { Assessment } from "../assess/assessment.ts";
import { REFUSALS, type Refusal } from "../assess/look-here.ts";
import { flagOfLostFile, isConfigOfKubelet } from "../facts/lost-files.ts";
import { exists } from "../files/files.ts";
import { KUBELET_CONFIG, kubeadmsConfig } from "../node/kubelet-config.ts";
import { pathsGivenUp } from "../node/words.ts";
import { listed } from "../plain.ts";
import { irreversibleText } from "../run.ts";
import { choices, choicesInWords, isGivenUp, isNeeded } from "../static-pods/without-files.ts";
import type { Act } from "./act.ts";
import { differenceLine, type Line, linesOfAct, reachedAs, reachIn, YOUR_MACHINE } from "./by-hand.ts";
import type { List, Way } from "./decision-ways.ts";
import { hasAnswered } from "./node-answers.ts";
import { linesHere, linesOn, type Note, planWith, type Surroundings } from "./note.ts";
import type { PlanFacts } from "./plan-facts.ts";
import type { PlanNode } from "./plan-node.ts";

interface Decisions {
  /** Unset: another decision has said it. */
  aim: string | undefined;
  notes: Note[];
}

/** Returns undefined if no decision is open, or if the plan has no command of part 1 or 2. */
export function decisionsOf(assessed: Assessment, around: Surroundings): Decisions | undefined {
  if (!assessed.course?.includes("control-plane") || !around.nodes[0]) return undefined;
  const files = openFiles(assessed, around.facts);
  const all = [
    silentDecisions(around),
    fileDecisions(files, assessed.node, around),
    refusalDecisions(assessed, around, files),
  ];
  const open = all.filter((one) => one !== undefined);
  if (open.length === 0) return undefined;
  const aims = open.flatMap(({ aim }) => aim ?? []);
  return { aim: aims.join("; "), notes: open.flatMap(({ notes }) => notes) };
}

/** The line that prints the plan of the same answers, with more names. */
function planLine({ facts, nodes }: Surroundings, option: List, names: readonly string[]): Line[] {
  return linesHere({ ...facts, nodes }, planWith(facts, option, names));
}

function silentDecisions(around: Surroundings): Decisions | undefined {
  const { silent, answers } = around.facts;
  if (silent.length === 0) return undefined;
  const names = listed(silent);
  const bySsh = silent.some((name) => answers.silent.includes(name)) ? ", nor by ssh" : "";
  return {
    aim: `Say first what ${names} is: nothing answers there, and part 2 would stop for it`,
    notes: [
      {
        question: `${names}: nothing answers at the address of its etcd${bySsh}. Start it, and look again. Or is it away for now, or lost for good?`,
        text: `${names}: nothing answers at the address of its etcd${bySsh}. Start it, and ask again. If it is away for now, and comes back some day, the line below says so. It then stays in the cluster and in etcd, and nobody waits for it. Its pods are evicted once the controller-manager runs in full.`,
        commands: planLine(around, "without", silent),
        decides: "silent-control-planes",
        ways: [
          {
            does: `${names} is away for now: nobody waits for it, and it stays a member of etcd`,
            costs: "its pods are evicted once the controller-manager runs in full",
            says: { without: silent },
          },
        ],
      },
      {
        text: `Only if its disk is lost for good: part 2 takes ${names} out of etcd, which cannot be taken back.`,
        commands: planLine(around, "lost", silent),
        decides: "silent-control-planes",
        ways: [
          {
            does: `${names} is lost for good: part 2 takes it out of etcd's members`,
            irreversible: irreversibleText("memberOut", { NODE: names }),
            says: { lost: silent },
          },
        ],
      },
    ],
  };
}

/** Parts 1 to 3 would refuse these now. Another node's own words are not repeated. */
function refusalDecisions(
  { node: here, refusals: all = [] }: Assessment,
  { facts, nodes }: Surroundings,
  files: readonly OpenFile[],
): Decisions | undefined {
  const isSaid = ({ on, id }: { on: string; id: Refusal["id"] }) =>
    id === "place" && files.some(({ program, lostOn }) => program === "kubelet" && lostOn.includes(on));
  const own = all.filter(isBeforePart3);
  const others = facts.answers.nodes
    .flatMap(({ name, refusals }) => refusals.filter(isBeforePart3).map((one) => ({ ...one, on: name })))
    .filter((one) => !isSaid(one));
  const open = [...own.map((one) => ({ ...one, on: here })).filter((one) => !isSaid(one)), ...others];
  if (own.length + others.length === 0) return undefined;
  const says = ({ on, part, id }: (typeof others)[number]) =>
    `${on}, part ${part} would refuse it: ${REFUSALS[id].words}`;
  const notes = own.flatMap((one) => inNotes(here, one, "Then print the plan again."));
  for (const one of others) {
    const at = nodes.find(({ name }) => name === one.on);
    const script = one.part === 1 ? command("01-etcd --dry-run") : command("02-control-plane --dry-run");
    const text = `On ${says(one)}. Part ${one.part} there says what to do, and changes nothing:`;
    notes.push({ text, commands: at ? linesOn(at, script) : [] });
  }
  const aim =
    open.length > 0
      ? `Mend first what would be refused: ${listed(open.map((one) => `on ${says(one)}`))}`
      : undefined;
  return { aim, notes };
}

/** Part 3's refusals are mended before part 3: part 2 would write over it. */
function isBeforePart3({ part }: Pick<Refusal, "part">): boolean {
  return part < 3;
}

export function notesBeforePart3({ node, refusals = [] }: Assessment): Note[] {
  return refusals.filter((one) => !isBeforePart3(one)).flatMap((one) => inNotes(node, one));
}

/** A sentence each: a note is not endless. */
function inNotes(node: string, { part, message, hint }: Refusal, ...more: string[]): Note[] {
  const sentences = hint.split(/(?<=\.) (?=[A-Z])/);
  return [`On ${node}, part ${part} would refuse: ${message}.`, ...sentences, ...more].map((text) => ({
    text,
    commands: [],
  }));
}

interface OpenFile {
  path: string;
  program: string;
  namedBy: string;
  /** A process of this node still has it. */
  mounted: boolean;
  lostOn: string[];
}

/** Lost files that no script makes, and that nobody has given up: here, and where a node has said so. */
function openFiles(
  { node: here, lostFiles = [] }: Assessment,
  { answers, named, givenUp }: PlanFacts,
): OpenFile[] {
  const lackers = (path: string) =>
    answers.nodes.flatMap(({ name, lostFiles }) => (lostFiles.includes(path) ? [name] : []));
  const own = lostFiles.map((file) => ({ ...file, lostOn: [here, ...lackers(file.path)] }));
  const there = named
    .filter(({ path }) => !lostFiles.some((file) => file.path === path))
    .map((file) => ({ ...file, mounted: false, lostOn: lackers(file.path) }));
  return [...own, ...there].filter(
    (file) => file.lostOn.length > 0 && isNeeded(file) && !isGivenUp(file, givenUp),
  );
}

function fileDecisions(open: readonly OpenFile[], here: string, around: Surroundings): Decisions | undefined {
  const { nodes } = around;
  if (open.length === 0) return undefined;
  const lackers = nodes.filter(({ name }) => open.some(({ lostOn }) => lostOn.includes(name)));
  const notes = [
    ...open.map((file) => fileNote(file, here, around)),
    {
      text: "From your own copies, which lie in the folder DIR of that node:",
      commands: lackers.flatMap((node) => linesOn(node, "./bunw scripts/00-salvage.ts files --backup DIR")),
    },
    ...open.filter(isConfigOfKubelet).flatMap((file) => workersNotes(file, here, around)),
    ...open.filter(isConfigOfKubelet).flatMap((file) => kubeadmsNotes(file, around)),
  ];
  const flags = choices(open);
  if (flags.length > 0)
    notes.push({
      text: `If nobody has them, this prints the plan with lines that start the API server without the flags that name them (${choicesInWords(flags)}):`,
      commands: planLine(
        around,
        "start-without",
        flags.map(({ name }) => name),
      ),
      question: "If nobody has them, the API server starts without the flags that name them.",
      decides: "lost-files",
      ways: [
        {
          does: `Continue without ${listed(open.map(({ path }) => path))}`,
          costs: choicesInWords(flags),
          says: { "start-without": flags.map(({ name }) => name) },
        },
      ],
    });
  return { aim: `Decide first about lost files: ${listed(open.map(({ path }) => path))}`, notes };
}

/** Says only what was looked at: who lacks a file has said so, and who is away cannot give it. */
function fileNote(file: OpenFile, here: string, { facts, nodes }: Surroundings): Note {
  const { path, program, lostOn, mounted } = file;
  const others = nodes.filter(({ name, role }) => role !== "worker" && !lostOn.includes(name));
  const isSeen = ({ name }: PlanNode) => name === here || hasAnswered(name, facts.answers);
  const [has, unseen] = [others.filter(isSeen), others.filter((one) => !isSeen(one))];
  const named = (all: readonly PlanNode[]) => listed(all.map(({ name }) => name));
  const namer = flagOfLostFile({ ...file, kind: "file", without: "", inside: "" });
  const sentences = [
    `${path} (${namer}) is lost on ${listed(lostOn)}, and ${program === "kubelet" ? "its kubelet" : program} does not start without it`,
    "kubeadm did not make it",
  ];
  if (has[0]) sentences.push(`Not lost on ${named(has)}, as was seen`);
  if (unseen[0]) sentences.push(`Not looked at: ${named(unseen)}; the lines that ask all nodes do it`);
  if (facts.lost.away.length > 0) sentences.push(`${listed(facts.lost.away)} is away, and may have it`);
  if (sentences.length === 2) sentences.push("No other control plane node has it");
  const isOpenWorker = ({ name, role }: PlanNode) =>
    role === "worker" && !lostOn.includes(name) && !hasAnswered(name, facts.answers);
  if (program === "kubelet" && nodes.some(isOpenWorker))
    sentences.push("A worker may have one: read it first, as its addresses and resources are its own");
  const commands: Line[] = [];
  const ways: Way[] = [];
  const lackers = nodes.filter(({ name }) => lostOn.includes(name));
  const [to, from] = [lackers.map(({ name }) => name), has[0]?.name];
  for (const to of lackers) {
    if (to.name === here && mounted) {
      const line = command("00-salvage files");
      commands.push(...linesOn(to, line));
      ways.push({
        does: `Read ${path} back from the process that has it on ${here}`,
        acts: [typedOn(here, line)],
      });
    }
    if (has[0]) commands.push(...bringLines([path], has[0].name, to.name, { facts, nodes }));
  }
  if (from)
    ways.push({ does: `Copy ${path} from ${from}, which has it`, acts: [bringAct([path], from, to)] });
  const text = `${sentences.join(". ")}.`;
  ways.push({
    does: `I have ${path}: type its path on this machine, or that of a folder with your copies`,
    upload: { path, to },
  });
  if (commands.length === 0) return { text, commands, decides: "lost-files", ways };
  const brings = `Typed on your machine, this brings it. Then ${askAgain(nodes)}:`;
  return { text: `${text} ${brings}`, question: text, commands, decides: "lost-files", ways };
}

/**
 * A worker has the kubelet's configuration: whoever is root there has written it, so its difference comes before the line
 * that brings it, and nobody brings it unread.
 */
function workersNotes({ path, lostOn }: OpenFile, here: string, { facts, nodes }: Surroundings): Note[] {
  const isLackingAll = nodes.every(({ name, role }) => role === "worker" || lostOn.includes(name));
  const from = nodes.find(
    ({ name, role }) => role === "worker" && !lostOn.includes(name) && hasAnswered(name, facts.answers),
  );
  const to = nodes.find(({ name }) => name === here);
  if (!from || !to || !isLackingAll || !kubeadmsConfig(path)) return [];
  const ends = { own: KUBELET_CONFIG, to: reachedAs(to, facts.user) };
  const does = `Copy ${path} from ${from.name}, which has it: its difference from kubeadm's is shown first`;
  const costs = `its reserved resources and limits are ${from.name}'s; an address of its own becomes each node's own`;
  const brings = { path, from: from.name, to: lostOn, own: KUBELET_CONFIG, on: here };
  const question = `${from.name} was looked at, and has not lost ${path}.`;
  const text = `${question} Read first how it differs from kubeadm's: its addresses and resources are ${from.name}'s own. The other lines bring it.`;
  const lines = lostOn.flatMap((name) => bringLines([path], from.name, name, { facts, nodes }));
  const difference = { at: YOUR_MACHINE, text: differenceLine(path, reachedAs(from, facts.user), ends) };
  const ways: Way[] = [{ does, costs, brings }];
  return [{ text, question, commands: [difference, ...lines], decides: "lost-files", ways }];
}

function typedOn(name: string, command: string): Act {
  return { do: "type", on: [name], command, sideBySide: false };
}

function bringAct(files: string[], from: string, to: string[]): Act {
  return { do: "carry", from, to, files, secret: false, keep: true };
}

function kubeadmsNotes({ path, lostOn }: OpenFile, { nodes }: Surroundings): Note[] {
  const last = kubeadmsConfig(path);
  if (!last) return [];
  const commands = nodes.flatMap((node) => (lostOn.includes(node.name) ? linesOn(node, last.command) : []));
  const question = `Only if nobody has ${path}, kubeadm's own takes its place.`;
  const text = `Only if nobody has ${path}. This is ${last.note}. Then ${askAgain(nodes)}:`;
  const does = `Write a replacement of ${path} with kubeadm. It is ${last.note}`;
  const acts = [{ ...typedOn("", last.command), on: lostOn }];
  return [{ text, question, commands, decides: "lost-files", ways: [{ does, acts }] }];
}

function askAgain({ length }: readonly PlanNode[]): string {
  return length > 1 ? "ask all nodes again, by the lines on top" : "print the plan again";
}

function bringLines(
  paths: readonly string[],
  from: string,
  to: string,
  { facts, nodes }: Surroundings,
): Line[] {
  const hands = { reach: reachIn(nodes, facts.user) };
  return paths.flatMap((path) => linesOfAct(bringAct([path], from, [to]), hands));
}

/**
 * A control plane node that is on again may have what was given up. Only paths that were given up here get into a
 * line: another node's answer says which of them it lacks.
 */
export function givenUpNotes(here: string, { facts, nodes }: Surroundings): Note[] {
  const own = pathsGivenUp();
  const lacks = new Map([[here, own.filter((path) => !exists(path))]]);
  for (const { name, words } of facts.answers.nodes) {
    const there = words.flatMap(({ option, files = [] }) => (option === "start-without" ? files : []));
    lacks.set(
      name,
      own.filter((path) => there.includes(path)),
    );
  }
  const backAgain = nodes.filter(({ name, role }) => role !== "worker" && facts.onAgain.includes(name));
  return backAgain.flatMap((from): Note[] => {
    const lacking = nodes.flatMap((to) => {
      const files = lacks.get(to.name) ?? [];
      return to.name !== from.name && files.length > 0 ? [{ to, files }] : [];
    });
    if (lacking.length === 0) return [];
    const files = [...new Set(lacking.flatMap((one) => one.files))];
    const question = `${from.name} is on again, and may have ${listed(files)}, which ${files.length > 1 ? "were" : "was"} given up.`;
    const text = `${question} If so, this brings it, and part 2 puts its flag back.`;
    const bring = lacking.flatMap(({ to, files }) => bringLines(files, from.name, to.name, { facts, nodes }));
    const line = command("02-control-plane");
    const part2 = lacking.flatMap(({ to }) => linesOn(to, line));
    const acts = lacking.flatMap(({ to, files }) => [
      ...files.map((path) => bringAct([path], from.name, [to.name])),
      typedOn(to.name, line),
    ]);
    const does = `Copy ${listed(files)} from ${from.name}, and let part 2 put the flag back`;
    const ways: Way[] = [
      { does, acts },
      { does: "Leave it given up", leaves: true },
    ];
    return [{ text, question, commands: [...bring, ...part2], decides: "given-up", ways }];
  });
}
