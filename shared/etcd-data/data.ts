/**
 * Reads etcd's data directory without etcd: the answers that a member would give if it started now, and its
 * keys' history. A running etcd does not disturb the reading, nor the reading etcd.
 */
import type { Row } from "./bbolt.ts";
import {
  type Beginning,
  DamagedData,
  type DirectoryState,
  explain,
  readDbAlone,
  readDirectory,
} from "./directory.ts";
import { fromRaw, toRaw } from "./key-text.ts";
import type { Member } from "./members.ts";
import { CompactedSince, type Mvcc, type Revision } from "./mvcc.ts";
import { Damaged } from "./protobuf.ts";
import type { KeyValue } from "./revisions.ts";

export type { KeyValue, Member };

/**
 * All answers are of one revision. Only if etcd has compacted a value away before it was asked for, the directory is
 * read again: then all later answers and these fields are of a later one.
 */
export interface EtcdData {
  /**
   * Hex, as etcdctl prints them. The cluster id derives from the first members: equal ids do not prove equal
   * clusters.
   */
  clusterId: string;
  memberId: string;
  members: Member[];
  /**
   * Names of the old members, if restore.ts has made this data from theirs: `members` has only the one that
   * continues.
   */
  formerMembers?: readonly string[];
  /**
   * Set if etcd runs on other machines: its own members, and this machine's addresses and its node's name. `members` are
   * then the control plane nodes, at their API servers.
   */
  elsewhere?: { members: Member[]; addresses: string[]; name: string };
  /** Main revision after the log's last entry. */
  revision: number;
  /**
   * After the last entry that this member knew a quorum had. With several members, the rest up to `revision` may be
   * lost.
   */
  committed: { revision: number };
  keyCount: number;
  /**
   * The log's last entry. `isCut`: later entries existed, and are lost. `isEndSeen`: nothing but etcd's room is behind it
   * in its file; else nobody knows what was there.
   */
  end: { index: number; term: number; isCut: boolean; isEndSeen: boolean };
  /** The log is damaged, and what is left of it leads to these keys: etcd does not start on it, or without what is lost. */
  damage?: DamagedData | undefined;
  /** When db or log was last written. */
  lastWrite: Date;
  /**
   * A member has raised the alarm NOSPACE, as its database is full: etcd accepts no writes until it is
   * disarmed.
   */
  isFull: boolean;
  /** "3.6.0": no older etcd opens it. Undefined before etcd 3.6, and if there is only a log. */
  storageVersion?: string | undefined;
  /** Warnings before this data is relied on: a log that is cut off or damaged, entries without a quorum. */
  warnings: string[];
  /** 0 if there was no compaction. */
  compactedRevision: number;
  get(key: string): KeyValue | undefined;
  /** At most the first `length` bytes of a live value. */
  valueHead(key: string, length: number): Uint8Array | undefined;
  /** The lease of a live key, without its value; 0n if there is none. */
  leaseOf(key: string): bigint;
  /** Sorted by key. Each value is read when its turn comes: all of them may be gigabytes. */
  list(prefix: string): Generator<KeyValue, void>;
  /**
   * Newest first, with tombstones, at least back to the last compaction, and further if that has not
   * finished.
   */
  history(key: string): Revision[];
  /** A value of this key, wherever it was read, as this data shows its own: opened if those are. */
  shown(key: string, value: Uint8Array): Uint8Array;
  /** A decoded object with the machines' current addresses: see movedHere in node/words.ts. Changes the object itself. */
  asToday<T>(object: T): T;
  /** Names of live keys that begin with `prefix`, sorted. */
  keys(prefix: string): string[];
  /** Names of keys that begin with `prefix` and are deleted, but still in the history; sorted. */
  deletedKeys(prefix: string): string[];
  /** All rows, to be written into a new database, if no etcd writes to the old one. */
  stored(): Stored;
  /** Closes the db file. One above 64 MiB stays open, as values are read when they are asked for. */
  [Symbol.dispose](): void;
}

interface Stored extends Pick<DirectoryState["replay"], "leases" | "alarms" | "hasUsers"> {
  /** Undefined where the log alone has all of it. */
  db: DirectoryState["db"];
  /** The db's bucket `key`, oldest revision first. */
  rows: Iterable<Row>;
  /** The log's additions to them, oldest first. A key is its bytes as latin1 text. */
  changes: readonly Revision[];
}

