/** How the operator locks and opens a bundle: passphrases and age identities, by options or typed on the terminal. */
import { command } from "../again.ts";
import { Fail } from "../fail.ts";
import { secretIn } from "../files/operator-files.ts";
import { ask, askTwice, newPassphrase, showOnce } from "../prompt.ts";
import { shell } from "../shell-line.ts";
import { type Key, type Lock, type LockKind, recipientsIn } from "./sealed.ts";

/** The options of hand-over.ts that decide it. */
export interface LockOptions {
  to?: string[] | undefined;
  generate?: boolean | undefined;
  "passphrase-file"?: string | undefined;
  identity?: string | undefined;
}

/** Recipients and files are read now; a passphrase is asked for only when everything else is well. */
export function howToLock({ to, generate, "passphrase-file": file, identity }: LockOptions): () => Promise<Lock> {
  if ([to, generate, file].filter(Boolean).length > 1 || identity)
    throw new Fail("pack takes one of --to, --passphrase-file and --generate", { hint: "./bunw scripts/hand-over.ts --help" });
  if (to) {
    const recipients = recipientsIn(to);
    if (recipients.length === 0) throw new Fail("--to names no recipient", { hint: "age-keygen -y IDENTITY-FILE prints it" });
    return async () => ({ recipients });
  }
  const given = file === undefined ? undefined : strong(passphraseIn(file));
  return async () => ({ passphrase: given ?? (generate ? generated() : strong(askTwice())) });
}

/** What opens a bundle that was locked so. */
export function keyFor(lock: LockKind, { identity, "passphrase-file": file }: LockOptions): Key {
  if (lock === "recipients") {
    if (identity) return { identityFile: secretIn(identity) };
    throw new Fail("This bundle was packed for recipients, not with a passphrase", { hint: "--identity FILE, as age-keygen wrote it" });
  }
  if (identity) throw new Fail("This bundle was packed with a passphrase, not for an identity", { hint: "run it without --identity" });
  return { passphrase: file === undefined ? ask("Passphrase of the bundle: ") : passphraseIn(file) };
}

/** The line with which others unpack what is locked so. `ca`: the fingerprint of the CA in it. */
export function unpackLine(bundle: string, ca: string, { to, "passphrase-file": file }: LockOptions): string {
  if (to) return command(shell`hand-over unpack --identity FILE --ca-hash ${ca} ${bundle}`);
  if (file === undefined) return command(shell`hand-over unpack --ca-hash ${ca} ${bundle}`);
  return command(shell`hand-over unpack --passphrase-file ${file} --ca-hash ${ca} ${bundle}`);
}

function generated(): string {
  const passphrase = newPassphrase();
  showOnce(
    `\n  ${passphrase}\n\n  The passphrase of the bundle. Write it down now: it is shown once. Without it nobody can open the bundle.\n\n`,
  );
  return passphrase;
}

function strong(passphrase: string): string {
  if (passphrase.length >= 12) return passphrase;
  throw new Fail("The passphrase is too short: whoever finds the bundle can try all of them", {
    hint: "12 letters or more; --generate makes a good one",
  });
}

function passphraseIn(file: string): string {
  const passphrase = secretIn(file).replace(/\r?\n$/, "");
  if (passphrase && !passphrase.includes("\n")) return passphrase;
  throw new Fail(`"${file}" holds ${passphrase ? "more than one line" : "no passphrase"}`, {
    hint: "the passphrase alone, on the first line",
  });
}
