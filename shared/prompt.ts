/**
 * Asks for a passphrase or shows one, on the terminal itself: stdin, stdout and stderr, which may be a log,
 * never see it. And says what cannot be taken back: one sentence before each, also in a dry run. RUNBOOK.md has
 * the same sentences; words in capitals stand for values.
 */
import { randomInt } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { Fail } from "./fail.ts";
import { say } from "./run.ts";

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
      hint: "run it again; nothing was written",
    });
  if (exitCode !== 0) throw noTerminal();
  return stdout.toString();
}

/** A new passphrase, asked for twice. Errors: Fail if the two differ. */
export function askTwice(): string {
  const first = ask("Passphrase for the bundle: ");
  if (first === ask("The same again: ")) return first;
  throw new Fail("The two passphrases are not the same", {
    hint: "run it again; --generate makes one for you",
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
    hint: "run it in a terminal (ssh -t), or use --passphrase-file FILE, or recipients and --identity FILE",
    cause,
  });
}

interface Row {
  what: string;
  /** Unset: there is none. */
  back?: string;
}

export const FOR_GOOD = {
  newKeys: {
    what: "new shared keys (KEYS): what the old ones signed is rejected until parts 3 and 4 have renewed it",
    back: "until part 3, if the old keys turn up: put them into the place of the new ones, and part 1 again",
  },
  memberOut: {
    what: "NODE is taken out of etcd's members, and what only its data holds is lost: a machine of that name joins as a new, empty one",
  },
  fullManager: {
    what: "the controller-manager runs in full again: it evicts pods of nodes that do not renew their Lease, after five minutes",
    back: "none for an evicted pod; to stop it before: mv /etc/kubernetes/manifests/kube-controller-manager.yaml /root/",
  },
  tokens: {
    what: "copies of renewed tokens outside of the cluster stop working",
    back: "none for them; the old tokens are in the copy of etcd's data in the rescue folder",
  },
  restarts: {
    what: "a pod that restarts loses what it holds in memory and in emptyDir volumes",
    back: "none; --only-system, --namespace and --skip choose whose pods restart now",
  },
  oldKey: {
    what: "tokens that the old service-account key signed are rejected from now on",
    back: "mv DIR/sa-old.pub back into its place, and part 2 again",
  },
  bundle: { what: "FILE is overwritten: keys that only this bundle holds are lost" },
} as const satisfies Record<string, Row>;

/** Prints the sentence before the action. `values`: for the words in capitals. */
export function forGood(act: keyof typeof FOR_GOOD, values: Record<string, string> = {}) {
  say(inForGoodWords(act, values));
}

/** The sentence alone, without a full stop. */
export function inForGoodWords(act: keyof typeof FOR_GOOD, values: Record<string, string> = {}): string {
  const { what, back }: Row = FOR_GOOD[act];
  const filled = (text: string) =>
    Object.entries(values).reduce((done, [word, value]) => done.replace(word, () => value), text);
  return `irreversible: ${filled(what)}. ${back ? `Way back: ${filled(back)}` : "There is no way back"}`;
}
