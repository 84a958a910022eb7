/**
 * What a plan says of files that no script makes: who may have them, the lines that bring them, and the line that gives
 * them up.
 */
import { command } from "../again.ts";
import type { Assessment } from "../assess/assessment.ts";
import { namerOf } from "../facts/lost-files.ts";
import { exists } from "../files/files.ts";
import { pathsGivenUp } from "../node/words.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import { choices, choicesInWords, isGivenUp, isNeeded } from "../static-pods/without-files.ts";
import { type Decisions, linesOn, type Note, planLine, type Surroundings } from "./note.ts";
import { tarPipe } from "./paste-files.ts";
import type { PlanFacts } from "./plan-facts.ts";
import type { PlanNode } from "./plan-nodes.ts";

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

export function fileDecisions(assessed: Assessment, around: Surroundings): Decisions | undefined {
  const open = openFiles(assessed, around.facts);
  if (open.length === 0) return undefined;
  const names = new Set(open.flatMap(({ lostOn }) => lostOn));
  const copies = around.nodes
    .filter(({ name }) => names.has(name))
    .flatMap((node) => linesOn(node, around.facts, "./bunw scripts/00-salvage.ts files --backup DIR"));
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
function fileNote(file: OpenFile, here: string, { facts, nodes }: Surroundings): Note {
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
      ...(to.name === here && file.mounted ? linesOn(to, facts, command("00-salvage files")) : []),
      ...(has[0] ? [`(${pipeOf(path, { from: has[0], to }, facts)})`] : []),
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

function pipeOf(
  path: string,
  { from, to }: Record<"from" | "to", PlanNode>,
  { user }: Pick<PlanFacts, "user">,
): string {
  const ends = { from: from.address, to: to.address };
  return tarPipe(user, ends, { folder: "/", names: shell`${path.slice(1)}`, keep: true });
}

/** The flags that can be given up, and what that loosens. */
function giveUp(open: readonly OpenFile[], around: Surroundings): Note[] {
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

/**
 * A control plane node was away, and is on again: it may have what was given up meanwhile. Only paths that
 * were given up here get into a line: another node's answer says which of them it lacks, too.
 */
export function givenUpNotes(here: string, { facts, nodes }: Surroundings): Note[] {
  const own = pathsGivenUp();
  const words = [
    { name: here, files: own.filter((path) => !exists(path)) },
    ...facts.seen.nodes.map(({ name, words }) => {
      const there = words.flatMap(({ option, files = [] }) => (option === "start-without" ? files : []));
      return { name, files: own.filter((path) => there.includes(path)) };
    }),
  ];
  return nodes
    .filter(({ name, role }) => role !== "worker" && facts.onAgain.includes(name))
    .flatMap((from): Note[] => {
      const lacking = nodes.flatMap((to) => {
        const files = words.flatMap(({ name, files }) => (name === to.name ? files : []));
        return to.name !== from.name && files.length > 0 ? [{ to, files }] : [];
      });
      if (lacking.length === 0) return [];
      const files = [...new Set(lacking.flatMap((one) => one.files))];
      const text = `${from.name} is on again, and may have ${listed(files)}, which ${files.length > 1 ? "were" : "was"} given up. If so, this brings it, and part 2 puts its flag back.`;
      const bring = lacking.map(
        ({ to, files }) => `(${files.map((path) => pipeOf(path, { from, to }, facts)).join("; ")})`,
      );
      const part2 = lacking.flatMap(({ to }) => linesOn(to, facts, command("02-control-plane")));
      return [{ text, commands: [...bring, ...part2] }];
    });
}