/**
 * `wal`: the log's folder, if etcd had --wal-dir (server/config's WALDir). `from`: as `readDirectory`. Writes
 * nothing. Errors: Fail if it cannot be read.
 */
export function readEtcdData(dir: string, wal = `${dir}/member/wal`, from?: Beginning): EtcdData {
  return dataOf(dir, () => readDirectory(dir, wal, from));
}

/** The same for a db alone, as a snapshot is: without ids, and without what only a log has. */
export function readSnapshotData(file: string): EtcdData {
  return dataOf(file, () => readDbAlone(file));
}

function dataOf(dir: string, load: () => DirectoryState): EtcdData {
  let view = readView(dir, load);
  const repeat = <T>(action: (mvcc: Mvcc) => T): T => {
    view.state.db?.[Symbol.dispose]();
    view = readView(dir, load);
    Object.assign(data, view.facts);
    return action(view.state.mvcc);
  };
  const read = <T>(action: (mvcc: Mvcc) => T): T => {
    try {
      return rereadIfCompacted(
        () => action(view.state.mvcc),
        () => repeat(action),
      );
    } catch (cause) {
      throw explain(cause, { dir });
    }
  };
  const get = (key: string): KeyValue | undefined => {
    const found = read((mvcc) => mvcc.get(toRaw(key)));
    if (!found) return undefined;
    const { value, createRevision, modRevision, version, lease } = found;
    return { key, value, createRevision, modRevision, version, lease };
  };
  const named = (prefix: string, isLive: boolean) => {
    const { mvcc } = view.state;
    const found = mvcc.everyKey(toRaw(prefix)).filter((key) => mvcc.has(key) === isLive);
    return [...found].sort().map(fromRaw);
  };
  const keys = (prefix: string) => named(prefix, true);
  const data: EtcdData = {
    ...view.facts,
    get,
    valueHead: (key, length) => read((mvcc) => mvcc.valueHead(toRaw(key), length)),
    leaseOf: (key) => view.state.mvcc.leaseOf(toRaw(key)),
    *list(prefix) {
      for (const key of keys(prefix)) {
        const found = get(key);
        if (found) yield found;
      }
    },
    history: (key) => read((mvcc) => mvcc.history(toRaw(key)).map((revision) => ({ ...revision, key }))),
    shown: (_key, value) => value,
    asToday: (object) => object,
    keys,
    deletedKeys: (prefix) => named(prefix, false),
    stored() {
      const { db, mvcc, replay } = view.state;
      const { leases, alarms, hasUsers } = replay;
      const rows = db?.stable((tree) => tree.items("key")) ?? [];
      return { db, rows, changes: mvcc.changes, leases, alarms, hasUsers };
    },
    [Symbol.dispose]: () => view.state.db?.[Symbol.dispose](),
  };
  return data;
}

function rereadIfCompacted<T>(action: () => T, otherwise: () => T): T {
  try {
    return action();
  } catch (cause) {
    if (!(cause instanceof CompactedSince)) throw cause;
  }
  return otherwise();
}

function readView(dir: string, load: () => DirectoryState) {
  const state = load();
  return { state, facts: describe(dir, state) };
}

function describe(dir: string, state: DirectoryState) {
  const { mvcc, wal, members, committed: logged, lastWrite, isFull, storageVersion } = state;
  // A single member commits all its entries when it starts.
  const committed = members.length > 1 ? logged : mvcc.revision;
  const warnings = [...wal.warnings];
  if (committed < mvcc.revision) {
    warnings.push(
      `Revisions ${committed + 1} to ${mvcc.revision} may not have reached a quorum: the other members decide whether they count`,
    );
  }
  return {
    clusterId: wal.clusterId,
    memberId: wal.memberId,
    members,
    revision: mvcc.revision,
    committed: { revision: committed },
    end: { ...wal.last, isCut: wal.isCut, isEndSeen: wal.isEndSeen },
    damage: wal.isDamaged && wal.warnings[0] ? new DamagedData(dir, new Damaged(wal.warnings[0])) : undefined,
    keyCount: mvcc.keyCount,
    lastWrite,
    isFull,
    storageVersion,
    warnings,
    compactedRevision: mvcc.compactedRevision,
  };
}
