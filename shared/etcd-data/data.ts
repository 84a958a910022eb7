/**
 * etcd's data directory, read without etcd: what a member would answer if it were started now, and what its keys were before.
 *
 * The db file alone is not enough: it lags the log by up to 100 ms of writes, so the log's tail is replayed onto it. A running etcd does
 * not hinder the reading and is not hindered: the directory counts as read only if the db's transaction id stayed the same meanwhile.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { Fail } from "../fail.ts";
import { Bbolt } from "./bbolt.ts";
import { legacyRequest, type Member, Members } from "./members.ts";
import { fromRaw, type KeyValue, Mvcc, type Revision, toRaw, u64 } from "./mvcc.ts";
import { Damaged } from "./protobuf.ts";
import { Replay } from "./replay.ts";
import { readNewestSnapshot, readWal, type Snapshot, type Wal } from "./wal.ts";

export type { KeyValue, Member };

export interface EtcdData {
  /** Hex, as etcdctl prints them. The cluster id derives from the first members: equal ids do not prove equal clusters. */
  clusterId: string;
  memberId: string;
  members: Member[];
  /** Main revision after the log's last entry. */
  revision: number;
  /** After the last entry this member knew a quorum had. Differs from `revision` only with several members: the rest may be lost. */
  committed: { revision: number };
  /** Raft's term of the log's last entry. */
  raftTerm: number;
  keyCount: number;
  /** When db or log was last written. */
  lastWrite: Date;
  /** What an operator should know before relying on this data: a log that is cut off or damaged, entries without a quorum. */
  warnings: string[];
  /** 0 if there was no compaction. */
  compactedRevision: number;
  get(key: string): KeyValue | undefined;
  /** Live keys that begin with `prefix`, sorted by key. */
  list(prefix: string): KeyValue[];
  /** Newest first, tombstones included, at least back to the last compaction: what it has not yet removed is there as well. */
  history(key: string): Revision[];
  /** Names of live keys that begin with `prefix`, sorted. */
  keys(prefix: string): string[];
  /** Names of keys that begin with `prefix` and are deleted, but still in the history; sorted. */
  deletedKeys(prefix: string): string[];
  /** Closes the db file. One above 128 MiB stays open, as values are read when asked for. */
  [Symbol.dispose](): void;
}

const ATTEMPTS = 20;
/** Milliseconds between attempts on a directory that is being written to. */
const PAUSE = 100;

/**
 * Reads `dir`, which holds member/snap/db (kubeadm: /var/lib/etcd). `wal`: the log's folder, where etcd had --wal-dir (server/config's
 * WALDir). Writes nothing. What cannot be read is a `Fail`.
 */
export function readEtcdData(dir: string, wal = `${dir}/member/wal`): EtcdData {
  const paths = { dir, snap: `${dir}/member/snap`, db: `${dir}/member/snap/db`, wal };
  checkFolders(paths);
  for (let attempt = 1; ; attempt++) {
    const before = lastWrite(paths);
    try {
      return readOnce(paths);
    } catch (cause) {
      const isWritten = lastWrite(paths).getTime() !== before.getTime();
      if (!isWritten || attempt === ATTEMPTS) throw explain(cause, { dir, isWritten });
      Bun.sleepSync(PAUSE);
    }
  }
}

interface Paths {
  dir: string;
  snap: string;
  db: string;
  wal: string;
}

function checkFolders(paths: Paths) {
  const missing = [paths.snap, paths.wal].find((folder) => !isThere(folder, paths.dir));
  if (!missing) return;
  throw new Fail(`No etcd data in "${paths.dir}": "${missing}" does not exist`, {
    hint: `see what is there with \`ls -la ${paths.dir}/member\`; the directory is \`--data-dir\` in etcd's manifest, /var/lib/etcd by default`,
  });
}

/** Unlike existsSync it fails where it may not look. */
function isThere(folder: string, dir: string): boolean {
  try {
    return statSync(folder, { throwIfNoEntry: false }) !== undefined;
  } catch (cause) {
    throw explain(cause, { dir, isWritten: false });
  }
}

