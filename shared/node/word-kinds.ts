/** The operator's words about this cluster: each kind, what it means, and how it is printed. */
import { listed } from "../plain.ts";

interface Kind {
  /** A sentence for the operator, about one or several values. */
  means: (values: readonly string[]) => string;
  ofNodes?: true;
  /** It has one value: a later word takes the place of an earlier one. */
  single?: true;
  /** Another word for the same node: the later one counts. */
  instead?: "without" | "lost";
  /** It is about this node alone: no bundle and no answer brings it, and whoever keeps it reads it by rules of its own. */
  own?: true;
  /** It was done, and is no longer open. */
  isHistory?: true;
}

const are = (values: readonly string[]) => `${listed(values)} ${values.length > 1 ? "are" : "is"}`;

/** Option → kind. `restored` is said by the script. */
// biome-ignore format: a table
const WORD_KINDS = {
  without:         { means: (nodes) => `${are(nodes)} away`, ofNodes: true, instead: "lost" },
  lost:            { means: (nodes) => `${are(nodes)} lost for good`, ofNodes: true, instead: "without" },
  "lost-on":       { means: (nodes) => `on ${listed(nodes)} the keys are lost, too, or another machine answers there`, ofNodes: true },
  worker:          { means: (nodes) => `${are(nodes)} no control plane node`, ofNodes: true },
  "start-without": { means: (flags) => `the API server starts without ${flags.map((flag) => `--${flag}`).join(", ")}` },
  endpoint:        { means: ([place]) => `the API is reached at ${place}`, single: true },
  "etcd-data":     { means: ([dir]) => `etcd's data is in ${dir}`, single: true },
  moved:           { means: (pairs) => listed(pairs.map((pair) => pair.replace("=", " is now "))), own: true },
  restored:        { means: ([from]) => `etcd's data was made of ${from}`, single: true, own: true, isHistory: true },
  skip:            { means: (workloads) => `you restart ${listed(workloads)}`, own: true },
  "images-later":  { means: (images) => `the kubelet pulls ${listed(images)}`, own: true },
} as const satisfies Record<string, Kind>;

export type WordKind = keyof typeof WORD_KINDS;
type Own = { [kind in WordKind]: (typeof WORD_KINDS)[kind] extends { own: true } ? kind : never }[WordKind];
export type WordOption = Exclude<WordKind, Own>;
export type Spoken = { [option in WordOption]?: string | readonly string[] | undefined };

/** Each script that takes the option hears these, and other nodes are told. */
export const WORD_OPTIONS = (Object.keys(WORD_KINDS) as WordKind[]).filter(
  (kind) => !kindOf({ option: kind }).own,
) as WordOption[];

export interface Word {
  option: WordKind;
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

export function kindOf({ option }: Pick<Word, "option">): Kind {
  return WORD_KINDS[option];
}

export function isKind(option: unknown): option is WordKind {
  return Object.hasOwn(WORD_KINDS, String(option));
}

/** A later word takes the place of those that it contradicts. */
export function withWord(words: Word[], word: Word): Word[] {
  const { single, instead } = kindOf(word);
  const goes = (other: Word) =>
    (other.option === word.option && (single || other.value === word.value)) ||
    (other.option === instead && other.value === word.value);
  return [...words.filter((other) => !goes(other)), word];
}

/** Another node's words, of what is printed and may get into lines. */
export function asWords(said: unknown): Word[] {
  const isText = (text: unknown) => typeof text === "string" && /^[\x21-\x7e]{1,253}$/.test(text);
  return ([said ?? []].flat() as (Word | null)[]).flatMap((one): Word[] => {
    if (!one || !isKind(one.option) || kindOf(one).own) return [];
    const { option, value, at, by, on, files } = one;
    const paths = [files ?? []].flat();
    if (![value, at, by, on ?? "-", ...paths].every(isText) || Number.isNaN(Date.parse(at))) return [];
    return [{ option, value, at, by, on, ...(paths.length > 0 && { files: paths }) }];
  });
}

/** "cp3 and w1 are away" */
export function meanings(words: readonly Word[]): string[] {
  return [...Map.groupBy(words, ({ option }) => option)].map(([option, same]) =>
    kindOf({ option }).means(same.map(({ value }) => value)),
  );
}

/** "as said at 04:50 (plan, on cp1): cp3 is away" */
export function asSaid(word: Word): string {
  const of = word.files ?? word.members ?? [];
  return `${saidAt(word)}: ${meanings([word]).join()}${of.length > 0 ? ` (${listed(of)})` : ""}`;
}

/** "as said at 04:50 (plan, on cp1)" */
export function saidAt({ at, by, on }: Word): string {
  const [day, time] = [at.slice(0, 10), at.slice(11, 16)];
  const today = day === new Date().toISOString().slice(0, 10);
  return `as said at ${today ? time : `${day} ${time}`} (${[by, ...(on ? [`on ${on}`] : [])].join(", ")})`;
}
