/**
 * In `bun test`, a command of zx that has plain words only is started without the bash that would read them;
 * and where a pretend program answers it with mere text, without any process. A bash takes longer than most of
 * what is tested. Scripts in processes of their own have it, as on a node.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { $ } from "zx/core";
import { answerTo, type FakeAnswer } from "./programs.ts";

/** A program and words that mean the same to a shell as they are. */
const PLAIN = /^[\w.-]+( [\w@%+=:,./-]+)*$/;

/** What zx has its bash do first. */
const PREFIX = "set -euo pipefail;";

export function withoutShell() {
  $.spawn = start as typeof spawn;
}

function start(line: string, args: string[], options: { env: Record<string, string> }): ChildProcess {
  const command = line.slice(PREFIX.length);
  const words = line.startsWith(PREFIX) && PLAIN.test(command) ? command.split(" ") : [];
  const program = placeOf(words[0], options.env.PATH);
  if (program === undefined) return spawn(line, args, options);
  const answer = answerTo(program, words);
  return answer ? answered(answer) : spawn(program, words.slice(1), { ...options, shell: false });
}

/** As a shell looks for it. */
function placeOf(name: string | undefined, path = ""): string | undefined {
  return (
    name &&
    path
      .split(":")
      .map((folder) => join(folder, name))
      .find(isProgram)
  );
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
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
