/**
 * Reads a script's command line strictly: an unknown word stops the script before it does anything.
 */
import { basename, join, relative, resolve } from "node:path";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { UsageError } from "./fail.ts";
import { json } from "./json-answer.ts";
import { nearest } from "./nearest.ts";
import { FullAnswer, VERSION } from "./run.ts";
import { shell } from "./shell-line.ts";

/** A path as it was typed, from the folder the script is run in. A URL stays as it is. */
export function typed(path: string): string {
  return path.startsWith("https://") ? path : resolve(process.env.PWD ?? ".", path);
}

/**
 * As for parseArgs. `usage`: the text of --help; `words`: the most beside the options, if any. `commands`: the
 * sub-commands, each with the names of the words that follow it; "": the script runs without one, too.
 */
export type ScriptConfig = ParseArgsConfig & {
  usage: string;
  words?: number;
  commands?: Readonly<Record<string, readonly string[]>>;
};

/**
 * As parseArgs of node:util, for `parseOptions` (files/operator-files.ts), which also judges the paths. An
 * option with `path: …` is a path of this node: its value is made absolute. One with `number: true` takes a
 * number above 0, one with `oneOf: […]` one of these words. One with `list: true` takes names with commas,
 * also several times: a list, empty if it is not given. One with `of: […]` belongs to these sub-commands
 * alone; "": to none. `--version` and `--help` end each script. Errors: Fail with the option that was meant, or
 * with the sub-command that it belongs to.
 */
export function parseWords<T extends ScriptConfig>(given: T): Parsed<T> {
  const config = {
    ...given,
    options: { ...given.options, help: { type: "boolean", short: "h" } },
  } as const;
  own = config;
  json.isAsked = asksJson(config);
  if (tokensOf(config).some((token) => "rawName" in token && token.rawName === "--version"))
    throw new FullAnswer(`kube-pki-repair ${VERSION}`);
  const fault = faultOf(config);
  if (fault)
    throw new UsageError(fault.what, {
      hint: `${fault.meant ? `type ${fault.meant}, or see ` : ""}${thisScript()} --help`,
    });
  const parsed = parseArgs(config);
  const values = parsed.values as Record<string, unknown>;
  if (values.help) throw new FullAnswer(helpOf(config));
  for (const [name, option] of Object.entries(config.options)) {
    const value = values[name];
    if ("path" in option && typeof value === "string") values[name] = typed(value);
    if ("list" in option) values[name] = listOf(valuesOf(name, config).join());
  }
  return parsed as unknown as Parsed<T>;
}

/** Works even on a command line with a wrong word: a program that reads the JSON answer then gets the reason. */
function asksJson(config: ScriptConfig): boolean {
  return (
    Object.hasOwn(config.options ?? {}, "json") &&
    tokensOf(config).some(
      (token) =>
        token.kind === "option" &&
        (token.rawName === "--json" || (token.rawName === "--output" && token.value === "json")),
    )
  );
}

/** Options that most scripts have; a usage that describes one itself has its own words for it. */
const OFTEN: readonly [name: string, head: string, text: string][] = [
  [
    "endpoint",
    "--endpoint HOST:PORT",
    "The API's address, if the files and objects that record it disagree.",
  ],
  ["etcd-data", "--etcd-data DIR", "etcd's data directory (default: found by itself)."],
  ["dry-run", "--dry-run", "Print what would be done; nothing is written, stopped or started."],
  ["help", "--help", "Print this text."],
];
/** The exit codes of a script that changes the node, and names none itself. */
const EXIT_CODES = `Exit codes: 0 done, 1 stopped (see the hint), 3 refused: not for this node or cluster,
            4 locked by another run, 130 ended by a signal`;
/** All scripts have this one. */
const USAGE_CODE = "            64 a word of the command line is wrong";

