/**
 * In `bun test`, a command of zx that has plain words only is started without the bash that would read them;
 * and where a pretend program answers it with mere text, or none is there, without any process. A bash takes
 * longer than most of what is tested. Scripts in processes of their own have it, as on a node.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { $ } from "zx/core";
import { answerTo, type FakeAnswer, placeOf } from "./programs.ts";

/** A program and words that mean the same to a shell as they are, and words between the quotes that zx puts. */
const PLAIN = /^[\w.-]+( [\w@%+=:,./-]+| \$'[\w@%+=:,./ -]+')*$/;
const WORDS = /\$'([^']+)'|[^ ]+/g;

/** What zx has its bash do first. */
const PREFIX = "set -euo pipefail;";

/** Where no pretend programs are, there are none: this machine's own systemctl is no node's. A host has a name. */
const OWN_PATH = process.env.PATH;
const OF_EACH_HOST = ["uname"];

export function withoutShell() {
  $.spawn = start as typeof spawn;
}

function start(line: string, args: string[], options: { env: Record<string, string> }): ChildProcess {
  const command = line.slice(PREFIX.length);
  if (!line.startsWith(PREFIX) || !PLAIN.test(command)) return spawn(line, args, options);
  const words = [...command.matchAll(WORDS)].map(([word, quoted]) => quoted ?? word) as [string, ...string[]];
  const { PATH, FAKE } = options.env;
  const isNone = PATH === OWN_PATH && FAKE === undefined && !OF_EACH_HOST.includes(words[0]);
  const program = isNone ? undefined : placeOf(words[0], PATH);
  const answer = program === undefined ? notFound(words[0]) : answerTo(program, words);
  return answer ? answered(answer) : spawn(program!, words.slice(1), { ...options, shell: false });
}

/** As bash says it. */
function notFound(name: string): FakeAnswer {
  return { stdout: "", stderr: `bash: line 1: ${name}: command not found\n`, exit: 127 };
}

/** A process that has said this, as far as zx looks at one. */
function answered({ stdout, stderr, exit }: FakeAnswer): ChildProcess {
  const stream = () => Object.assign(new EventEmitter(), { pipe: () => undefined });
  const child = Object.assign(new EventEmitter(), { stdin: null, stdout: stream(), stderr: stream() });
  process.nextTick(() => {
    if (stdout) child.stdout.emit("data", Buffer.from(stdout));
    if (stderr) child.stderr.emit("data", Buffer.from(stderr));
    child.emit("exit", exit, null);
    child.emit("close", exit, null);
  });
  return child as unknown as ChildProcess;
}
