/**
 * The operator's words about this cluster: typed once, on any script, known to every script on this node. They are
 * one file, root's alone: in memory until a script has changed this node, as free blocks of its disk may still hold
 * lost keys, and in its rescue folder from the next script on. A word is no progress file: it says what nobody can find
 * out by looking. It holds until a fact contradicts it, a later word takes its place, or the operator takes it back. A
 * kept word may leave out, not wait and not ask. A step that cannot be taken back needs it on its own line.
 * Words of this node alone (moved, restored, skip, images-later) are kept beside them: `saveForThisNode`.
 */
import { basename } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { exists, type Mark, readKeptJson, removeFile, writeFile } from "../files/files.ts";
import type { Moved } from "../pki/addresses.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { allRescueFolders, rescueOfRun, WORDS_FILE } from "./rescue-folder.ts";

/* Kinds. */

interface Kind {
  /** A sentence for the operator, about one or several values. */
  means: (values: readonly string[]) => string;
  ofNodes?: true;
  /** It has one value: a later word takes the place of an earlier one. */
  single?: true;
  /** Another word for the same node: the later one counts. */
  instead?: "without" | "lost" | "worker" | "control-plane";
  /** It is about this node alone: no bundle and no answer brings it, and whoever keeps it reads it by rules of its own. */
  own?: true;
  /** It was done, and is no longer open. */
  isHistory?: true;
  /** Part 4 finds out whether it counts, and says so. */
  isJudged?: true;
}

const are = (values: readonly string[]) => `${listed(values)} ${values.length > 1 ? "are" : "is"}`;

/** Option → kind. `restored` is said by the script. */
// biome-ignore format: a table
const WORD_KINDS = {
  without:         { means: (nodes) => `${are(nodes)} away`, ofNodes: true, instead: "lost" },
  lost:            { means: (nodes) => `${are(nodes)} lost for good`, ofNodes: true, instead: "without" },
  "lost-on":       { means: (nodes) => `on ${listed(nodes)} the keys are lost, too, or another machine answers there`, ofNodes: true },
  worker:          { means: (nodes) => `${are(nodes)} no control plane node`, ofNodes: true, instead: "control-plane" },
  "control-plane": { means: (nodes) => `on ${listed(nodes)} an API server runs, or ran`, ofNodes: true, instead: "worker" },
  "start-without": { means: (flags) => `the API server starts without ${flags.map((flag) => `--${flag}`).join(", ")}` },
  endpoint:        { means: ([place]) => `the API is reached at ${place}`, single: true },
  "etcd-data":     { means: ([dir]) => `etcd's data is in ${dir}`, single: true },
  moved:           { means: (pairs) => listed(pairs.map((pair) => pair.replace("=", " is now "))), own: true },
  restored:        { means: ([from]) => `etcd's data was made of ${from}`, single: true, own: true, isHistory: true },
  skip:            { means: (workloads) => `you restart ${listed(workloads)}`, own: true, isJudged: true },
  "images-later":  { means: (images) => `the kubelet pulls ${listed(images)}`, own: true },
} as const satisfies Record<string, Kind>;

export type SavedOptionKind = keyof typeof WORD_KINDS;
type Own = {
  [kind in SavedOptionKind]: (typeof WORD_KINDS)[kind] extends { own: true } ? kind : never;
}[SavedOptionKind];
export type SavedOptionName = Exclude<SavedOptionKind, Own>;
export type TypedOptions = { [option in SavedOptionName]?: string | readonly string[] | undefined };

/** Each script that takes the option hears these, and other nodes are told. */
export const SAVED_OPTION_NAMES = (Object.keys(WORD_KINDS) as SavedOptionKind[]).filter(
  (kind) => !kindOf({ option: kind }).own,
) as SavedOptionName[];

export interface SavedOption {
  option: SavedOptionKind;
  value: string;
  /** When it was said first: ISO time. */
  at: string;
  /** The script, and the node, where it was typed. */
  by: string;
  on?: string | undefined;
  files?: readonly string[];
  /** With `restored`: the names of etcd's members of before, whose data has only one. */
  members?: readonly string[];
  /** With `restored`: the CA's fingerprint, where the operator has given it. */
  caHash?: string | undefined;
}

export function kindOf({ option }: Pick<SavedOption, "option">): Kind {
  return WORD_KINDS[option];
}

function isKind(option: unknown): option is SavedOptionKind {
  return Object.hasOwn(WORD_KINDS, String(option));
}

/* A word, and the text of it. */

/** Adds an option, and removes older ones that it contradicts. */
function withSavedOption(words: SavedOption[], word: SavedOption): SavedOption[] {
  const { single, instead } = kindOf(word);
  const goes = (other: SavedOption) =>
    (other.option === word.option && (single || other.value === word.value)) ||
    (other.option === instead && other.value === word.value);
  return [...words.filter((other) => !goes(other)), word];
}

