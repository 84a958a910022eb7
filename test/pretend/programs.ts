/**
 * Pretend programs for tests that run a whole script: each answers the commands that are listed for it, and
 * records every call.
 */
import {
  accessSync,
  appendFileSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { programWord } from "../../shared/shell-line.ts";

/**
 * An answer to one command line. A command that is listed several times gives its answers in turn; the last
 * one is repeated.
 */
export interface FakeCommand {
  /** The whole command line; a `*` stands for anything. */
  command: string;
  stdout?: string;
  stderr?: string;
  exit?: number;
  /** A line of shell that runs first, in place of what the program does: "touch $FAKE/started". */
  does?: string;
}

/** Programs of this machine that a script may use; everything else has to be listed as a command. */
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
  "flock",
];

/**
 * The PATH has only the pretend programs and a few real ones, so that no test starts another program of this
 * machine.
 */
export function fakePath(commands: FakeCommand[], without: readonly string[] = []) {
  const folder = mkdtempSync(join(tmpdir(), "fake-"));
  const bin = join(folder, "bin");
  mkdirSync(bin);
  writeFileSync(join(folder, "calls"), "");
  const programs = Map.groupBy(commands, ({ command }) => command.split(" ")[0]!);
  for (const [name, own] of programs) {
    if (without.includes(name)) continue;
    writeProgram(folder, name, own);
  }
  writeFileSync(join(folder, ANSWERS), JSON.stringify(commands));
  const others = without.length > 0 ? linksIn(join(folder, "real"), without) : realPrograms();
  return {
    env: { PATH: `${bin}:${others}`, FAKE: folder },
    /** Every call so far, in order. A call that was not listed is among them; it had exit code 99. */
    calls: () => readFileSync(join(folder, "calls"), "utf8").split("\n").filter(Boolean),
    folder,
    [Symbol.dispose]() {
      answers.delete(folder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The same for what this process itself starts, until it is disposed; `more`: variables, for as long. */
export function programsHere(
  commands: FakeCommand[],
  more: Record<string, string | undefined> = {},
  without: readonly string[] = [],
) {
  const fake = fakePath(commands, without);
  const variables = variablesHere({ ...fake.env, ...more });
  return {
    ...fake,
    [Symbol.dispose]() {
      variables[Symbol.dispose]();
      fake[Symbol.dispose]();
    },
  };
}

/** Variables of this process, until it is disposed; an undefined one stays as it is. */
export function variablesHere(values: Record<string, string | undefined>): Disposable {
  const own = Object.entries(values).filter(([, value]) => value !== undefined);
  const before = own.map(([name]) => [name, process.env[name]] as const);
  Object.assign(process.env, Object.fromEntries(own));
  return {
    [Symbol.dispose]() {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    },
  };
}

/** In the folder of pretend programs: what they answer. */
const ANSWERS = "answers.json";

/**
 * Whether the kubelet is stopped, by a file of $FAKE: lines of shell that are asked so often that they are done without
 * one, too. Each says what its row here says; programs.test.ts holds both against each other.
 */
export const IS_ACTIVE = 'test -e "$FAKE/stopped" && echo inactive && exit 3; echo active';
export const IS_ACTIVE_QUIETLY = 'test ! -e "$FAKE/stopped" || exit 3';

const DONE_HERE: Record<string, (isStopped: boolean) => Partial<FakeAnswer>> = {
  [IS_ACTIVE]: (isStopped) => (isStopped ? { stdout: "inactive\n", exit: 3 } : { stdout: "active\n" }),
  [IS_ACTIVE_QUIETLY]: (isStopped) => (isStopped ? { exit: 3 } : {}),
};

/** Read once in a process, by the folder; undefined: no pretend programs are there. */
const answers = new Map<string, FakeCommand[] | undefined>();

function answersOf(folder: string): FakeCommand[] | undefined {
  const file = join(folder, ANSWERS);
  if (!answers.has(folder))
    answers.set(folder, existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined);
  return answers.get(folder);
}

export type FakeAnswer = Required<Pick<FakeCommand, "stdout" | "stderr" | "exit">>;

/**
 * What a pretend program says to these words, recorded as a call; undefined where it has to run for that: it
 * does something, answers in turn, or is none of ours.
 */
export function answerTo(program: string, words: readonly string[]): FakeAnswer | undefined {
  const folder = dirname(dirname(program));
  const call = words.join(" ");
  const fits = (answersOf(folder) ?? []).filter(({ command }) => isLike(call, command));
  const [{ command, does, ...answer } = { command: "" } as FakeCommand, ...others] = fits;
  const isInTurn = others.some((other) => other.command === command);
  const done = does === undefined ? () => ({}) : DONE_HERE[does];
  if (command === "" || !done || isInTurn) return undefined;
  appendFileSync(join(folder, "calls"), `${call}\n`);
  return {
    ...{ stdout: "", stderr: "", exit: 0 },
    ...answer,
    ...done(existsSync(join(folder, "stopped"))),
  };
}

/** As a shell looks for it. */
export function placeOf(name: string, path = ""): string | undefined {
  return path
    .split(":")
    .map((folder) => join(folder, name))
    .find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** As the shell's patterns that `writeProgram` makes. */
function isLike(call: string, command: string): boolean {
  const parts = command.split("*");
  if (parts.length === 1) return call === command;
  if (!call.startsWith(parts[0]!)) return false;
  return new RegExp(`^${parts.map(RegExp.escape).join(".*")}$`, "s").test(call);
}

let real: string | undefined;

/** Made once per process. */
function realPrograms(): string {
  real ??= linksIn(mkdtempSync(join(tmpdir(), "real-")), []);
  return real;
}

/** A folder of links to the machine's own programs. */
function linksIn(folder: string, without: readonly string[]): string {
  mkdirSync(folder, { recursive: true });
  for (const name of REAL_PROGRAMS)
    if (!without.includes(name)) symlinkSync(Bun.which(name) ?? `/bin/${name}`, join(folder, name));
  return folder;
}

function writeProgram(folder: string, name: string, commands: FakeCommand[]) {
  const lines = [...Map.groupBy(commands, ({ command }) => command)].flatMap(([command, answers], index) => {
    const key = `${folder}/${name}.${index}`;
    const replies = answers.map(reply);
    if (replies.length === 1) return [`${pattern(command)}) ${replies[0]};;`];
    const cases = replies.map((text, turn) => `${turn === replies.length - 1 ? "*" : turn}) ${text};;`);
    return [
      `${pattern(command)}) n=0; test ! -e ${key} || read n < ${key}; echo $((n + 1)) > ${key}; case $n in`,
      ...cases,
      "esac;;",
    ];
  });
  const script = [
    "#!/bin/sh",
    `call="${name} $*"`,
    `echo "$call" >> ${folder}/calls`,
    'case "$call" in',
    ...lines,
    "esac",
  ];
  const file = join(folder, "bin", name);
  writeFileSync(file, [...script, 'echo "not listed in the test: $call" >&2; exit 99', ""].join("\n"));
  chmodSync(file, 0o755);
}

function reply({ stdout = "", stderr = "", exit = 0, does = ":" }: FakeCommand) {
  const says = [
    stdout && `printf %s ${programWord(stdout)}`,
    stderr && `printf %s ${programWord(stderr)} >&2`,
  ];
  return [does, ...says, `exit ${exit}`].filter(Boolean).join("; ");
}

/** A shell pattern: everything is quoted, except the `*`. */
function pattern(command: string) {
  return command
    .split("*")
    .map((text) => (text ? programWord(text) : ""))
    .join("*");
}

/**
 * Bun gives a child the variables, and looks for it on the PATH, with which this process began, where it is
 * not told of those of now.
 */
export function ofNow(spawn: (command: string[], options: object) => unknown) {
  return (command: string[], options: object) => spawn(command, { env: process.env, ...options });
}

/** Instead of `Bun.spawn`: whoever only reads what a pretend program answers with mere text needs no process. */
export function withoutProcess(spawn: (command: string[], options: object) => unknown) {
  return (command: string[], options: { stdin?: unknown; stdout?: unknown; env?: object } = {}) => {
    const isRead = Array.isArray(command) && options.stdin === "ignore" && options.stdout === "pipe";
    const program = isRead && !options.env ? placeOf(command[0]!, process.env.PATH) : undefined;
    const answer = program && answerTo(program, command);
    if (!answer) return spawn(command, options);
    return { exited: Promise.resolve(answer.exit), stdout: new Response(answer.stdout).body };
  };
}
