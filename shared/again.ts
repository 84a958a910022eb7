/**
 * Lines of this kit's scripts that an operator types next: another script's (`command`), this one's again
 * with more options (`again`), and lists of them. No line repeats words that are saved (node/words.ts).
 */
import { type TypedWord, typedLine } from "./options.ts";
import { shell } from "./shell-line.ts";

/** Nodes that the operator leaves out: `without` are away and come back some day, `lost` never do. */
export interface LeftOut {
  without: readonly string[];
  lost: readonly string[];
}

export const NOBODY: LeftOut = { without: [], lost: [] };

export function leftNames({ without, lost }: LeftOut): string[] {
  return [...new Set([...without, ...lost])];
}

/** "03-workers close" as an operator types it, with options that add something. */
export function command(words: string, more: object = {}): string {
  const [script, ...args] = words.split(" ");
  return withOptions([shell`./bunw scripts/${script!}.ts`, ...args].join(" "), more);
}

export function withOptions(line: string, more: object): string {
  const options = Object.entries<More[string] | undefined>({ ...more }).flatMap(([name, value]) =>
    value === undefined ? [] : optionWords(name, value),
  );
  return [line, ...options].join(" ");
}

/** A bundle to keep: one in the kit's folder, or in memory, is no backup. */
export const BACKUP = command("hand-over pack --generate --out /root/keys.age");

/** Keyed by option: names for a list, or the new value; true: a switch; false: removes the option. */
type More = Record<string, boolean | string | readonly string[]>;

interface Which {
  /** "03-workers close": that script's command, with these options alone. Unset: the running script. */
  of?: string;
  /** Names to remove from every list. */
  less?: readonly string[];
}

/**
 * This script's own command again, with more options. Keeps all typed words, and --dry-run: the line never
 * does more than the last one was allowed to.
 */
export function again(more: More, { of, less = [] }: Which = {}): string {
  const line = typedLine();
  const own = of === undefined || of === line.words;
  const script = own ? line.script : command(of);
  const typed = own ? line.typed : [];
  const isTyped = (name: string) => typed.some(({ option }) => option === name);
  const added = Object.keys(more).filter((name) => !isTyped(name));
  const all = [
    ...typed,
    ...added.map((option): TypedWord => ({ option, value: Array.isArray(more[option]) ? [] : true })),
  ];
  const last = all.flatMap(({ option, value }) =>
    option === undefined && String(value).startsWith("-") ? [String(value)] : [],
  );
  const words = all
    .filter(({ value }) => !last.includes(String(value)))
    .flatMap((word) => shown(word, more, less));
  return [script, ...words, ...(last.length > 0 ? [shell`${last}`] : [])].join(" ");
}

function shown({ option, value }: TypedWord, more: More, less: readonly string[]): string[] {
  return option === undefined
    ? [shell`${String(value)}`]
    : optionWords(option, merged(value, more[option], less));
}

function optionWords(option: string, value: More[string]): string[] {
  if (value === false || (Array.isArray(value) && value.length === 0)) return [];
  if (value === true) return [`--${option}`];
  const text = Array.isArray(value) ? value.join(",") : String(value);
  return text.startsWith("-") ? [shell`--${option}=${text}`] : [shell`--${option} ${text}`];
}

function merged(typed: TypedWord["value"], more: More[string] | undefined, less: readonly string[]) {
  if (more === false || !Array.isArray(typed)) return more ?? typed;
  return [...new Set([...typed, ...(Array.isArray(more) ? more : [])])].filter(
    (name) => !less.includes(name),
  );
}

export interface Todo {
  command: string;
  /** The nodes on which to do it, in words; unset: this node. */
  on?: string;
  /** Its name in a sentence: "part 1". Unset: its command. */
  called?: string;
  /** Some of these nodes may have done it. */
  unlessDone?: true;
  /** A reason or a note: a comment behind the command. */
  note?: string;
}

/** Text for the last line of a script: "part 1 on m2, then ./bunw scripts/02-control-plane.ts". */
export function inOneLine(todos: readonly Todo[]): string {
  const phrases = todos.map(({ command, on, called, unlessDone }) => {
    if (!on) return called ?? command;
    return called
      ? `${called} on ${on}${unlessDone ? " where it is not done yet" : ""}`
      : `on ${on}: ${command}`;
  });
  return phrases.join(", then ");
}

/** Letters. The comment of a longer line follows it directly, and does not move the others. */
const LONG = 90;

/** Text for a list: one line each, with aligned comments. */
export function inLines(todos: readonly Todo[]): string[] {
  const lines = todos.map(({ command, on, note }) => ({ text: `${on ? `on ${on}: ` : ""}${command}`, note }));
  const width = Math.max(
    0,
    ...lines.map(({ text, note }) => (note && text.length <= LONG ? text.length : 0)),
  );
  return lines.map(({ text, note }) => (note ? `${text.padEnd(width)}   # ${note}` : text));
}

/** Joins commands with arrows: only script names and their arguments. */
export function commandChain(todos: readonly Todo[]): string {
  return todos
    .map(
      ({ command, on }) =>
        `${on ? `on ${on}: ` : ""}${command.replaceAll(/\.\/bunw scripts\/([\w-]+)\.ts/g, "$1")}`,
    )
    .join(" → ");
}
