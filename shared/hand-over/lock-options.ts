/**
 * How the operator locks and opens a bundle: passphrases and age identities, by options or typed on the
 * terminal; and the commands that follow.
 */
import { dirname } from "node:path";
import { BACKUP, command } from "../again.ts";
import { Fail } from "../fail.ts";
import { secretIn } from "../files/operator-files.ts";
import { typed } from "../options.ts";
import { ask, askTwice, newPassphrase, showOnce } from "../prompt.ts";
import { answer, say, tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import { markLine, notKept } from "./backup-mark.ts";
import { type Key, type Lock, type LockKind, recipientsIn } from "./sealed.ts";

/** The options of hand-over.ts that decide it. */
export interface LockOptions {
  to?: string[] | undefined;
  generate?: boolean | undefined;
  "passphrase-file"?: string | undefined;
  identity?: string | undefined;
}

/** Recipients and files are read now; a passphrase is asked for only when everything else is well. */
export function howToLock({
  to,
  generate,
  "passphrase-file": file,
  identity,
}: LockOptions): () => Promise<Lock> {
  if ([to, generate, file].filter(Boolean).length > 1 || identity)
    throw new Fail("pack takes one of --to, --passphrase-file and --generate", {
      hint: "./bunw scripts/hand-over.ts --help",
    });
  if (to) {
    const recipients = recipientsIn(to);
    if (recipients.length === 0)
      throw new Fail("--to names no recipient", { hint: "age-keygen -y IDENTITY-FILE prints it" });
    return async () => ({ recipients });
  }
  const passphrase = file === undefined ? undefined : refuseWeak(passphraseIn(file));
  return async () => ({
    passphrase: passphrase ?? (generate ? showNewPassphrase() : refuseWeak(askTwice())),
  });
}

export function keyFor(lock: LockKind, { identity, "passphrase-file": file }: LockOptions): Key {
  if (lock === "recipients") {
    if (identity) return { identityFile: secretIn(identity) };
    throw new Fail("This bundle was packed for recipients, not with a passphrase", {
      hint: "give the file that age-keygen wrote: --identity FILE",
    });
  }
  if (identity)
    throw new Fail("This bundle was packed with a passphrase, not for an identity", {
      hint: "run it without --identity",
    });
  return { passphrase: file === undefined ? ask("Passphrase of the bundle: ") : passphraseIn(file) };
}

/**
 * The packed bundle. `bundle`: as it was typed; `ca`: the fingerprint of the CA in it; `others`: the other
 * control plane nodes, as far as they are known.
 */
interface Packed {
  bundle: string;
  ca: string;
  others: readonly string[];
}

/** The next commands for a bundle that only travels. The line for the other nodes stands alone on stdout. */
export function tellCarry({ bundle, ca, others }: Packed, options: LockOptions) {
  say(`${bundle} does not count as a backup: ${notKept(typed(bundle))}. A backup: ${BACKUP}`);
  const files = [bundle, ...(options["passphrase-file"] === undefined ? [] : [options["passphrase-file"]])];
  for (const name of others) say(shell`scp -p ${files} root@${name}:${dirname(typed(bundle))}/`);
  tell("\ndone.  next: copy it into the kit's folder on each other control plane node; there:");
  answer(unpackLine(bundle, ca, options));
}

/** The next commands for a backup: its mark is enough for the other nodes. */
export function tellKept({ bundle, ca, others }: Packed, options: LockOptions) {
  say(
    `${bundle} counts as the backup of these keys: move it away from this machine, but not to the place of the file or passphrase that opens it`,
  );
  say(
    `save the CA's fingerprint, but not beside the backup: ${ca}. A restore needs it if the backup is locked for recipients: whoever can write there could replace both`,
  );
  say(`to unpack it on another control plane node: ${unpackLine(bundle, ca, options)}`);
  const known =
    others.length > 0 ? "; so that the others know of it, its mark goes there, which holds no key:" : "";
  tell(`\ndone.  next: move ${bundle} away${known || `, then ${command("05-verify")}`}`);
  for (const to of others) answer(markLine({ to }));
}

/** The line that unpacks a bundle with this lock on another node. */
function unpackLine(bundle: string, ca: string, { to, "passphrase-file": file }: LockOptions): string {
  if (to) return command(shell`hand-over unpack --identity FILE --ca-hash ${ca} ${bundle}`);
  if (file === undefined) return command(shell`hand-over unpack --ca-hash ${ca} ${bundle}`);
  return command(shell`hand-over unpack --passphrase-file ${file} --ca-hash ${ca} ${bundle}`);
}

function showNewPassphrase(): string {
  const passphrase = newPassphrase();
  showOnce(
    `\n  ${passphrase}\n\n  The passphrase of the bundle. Write it down now: it is shown once. Without it nobody can open the bundle.\n\n`,
  );
  return passphrase;
}

function refuseWeak(passphrase: string): string {
  if (passphrase.length >= 12) return passphrase;
  throw new Fail("The passphrase is too short: whoever finds the bundle can try all of them", {
    hint: "take 12 letters or more, or let --generate make a good one",
  });
}

function passphraseIn(file: string): string {
  const passphrase = secretIn(file).replace(/\r?\n$/, "");
  if (passphrase && !passphrase.includes("\n")) return passphrase;
  throw new Fail(`"${file}" holds ${passphrase ? "more than one line" : "no passphrase"}`, {
    hint: "write the passphrase alone, on the first line",
  });
}
