/**
 * Keeps what was found and is not proved. It is never put to use: it is named with its origin and kept in the rescue folder, and the
 * command that would take it is printed, for a person who knows that it is right.
 */
import { writeFile } from "../files/files.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { SOURCES, type SourceName } from "./sources.ts";

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

/** Keeps each in the rescue folder and names it, with the command that would take it. */
export function keepUnproved(found: readonly Unproved[], rescueDir: string) {
  const pathOf = ({ file }: Unproved) => `${rescueDir}/unproved/${file}`;
  for (const one of found) writeFile(pathOf(one), one.content, { mode: 0o600, folderMode: 0o700, note: "for you to look at" });
  for (const one of found) {
    const { what, why = "nothing proves it", from, source, place, mode = 0o600 } = one;
    say(`${what}: NOT put to use: ${why}; it is from ${from}, where ${SOURCES[source].writer} can write`);
    const take = shell`install -D -m ${mode.toString(8)} ${pathOf(one)} ${place ?? ""}`;
    // strangers have written it: its bytes may be orders to the terminal
    const look = shell`cat -v ${pathOf(one)}`;
    say(place ? `  look at it first: ${look}; only if you know that it is yours: ${take}` : `  look at it: ${look}`);
  }
}
