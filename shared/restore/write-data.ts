/**
 * Makes the data directory of a member that continues alone, from a snapshot or from lost members' data: a new database
 * with all keys, and the log and the .snap by which etcd knows its members. The folder gets its name when all of it is
 * on disk.
 *
 * The revision is raised where some living clients may have seen later ones. A watch from a future revision is
 * accepted, and receives nothing until then (k8s.io/apiserver storage/cacher, cache_watcher.go): kube-proxy
 * and others on the workers would miss changes, for hours. They have to list compacted revisions again.
 *
 * Sources: etcd etcdutl/snapshot/v3_snapshot.go (--bump-revision, --mark-compacted); server/etcdserver/bootstrap.go and
 * server/storage/util.go (CreateConfigChangeEnts, what --force-new-cluster appends), server.go (applyConfChange).
 */
import * as fs from "node:fs";
import { basename } from "node:path";
import type { EtcdData } from "../etcd-data/data.ts";
import { explain } from "../etcd-data/directory.ts";
import { SEGMENT_SIZE } from "../etcd-data/wal.ts";
import { Fail } from "../fail.ts";
import { PRIVATE_FOLDER, refuseNoRoom } from "../files/file-tree.ts";
import { freshPartial, hostPath, makeFolder, renameInto, sync, writeTemporary } from "../files/files.ts";
import { failOfFile } from "../files/root.ts";
import { shell } from "../shell-line.ts";
import { writeNewDb } from "./new-db.ts";
import {
  CHANGE,
  entryOf,
  hardStateOf,
  LogRecords,
  type LoneMember,
  logName,
  memberJson,
  membershipChange,
  metadataOf,
  RECORD,
  snapBytes,
  snapName,
  snapRecordOf,
} from "./new-member.ts";

/** From etcd's documentation: more than a cluster writes in a week, at 1,500 a second. */
export const REVISION_BUMP = 1_000_000_000;

interface Place {
  dir: string;
  peerUrl: string;
  /** How far the revision is raised. 0: clients that have seen later ones may miss changes. */
  bump: number;
}

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
    sync(host);
    fs.renameSync(host, `${hostPath(dir)}/member`);
    sync(hostPath(dir));
  } catch (cause) {
    fs.rmSync(host, { recursive: true, force: true });
    throw explain(failOfFile(cause, "restore", from, dir), { dir: from });
  }
}

/**
 * Its member is the only one, at a new address: behind the last entry the others are out, its own URL is the new one,
 * and all of it is committed. `from`: where the data is. Errors: as `makeMember`.
 */
export async function writeMember(
  member: LoneMember,
  data: EtcdData,
  { from, ...place }: Place & { from: string },
) {
  await makeMember({ dir: place.dir, from }, async (folder) => {
    const host = hostPath(folder);
    const { last, members } = member;
    makeFolder(`${host}/snap`, PRIVATE_FOLDER);
    await writeNewDb(`${host}/snap/db`, data, { ...member, bump: place.bump });
    for (const [path, bytes, size] of [
      [`${host}/snap/${snapName(last)}`, snapBytes(last, members), 0],
      [`${host}/wal/${logName(last.index)}`, logOf(member, place.peerUrl), SEGMENT_SIZE],
    ] as const) {
      const partial = writeTemporary(path, bytes, {
        mode: 0o600,
        old: undefined,
        folderMode: PRIVATE_FOLDER,
      });
      if (size > 0) makeRoom(partial, size);
      renameInto(partial, path);
    }
  });
}

/** Allocates empty space in the log as etcd does: a reader recognises the end of the log by it. */
function makeRoom(path: string, size: number) {
  fs.truncateSync(path, size);
  sync(path);
}

function logOf({ own, members, clusterId, last }: LoneMember, peerUrl: string): Buffer {
  const { index, term } = last;
  const state = { term, vote: own.id };
  const records = new LogRecords()
    .begin()
    .add(RECORD.metadata, metadataOf({ memberId: own.id, clusterId }))
    .add(RECORD.snapshot, snapRecordOf(last, members))
    .add(RECORD.state, hardStateOf({ ...state, commit: index }));
  const changes = [
    ...members.filter(({ id }) => id !== own.id).map(({ id }) => membershipChange(CHANGE.removeNode, id)),
    membershipChange(CHANGE.updateNode, own.id, memberJson({ ...own, peerURLs: [peerUrl] })),
  ];
  for (const [i, change] of changes.entries())
    records.add(RECORD.entry, entryOf({ type: 1, term, index: index + 1 + i }, change));
  return records.add(RECORD.state, hardStateOf({ ...state, commit: index + changes.length })).bytes();
}