function lastWrite(paths: Paths): Date {
  const files = [paths.db, ...readdirSync(paths.wal).map((name) => `${paths.wal}/${name}`)];
  return new Date(Math.max(0, ...files.map((file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0)));
}

/** Turns damage, a directory that changes all the time, and missing permission into a Fail. Any other error is a bug and stays as it is. */
function explain(cause: unknown, at: { dir: string; isWritten: boolean }): unknown {
  if (cause instanceof Damaged && at.isWritten) {
    return new Fail(`etcd writes to "${at.dir}" faster than it can be read: ${cause.message}`, {
      hint: `stop etcd on this node, or copy the directory and read the copy: \`cp -a ${at.dir} /root/etcd-copy\``,
      cause,
    });
  }
  if (cause instanceof Damaged) {
    return new Fail(`Cannot read the etcd data in "${at.dir}": ${cause.message}`, {
      hint: "use the data directory of another etcd member, or restore a snapshot with `etcdutl snapshot restore`; leave this one as it is",
      cause,
    });
  }
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code !== "EACCES" && code !== "EPERM" && code !== "EIO") return cause;
  return new Fail(`Cannot read the etcd data in "${at.dir}": ${code}`, {
    hint: code === "EIO" ? "look at the disk with `dmesg | tail`, then use another member's directory" : "run this as root",
    cause,
  });
}

function readOnce(paths: Paths): EtcdData {
  const snapshot = readNewestSnapshot(paths.snap);
  const db = openDb(paths, snapshot);
  try {
    const mvcc = new Mvcc(db);
    const applied = db ? consistentIndex(db) : 0;
    const members = new Members(db);
    if (snapshot && !members.complete) members.readStore(snapshot.store);
    const replay = new Replay(mvcc, db);
    if (db && !db.unchanged()) throw new Damaged("etcd wrote to its db while it was read");

    const wal = readLog(paths, Math.min(applied, members.complete ? applied : (snapshot?.index ?? 0)));
    checkLog(wal, applied, paths);
    const committed = replayLog(wal, applied, { mvcc, members, replay });
    return describe({ paths, db, mvcc, members: members.list(), wal, committed });
  } catch (err) {
    db?.[Symbol.dispose]();
    throw err;
  }
}

/**
 * A follower may have got a whole new db and stopped before it used it: then that db is beside the old one. Undefined if there is no db.
 */
function openDb(paths: Paths, snapshot: Snapshot | undefined): Bbolt | undefined {
  if (!existsSync(paths.db)) return undefined;
  const db = new Bbolt(paths.db);
  const sent = snapshot && `${paths.snap}/${snapshot.index.toString(16).padStart(16, "0")}.snap.db`;
  if (!sent || snapshot.index <= consistentIndex(db) || !existsSync(sent)) return db;
  db[Symbol.dispose]();
  return new Bbolt(sent);
}

function consistentIndex(db: Bbolt): number {
  for (const { key, value } of db.items("meta")) if (key.toString() === "consistent_index") return u64(value);
  return 0;
}

/** Reads the log again if it seems cut off while etcd writes to it: then the end was only not written yet. */
function readLog(paths: Paths, after: number): Wal {
  for (let attempt = 1; ; attempt++) {
    const before = lastWrite(paths).getTime();
    const wal = readWal(paths.wal, after);
    if (wal.warnings.length === 0 || attempt === ATTEMPTS || before === lastWrite(paths).getTime()) return wal;
  }
}

/** Everything between the db and the log's end must be there; else the two do not belong together. */
function checkLog(wal: Wal, applied: number, paths: Paths) {
  if (wal.last.index < applied) {
    const damage = wal.warnings[0] ? ` (${wal.warnings[0]})` : "";
    throw new Damaged(`the log ends at entry ${wal.last.index}, before the db's ${applied}${damage}`);
  }
  for (let index = applied + 1; index <= wal.last.index; index++) {
    if (wal.entries.has(index)) continue;
    const db = existsSync(paths.db) ? `the db ends at entry ${applied}` : `${paths.db} does not exist`;
    throw new Damaged(`entry ${index} is not in the log, and ${db}`);
  }
}