/** The usage, with the options that most scripts have below its own, in their columns; and with the exit codes. */
function helpOf({ usage, options = {} }: ScriptConfig): string {
  const [head = "", rest] = usage.split("\nOptions:\n");
  if (rest === undefined) return usage;
  const [own = "", ...more] = rest.split("\n\n");
  const columns = own.split("\n").flatMap((line) => {
    const gap = line.startsWith("    --") ? line.slice(4).search(/ {2}\S/) : -1;
    return gap < 0 ? [] : [gap + 6];
  });
  const [column = 21] = columns;
  const rows = OFTEN.filter(([name]) => Object.hasOwn(options, name) && !own.includes(`    --${name} `)).map(
    ([, words, text]) =>
      words.length + 6 > column
        ? `    ${words}\n${" ".repeat(column)}${text}`
        : `    ${words}`.padEnd(column) + text,
  );
  const codes = usage.includes("\nExit codes: ") ? [] : [EXIT_CODES];
  const all = [`${head}\nOptions:\n${[own, ...rows].join("\n")}`, ...more, ...codes];
  return `${all.join("\n\n")},\n${USAGE_CODE}\n`;
}

export type Parsed<T extends ParseArgsConfig> = Omit<ReturnType<typeof parseArgs<T>>, "values"> & {
  values: Lists<T["options"]> & Omit<ReturnType<typeof parseArgs<T>>["values"], keyof Lists<T["options"]>>;
};

type Lists<O> = { [name in keyof O as O[name] extends { list: true } ? name : never]: string[] };

/** All values of one option; parseArgs keeps only the last. */
function valuesOf(name: string, config: ParseArgsConfig): string[] {
  return tokensOf(config).flatMap((token) =>
    token.kind === "option" && token.name === name ? (token.value ?? []) : [],
  );
}

function tokensOf({ options = {}, args = process.argv.slice(2) }: ParseArgsConfig) {
  return parseArgs({ options, args: [...args], strict: false, allowPositionals: true, tokens: true }).tokens;
}

function listOf(text: string): string[] {
  return [...new Set(text.split(",").map((name) => name.trim()))].filter(Boolean);
}

/** This script, as an operator types it. */
function thisScript(): string {
  return shell`./bunw ${relative(join(import.meta.dir, ".."), process.argv[1] ?? "")}`;
}

/** Unset: this script has not read its command line. */
let own: ScriptConfig | undefined;

/** The table by which this script has read its command line; undefined: it has not. */
export function lineRead(): ScriptConfig | undefined {
  return own;
}

/**
 * A word of the command line, or an option with its value: true for a switch, all names of a list, else the
 * last value typed.
 */
export interface TypedWord {
  option?: string;
  value: string | true | readonly string[];
}

/** This run's own command line: each option once, where it was typed first. `words`: "03-workers close". */
export function typedLine(): { script: string; words: string; typed: TypedWord[] } {
  const tokens = own ? tokensOf(own) : [];
  const positionals = tokens.flatMap((token) => (token.kind === "positional" ? [token.value] : []));
  const seen = new Set<string>();
  const typed = tokens.flatMap((token): TypedWord[] => {
    if (token.kind === "positional") return [{ value: token.value }];
    if (token.kind !== "option" || seen.has(token.name)) return [];
    seen.add(token.name);
    return [{ option: token.name, value: typedValue(token.name, own!) }];
  });
  return {
    script: thisScript(),
    words: [basename(process.argv[1] ?? "", ".ts"), ...positionals].join(" "),
    typed,
  };
}

function typedValue(name: string, config: ParseArgsConfig): TypedWord["value"] {
  const option = config.options?.[name];
  const values = valuesOf(name, config);
  return option && "list" in option ? listOf(values.join()) : (values.at(-1) ?? true);
}

interface Fault {
  what: string;
  meant?: string | undefined;
}

