/**
 * Combines the files of etcd's data directory, db, log and snapshots, into the state that a member would have
 * if it started now.
 *
 * The db alone is not enough: it lags the log by up to 100 ms of writes, so the log's tail is replayed onto
 * it. The db is read first, then the log, so a running etcd does no harm: its later writes are in the log.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { codeOf, Fail } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { Bbolt, type Tree } from "./bbolt.ts";
import { ChangedFile, changeOfFile } from "./changed-file.ts";
import { checkFitsLog, type Newest, newestIn } from "./fits-log.ts";
import { legacyRequest, type Member, Members, mayNameMember } from "./members.ts";
import { Mvcc, storedNumber } from "./mvcc.ts";
import { Damaged, isDamage, unlessDamaged } from "./protobuf.ts";
import { readNewestSnapshot, type Snapshot } from "./raft-files.ts";
import { Replay } from "./replay.ts";
import { type Entry, readWal, type Wal, type Wish } from "./wal.ts";

export interface DirectoryState {
  mvcc: Mvcc;
  members: Member[];
  wal: Wal;
  /** Revision at the last entry that this member knew a quorum had. */
  committed: number;
  lastWrite: Date;
  /** A member has raised the alarm NOSPACE: etcd accepts no writes. */
  isFull: boolean;
  /** "3.6.0": the release that its db was written for last; undefined before etcd 3.6, and without a db. */
  storageVersion: string | undefined;
  db: Bbolt | undefined;
  replay: Replay;
}

const ATTEMPTS = 5;
const LOG_READS = 20;
/** Milliseconds between attempts on a directory that is being written to. */
const PAUSE = 100;

/** A directory read from another tree than the newest one. */
export interface Read extends Pick<DirectoryState, "db" | "mvcc" | "replay" | "wal"> {
  newest: Newest | undefined;
  /** The log's last entry that the tree has. */
  applied: number;
  paths: { db: string; wal: string };
}

/** Starts from another tree than the newest one, and proves it. Errors: Damaged. */
export interface Beginning {
  /** Unset: the newest tree. */
  open?(): Bbolt | undefined;
  /** The log ends before the tree does, and has nothing for it but the ids. */
  isAlone?: true;
  /** Before the log's replay. `isMade`: an entry is known to have made the newest revision. */
  check(read: Read, isMade: boolean): void;
  /** After the replay: whether the log's end is lost. */
  isCut(read: Read): boolean;
}

/** `from`: in place of the newest tree. Errors: as `readEtcdData`. */
export function readDirectory(dir: string, wal: string, from?: Beginning): DirectoryState {
  const paths = { dir, snap: `${dir}/member/snap`, db: `${dir}/member/snap/db`, wal };
  checkFolders(paths);
  for (let attempt = 1; ; attempt++) {
    const before = lastWrite(paths);
    try {
      return readOnce(paths, from);
    } catch (cause) {
      const isWritten = lastWrite(paths).getTime() !== before.getTime();
      if (!isWritten || attempt === ATTEMPTS) throw explain(cause, { dir, isWritten });
      Bun.sleepSync(PAUSE);
    }
  }
}

/** A db without a log. Errors: as `readEtcdData`. */
export function readDbAlone(path: string): DirectoryState {
  let db: Bbolt | undefined;
  try {
    db = new Bbolt(path);
    db.check();
    const mvcc = new Mvcc(db);
    const tables = mvcc.catchUp((tree) => ({
      members: new Members(tree),
      replay: new Replay(mvcc, tree),
      storageVersion: tree && storageVersion(tree),
    }));
    return {
      ...{ db, mvcc, wal: NO_LOG, committed: mvcc.revision },
      members: tables.members.list(),
      lastWrite: statSync(path).mtime,
      replay: tables.replay,
      isFull: tables.replay.isFull,
      storageVersion: tables.storageVersion,
    };
  } catch (cause) {
    db?.[Symbol.dispose]();
    throw explain(cause, { dir: path });
  }
}

const NO_LOG: Wal = {
  ...{ clusterId: "", memberId: "", entries: new Map(), before: [], isOfRestore: false, warnings: [] },
  ...{ last: { index: 0, term: 0 }, commit: 0, isCut: false, isEndSeen: false, isDamaged: false },
};

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
    hint: shell`see what is there with \`ls -la ${paths.dir}/member\`; the directory is \`--data-dir\` in etcd's manifest, /var/lib/etcd by default`,
  });
}

/** Unlike existsSync it fails if access is denied. */
function isThere(folder: string, dir: string): boolean {
  try {
    return statSync(folder, { throwIfNoEntry: false }) !== undefined;
  } catch (cause) {
    throw explain(cause, { dir, isWritten: false });
  }
}

