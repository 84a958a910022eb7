/**
 * Makes etcd's data directory from a snapshot: a copy of its database with one new member alone, and the
 * files by which etcd knows that, like `etcdutl snapshot restore --bump-revision --mark-compacted`. The
 * folder gets its name when all of it is on disk.
 *
 * The revision is raised because some living clients have seen later ones. A watch from a future revision is
 * accepted, and receives nothing until then (k8s.io/apiserver storage/cacher, cache_watcher.go): kube-proxy
 * and others on the workers would miss changes, for hours. They have to list compacted revisions again.
 */
import * as fs from "node:fs";
import { basename } from "node:path";
import { explain } from "../etcd-data/directory.ts";
import { bucketKey } from "../etcd-data/key-value.ts";
import { Fail } from "../fail.ts";
import { copyLargeTree, PRIVATE_FOLDER } from "../files/copy-tree.ts";
import { hostPath } from "../files/files.ts";
import { refuseNoRoom } from "../files/room.ts";
import { failOfFile } from "../files/root.ts";
import { freshPartial, makeFolder, syncFolder } from "../files/write-steps.ts";
import { silently } from "../run.ts";
import { shell } from "../shell-line.ts";
import { DbEdit } from "./db-edit.ts";
import {
  asSnapMember,
  confStateJson,
  LAST,
  LOG_NAME,
  logBytes,
  memberJson,
  type OnlyMember,
  SNAP_NAME,
  snapBytes,
} from "./new-member.ts";
import type { SnapshotFile } from "./snapshot-file.ts";

/** From etcd's documentation: more than a cluster writes in a week, at 1,500 a second. */
export const BUMP = 1_000_000_000;

interface Restored {
  dir: string;
  member: OnlyMember;
  /** 0: living clients may miss changes. */
  bump?: number;
}

/** Errors: Fail if it exists already. */
export function refuseNotEmpty(dir: string) {
  if (!fs.existsSync(hostPath(dir))) return;
  const entries = fs
    .readdirSync(hostPath(dir))
    .filter((name) => name !== "lost+found" && !name.startsWith("."));
  if (entries.length === 0) return;
  throw new Fail(`There is something in "${dir}": ${entries.join(", ")}`, {
    unchanged: true,
    hint: `see what it is: ${shell`ls -la ${dir}/member`}. If nobody needs it: ${shell`mv ${dir} ${dir}.before`}, then run the same line again`,
  });
}

/**
 * Makes `dir`/member, whole or not at all: `fill` fills a folder of another name, from `from`. Errors: as
 * `refuseNotEmpty`, `refuseNoRoom`, and Fail if `from` is no data of etcd.
 */
export async function makeMember(
  { dir, from }: { dir: string; from: string },
  fill: (folder: string) => Promise<void>,
) {
  refuseNotEmpty(dir);
  refuseNoRoom([from], dir);
  makeFolder(hostPath(dir), PRIVATE_FOLDER);
  const host = freshPartial(`${hostPath(dir)}/member`);
  try {
    await fill(`${dir}/${basename(host)}`);
    fs.chmodSync(host, PRIVATE_FOLDER);
    syncFolder(host);
    fs.renameSync(host, `${hostPath(dir)}/member`);
    syncFolder(hostPath(dir));
  } catch (cause) {
    fs.rmSync(host, { recursive: true, force: true });
    throw explain(failOfFile(cause, "restore", from, dir), { dir: from });
  }
}

/** Errors: as `makeMember`. */
export async function writeRestored(snapshot: SnapshotFile, { dir, member, bump = BUMP }: Restored) {
  await makeMember({ dir, from: snapshot.path }, async (folder) => {
    const host = hostPath(folder);
    for (const part of ["snap", "wal"]) makeFolder(`${host}/${part}`, PRIVATE_FOLDER);
    await silently(() => copyLargeTree(snapshot.path, `${folder}/snap/db`));
    const db = `${host}/snap/db`;
    fs.chownSync(db, process.getuid!(), process.getgid!());
    fs.chmodSync(db, 0o600);
    fs.truncateSync(db, snapshot.size);
    changeDb(db, member, bump);
    writeSynced(`${host}/wal/${LOG_NAME}`, logBytes(member));
    writeSynced(`${host}/snap/${SNAP_NAME}`, snapBytes(LAST, [asSnapMember(member)]));
    for (const part of ["snap", "wal"]) syncFolder(`${host}/${part}`);
  });
}

/** As etcdutl does: the old members are removed, and the new log begins with entry 1. */
function changeDb(path: string, member: OnlyMember, bump: number) {
  using edit = new DbEdit(path);
  const only = asSnapMember(member);
  edit.replace("members", (items) => {
    items.clear();
    items.set(only.id.toString(16), Buffer.from(memberJson(only)));
  });
  edit.replace("members_removed", (items) => items.clear());
  edit.replace("alarm", (items) => items.clear());
  const raised = bump > 0 ? raiseRevision(edit, bump) : undefined;
  edit.replace("meta", (items) => {
    items.set("consistent_index", u64Bytes(LAST.index));
    items.set("term", u64Bytes(LAST.term));
    items.set("confState", Buffer.from(confStateJson([only])));
    if (raised) items.set("scheduledCompactRev", raised);
  });
  edit.commit();
}

/** Adds a revision of no key; etcd compacts up to it at its start. Returns it. */
function raiseRevision(edit: DbEdit, bump: number): Buffer {
  const last = Number(edit.lastKey("key")?.readBigUInt64BE(0) ?? 1n);
  const raised = bucketKey({ main: last + bump, sub: 0, isTombstone: false });
  edit.append("key", raised, Buffer.alloc(0));
  return raised;
}

export function u64Bytes(number: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, BigInt(number)));
  return bytes;
}

export function writeSynced(path: string, bytes: Uint8Array) {
  const file = fs.openSync(path, "wx", 0o600);
  try {
    fs.writeFileSync(file, bytes);
    fs.fsyncSync(file);
  } finally {
    fs.closeSync(file);
  }
}
