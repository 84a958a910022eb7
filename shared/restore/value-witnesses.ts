/**
 * Whether the values that come back are those that were written: what the log has of them, what a snapshot has, and
 * what each shows of itself. One that is damaged gets what a witness has in its place. Reads only.
 */
import { Bbolt } from "../etcd-data/bbolt.ts";
import { type EtcdData, readEtcdData } from "../etcd-data/data.ts";
import { consistentIndex, DamagedData } from "../etcd-data/directory.ts";
import { fromRaw } from "../etcd-data/key-text.ts";
import { beginningAt, type OldRoot } from "../etcd-data/old-roots.ts";
import { Damaged, isDamage, unlessDamaged } from "../etcd-data/protobuf.ts";
import { checkNumbers } from "../etcd-data/row-numbers.ts";
import { firstEntryIn } from "../etcd-data/wal.ts";
import { type Doubt, findWitnesses } from "../etcd-data/witnesses.ts";
import { Groups, lookAtValue, type ValueFinding } from "../objects/whole-value.ts";
import { listed } from "../plain.ts";
import { canLeaveOut, Unmended } from "./left-out.ts";
import { mend, rowsOfMended } from "./mended-values.ts";
import { isFew, proveByWholeLog } from "./whole-log.ts";

export interface Proof {
  /** How many values there are, and how many of them nobody else has. */
  values: number;
  alone: number;
  /** The log has also made createRevision and version of each key; else only the database has them. */
  hasNumbers: boolean;
  /** The log's first entry; undefined without a log. */
  since: number | undefined;
  /** Damaged values that a witness has put right, in words. */
  mended: string[];
  /** Keys that are given up, of `without`. */
  leftOut: string[];
}

export interface Proved {
  data: EtcdData;
  proof: Proof;
  /** From where the data is read again with what the witnesses have put right; unset where nothing was wrong. */
  from?: OldRoot;
}

interface ProvedBy {
  /** Other dbs of the cluster. */
  snapshots: readonly string[];
  /** Keys that may be given up, where nothing has their values whole. */
  without?: readonly string[];
  /** Only the db counts. */
  isAlone?: boolean;
}

/** Errors: DamagedData by `Unmended` where a value is damaged, no witness has it, and its key is not given up. */
export function proveMember(
  host: string,
  data: EtcdData,
  { snapshots, without = [], isAlone = false }: ProvedBy,
): Proved {
  const { db } = data.stored();
  const folder = `${host}/member/wal`;
  const since = firstEntryIn(folder);
  const witnessed = { values: data.keyCount, alone: 0, since, hasNumbers: true, mended: [], leftOut: [] };
  if (!db) return { data, proof: witnessed };
  const byLog = since === 1 && !isAlone ? explained(host, () => proveByWholeLog(host, data)) : undefined;
  if (byLog) return { ...byLog, proof: { ...witnessed, values: byLog.data.keyCount, mended: byLog.mended } };
  const applied = db.stable(consistentIndex);
  const { proof, rows } = prove(host, db, {
    ...{ log: { folder, applied }, snapshots, without },
  });
  if (!rows) return { data, proof: { ...proof, since } };
  const from = { ...db.file.newestMeta(), path: db.file.path, index: applied, rows, isAlone };
  const { isCut } = data.end;
  data[Symbol.dispose]();
  const again = readEtcdData(host, undefined, beginningAt(from, { isCut }));
  explained(host, () => checkNumbers(again.stored().db!));
  return { data: again, from, proof: { ...proof, since } };
}

/** Errors: DamagedData in place of Damaged. */
function explained<T>(at: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw isDamage(cause) ? new DamagedData(at, cause) : cause;
  }
}

/** The same of a snapshot: what its values show of themselves. */
export function proveSnapshot(path: string, data: EtcdData): Proof {
  const { db } = data.stored();
  return prove(path, db!, { snapshots: [], without: [] }).proof;
}

interface With {
  log?: { folder: string; applied: number };
  snapshots: readonly string[];
  without: readonly string[];
}

