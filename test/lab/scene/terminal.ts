/**
 * A bash in a terminal of its own, into which lines are pasted as a terminal does it ("bracketed paste",
 * xterm's control sequences): bash reads the whole paste before it runs the first line of it. What a program
 * asks on the terminal is answered, as by a person: a host key, a password.
 */
import { Fail } from "../../../shared/fail.ts";
import type { Output } from "../machine/machine.ts";

/**
 * What a program asks at the end of what is on the screen, and what is typed then; undefined: nothing yet.
 */
export type Answers = (screen: string) => string | undefined;

/** Stands after the output of a line. */
const ENDED = /@@ended (\d+)@@\r\n/;
const SAYS_ENDED = "printf '@@ended %s@@\\n' $?";
/**
 * bash takes the terminal over for a line to be typed, and gives it to what it runs (readline,
 * enable-bracketed-paste).
 */
const RUNS = "\u001b[?2004l\r";
const READS = "\u001b[?2004h";

/** `await using bash = new Terminal(…)` ends it. */
export class Terminal {
  /** What came since the last line ended. */
  private screen = "";
  private answered = 0;
  private interrupt: RegExp | undefined;
  private readonly answers: Answers;
  private readonly terminal: Bun.Terminal;
  private readonly child: Bun.Subprocess;
  private readonly decoder = new TextDecoder();
  private changed = Promise.withResolvers<void>();

  /** `enters`: the command that bash runs under. */
  constructor(
    enters: readonly string[],
    { cwd, env, answers = () => undefined }: { cwd: string; env: Record<string, string>; answers?: Answers },
  ) {
    this.answers = answers;
    // one that Bun.spawn() makes is the controlling terminal: /dev/tty
    const terminal = { cols: 200, rows: 50, data: (_: Bun.Terminal, bytes: Uint8Array) => this.shows(bytes) };
    // bash writes its history when it ends, to the disk with the lost keys; `enters` may keep no variable
    const bash = ["env", "HISTFILE=/dev/null", "bash", "--noprofile", "--norc", "-i"];
    this.child = Bun.spawn([...enters, ...bash], {
      cwd,
      env: { ...env, TERM: "xterm" },
      terminal,
    });
    this.terminal = this.child.terminal!;
    this.child.exited.then(() => this.changed.resolve());
  }

  /**
   * One line, which may have quoted line breaks. A terminal has one stream: all that is printed is `stderr`.
   * Errors: Fail where it does not end, as it asks for something, or reads what is typed next; or where bash
   * has ended.
   */
  async paste(line: string, { seconds = 600 } = {}): Promise<Output> {
    const late = AbortSignal.timeout(seconds * 1000);
    const wake = () => this.changed.resolve();
    late.addEventListener("abort", wake);
    try {
      await this.until(() => this.screen.includes(READS), line, late);
      this.screen = "";
      this.answered = 0;
      this.terminal.write(`\u001b[200~${line}\n${SAYS_ENDED}\u001b[201~\n`);
      await this.until(() => ENDED.test(this.screen), line, late);
    } finally {
      late.removeEventListener("abort", wake);
    }
    const [mark, code] = ENDED.exec(this.screen)!;
    const [before, after] = this.screen.split(mark) as [string, string];
    this.screen = after;
    return { stdout: "", stderr: this.output(before), exitCode: Number(code) };
  }

  /** Ctrl-C is typed once, when what is on the screen has these words. */
  interruptAt(words: RegExp) {
    this.interrupt = words;
  }

  /** Ctrl-C is typed now. */
  typeCtrlC() {
    this.terminal.write("\u0003");
  }

  async [Symbol.asyncDispose]() {
    // as a window that is closed: whatever runs there gets a hangup from the kernel
    this.terminal.close();
    await this.child.exited;
  }

  /** Without the paste itself, which readline shows. */
  private output(screen: string): string {
    return screen.split(RUNS).at(-1)!.replaceAll("\r\n", "\n");
  }

  private shows(bytes: Uint8Array) {
    this.screen += this.decoder.decode(bytes, { stream: true });
    if (this.interrupt?.test(this.screen)) {
      this.interrupt = undefined;
      this.terminal.write("\u0003");
    }
    const unanswered = this.screen.slice(this.answered);
    const answer = this.screen.includes(RUNS) ? this.answers(unanswered) : undefined;
    if (answer !== undefined) {
      this.answered = this.screen.length;
      this.terminal.write(`${answer}\n`);
    }
    this.changed.resolve();
  }

  private async until(isSo: () => boolean, line: string, late: AbortSignal) {
    while (!isSo()) {
      const last = this.output(this.screen).trim().split("\n").at(-1);
      if (this.child.exitCode !== null)
        throw new Fail(`The operator's bash has ended: ${last}`, { hint: "what did the last line do?" });
      if (late.aborted)
        throw new Fail(`"${line}" has not ended, and shows "${last}"`, {
          hint: "does it ask, or read its stdin? ssh -n",
        });
      this.changed = Promise.withResolvers();
      await this.changed.promise;
    }
  }
}