/** Another node's words, of what is printed and may get into lines. */
export function parseSavedOptions(json: unknown): SavedOption[] {
  const isText = (text: unknown) => typeof text === "string" && /^[\x21-\x7e]{1,253}$/.test(text);
  return ([json ?? []].flat() as (SavedOption | null)[]).flatMap((one): SavedOption[] => {
    if (!one || !isKind(one.option) || kindOf(one).own) return [];
    const { option, value, at, by, on, files } = one;
    const paths = [files ?? []].flat();
    if (![value, at, by, on ?? "-", ...paths].every(isText) || Number.isNaN(Date.parse(at))) return [];
    return [{ option, value, at, by, on, ...(paths.length > 0 && { files: paths }) }];
  });
}

/** "cp3 and w1 are away" */
export function meanings(words: readonly SavedOption[]): string[] {
  return [...Map.groupBy(words, ({ option }) => option)].map(([option, same]) =>
    kindOf({ option }).means(same.map(({ value }) => value)),
  );
}

/** "as said at 04:50 (plan, on cp1): cp3 is away" */
export function savedOptionLine(word: SavedOption): string {
  const of = word.files ?? word.members ?? [];
  return `${savedAtText(word)}: ${meanings([word]).join()}${of.length > 0 ? ` (${listed(of)})` : ""}`;
}

export function savedAtText({ at, by, on }: SavedOption): string {
  const [day, time] = [at.slice(0, 10), at.slice(11, 16)];
  const today = day === new Date().toISOString().slice(0, 10);
  return `as said at ${today ? time : `${day} ${time}`} (${[by, ...(on ? [`on ${on}`] : [])].join(", ")})`;
}

interface Kept extends Mark {
  said: SavedOption[];
  /** No longer true: since when, and why. */
  over: (SavedOption & { over: string; why: string })[];
}

/** Root alone writes there, and a power cut ends it, as it ends the kit that lies beside it. */
const IN_MEMORY = "/run/kube-pki-repair-words.json";
const wordsFile = ({ dir }: { dir: string }) => `${dir}/${WORDS_FILE}`;

/* Words that were typed in this run, and words that are saved. */

/** Typed in this run, and not kept yet. `run`: another run in this process has none of them. */
let typed: { run: Date; words: SavedOption[] } = { run: mode.began, words: [] };

function hold(words: SavedOption[]) {
  typed = { run: mode.began, words };
}

/** Forgets the options of an earlier run in this process. */
export function noTypedOptions() {
  hold([]);
}

function typedNow(): SavedOption[] {
  if (typed.run !== mode.began) noTypedOptions();
  return typed.words;
}

const now = () => ({ at: new Date().toISOString(), by: basename(process.argv[1] ?? "", ".ts") });

/** Uses the options of this run's command line from now on; `saveTypedOptions` saves them. */
export function useTypedOptions(options: TypedOptions) {
  const source = now();
  for (const option of SAVED_OPTION_NAMES)
    for (const value of [options[option] ?? []].flat())
      hold(withSavedOption(typedNow(), { option, value, ...source }));
}

/** All options that are valid now: the saved ones, and those of this run. Errors: Fail if the file cannot be read. */
export function savedOptionsHere(): SavedOption[] {
  return typedNow().reduce(withSavedOption, keptHere().said);
}

export function savedOptionsOf(option: SavedOptionKind): SavedOption[] {
  return savedOptionsHere().filter((word) => word.option === option);
}

export function savedOptionOf(option: "endpoint" | "etcd-data"): SavedOption | undefined {
  return savedOptionsOf(option).at(-1);
}

export function pathsGivenUp(): string[] {
  return savedOptionsOf("start-without").flatMap(({ files = [] }) => files);
}

export function isTyped({ option, value }: Pick<SavedOption, "option" | "value">): boolean {
  return typedNow().some((word) => word.option === option && word.value === value);
}

/** Places are judged when they are read: also a run that is refused later keeps them, for the line that its hint has. */
export function savePlaces(on: string) {
  const places = typedNow().filter(({ option }) => kindOf({ option }).single);
  keep(places.map((word) => ({ ...word, on })));
}

/**
 * When the look is through: a word that a script refuses is not kept. `on`: this node's name. `files`: by flag, what
 * `start-without` has given up; without files that word says nothing.
 */
export function saveTypedOptions(on: string, files: ReadonlyMap<string, readonly string[]> = new Map()) {
  const before = keptHere().said.filter(({ option }) => option === "start-without");
  const options = typedNow().flatMap((word) => {
    if (word.option !== "start-without") return [{ ...word, on }];
    const filesBefore = before.find(({ value }) => value === word.value)?.files ?? [];
    const all = [...new Set([...filesBefore, ...(files.get(word.value) ?? [])])];
    return all.length > 0 ? [{ ...word, on, files: all }] : [];
  });
  hold(options);
  if (!keep(options) && exists(IN_MEMORY) && mayUseDisk()) write(keptHere(), "what was said before", true);
}

function keep(said: readonly SavedOption[]): boolean {
  const saved = keptHere().said;
  const idOf = ({ option, value, on }: SavedOption) => [option, value, on].join();
  const isKept = (word: SavedOption) =>
    saved.some(
      (one) => idOf(one) === idOf(word) && (word.files ?? []).every((path) => one.files?.includes(path)),
    );
  const unkept = said.filter((word) => !isKept(word));
  add(unkept);
  return unkept.length > 0;
}

