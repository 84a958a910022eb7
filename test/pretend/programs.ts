/** Pretend programs for tests that run a whole script: each answers the commands listed for it and writes down every call. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** An answer to one command line. Listed several times, a command gives its answers in turn; the last one stays. */
export interface FakeCommand {
  /** The whole command line; a `*` stands for anything. */
  command: string;
  stdout?: string;
  stderr?: string;
  exit?: number;
  /** A line of shell that runs first, for what the program would do: "touch $FAKE/started". */
  does?: string;
}

/** What a script may use of the machine it is tested on; everything else has to be listed as a command. */
const REAL_PROGRAMS = [
  "sh",
  "bash",
  "cat",
  "env",
  "cp",
  "mv",
  "rm",
  "mkdir",
  "chmod",
  "stat",
  "ls",
  "sync",
  "tar",
  "gzip",
  "uname",
  "grep",
  "dirname",
];

/** The PATH holds the pretend programs and a few real ones, so that nothing of the machine is started by mistake. */
export function fakePath(commands: FakeCommand[]) {
  const folder = mkdtempSync(join(tmpdir(), "fake-"));
  const bin = join(folder, "bin");
  mkdirSync(bin);
  writeFileSync(join(folder, "calls"), "");
  const programs = Map.groupBy(commands, ({ command }) => command.split(" ")[0]!);
  for (const name of REAL_PROGRAMS) if (!programs.has(name)) symlinkSync(Bun.which(name) ?? `/bin/${name}`, join(bin, name));
  for (const [name, own] of programs) writeProgram(folder, name, own);
  return {
    env: { PATH: bin, FAKE: folder },
    /** Every call so far, in order; what a script asked that was not listed is in it, too, and had exit code 99. */
    calls: () => readFileSync(join(folder, "calls"), "utf8").split("\n").filter(Boolean),
    folder,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function writeProgram(folder: string, name: string, commands: FakeCommand[]) {
  const lines = [...Map.groupBy(commands, ({ command }) => command)].flatMap(([command, answers], index) => {
    const key = `${folder}/${name}.${index}`;
    const replies = answers.map((answer, turn) => reply(answer, `${key}.${turn}`));
    if (replies.length === 1) return [`${pattern(command)}) ${replies[0]};;`];
    const cases = replies.map((text, turn) => `${turn === replies.length - 1 ? "*" : turn}) ${text};;`);
    return [`${pattern(command)}) n=0; test ! -e ${key} || read n < ${key}; echo $((n + 1)) > ${key}; case $n in`, ...cases, "esac;;"];
  });
  const script = ["#!/bin/sh", `call="${name} $*"`, `echo "$call" >> ${folder}/calls`, 'case "$call" in', ...lines, "esac"];
  const file = join(folder, "bin", name);
  writeFileSync(file, [...script, 'echo "not listed in the test: $call" >&2; exit 99', ""].join("\n"));
  chmodSync(file, 0o755);
}

/** Answers lie in files, so that no quote in them can go wrong. */
function reply({ stdout = "", stderr = "", exit = 0, does = ":" }: FakeCommand, file: string) {
  if (stdout) writeFileSync(`${file}.out`, stdout);
  if (stderr) writeFileSync(`${file}.err`, stderr);
  return [does, stdout && `cat ${file}.out`, stderr && `cat ${file}.err >&2`, `exit ${exit}`].filter(Boolean).join("; ");
}

/** A shell pattern: everything quoted but the `*`. */
function pattern(command: string) {
  return command
    .split("*")
    .map((text) => (text ? `'${text.replaceAll("'", `'\\''`)}'` : ""))
    .join("*");
}
