/**
 * The operator's words about this cluster: typed once, on any script, known to every script on this node. They are
 * one file, root's alone: in memory until a script has changed this node, as free blocks of its disk may still hold
 * lost keys, and in its rescue folder from the next script on. A word is no progress file: it says what nobody can find out by
 * looking. It holds until a fact contradicts it, a later word takes its place, or the operator takes it back. A
 * kept word may leave out, not wait and not ask. A step that cannot be taken back needs it on its own line.
 */
import { basename } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { exists, type Mark, readKeptJson, removeFile, writeFile } from "../files/files.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { foldersHere, rescueOfRun, WORDS_FILE } from "./rescue-folder.ts";

interface Kind {
  /** For the operator, of one or several values. */
  means: (values: readonly string[]) => string;
  /** Its values are nodes. */
  ofNodes?: true;
  /** It has one value: a later word takes the place of an earlier one. */
  single?: true;
  /** Another word for the same node: the later one counts. */
  instead?: "without" | "lost";
}

const are = (values: readonly string[]) => `${listed(values)} ${values.length > 1 ? "are" : "is"}`;

/** By the option that says it. */
// biome-ignore format: a table
const WORD_KINDS = {
  without:         { means: (nodes) => `${are(nodes)} away`, ofNodes: true, instead: "lost" },
  lost:            { means: (nodes) => `${are(nodes)} lost for good`, ofNodes: true, instead: "without" },
  "lost-on":       { means: (nodes) => `on ${listed(nodes)} the keys are lost, too, or a stranger answers there`, ofNodes: true },
  worker:          { means: (nodes) => `${are(nodes)} no control plane node`, ofNodes: true },
  "start-without": { means: (flags) => `the API server starts without ${flags.map((flag) => `--${flag}`).join(", ")}` },
  endpoint:        { means: ([place]) => `the API is reached at ${place}`, single: true },
  "etcd-data":     { means: ([dir]) => `etcd's data is in ${dir}`, single: true },
} as const satisfies Record<string, Kind>;

export type WordOption = keyof typeof WORD_KINDS;
export type Spoken = { [option in WordOption]?: string | readonly string[] | undefined };

export const WORD_OPTIONS = Object.keys(WORD_KINDS) as WordOption[];

export interface Word {
  option: WordOption;
  value: string;
  /** When it was said first: ISO time. */
  at: string;
  /** The script, and the node, where it was typed. */
  by: string;
  on?: string | undefined;
  /** Paths that were given up with it. */
  files?: readonly string[];
}

interface Kept extends Mark {
  said: Word[];
  /** No longer true: since when, and why. */
  over: (Word & { over: string; why: string })[];
}

export function isOfNode({ option }: Pick<Word, "option">): boolean {
  return (WORD_KINDS[option] as Kind).ofNodes === true;
}

/** Root alone writes there, and a power cut ends it, as it ends the kit that lies beside it. */
const IN_MEMORY = "/run/kube-pki-repair-words.json";
const wordsFile = ({ dir }: { dir: string }) => `${dir}/${WORDS_FILE}`;

/** Of this run: typed, and not kept yet. `run`: another run in this process has none of them. */
let typed: { run: Date; words: Word[] } = { run: mode.began, words: [] };

function hold(words: Word[]) {
  typed = { run: mode.began, words };
}

/** For what begins no run of its own. */
export function nothingTyped() {
  hold([]);
}

function typedNow(): Word[] {
  if (typed.run !== mode.began) nothingTyped();
  return typed.words;
}

/** This run's command line. From here on it counts; `keepWords` keeps it. */
export function hear(said: Spoken) {
  const [at, by] = [new Date().toISOString(), basename(process.argv[1] ?? "", ".ts")];
  for (const option of WORD_OPTIONS)
    for (const value of [said[option] ?? []].flat()) hold(withWord(typedNow(), { option, value, at, by }));
}

/** All that hold: kept ones, and those of this run. Errors: Fail where the file cannot be read. */
export function wordsHere(): Word[] {
  return typedNow().reduce(withWord, keptHere().said);
}

/** The words of one option. */
export function wordsOf(option: WordOption): Word[] {
  return wordsHere().filter((word) => word.option === option);
}

/** The kept value of an option that has one. */
export function wordOf(option: "endpoint" | "etcd-data"): Word | undefined {
  return wordsOf(option).at(-1);
}

export function pathsGivenUp(): string[] {
  return wordsOf("start-without").flatMap(({ files = [] }) => files);
}

/** Whether this run's own line says so. */
export function isTyped({ option, value }: Pick<Word, "option" | "value">): boolean {
  return typedNow().some((word) => word.option === option && word.value === value);
}

function withWord(words: Word[], word: Word): Word[] {
  const { single, instead }: Kind = WORD_KINDS[word.option];
  const goes = (other: Word) =>
    (other.option === word.option && (single || other.value === word.value)) ||
    (other.option === instead && other.value === word.value);
  return [...words.filter((other) => !goes(other)), word];
}

/** Places are judged when they are read: also a run that is refused later keeps them, for the line that its hint has. */
export function keepPlaces(on: string) {
  const places = typedNow().filter(({ option }) => (WORD_KINDS[option] as Kind).single);
  keep(places.map((word) => ({ ...word, on })));
}

/**
 * When the look is through: a word that a script refuses is not kept. `on`: this node's name. `files`: by flag, what
 * `start-without` has given up; without files that word says nothing.
 */
export function keepWords(on: string, files: ReadonlyMap<string, readonly string[]> = new Map()) {
  const before = keptHere().said.filter(({ option }) => option === "start-without");
  const said = typedNow().flatMap((word) => {
    if (word.option !== "start-without") return [{ ...word, on }];
    const known = before.find(({ value }) => value === word.value)?.files ?? [];
    const all = [...new Set([...known, ...(files.get(word.value) ?? [])])];
    return all.length > 0 ? [{ ...word, on, files: all }] : [];
  });
  hold(said);
  if (!keep(said) && exists(IN_MEMORY) && mayUseDisk()) write(keptHere(), "what was said before");
}

