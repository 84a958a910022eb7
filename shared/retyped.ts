/** This script's own command, to be typed again with something more. No word that was typed is lost: what it was typed for still holds. */
import { type TypedWord, typedLine } from "./options.ts";
import { shell, shellWord } from "./shell-line.ts";

/** By their names: what a list gets more, the value that takes the place of the typed one, true for a switch, false: the option goes. */
type More = Record<string, boolean | string | readonly string[]>;

interface Which {
  /** "03-workers close": if another script runs, its command with these options alone. Unset: the script that runs. */
  of?: string;
  /** Goes out of every list. */
  less?: readonly string[];
}

/** As an operator types it, --dry-run, too, if it was typed: the line never does more than the one before was allowed to. */
export function retyped(more: More, { of, less = [] }: Which = {}): string {
  const line = typedLine();
  const own = of === undefined || of === line.words;
  const script = own ? line.script : `./bunw scripts/${of.replace(/^[\w-]+/, "$&.ts")}`;
  const typed = own ? line.typed : [];
  const isTyped = (name: string) => typed.some(({ option }) => option === name);
  const added = Object.keys(more).filter((name) => !isTyped(name));
  const all = [...typed, ...added.map((option): TypedWord => ({ option, value: Array.isArray(more[option]) ? [] : true }))];
  const last = all.flatMap(({ option, value }) => (option === undefined && String(value).startsWith("-") ? [String(value)] : []));
  const words = all.filter(({ value }) => !last.includes(String(value))).flatMap((word) => shown(word, more, less));
  return [script, ...words, ...(last.length > 0 ? [shell`${last}`] : [])].join(" ");
}

/** This line for the script that does it now: all words that were typed, but these options, of which the values stay. */
export function movedTo(script: string, gone: readonly string[]): string {
  const words = process.argv.slice(2).flatMap((word) => {
    const name = gone.find((one) => word === one || word.startsWith(`${one}=`));
    return name === undefined ? word : word.slice(name.length + 1) || [];
  });
  return [`./bunw scripts/${script}.ts`, ...words.map(shellWord)].join(" ");
}

function shown({ option, value }: TypedWord, more: More, less: readonly string[]): string[] {
  if (option === undefined) return [shell`${String(value)}`];
  const now = merged(value, more[option], less);
  if (now === false || (Array.isArray(now) && now.length === 0)) return [];
  if (now === true) return [`--${option}`];
  const text = Array.isArray(now) ? now.join(",") : String(now);
  return text.startsWith("-") ? [shell`--${option}=${text}`] : [shell`--${option} ${text}`];
}

function merged(typed: TypedWord["value"], more: More[string] | undefined, less: readonly string[]) {
  if (more === false || !Array.isArray(typed)) return more ?? typed;
  return [...new Set([...typed, ...(Array.isArray(more) ? more : [])])].filter((name) => !less.includes(name));
}
