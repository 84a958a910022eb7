/**
 * Whether the values that come back are those that were written: what the log has of them, what a snapshot has, and
 * what each shows of itself. One that is damaged gets what a witness has in its place. Reads only.
 */
import { Bbolt } from "../etcd-data/bbolt.ts";
import { type EtcdData, readEtcdData } from "../etcd-data/data.ts";
import { consistentIndex, DamagedData } from "../etcd-data/directory.ts";
import { fromRaw } from "../etcd-data/mvcc.ts";
import { beginningAt, type OldRoot } from "../etcd-data/old-roots.ts";
import { Damaged, isDamage, unlessDamaged } from "../etcd-data/protobuf.ts";
import { checkNumbers } from "../etcd-data/row-numbers.ts";
import { firstEntryIn } from "../etcd-data/wal.ts";
import { type Doubt, findWitnesses } from "../etcd-data/witnesses.ts";
import { Groups, lookAtValue, type ValueFinding } from "../objects/whole-value.ts";
import { listed } from "../plain.ts";
import { mend, rowsOfMended } from "./mended-values.ts";
import { isFew, proveByWholeLog } from "./whole-log.ts";

export interface Proof {
  /** How many values there are, and how many of them nobody else has. */
  values: number;
  alone: number;
  /** The log's first entry; undefined without a log. */
  since: number | undefined;
  /** Damaged values that a witness has put right, in words. */
  mended: string[];
}

export interface Proved {
  data: EtcdData;
  proof: Proof;
  /** From where the data is read again with what the witnesses have put right; unset where nothing was wrong. */
  from?: OldRoot;
}

/** `snapshots`: other dbs of the cluster. `isAlone`: only the db counts. Errors: DamagedData where a value is damaged, and no witness has it. */
export function proveMember(
  host: string,
  data: EtcdData,
  snapshots: readonly string[],
  isAlone = false,
): Proved {
  const { db } = data.stored();
  const folder = `${host}/member/wal`;
  const since = firstEntryIn(folder);
  const witnessed = { values: data.keyCount, alone: 0, since, mended: [] };
  if (!db) return { data, proof: witnessed };
  const byLog = since === 1 && !isAlone ? explained(host, () => proveByWholeLog(host, data)) : undefined;
  if (byLog) return { ...byLog, proof: { ...witnessed, values: byLog.data.keyCount, mended: byLog.mended } };
  const applied = db.stable(consistentIndex);
  const { proof, rows } = prove(host, db, { log: { folder, applied, isShort: isAlone }, snapshots });
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
  return prove(path, db!, { snapshots: [] }).proof;
}

interface With {
  log?: { folder: string; applied: number; isShort?: boolean };
  snapshots: readonly string[];
}

function prove(at: string, db: Bbolt, { log, snapshots }: With) {
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
    refuseUnmended(at, damaged, mended, values);
    if (misnumbered && mended.length === 0) throw misnumbered;
    return {
      proof: {
        values,
        alone,
        since: undefined,
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

function refuseUnmended(
  at: string,
  damaged: readonly Doubt<ValueFinding>[],
  mended: readonly { doubt: unknown }[],
  values: number,
) {
  const left = damaged.filter((doubt) => !mended.some((one) => one.doubt === doubt));
  const others = damaged.filter(({ isOther }) => isOther);
  const isMany = !isFew(others.length, values);
  const [first] = isMany ? others : left;
  if (!first) return;
  const why = first.isOther
    ? `revision ${first.main} is not what its witnesses have of it`
    : first.found.map(({ fault }) => fault).join(", ");
  const many = `${others.length} of ${values} values are others than the log or the snapshot has, so these are of another cluster`;
  throw new DamagedData(
    at,
    new Damaged(
      isMany
        ? `${many} (${nameOf(first)}: ${why})`
        : `${left.length} value(s) are damaged, and nothing has them whole: ${listed(left.map(nameOf))} (${why})`,
    ),
  );
}

/** Behind the first words of the answer. */
export function proofWords({ values, alone, since, mended }: Proof): string {
  const put = mended.length > 0 ? `. Damaged values that were put right: ${listed(mended)}` : "";
  if (alone === 0) return `each of ${values} values has a second witness${put}`;
  const before = since === undefined ? "" : ` older than entry ${since}`;
  return `${alone} of ${values} values${before} have no second witness, and each of them is whole${put}`;
}