/** Whether there was something to be kept. */
function keep(said: readonly Word[]): boolean {
  const known = keptHere().said;
  const isKept = ({ option, value, on, files = [] }: Word) =>
    known.some(
      (one) =>
        [one.option, one.value, one.on].join() === [option, value, on].join() &&
        files.every((path) => one.files?.includes(path)),
    );
  const unkept = said.filter((word) => !isKept(word));
  add(unkept);
  return unkept.length > 0;
}

function add(words: readonly Word[]) {
  if (words.length === 0) return;
  const kept = keptHere();
  const note = `what was said: ${meanings(words).join("; ")}`;
  write({ ...kept, said: words.reduce(withWord, kept.said) }, note);
}

/** Those of another node. What was said here later, or has ended here since, they do not change. */
export function takeWords(words: readonly Word[]) {
  const { said, over } = keptHere();
  const isLater = (word: Word) =>
    said.some((one) => withWord([one], word).length === 1 && one.at >= word.at) ||
    over.some(
      (one) => [one.option, one.value].join() === [word.option, word.value].join() && one.over > word.at,
    );
  add(words.filter((word) => !isLater(word)));
}

/** Another node's words, of what is printed and may get into lines. */
export function asWords(said: unknown): Word[] {
  const isText = (text: unknown) => typeof text === "string" && /^[\x21-\x7e]{1,253}$/.test(text);
  return ([said ?? []].flat() as (Word | null)[]).flatMap((one): Word[] => {
    if (!Object.hasOwn(WORD_KINDS, one?.option ?? "")) return [];
    const { option, value, at, by, on, files } = one!;
    const paths = [files ?? []].flat();
    if (![value, at, by, on ?? "-", ...paths].every(isText) || Number.isNaN(Date.parse(at))) return [];
    return [{ option, value, at, by, on, ...(paths.length > 0 && { files: paths }) }];
  });
}

/** Nodes that renew their Leases: whatever was said of them before. */
export function endWordsOf(nodes: readonly string[]) {
  const isOf = (word: Word) => isOfNode(word) && word.option !== "worker" && nodes.includes(word.value);
  endWords(isOf, "it renews its Lease");
}

/** A fact says otherwise, or the operator. Says so of what was kept. */
export function endWords(isOver: (word: Word) => boolean, why: string) {
  hold(typedNow().filter((word) => !isOver(word)));
  const kept = keptHere();
  const over = new Date().toISOString();
  const ended = kept.said.filter(isOver).map((word) => ({ ...word, over, why }));
  for (const word of ended) say(`${asSaid(word)}: not any more, ${why}`);
  if (ended.length === 0) return;
  const left = { said: kept.said.filter((word) => !isOver(word)), over: [...kept.over, ...ended] };
  write({ ...kept, ...left }, "what still holds of what was said");
}

/** Whether this is the folder that keeps what still holds. */
export function hasWords(rescue: { dir: string }): boolean {
  return fileHere() === wordsFile(rescue) && keptHere().said.length > 0;
}

function fileHere(): string | undefined {
  return [...foldersHere().map(wordsFile), IN_MEMORY].find((path) => exists(path));
}

/** A script that has changed this node has made a folder for what it moved. A word alone makes none. */
function mayUseDisk(): boolean {
  return foldersHere().length > 0;
}

/** What this kit does not know, as a later one may have kept it, is no word. */
function keptHere(): Kept {
  const path = fileHere();
  const kept = path === undefined ? undefined : readKeptJson<Partial<Kept> | null>(path);
  const isWord = (word: Word | null) =>
    Object.hasOwn(WORD_KINDS, word?.option ?? "") && typeof word!.value === "string";
  return {
    made: kept?.made ?? new Date().toISOString(),
    said: [kept?.said ?? []].flat().filter(isWord),
    over: [kept?.over ?? []].flat(),
  };
}

function write(kept: Kept, note: string) {
  const [before = IN_MEMORY, memory] = [fileHere(), exists(IN_MEMORY)];
  const path = before === IN_MEMORY && mayUseDisk() ? wordsFile(rescueOfRun()) : before;
  const put = () => {
    writeFile(path, `${JSON.stringify(kept, null, 2)}\n`, { mode: 0o600, folderMode: 0o700, note });
    if (memory && path !== IN_MEMORY) removeFile(IN_MEMORY);
  };
  if (mode.script !== "") return put();
  // who only looks goes on where nothing can be written, as in a unit of systemd
  const done = attempt(put);
  if (done instanceof Fail) say(`${done.message}: what was said is not kept`);
}

/** "cp3 and w1 are away" */
export function meanings(words: readonly Word[]): string[] {
  return [...Map.groupBy(words, ({ option }) => option)].map(([option, same]) =>
    (WORD_KINDS[option] as Kind).means(same.map(({ value }) => value)),
  );
}

/** "as said at 04:50 (plan, on cp1): cp3 is away" */
export function asSaid(word: Word): string {
  return `${saidAt(word)}: ${meanings([word]).join()}${word.files ? ` (${listed(word.files)})` : ""}`;
}

/** "as said at 04:50 (plan, on cp1)" */
export function saidAt({ at, by, on }: Word): string {
  const [day, time] = [at.slice(0, 10), at.slice(11, 16)];
  const today = day === new Date().toISOString().slice(0, 10);
  return `as said at ${today ? time : `${day} ${time}`} (${[by, ...(on ? [`on ${on}`] : [])].join(", ")})`;
}
