/**
 * Who decides: a person at a terminal, who types numbers, or the options of a line without a terminal. A question shows
 * each way with a number; nothing else has to be typed, but the path of a file.
 */
import { createInterface } from "node:readline/promises";
import { plainLine } from "../plain.ts";
import { answer, answerLines } from "../run.ts";

export interface AskedNow {
  /** Sentences; the first one is the question. */
  text: readonly string[];
  ways: readonly string[];
}

export interface Person {
  /** Somebody answers: ssh may ask, too. */
  readonly isThere: boolean;
  /** The number of the way, from 0 on; undefined: nobody answers, or the question is taken back (`signal`). */
  choose(question: AskedNow, signal?: AbortSignal): Promise<number | undefined>;
  /** Undefined: nobody answers. */
  path(question: string): Promise<string | undefined>;
}

function showAsked({ text, ways }: AskedNow) {
  const [first = "", ...more] = text;
  answerLines(["", first, ...more.map((line) => `  ${line}`)]);
  answerLines(ways.map((way, index) => `  ${index + 1}  ${way}`));
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
    dropTypedAhead();
    const lines = createInterface({ input: process.stdin, output: process.stdout });
    const ended = Promise.withResolvers<undefined>();
    lines.once("close", () => ended.resolve(undefined));
    signal?.addEventListener("abort", () => lines.close());
    // Ctrl-C at a question is Ctrl-C of the repair
    lines.once("SIGINT", () => {
      lines.close();
      process.kill(process.pid, "SIGINT");
    });
    try {
      return await Promise.race([lines.question(prompt), ended.promise]);
    } finally {
      lines.close();
    }
  }
}

/** tcflush(TCIFLUSH) by stty's own tool has no portable name: what lies there is read, and dropped. */
function dropTypedAhead() {
  process.stdin.resume();
  while (process.stdin.read() !== null);
  process.stdin.pause();
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
