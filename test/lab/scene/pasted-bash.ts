/**
 * A bash into which lines are pasted, as into a terminal: a variable is kept for later lines, and what a line starts may read the lines after it, if
 * its stdin is not its own.
 */
import { Fail } from "../../../shared/fail.ts";
import type { Output } from "../machine/machine.ts";

/** Stands on both outputs when a line has ended. */
const ENDED = /@@ended (\d+)@@\n/;
const SAYS_ENDED = "code=$?; printf '@@ended %s@@\\n' $code; printf '@@ended %s@@\\n' $code >&2; (exit $code)";

/** `await using bash = new PastedBash(…)` ends it. */
export class PastedBash {
  private readonly child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  private readonly stdout: ReadUntil;
  private readonly stderr: ReadUntil;

  /** `enters`: the command that bash runs under. */
  constructor(enters: readonly string[], { cwd, env }: { cwd: string; env: Record<string, string> }) {
    this.child = Bun.spawn([...enters, "bash", "--noprofile", "--norc"], { cwd, env, stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    this.stdout = new ReadUntil(this.child.stdout);
    this.stderr = new ReadUntil(this.child.stderr);
  }

  /** One line, which may have quoted line breaks. Errors: Fail where it does not end: it may read what is pasted after it. */
  async paste(line: string, { seconds = 600 } = {}): Promise<Output> {
    this.child.stdin.write(`${line}\n${SAYS_ENDED}\n`);
    await this.child.stdin.flush();
    const late = AbortSignal.timeout(seconds * 1000);
    const end = () => this.child.kill();
    late.addEventListener("abort", end);
    try {
      const [stdout, stderr] = await Promise.all([this.stdout.toMark(), this.stderr.toMark()]);
      return { stdout: stdout.text, stderr: stderr.text, exitCode: stdout.code };
    } catch (err) {
      if (this.child.signalCode === null) throw err;
      throw new Fail(`"${line}" has not ended after ${seconds} s`, { hint: "does it read its stdin, so what is pasted after it? ssh -n" });
    } finally {
      late.removeEventListener("abort", end);
    }
  }

  async [Symbol.asyncDispose]() {
    this.child.stdin.end();
    await this.child.exited;
  }
}

/** A stream that is read up to the next mark. */
class ReadUntil {
  private text = "";
  private readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  private readonly decoder = new TextDecoder();

  constructor(stream: ReadableStream<Uint8Array>) {
    this.reader = stream.getReader();
  }

  /** What came before the mark. Errors: where bash has ended. */
  async toMark(): Promise<{ text: string; code: number }> {
    for (;;) {
      const mark = ENDED.exec(this.text);
      if (mark) {
        const text = this.text.slice(0, mark.index);
        this.text = this.text.slice(mark.index + mark[0].length);
        return { text, code: Number(mark[1]) };
      }
      const { value, done } = await this.reader.read();
      if (done) throw new Fail(`The operator's bash has ended: ${this.text.trim()}`, { hint: "what did the last line do?" });
      this.text += this.decoder.decode(value, { stream: true });
    }
  }
}
