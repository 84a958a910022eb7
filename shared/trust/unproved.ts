/**
 * Keeps what was found and is not proved. It is never put to use: it is named with its origin and kept in the rescue folder, and the
 * command that would take it is printed, for a person who knows that it is right.
 */
import { type WriteOptions, writeFile } from "../files/files.ts";
import { say } from "../run.ts";
import { type SourceName, writerOf } from "./sources.ts";

export interface Unproved {
  /** For the operator: "etcd/ca.key", "the static pod kube-vip". */
  what: string;
  /** Where it was found, for the operator: "byte 4096 of /dev/vda1". */
  from: string;
  source: SourceName;
  /** Why it is not put to use, for the operator. Default: nothing proves it. */
  why?: string | undefined;
  content: string | Uint8Array;
  /** Its name in the rescue folder. */
  file: string;
  /** Where it would go; undefined where it is only for a person to look at. */
  place?: string | undefined;
  /** Permission bits in that place. Default 0600. */
  mode?: number | undefined;
}

/** Its place in the rescue folder. */
function unprovedPath({ file }: Pick<Unproved, "file">, rescueDir: string): string {
  return `${rescueDir}/unproved/${file}`;
}

/** The command that would take it; undefined where it has no place. */
function takeCommand(one: Unproved, rescueDir: string): string | undefined {
  const mode = (one.mode ?? 0o600).toString(8);
  return one.place && `install -D -m ${mode} ${unprovedPath(one, rescueDir)} ${one.place}`;
}

/** Names what is not proved, with the command that would take it. */
function sayUnproved(found: readonly Unproved[], rescueDir: string) {
  for (const one of found) {
    const take = takeCommand(one, rescueDir);
    say(`${one.what}: NOT put to use: ${one.why ?? "nothing proves it"}; it is from ${one.from}, where ${writerOf(one.source)} can write`);
    say(take ? `  look at it first; only if you know that it is yours: ${take}` : `  look at it: ${unprovedPath(one, rescueDir)}`);
  }
}

/** Keeps each in the rescue folder and names it. */
export function layAside(found: readonly Unproved[], rescueDir: string) {
  for (const one of found) {
    const options: WriteOptions = { mode: 0o600, folderMode: 0o700, note: "for you to look at" };
    writeFile(unprovedPath(one, rescueDir), one.content, options);
  }
  sayUnproved(found, rescueDir);
}
