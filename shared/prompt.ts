/**
 * Asks for a passphrase or shows one, on the terminal itself: stdin, stdout and stderr, which may be a log,
 * never see it.
 */
import { randomInt } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { Fail } from "./fail.ts";

/**
 * The shell resets the terminal even if Ctrl-C ends us. The answer comes through a pipe; `printf` is the
 * shell's own, so no argv has it.
 */
const ASK = `
exec 3<>/dev/tty || exit 9
before=$(stty -g <&3) || exit 9
trap 'stty "$before" <&3; printf "\\n" >&3' EXIT
trap 'exit 130' HUP INT TERM
stty -echo <&3
printf '%s' "$1" >&3
IFS= read -r line <&3 || exit 9
printf '%s' "$line"`;

/** One line, without echo. Errors: Fail without a terminal. */
export function ask(prompt: string): string {
  const { stdout, exitCode } = Bun.spawnSync(["sh", "-c", ASK, "ask", prompt], {
    stdin: "inherit",
    stdout: "pipe",
    stderr: "ignore",
  });
  if (exitCode === 130)
    throw new Fail("Stopped at the question for the passphrase", {
      hint: "run the same line again; nothing was written",
    });
  if (exitCode !== 0) throw noTerminal();
  return stdout.toString();
}

/** A new passphrase, asked for twice. Errors: Fail if the two differ. */
export function askTwice(): string {
  const first = ask("Passphrase for the bundle: ");
  if (first === ask("The same again: ")) return first;
  throw new Fail("The two passphrases are not the same", {
    hint: "run the same line again; --generate makes a passphrase for you",
  });
}

/** Shows a line on the terminal alone. Errors: Fail if there is none. */
export function showOnce(line: string) {
  try {
    const terminal = openSync("/dev/tty", "w");
    writeSync(terminal, line);
    closeSync(terminal);
  } catch (err) {
    throw noTerminal(err);
  }
}

/** Crockford's alphabet: no letter looks like another. */
const LETTERS = "0123456789abcdefghjkmnpqrstvwxyz";

/** 120 bits, in six groups of four: `7d1f-…`. */
export function newPassphrase(): string {
  const group = () => Array.from({ length: 4 }, () => LETTERS[randomInt(LETTERS.length)]).join("");
  return Array.from({ length: 6 }, group).join("-");
}

function noTerminal(cause?: unknown): Fail {
  return new Fail("There is no terminal for the passphrase", {
    hint: "run the same line in a terminal (ssh -t), or use --passphrase-file FILE, or recipients and --identity FILE",
    cause,
  });
}