function add(words: readonly SavedOption[], onDisk = mayUseDisk()) {
  if (words.length === 0) return;
  const kept = keptHere();
  const note = `what was said: ${meanings(words).join("; ")}`;
  write({ ...kept, said: words.reduce(withSavedOption, kept.said) }, note, onDisk);
}

/**
 * Keeps words of this node alone, at once. `onDisk`: in this run's rescue folder, also where it is the first file
 * there, as what this run writes next is read by it.
 */
export function saveForThisNode(
  option: SavedOptionKind,
  values: readonly string[],
  { onDisk, ...more }: { onDisk?: true } & Pick<SavedOption, "on" | "members" | "caHash">,
) {
  const source = { ...now(), ...more };
  add(
    values.map((value) => ({ option, value, ...source })),
    onDisk,
  );
}

/**
 * The move that goes on: old address → new address, by the operator's word; empty where there is none. As long as
 * it goes on, everything that is read from etcd's data or a file of before is read as if the machines had always been
 * where they are now.
 */
export function movedHere(): Moved {
  const pairs = savedOptionsOf("moved").map(({ value }) => value.split("="));
  return new Map(pairs.flatMap(([old, today]) => (old && today ? [[old, today] as const] : [])));
}

/** The last restore on this node: etcd's members of before, and what proves keys; undefined where there was none. */
export function lastRestore(): SavedOption | undefined {
  return savedOptionsOf("restored").at(-1);
}

export function isOver(option: SavedOptionKind, why: string): boolean {
  return keptHere().over.some((word) => word.option === option && word.why === why);
}

/** Adds the saved options of another node. They do not replace options that were typed here later, or that have ended here since. */
export function mergeSavedOptions(words: readonly SavedOption[]) {
  const { said, over } = keptHere();
  const isSame = (one: SavedOption, { option, value }: SavedOption) =>
    one.option === option && one.value === value;
  const isLater = (word: SavedOption) =>
    said.some((one) => withSavedOption([one], word).length === 1 && one.at >= word.at) ||
    over.some((one) => isSame(one, word) && one.over > word.at);
  add(words.filter((word) => !isLater(word)));
}

/** Ends all saved options about these nodes: they renew their Leases. */
export function endSavedOptionsOf(nodes: readonly string[]) {
  const isOf = (word: SavedOption) =>
    kindOf(word).ofNodes === true && !/worker|control-plane/.test(word.option) && nodes.includes(word.value);
  endSavedOptions(isOf, "it renews its Lease");
}

/** Ends options that a fact contradicts, or that the operator takes back. Prints each saved option that ends. */
export function endSavedOptions(isOver: (word: SavedOption) => boolean, why: string) {
  hold(typedNow().filter((word) => !isOver(word)));
  const kept = keptHere();
  const over = new Date().toISOString();
  const ended = kept.said.filter(isOver).map((word) => ({ ...word, over, why }));
  for (const word of ended) say(`${savedOptionLine(word)}: not any more, ${why}`);
  if (ended.length === 0) return;
  const left = { said: kept.said.filter((word) => !isOver(word)), over: [...kept.over, ...ended] };
  write({ ...kept, ...left }, "what still holds of what was said", mayUseDisk());
}

/** The saved options that are still valid, as text, if they are in this folder. */
export function openSavedOptions(rescue: { dir: string }): string[] {
  if (fileHere() !== wordsFile(rescue)) return [];
  return meanings(keptHere().said.filter((word) => !kindOf(word).isHistory));
}

function fileHere(): string | undefined {
  return [...allRescueFolders().map(wordsFile), IN_MEMORY].find((path) => exists(path));
}

/** A script that has changed this node has made a folder for what it moved. A word alone makes none. */
function mayUseDisk(): boolean {
  return allRescueFolders().length > 0;
}

/** A later kit may have kept what this one does not know: that is no word. */
function keptHere(): Kept {
  const path = fileHere();
  const kept = path === undefined ? undefined : readKeptJson<Partial<Kept> | null>(path);
  const isWord = (word: SavedOption | null) => isKind(word?.option) && typeof word!.value === "string";
  return {
    made: kept?.made ?? new Date().toISOString(),
    said: [kept?.said ?? []].flat().filter(isWord),
    over: [kept?.over ?? []].flat(),
  };
}

function write(kept: Kept, note: string, onDisk: boolean) {
  const [before = IN_MEMORY, memory] = [fileHere(), exists(IN_MEMORY)];
  const path = before === IN_MEMORY && onDisk ? wordsFile(rescueOfRun()) : before;
  const put = () => {
    writeFile(path, `${JSON.stringify(kept, null, 2)}\n`, { mode: 0o600, folderMode: 0o700, note });
    if (memory && path !== IN_MEMORY) removeFile(IN_MEMORY);
  };
  if (mode.script !== "") return put();
  // who only looks goes on where nothing can be written, as in a unit of systemd
  const done = attempt(put);
  if (done instanceof Fail) say(`could not save your words: ${done.message}`);
}
