/**
 * The one who decides: a person at a terminal, who types numbers, or the options of a command without a terminal. A question shows
 * each way with a number; nothing else has to be typed, but the path of a file.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { setImmediate } from "node:timers/promises";
import { codeOf } from "../fail.ts";
import { plainLine } from "../plain.ts";
import { answer } from "../run.ts";
import { Interrupted } from "./interrupted.ts";

export interface AskedNow {
  /** Sentences; the first one is the question. */
  text: readonly string[];
  ways: readonly string[];
}

export interface Person {
  /** Somebody answers: ssh may ask, too. */
  readonly isThere: boolean;
  /**
   * The number of the way, from 0 on; undefined: nobody answers, or the question is taken back (`signal`). Errors:
   * Interrupted at Ctrl-C, but not at a question with `signal`: something runs behind that one, and is waited for.
   */
  choose(question: AskedNow, signal?: AbortSignal): Promise<number | undefined>;
  /** Undefined if nobody answers. Errors: Interrupted at Ctrl-C. */
  path(question: string): Promise<string | undefined>;
}

function showAsked({ text, ways }: AskedNow) {
  const [first = "", ...more] = text;
  answer("");
  answer(first, undefined, 2);
  for (const line of more) answer(`  ${line}`, undefined, 4);
  for (const [index, way] of ways.entries()) answer(`  ${index + 1}  ${way}`, undefined, 5);
}

/** Typed ahead is nothing: a line that came before its question is not its answer. */
export class AtTerminal implements Person {
  readonly isThere = true;

  async choose(question: AskedNow, signal?: AbortSignal): Promise<number | undefined> {
    showAsked(question);
    const { length } = question.ways;
    for (;;) {
      const typed = await this.#ask(`Type a number (1-${length}): `, signal);
      if (signal?.aborted) answer("It is finished meanwhile: nothing has to be decided.");
      if (typed === undefined) return undefined;
      const number = Number(typed.trim());
      if (/^\d+$/.test(typed.trim()) && number >= 1 && number <= length) return number - 1;
      answer(`"${plainLine(typed.trim())}" is no number from 1 to ${length}.`);
    }
  }

  async path(question: string): Promise<string | undefined> {
    const typed = await this.#ask(`${question}: `);
    return typed?.trim() || undefined;
  }

  async #ask(prompt: string, signal?: AbortSignal): Promise<string | undefined> {
    await dropTypedAhead();
    const lines = createInterface({ input: process.stdin, output: process.stdout });
    const ended = Promise.withResolvers<undefined>();
    lines.once("SIGINT", () => {
      if (signal) process.kill(process.pid, "SIGINT");
      else ended.reject(new Interrupted());
      lines.close();
    });
    lines.once("close", () => ended.resolve(undefined));
    signal?.addEventListener("abort", () => lines.close());
    try {
      return await Promise.race([lines.question(prompt), ended.promise]);
    } finally {
      lines.close();
    }
  }
}

/**
 * Reads and drops all that lies in the terminal, also a line without its end, and what was read of it already. In raw
 * mode a terminal gives all of it at once, and a read that does not wait says when nothing is left.
 */
async function dropTypedAhead() {
  const { stdin } = process;
  if (!stdin.isTTY) return;
  stdin.setRawMode(true);
  try {
    readAll("/dev/tty");
    stdin.resume();
    await setImmediate();
    while (stdin.read() !== null);
    stdin.pause();
    readAll("/dev/tty");
  } finally {
    stdin.setRawMode(false);
  }
}

/** Errors: as the system's, but that nothing is left. */
function readAll(path: string) {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  const bytes = Buffer.alloc(4096);
  try {
    while (readSync(fd, bytes) > 0);
  } catch (err) {
    if (codeOf(err) !== "EAGAIN") throw err;
  } finally {
    closeSync(fd);
  }
}

/** No terminal: the options of the line have to decide. */
export const NO_PERSON: Person = {
  isThere: false,
  async choose(question) {
    showAsked(question);
    return undefined;
  },
  async path() {
    return undefined;
  },
};