function lastWrite(paths: Paths): Date {
  const files = [paths.db, ...readdirSync(paths.wal).map((name) => `${paths.wal}/${name}`)];
  return new Date(
    Math.max(0, ...files.map((file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0)),
  );
}

/** The db has entries that the log has lost. */
export class LogEndsFirst extends Damaged {}

/** etcd itself may start on it, and serve other keys: bbolt's pages have no checksums. */
export class DamagedData extends Fail {
  readonly dir: string;

  constructor(dir: string, cause: Error) {
    super(`etcd's data in "${dir}" is damaged: ${cause.message}`, {
      hint: `${mendOf(dir, cause)}leave it as it is, and take the data of another member, its disk, or a snapshot: RUNBOOK-MORE "If etcd's data is damaged"`,
      cause,
    });
    this.dir = dir;
  }
}

/** A line for a copy, as nothing is changed where it lies. */
function mendOf(dir: string, cause: Damaged): string {
  if (!(cause instanceof ChangedFile)) return "";
  const copy = `${dir}.copy`;
  const hint = statSync(dir).isDirectory()
    ? cause.hint(`${copy}/member/snap/db`, `${shell`cp -a ${dir} ${copy}`} && `)
    : cause.hint(copy);
  return `${hint}. Else `;
}

/** Undefined where its database is none that a program has changed. */
function changeIn(dir: string): ChangedFile | undefined {
  const path = statSync(dir, { throwIfNoEntry: false })?.isDirectory() ? `${dir}/member/snap/db` : dir;
  return existsSync(path) ? unlessDamaged(() => changeOfFile(path)) : undefined;
}

/**
 * Turns damage, a directory that changes all the time, and missing permission into a Fail. Any other error is a bug.
 */
export function explain(cause: unknown, at: { dir: string; isWritten?: boolean }): unknown {
  if (isDamage(cause) && at.isWritten) {
    return new Fail(`Cannot read the etcd data in "${at.dir}", which is being written to: ${cause.message}`, {
      hint: "run the same line again; nothing has to stop. If it fails again: use the data directory of another etcd member",
      cause,
    });
  }
  if (isDamage(cause)) return new DamagedData(at.dir, changeIn(at.dir) ?? cause);
  const code = codeOf(cause);
  if (code !== "EACCES" && code !== "EPERM" && code !== "EIO") return cause;
  return new Fail(`Cannot read the etcd data in "${at.dir}": ${code}`, {
    hint:
      code === "EIO"
        ? "look at the disk with `dmesg | tail`, then use another member's directory"
        : "run this as root",
    cause,
  });
}

function readOnce(paths: Paths, from?: Beginning): DirectoryState {
  const snapshot = readNewestSnapshot(paths.snap);
  const db = from?.open ? from.open() : openDb(paths, snapshot);
  try {
    db?.check();
    const mvcc = new Mvcc(db);
    const { applied, term, newest, members, replay, ...tables } = mvcc.catchUp((tree) => ({
      storageVersion: tree && storageVersion(tree),
      applied: tree ? consistentIndex(tree) : 0,
      term: tree ? storedNumber(tree, "term") : 0,
      newest: tree && newestIn(tree),
      members: new Members(tree),
      replay: new Replay(mvcc, tree),
    }));
    // etcd 3.5 does not write to its bucket what a member publishes, new peerURLs, and a promotion
    const isInStore = !members.complete;
    if (snapshot && isInStore) members.readStore(snapshot.store);
    const after = isInStore ? Math.min(applied, snapshot?.index ?? 0) : applied;
    const wal = readLog(paths, {
      ...{ after, applied, readsOn: from !== undefined },
      isWanted: (entry: Entry) =>
        entry.index > applied || mayNameMember(entry) || (isInStore && entry.type !== 0),
    });
    if (from?.isAlone) endAlone(wal, { index: applied, term });
    else checkLog(wal, applied, paths);
    checkTerm(wal, { applied, term, isExact: from !== undefined });
    wal.last.term ||= term;
    const isMade = checkFitsLog(wal.before, newest, replay);
    const read: Read = { db, mvcc, newest, replay, wal, applied, paths };
    from?.check(read, isMade);
    const committed = replayLog(wal, applied, { mvcc, members, replay });
    wal.isCut ||= from?.isCut(read) ?? false;
    return {
      db,
      mvcc,
      wal,
      committed,
      members: members.list(),
      lastWrite: lastWrite(paths),
      replay,
      isFull: replay.isFull,
      ...tables,
    };
  } catch (err) {
    db?.[Symbol.dispose]();
    throw err;
  }
}

/** At the db's own entry; or where the log ends that goes on from there, with a gap before. */
function endAlone(wal: Wal, { index, term }: Wal["last"]) {
  const last = wal.last.index > index ? wal.last : { index, term: term || wal.last.term };
  Object.assign(wal, { last, isEndSeen: false });
}

/**
 * A follower may have received a whole new db and stopped before using it: that db is then beside the old one.
 */
function openDb(paths: Pick<Paths, "db" | "snap">, snapshot: Snapshot | undefined): Bbolt | undefined {
  if (!existsSync(paths.db)) return undefined;
  const db = new Bbolt(paths.db);
  if (db.stable((tree) => tree.isNew)) return void db[Symbol.dispose]();
  const sent = snapshot && `${paths.snap}/${snapshot.index.toString(16).padStart(16, "0")}.snap.db`;
  if (!sent || snapshot.index <= db.stable(consistentIndex) || !existsSync(sent)) return db;
  db[Symbol.dispose]();
  return new Bbolt(sent);
}

export function consistentIndex(tree: Tree): number {
  return storedNumber(tree, "consistent_index");
}

/** Source: etcd server/storage/schema/schema.go. */
export function storageVersion(tree: Tree): string | undefined {
  return tree.find("meta", Buffer.from("storageVersion"), (leaf, i) => leaf.value(i).toString("latin1"));
}

/**
 * Reads the log again if it seems cut off: a running etcd may not have finished writing. A file's time has
 * steps of some milliseconds, so it shows only later whether somebody writes.
 */
function readLog(paths: Paths, wish: Wish): Wal {
  for (let attempt = 1; ; attempt++) {
    const before = lastWrite(paths).getTime();
    const wal = readWal(paths.wal, wish);
    if (wal.warnings.length === 0 || attempt === LOG_READS) return wal;
    const isStill = before === lastWrite(paths).getTime();
    if (isStill && (attempt > 2 || still.get(paths.wal) === before)) {
      still.set(paths.wal, before);
      return wal;
    }
  }
}

/** When a damaged log was written last, if several readings have shown that nobody writes to it: then one is enough. */
const still = new Map<string, number>();

/** Everything between the db and the log's end must exist; else the two do not belong together. */
function checkLog(wal: Wal, applied: number, paths: Paths) {
  if (wal.last.index < applied) {
    const damage = wal.warnings[0] ? ` (${wal.warnings[0]})` : "";
    throw new LogEndsFirst(`the log ends at entry ${wal.last.index}, before the db's ${applied}${damage}`);
  }
  if (applied === 0 && wal.isOfRestore)
    throw new Damaged(`${paths.db} is gone or empty, and what a restore put there is not in the log`);
  for (let index = applied + 1; index <= wal.last.index; index++) {
    if (wal.entries.has(index)) continue;
    const db = existsSync(paths.db) ? `the db ends at entry ${applied}` : `${paths.db} does not exist`;
    throw new Damaged(`entry ${index} is not in the log, and ${db}`);
  }
}

/**
 * All members have applied the same under one index and term. `term`: 0 if the db has none, as before etcd
 * 3.5, and an older one if that release ran once more: `isExact` does not know it.
 */
function checkTerm(
  wal: Wal,
  { applied, term, isExact }: { applied: number; term: number; isExact: boolean },
) {
  const [own, next] = [wal.before.at(-1), wal.entries.get(applied + 1)];
  const found = own ?? next;
  if (!term || !found || (own && isExact ? own.term === term : found.term >= term)) return;
  const place = own ? "there" : "behind it";
  throw new Damaged(
    `the db and the log are of two members: the db's last entry, ${applied}, is of term ${term}. The log has an entry of term ${found.term} ${place}`,
  );
}

/** Applies the entries after `applied`, and returns the revision at the last committed one. */
function replayLog(wal: Wal, applied: number, to: { mvcc: Mvcc; members: Members; replay: Replay }): number {
  let committed = to.mvcc.revision;
  for (const [index, entry] of [...wal.entries].sort(([a], [b]) => a - b)) {
    if (entry.type !== 0) {
      if (index > applied) to.members.applyConfChange(entry);
      else to.members.applyUpdate(entry);
      continue;
    }
    to.members.applyAttributes(entry);
    if (index <= applied) continue;
    const { data } = entry;
    if (!legacyRequest(data)) to.replay.apply(data, () => entry.data);
    if (index <= wal.commit) committed = to.mvcc.revision;
  }
  return committed;
}