/** The first word that the script does not know. */
function faultOf(config: ScriptConfig): Fault | undefined {
  const { options = {}, allowPositionals, args = process.argv.slice(2) } = config;
  const tokens = tokensOf(config);
  const typed = tokens.flatMap((token) => (token.kind === "positional" ? [token.value] : []));
  const commands = isHelp(tokens) ? undefined : config.commands;
  const fault = faultOfCommand(commands, typed);
  if (fault) return fault;
  const [command = ""] = typed;
  let left = allowPositionals ? (config.words ?? Infinity) : 0;
  for (const token of tokens) {
    const word = args[token.index] ?? "";
    if (token.kind === "positional" && (--left < 0 || DASHES.test(word)))
      return { what: `"${word}" is not understood`, meant: meantBy(word, options) };
    if (token.kind !== "option" || token.rawName === "-h") continue;
    const option =
      token.rawName.startsWith("--") && Object.hasOwn(options, token.name) ? options[token.name] : undefined;
    if (!option) return { what: `There is no option "${word.split("=")[0]}"`, meant: meantBy(word, options) };
    if ("of" in option && !(option.of as string[]).includes(command))
      return {
        what: `"${token.rawName}" belongs to ${oneOfNames(option.of as string[])}, not to ${nameOfCommand(command)}`,
      };
    if (option.type === "boolean" && token.value !== undefined)
      return { what: `"${token.rawName}" takes no value, got "${token.value}"` };
    if (option.type === "string" && !hasValue(token)) return { what: `"${token.rawName}" needs a value` };
    if ("list" in option && listOf(token.value ?? "").length === 0)
      return { what: `"${token.rawName}" takes names, got "${token.value}"` };
    if ("oneOf" in option && !(option.oneOf as string[]).includes(token.value ?? ""))
      return {
        what: `"${token.rawName}" takes ${(option.oneOf as string[]).join(" or ")}, got "${token.value}"`,
      };
    if ("number" in option && !(Number(token.value) > 0))
      return { what: `"${token.rawName}" takes a number, got "${token.value}"` };
  }
  return faultOfWords(commands, typed);
}

/** Help needs no sub-command. */
function isHelp(tokens: ReturnType<typeof tokensOf>): boolean {
  return tokens.some((token) => token.kind === "option" && ["-h", "--help"].includes(token.rawName));
}

/** Word processors and chats make one long dash of two. */
const DASHES = /^[\u2010-\u2015\u2212]/;

/** The next option is no value, and neither is an empty word: `--token-file "$UNSET"`. */
function hasValue(token: { value?: string | undefined; inlineValue?: boolean | undefined }): boolean {
  return Boolean(token.value && (token.inlineValue || !token.value.startsWith("-")));
}

/** "open, close or approve" */
function oneOfNames(commands: readonly string[]): string {
  const names = commands.map(nameOfCommand);
  return [names.slice(0, -1).join(", "), names.at(-1)].filter(Boolean).join(" or ");
}

/** Returns the script's own name if there is no sub-command. */
function nameOfCommand(command: string): string {
  return command || basename(process.argv[1] ?? "", ".ts");
}

/** The option that was meant; undefined if none is near. */
function meantBy(word: string, options: NonNullable<ParseArgsConfig["options"]>): string | undefined {
  const bare = word.replace(/^[-\u2010-\u2015\u2212]+/, "").replace(/=.*/, "");
  const name = nearest(bare, Object.keys(options));
  return name && `--${name}`;
}

/** The first word is one of the script's sub-commands. */
function faultOfCommand(
  commands: ScriptConfig["commands"],
  [command = ""]: readonly string[],
): Fault | undefined {
  if (!commands || Object.hasOwn(commands, command)) return undefined;
  const script = nameOfCommand("");
  const all = Object.keys(commands).filter(Boolean);
  if (command === "") return { what: `${script} needs a sub-command: ${oneOfNames(all)}` };
  return { what: `${script} has no sub-command "${command}"`, meant: nearest(command, all) };
}

/** Checks that a sub-command is followed by as many words as it takes. */
function faultOfWords(commands: ScriptConfig["commands"], typed: readonly string[]): Fault | undefined {
  const [command = "", ...words] = typed;
  const takes = commands?.[command];
  if (!takes || takes.length === words.length) return undefined;
  const line = (all: readonly string[]) => [nameOfCommand(""), ...all].filter(Boolean).join(" ");
  return {
    what: `${line([command, ...takes])} is the whole line but for its options, got "${line(typed)}"`,
  };
}