function prove(at: string, db: Bbolt, { log, snapshots, without }: With) {
  const groups = new Groups();
  const others = snapshots.filter((path) => path !== db.file.path).flatMap((path) => opened(path) ?? []);
  try {
    const witnesses = {
      log,
      snapshots: others,
      look: lookAtValue,
      note: (all: readonly ValueFinding[]) => groups.note(all),
    };
    const { values, alone, doubts, misnumbered } = findWitnesses(db, witnesses);
    const damaged = doubts.filter(
      ({ isOther, found }) => isOther || found.some((one) => groups.isDamage(one)),
    );
    const isWhole = (key: string, value: Uint8Array) =>
      !lookAtValue(key, value).some((one) => groups.isDamage(one));
    const mended = mend(db, damaged, { log: log?.folder, snapshots: others, isWhole });
    if (groups.others > 0) throw new Damaged(`${damaged.length + groups.others} values are damaged`);
    const left = damaged.filter((doubt) => !mended.some((one) => one.doubt === doubt));
    refuseUnmended(at, { damaged, left, values, without });
    if (misnumbered && mended.length === 0) throw misnumbered;
    return {
      proof: {
        values: values - left.length,
        // a snapshot may have its damaged one, too
        alone: Math.min(alone - left.length, values - left.length),
        ...{ since: undefined, hasNumbers: false },
        leftOut: [...new Set(left.map(({ key }) => fromRaw(key)))],
        mended: mended.map(({ doubt, by }) => `${nameOf(doubt)}, by the ${by}`),
      },
      rows: mended.length > 0 ? rowsOfMended(mended) : undefined,
    };
  } catch (cause) {
    throw isDamage(cause) ? new DamagedData(at, cause) : cause;
  } finally {
    for (const other of others) other[Symbol.dispose]();
  }
}

/** A damaged one is no witness. */
const opened = (path: string) => unlessDamaged(() => new Bbolt(path));

const nameOf = ({ key, main }: Doubt<unknown>) => `${fromRaw(key)} (revision ${main})`;

interface Unproved {
  damaged: readonly Doubt<ValueFinding>[];
  /** The values that nothing but the database confirms. */
  left: readonly Doubt<ValueFinding>[];
  values: number;
  without: readonly string[];
}

function refuseUnmended(at: string, { damaged, left, values, without }: Unproved) {
  const others = damaged.filter(({ isOther }) => isOther);
  const isMany = !isFew(others.length, values);
  const [first] = isMany ? others : left;
  if (!first) return;
  const isFree = left.every(({ key, found, isOther }) => !isOther && canLeaveOut(fromRaw(key), found));
  const keys = isFree && !isMany ? [...new Set(left.map(({ key }) => fromRaw(key)))] : [];
  if (keys.length > 0 && keys.every((key) => without.includes(key))) return;
  const why = first.isOther
    ? `revision ${first.main} is not what its witnesses have of it`
    : first.found.map(({ fault }) => fault).join(", ");
  const many = `${others.length} of ${values} values are others than the log or the snapshot has, so these are of another cluster`;
  throw new DamagedData(
    at,
    new Unmended(
      isMany
        ? `${many} (${nameOf(first)}: ${why})`
        : `${left.length} value(s) are damaged, and nothing has them whole: ${listed(left.map(nameOf))} (${why})`,
      keys,
    ),
  );
}

/** Behind the first words of the answer. */
export function proofWords({ values, alone, since, hasNumbers, mended }: Proof): string {
  const numbers = hasNumbers ? "" : "; only the database has each key's createRevision and version";
  const put = `${numbers}${mended.length > 0 ? `. Damaged values that were put right: ${listed(mended)}` : ""}`;
  if (alone === 0) return `each of ${values} values and its key has a second witness${put}`;
  const before = (since ?? 1) > 1 ? ` older than entry ${since}` : "";
  return `${alone} of ${values} values${before} and their keys have no second witness, and each of them is whole${put}`;
}
