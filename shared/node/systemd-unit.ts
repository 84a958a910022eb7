import { attempt } from "../fail.ts";
import { exists, readText } from "../files/files.ts";

/** Letters: Linux gives a program no more (ARG_MAX, execve(2)). */
const LONGEST_COMMAND = 2 ** 21;

/** Variables beyond the longest command are left out: a text could name a long one any number of times. */
export function expanded(exec: string, variables: ReadonlyMap<string, string>): string[] {
  let left = LONGEST_COMMAND;
  const lookUp = (name: string) => {
    const value = variables.get(name) ?? "";
    left -= value.length;
    return left < 0 ? "" : value;
  };
  return unitWords(exec).flatMap((word) => expandWord(word, lookUp));
}

export interface Unit {
  /** The program and its arguments, variables put in; none where the unit has no ExecStart=. */
  command: string[];
  /** The same as it stands in the unit. */
  exec: string;
  /** The variables of environment files come last, as with systemd. */
  variables: Map<string, string>;
  files: EnvironmentFile[];
  user: string;
}

interface EnvironmentFile {
  path: string;
  /** `EnvironmentFile=-PATH`: without the file it starts all the same, and without its variables. */
  optional: boolean;
  isHere: boolean;
}

/** Reads the files that it names, too. */
export function readUnit(text: string): Unit {
  const [variables, files] = [new Map<string, string>(), [] as EnvironmentFile[]];
  let [exec, user] = ["", "root"];
  for (const [name, value] of assignments(text)) {
    if (name === "ExecStart") exec = value;
    if (name === "User") user = value || "root";
    if (name === "Environment") value ? assign(variables, unitWords(value)) : variables.clear();
    if (name === "EnvironmentFile") value ? files.push(environmentFile(value)) : files.splice(0);
  }
  for (const { path } of files)
    for (const [name, value] of assignments(textOrNone(path))) variables.set(name, unquote(value));
  return { command: expanded(exec, variables), exec, variables, files, user };
}

/**
 * The flags of a command, without dashes: "true" where one has no value. The last one of a name counts, and
 * `_` is a dash, as for Kubernetes' programs (component-base's WordSepNormalizeFunc).
 */
export function flagsOf(command: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const [i, word] of command.entries()) {
    const [, name, value] = /^--([\w-]+)(?:=(.*))?$/s.exec(word) ?? [];
    const next = command[i + 1] ?? "-";
    if (name) found.set(name.replaceAll("_", "-"), value ?? (next.startsWith("-") ? "true" : next));
  }
  return found;
}

/** `NAME=value` lines; a line that ends in a backslash goes on in the next one. */
function* assignments(text: string): Generator<[name: string, value: string]> {
  const lines = text.split("\n").filter((line) => !/^\s*[#;]/.test(line));
  for (const line of lines.join("\n").replaceAll("\\\n", " ").split("\n")) {
    const [, name, value] = /^\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name) yield [name, value!];
  }
}

function assign(variables: Map<string, string>, words: readonly string[]) {
  for (const word of words) variables.set(word.split("=")[0]!, word.slice(word.indexOf("=") + 1));
}

function environmentFile(value: string): EnvironmentFile {
  const path = unquote(value).replace(/^-/, "");
  // a pattern or a specifier names no one file
  return { path, optional: value.startsWith("-"), isHere: /[*?[%]/.test(path) || exists(path) };
}

export function textOrNone(path: string): string {
  return attempt(() => readText(path), "") ?? "";
}

function unitWords(text: string): string[] {
  return (text.match(/(?:"[^"\\]*(?:\\.[^"\\]*){0,9999}"|'[^']*'|\\.|[^\s"'\\]+)+/gs) ?? []).map(unquote);
}

function unquote(word: string): string {
  return word.replaceAll(
    /"([^"\\]*(?:\\.[^"\\]*){0,9999})"|'([^']*)'|\\(.)/gs,
    (_, double?: string, single?: string, escaped?: string) => {
      return double?.replaceAll(/\\(.)/gs, "$1") ?? single ?? escaped ?? "";
    },
  );
}

/** `$NAME` alone becomes as many words as its value has; `${NAME}` stays part of its word. */
function expandWord(word: string, lookUp: (name: string) => string): string[] {
  const [, alone] = /^\$(\w+)$/.exec(word) ?? [];
  if (alone) return unitWords(lookUp(alone));
  return [word.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => lookUp(name))];
}
