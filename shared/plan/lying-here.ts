/** What an operator has put into the kit's folder: bundles of keys and snapshots of etcd, by their names. */
import { exists, list } from "../files/files.ts";
import { typed } from "../options.ts";
import { shell } from "../shell-line.ts";

const LOCKED = ".etcd.age";

/** Names of the files there that end so. */
function lyingHere(ending: string): string[] {
  return list(typed(".")).filter((name) => name.endsWith(ending) && !name.startsWith("-"));
}

/** What hand-over.ts pack has made of the shared keys. */
export function bundlesHere(): string[] {
  return lyingHere(".age").filter((name) => !name.endsWith(LOCKED));
}

/** The name that RUNBOOK.md gives it. */
export function isReportHere(): boolean {
  return lyingHere("report.html").includes("report.html");
}

/** What it has made of etcd with --with-etcd. */
export function lockedHere(): string[] {
  return lyingHere(LOCKED);
}

export function snapshotsHere(): string[] {
  return lyingHere(".db");
}

const PASSPHRASE = "passphrase";

/** Whether that file has it: else hand-over.ts asks on a terminal. */
export function asksNothing(): boolean {
  return exists(typed(PASSPHRASE));
}

export function unpackLine(bundle: string): string {
  return asksNothing()
    ? shell`./bunw scripts/hand-over.ts unpack --passphrase-file ${PASSPHRASE} ${bundle}`
    : shell`./bunw scripts/hand-over.ts unpack ${bundle}`;
}

export function openLine(locked: string): string {
  return asksNothing()
    ? shell`./bunw scripts/hand-over.ts snapshot --passphrase-file ${PASSPHRASE} ${locked}`
    : shell`./bunw scripts/hand-over.ts snapshot ${locked}`;
}

/** Before new keys are made. `plan`: prints it again. */
export function bundleNote([bundle]: readonly string[], plan: string) {
  if (bundle === undefined) return [];
  const text = `A bundle of keys lies here: ${bundle}. With the old keys no worker joins, and no pod restarts: this comes first. Then print the plan again.`;
  return [{ text, commands: [unpackLine(bundle), plan] }];
}
