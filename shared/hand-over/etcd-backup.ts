/**
 * A snapshot of etcd beside the bundle of the keys, locked in the same way: new machines need only these two.
 * It is never whole in memory, and on no disk unlocked before somebody asks for it.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { Fail } from "../fail.ts";
import { exists, hostEntry, hostPath } from "../files/files.ts";
import { refuseOthers } from "../files/operator-files.ts";
import { megabytes } from "../files/room.ts";
import { tryFile } from "../files/try-file.ts";
import { freshPartial, renameInto } from "../files/write-steps.ts";
import { typed } from "../options.ts";
import { Progress } from "../progress.ts";
import { mode, say } from "../run.ts";
import { told } from "../run-events.ts";
import { shell } from "../shell-line.ts";
import { checkSignal } from "../signals.ts";
import { keyFor, type LockOptions } from "./lock-options.ts";
import { type Lock, type LockKind, lockOf, openPieces, sealPieces } from "./sealed.ts";

/** "keys.age" → "keys.etcd.age" */
export function besideBundle(bundle: string): string {
  return `${bundle.replace(/\.age$/, "")}.etcd.age`;
}

/** Returns its SHA-256. Errors: as `refuseOthers`, and those of `snapshot`; nothing is left then. */
export async function writeLocked(path: string, snapshot: AsyncIterable<Uint8Array>, lock: Lock) {
  return await writePieces(path, await sealPieces(snapshot, lock));
}

/** Age's header is shorter, in bytes. */
const HEAD = 16_384;

interface Proof {
  /** Runs before the file is opened. */
  refuseLock(lockedWith: LockKind): void;
  /** Checks the opened file, at a path of this host, before it gets its name. */
  refuseContent(path: string): void;
}

/** Writes the unlocked snapshot. Errors: as `openPieces` and `proof`; Fail if `to` exists. */
export async function writeOpened(file: string, to: string, options: LockOptions, proof: Proof) {
  if (exists(typed(to)))
    throw new Fail(`"${to}" is there already`, {
      hint: shell`name another file with --out; see this one: ls -l ${to}`,
    });
  const host = hostPath(typed(file));
  if (!tryFile("look at", file, () => fs.statSync(host))?.isFile())
    throw new Fail(`There is no file "${file}"`, { hint: "look for the file: ls -l" });
  const lockedWith = lockOf(new Uint8Array(await Bun.file(host).slice(0, HEAD).arrayBuffer()));
  proof.refuseLock(lockedWith);
  const key = keyFor(lockedWith, options);
  await writePieces(to, openPieces(Bun.file(host).stream(), key, lockedWith), proof.refuseContent);
  if (!mode.dryRun) say("it has every Secret of the cluster, unencrypted: remove it after the restore");
}

async function writePieces(
  path: string,
  pieces: AsyncIterable<Uint8Array>,
  refuse: Proof["refuseContent"] = () => {},
): Promise<string> {
  const place = refuseOthers(typed(path), "written");
  if (mode.dryRun) {
    say(`would write ${path}`);
    return "";
  }
  const host = hostEntry(place);
  const partial = tryFile("write to", dirname(place), () => freshPartial(host), true)!;
  const progress = new Progress(`writing ${path}`, undefined, process.stderr.isTTY, "MB");
  const [hash, file] = [createHash("sha256"), fs.openSync(partial, "wx", 0o600)];
  let size = 0;
  try {
    for await (const piece of pieces) {
      tryFile("write", path, () => writeAll(file, piece), true);
      hash.update(piece);
      size += piece.length;
      progress.show(Math.ceil(size / 1e6));
      checkSignal();
    }
    fs.fsyncSync(file);
    refuse(partial);
    renameInto(partial, host);
  } finally {
    progress.clear();
    fs.closeSync(file);
    fs.rmSync(partial, { force: true });
  }
  told({ what: "act", line: `wrote ${place}` });
  say(`wrote ${path} (${megabytes(size)} MB)`);
  return hash.digest("hex");
}

function writeAll(file: number, piece: Uint8Array) {
  for (let done = 0; done < piece.length; ) done += fs.writeSync(file, piece, done);
}
