/**
 * etcd's snapshot file: its database, then the SHA-256 of that. Sources: etcd
 * server/etcdserver/api/v3rpc/maintenance.go (Snapshot), etcdutl/snapshot/v3_snapshot.go (hasChecksum);
 * server/storage/schema (alarm.go, auth.go, schema.go), api/etcdserverpb/rpc.proto (AlarmMember).
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { again, command } from "../again.ts";
import { changeOfFile } from "../etcd-data/changed-file.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { Fail, Refused } from "../fail.ts";
import { megabytes } from "../files/file-system.ts";
import { hostPath } from "../files/files.ts";
import { tryFile } from "../files/root.ts";
import { Progress } from "../progress.ts";
import { shell } from "../shell-line.ts";
import { checkSignal } from "../this-run.ts";

const SUM = 32;
/** A database has whole pages, and those have whole sectors. */
const SECTOR = 512;
const PIECE = 8 * 2 ** 20;

/** Returns whether its sum follows it, and is right. Errors: Fail if it is not there or not whole; Refused if its sum is wrong, or if it has none. */
export async function checkSnapshotFile(path: string, { skipHashCheck = false } = {}): Promise<boolean> {
  const info = tryFile("look at", path, () => fs.statSync(hostPath(path)));
  if (!info?.isFile())
    throw new Fail(`There is no snapshot "${path}"`, { hint: shell`look for the file: ls -l ${path}` });
  const change = changeOfFile(hostPath(path), path);
  if (change) throw new Refused(change.message, { unchanged: true, hint: change.hint(`${path}.as-it-was`) });
  const rest = info.size % SECTOR;
  if (info.size === 0 || (rest !== 0 && rest !== SUM))
    throw new Refused(`"${path}" is no snapshot of etcd, or not all of it: ${info.size} bytes`, {
      unchanged: true,
      hint: `see what it is: ${shell`file ${path}`}. If it is compressed: gunzip, zstd -d, unxz, base64 -d. If it is locked: ${command(shell`hand-over snapshot ${path}`)}. Or copy it here once more, from where it was made; compare with sha256sum`,
    });
  const hasSum = rest === SUM;
  const size = info.size - rest;
  if (hasSum && !(await isSumOf(path, size)))
    throw new Refused(`The SHA-256 at the end of "${path}" is not that of its content: it is damaged`, {
      unchanged: true,
      hint: "copy the snapshot here once more, from where it was made, or take another snapshot",
    });
  if (!hasSum && !skipHashCheck)
    throw new Refused(`"${path}" has no SHA-256 at its end: it is a copy of etcd's member/snap/db`, {
      unchanged: true,
      hint: `take the snapshot without its sum, if etcd was stopped while it was copied: ${again({ "skip-hash-check": true })}. What only the log had is missing (--from takes a whole data directory)`,
    });
  return hasSum;
}

async function isSumOf(path: string, size: number): Promise<boolean> {
  const progress = new Progress(`SHA-256 of ${path}`, Math.ceil(size / 1e6), process.stderr.isTTY, "MB");
  const [hash, buffer] = [createHash("sha256"), Buffer.allocUnsafe(PIECE)];
  const file = await fs.promises.open(hostPath(path), fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(PIECE, size - at), at);
      if (bytesRead === 0) return false;
      hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
      progress.show(Math.ceil(at / 1e6));
      checkSignal();
    }
    const sum = Buffer.alloc(SUM);
    await file.read(sum, 0, SUM, size);
    return hash.digest().equals(sum);
  } finally {
    progress.clear();
    await file.close();
  }
}

/** AlarmMember { 1 memberID, 2 alarm }. */
const ALARMS: Partial<Record<string, string>> = { 1: "NOSPACE", 2: "CORRUPT" };

/** Errors: Refused if etcd would not serve this, or not as a kubeadm cluster needs it. */
export function refuseState(
  { stored }: Pick<EtcdData, "stored">,
  { path, disarm = false }: { path: string; disarm?: boolean | undefined },
) {
  const { alarms: raised, hasUsers } = stored();
  const alarms = [...raised].map((alarm) => ALARMS[alarm.split("/")[1]!] ?? "unknown");
  if (hasUsers)
    throw new Refused(`"${path}" is of an etcd with users (auth enable): kubeadm's has none`, {
      unchanged: true,
      hint: "restore the snapshot with etcdutl snapshot restore, if it is this cluster's",
    });
  if (alarms.length === 0 || disarm) return;
  const full = `raise --quota-backend-bytes in etcd's manifest after part 1, and defragment it: its database of ${megabytes(fs.statSync(hostPath(path)).size)} MB was full`;
  const damaged = "choose the snapshot that is right: a member found that its keys differ from the others'";
  throw new Refused(`"${path}" has the alarm ${alarms.join(", ")}: etcd takes no writes with it`, {
    unchanged: true,
    hint: `${alarms.includes("CORRUPT") ? damaged : full}. To continue without the alarm: ${again({ disarm: true })}`,
  });
}
