/**
 * What systemd would start: a unit and its drop-ins, one after the other, as `systemctl cat` prints them. Sources: systemd.service(5) for
 * ExecStart=, systemd.exec(5) for Environment= and EnvironmentFile=, systemd.syntax(7) for words and quotes.
 */
import { attempt } from "../fail.ts";
import { exists, readText } from "../files/files.ts";

interface Unit {
  /** The program and its arguments, variables put in; none where the unit has no ExecStart=. */
  command: string[];
  /** Its variables; those of files come last, as with systemd. */
  variables: Map<string, string>;
  files: EnvironmentFile[];
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
  let words: string[] = [];
  for (const [name, value] of assignments(text)) {
    if (name === "ExecStart") words = wordsOf(value);
    if (name === "Environment") value ? assign(variables, wordsOf(value)) : variables.clear();
    if (name === "EnvironmentFile") value ? files.push(environmentFile(value)) : files.splice(0);
  }
  for (const { path } of files)
    assign(
      variables,
      [...assignments(readable(path))].map(([name, value]) => `${name}=${unquoted(value)}`),
    );
  return { command: words.flatMap((word) => expanded(word, variables)), variables, files };
}

/**
 * The flags of a command, without dashes: "true" where one has no value. The last one of a name counts, and `_` is a dash, as for Kubernetes'
 * programs (component-base's WordSepNormalizeFunc).
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
  const path = unquoted(value).replace(/^-/, "");
  // a pattern or a specifier names no one file
  return { path, optional: value.startsWith("-"), isHere: /[*?[%]/.test(path) || exists(path) };
}

function readable(path: string): string {
  return attempt(() => readText(path), "") ?? "";
}

/** Words as systemd splits them, without their quotes. */
function wordsOf(text: string): string[] {
  return (text.match(/(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+/gs) ?? []).map(unquoted);
}

function unquoted(word: string): string {
  return word.replaceAll(/"((?:\\.|[^"\\])*)"|'([^']*)'|\\(.)/gs, (_, double?: string, single?: string, escaped?: string) => {
    return double?.replaceAll(/\\(.)/gs, "$1") ?? single ?? escaped ?? "";
  });
}

/** `$NAME` alone becomes as many words as its value has; `${NAME}` stays part of its word. */
function expanded(word: string, variables: ReadonlyMap<string, string>): string[] {
  const [, alone] = /^\$(\w+)$/.exec(word) ?? [];
  if (alone) return wordsOf(variables.get(alone) ?? "");
  return [word.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => variables.get(name) ?? "")];
}