/** Applies the entries after `applied`, and returns the revision at the last committed one. */
function replayLog(wal: Wal, applied: number, to: { mvcc: Mvcc; members: Members; replay: Replay }): number {
  let committed = to.mvcc.revision;
  for (const [index, entry] of [...wal.entries].sort(([a], [b]) => a - b)) {
    if (entry.type !== 0) {
      if (index > applied) to.members.applyConfChange(entry);
      continue;
    }
    to.members.applyAttributes(entry);
    if (index <= applied) continue;
    if (!legacyRequest(entry.data)) to.replay.apply(entry.data);
    if (index <= wal.commit) committed = to.mvcc.revision;
  }
  return committed;
}

interface Parts {
  paths: Paths;
  db: Bbolt | undefined;
  mvcc: Mvcc;
  members: Member[];
  wal: Wal;
  committed: number;
}

function describe(parts: Parts): EtcdData {
  const { mvcc, wal } = parts;
  // A single member commits all it has when it starts.
  const committed = parts.members.length > 1 ? parts.committed : mvcc.revision;
  const warnings = [...wal.warnings];
  if (committed < mvcc.revision) {
    warnings.push(
      `Revisions ${committed + 1} to ${mvcc.revision} may not have reached a quorum: the other members decide whether they count`,
    );
  }
  const keys = keyIndex(mvcc);
  return {
    clusterId: wal.clusterId,
    memberId: wal.memberId,
    members: parts.members,
    revision: mvcc.revision,
    committed: { revision: committed },
    raftTerm: wal.last.term,
    keyCount: keys.live.length,
    lastWrite: lastWrite(parts.paths),
    warnings,
    compactedRevision: mvcc.compactedRevision,
    ...accessors(mvcc, keys, parts.paths),
    [Symbol.dispose]: () => parts.db?.[Symbol.dispose](),
  };
}

/** Raw names of live and of deleted keys, both sorted. */
function keyIndex(mvcc: Mvcc) {
  const index = { live: [] as string[], deleted: [] as string[] };
  for (const key of mvcc.everyKey()) (mvcc.has(key) ? index.live : index.deleted).push(key);
  index.live.sort();
  index.deleted.sort();
  return index;
}

function accessors(mvcc: Mvcc, index: { live: string[]; deleted: string[] }, paths: Paths) {
  const opened = lastWrite(paths).getTime();
  const read = <T>(action: () => T): T => {
    try {
      return action();
    } catch (cause) {
      throw explain(cause, { dir: paths.dir, isWritten: lastWrite(paths).getTime() !== opened });
    }
  };
  const get = (rawKey: string): KeyValue | undefined => {
    const found = read(() => mvcc.get(rawKey));
    if (!found) return undefined;
    const { key, value, createRevision, modRevision, version, lease } = found;
    return { key: fromRaw(key), value, createRevision, modRevision, version, lease };
  };
  return {
    get: (key: string) => get(toRaw(key)),
    list: (prefix: string) => withPrefix(index.live, toRaw(prefix)).map((key) => get(key)!),
    history: (key: string) => read(() => mvcc.history(toRaw(key)).map((revision) => ({ ...revision, key }))),
    keys: (prefix: string) => withPrefix(index.live, toRaw(prefix)).map(fromRaw),
    deletedKeys: (prefix: string) => withPrefix(index.deleted, toRaw(prefix)).map(fromRaw),
  };
}

/** Of sorted names, those that begin with `prefix`. */
function withPrefix(sorted: string[], prefix: string): string[] {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < prefix) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < sorted.length && sorted[end]!.startsWith(prefix)) end++;
  return sorted.slice(low, end);
}
