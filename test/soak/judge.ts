/**
 * Judges what is brought back of a damaged member: each key is as it was at the revision that is said, by a log of which
 * nothing was compacted, and what is exact has all of them.
 */
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { type EtcdData, readEtcdData } from "../../shared/etcd-data/data.ts";
import { wireFields } from "../../shared/etcd-data/protobuf.ts";
import { isZeroFrom, LogFile } from "../../shared/etcd-data/raft-files.ts";
import { type Entry, parseRecord, readEntry, readFrame } from "../../shared/etcd-data/wal.ts";
import { attemptLater, Fail } from "../../shared/fail.ts";
import { hostPath } from "../../shared/files/files.ts";
import {
  chooseData,
  isWhole,
  type MemberData,
  memberDataIn,
  wayInWords,
} from "../../shared/restore/lost-members-data.ts";
import { RECORD } from "../../shared/restore/new-member.ts";
import { silently } from "../../shared/run.ts";
import { splitLog } from "../pretend/write-wal.ts";

/** Outcomes that are wrong begin so. */
export const WRONG = "WRONG: ";

const isCompaction = ({ type, data }: Entry) =>
  type === 0 && wireFields(data).some(({ number }) => number === 7);

/** The keys with what they hold, of the undamaged log in `wal`; `dir` gets a log of every revision. */
export class Judge {
  private readonly truth: EtcdData;
  private readonly known = new Map<number, Map<string, Content>>();

  constructor(dir: string, wal: string) {
    for (const folder of ["snap", "wal"]) mkdirSync(`${dir}/member/${folder}`, { recursive: true });
    const kept = splitLog(wal, 64_000_000, (entry) => !isCompaction(entry));
    for (const [name, bytes] of kept) writeFileSync(`${dir}/member/wal/${name}`, bytes);
    this.truth = readEtcdData(dir);
  }

  /** The last revision that was acknowledged. */
  get revision(): number {
    return this.truth.revision;
  }

  /** In words how what `read` finds is brought back, in this folder; `without`: keys that it may give up. */
  async outcomeOf(
    dir: string,
    read = (without: readonly string[]) => memberDataIn(dir, undefined, { without }),
  ): Promise<string> {
    const judged = (without: readonly string[]) =>
      attemptLater(() => silently(async () => this.broughtBack(read(without), without)));
    const outcome = await judged([]);
    if (!(outcome instanceof Fail)) return outcome;
    const keys = / --give-up (\S+)$/.exec(outcome.hint ?? "")?.[1]?.split(",");
    if (!keys) return "refused";
    const less = await judged(keys);
    if (less instanceof Fail) return `${WRONG}refused without ${keys}, too: ${less.message}`;
    return less.startsWith(WRONG) ? less : `${less}, keys given up`;
  }

  private broughtBack(found: MemberData, without: readonly string[]): string {
    using data = found.open();
    const { revision } = data;
    const then = this.known.getOrInsertComputed(revision, () => contentAt(this.truth, revision));
    const now = contentAt(data, revision);
    const names = [...new Set([...then.keys(), ...now.keys()])].filter((name) => !without.includes(name));
    if (without.some((key) => now.has(key))) return `${WRONG}a key that was given up is there`;
    const differing = (of: (one: Content | undefined) => unknown) =>
      names.filter((name) => of(then.get(name)) !== of(now.get(name)));
    const keys = differing((one) => one?.key);
    const values = differing((one) => one?.value);
    const numbers = differing((one) => one?.numbers);
    const isExact = isWhole(found.last) && without.length === 0;
    if (found.members.length === 1 && chooseData([found]).isQuorum && !isExact)
      return `${WRONG}a quorum, and not exact`;
    const words = wordsOf(found);
    const isRenamed = !isExact && this.isOfRows(keys, { then, now }) && keys.length <= 2 * words.alone;
    if (isRenamed) return "as of, the database alone, a key without a witness";
    if (keys.length > 0) return `${WRONG}${keys.length} keys, ${isExact ? "exact" : "as of"}`;
    if (values.length > words.alone) return `${WRONG}values that have a witness`;
    if (numbers.length > 0 && !words.isOfNumbers) return `${WRONG}numbers that have a witness`;
    const counted = `${values.length > 0 ? ", values without a witness" : ""}${numbers.length > 0 ? ", numbers without a witness" : ""}`;
    if (!isExact) return `as of${found.isAlone ? ", the database alone" : ""}${counted}`;
    if (revision === this.truth.revision) return `exact${counted}`;
    // as if nothing had come then: nothing on this disk shows it
    return words.isOfDisk && isZeroBehind(found)
      ? "exact, with zeros over whole last records"
      : `${WRONG}exact, at ${revision}`;
  }

  /**
   * Whether a letter of these keys is changed, and no value names it: each that is there has a row that another key had
   * then or before, and the row of each that is missing is there.
   */
  private isOfRows(keys: readonly string[], { then, now }: Record<"then" | "now", Map<string, Content>>) {
    const rows = (all: Map<string, Content>) =>
      keys.flatMap((key) => all.get(key) ?? []).map(({ row, value }) => `${row} ${value}`);
    if (rows(now).length === 0) return false;
    const [missing, there] = [rows(then), rows(now)];
    const names = [...this.truth.keys(""), ...this.truth.deletedKeys("")];
    const ever = names.flatMap((name) =>
      this.truth
        .history(name)
        .map(({ modRevision, lease, value }) => `${modRevision} ${lease} ${Bun.hash(value)}`),
    );
    return there.every((row) => ever.includes(row)) && missing.every((row) => there.includes(row));
  }
}

/** The operator reads this of it: what the first line does not say is no excuse. */
function wordsOf(found: MemberData) {
  const words = wayInWords(found);
  const alone = /; (\d+) of \d+ values(?: older than entry \d+)? and their keys have no second witness/.exec(
    words,
  );
  return {
    alone: Number(alone?.[1] ?? 0),
    isOfNumbers: words.includes("; only the database has each key's createRevision and version"),
    isOfDisk: words.includes(", the last one on this disk"),
  };
}

/** Whether only zeros are behind the record of the entry with which the log ends, and of the hard state behind it. */
function isZeroBehind({ dir, last }: MemberData): boolean {
  const folder = `${hostPath(dir)}/member/wal`;
  const path = `${folder}/${readdirSync(folder).sort().at(-1)}`;
  using file = new LogFile(path);
  let end = -1;
  for (let at = 0; at + 8 <= file.size; ) {
    const frame = readFrame(file.slice(at, at + 8), at);
    if (!frame || frame.end > file.size) break;
    const record = parseRecord(file.slice(frame.start, frame.start + frame.length));
    const isEnd = record?.type === RECORD.entry && readEntry(record.data).index === last.index;
    at = frame.end;
    if (isEnd || (end >= 0 && record?.type === RECORD.state)) end = at;
  }
  return end >= 0 && isZeroFrom(file, end);
}

interface Content {
  /** Its revision and lease. */
  row: string;
  /** What Kubernetes sees of it. */
  key: string;
  value: number | bigint;
  /** Those that only etcd's own transactions compare. */
  numbers: string;
}

function contentAt(data: EtcdData, revision: number): Map<string, Content> {
  const names = [...data.keys(""), ...data.deletedKeys("")];
  const live = names.flatMap((name): [string, Content][] => {
    const then = data.history(name).find(({ modRevision }) => modRevision <= revision);
    if (!then || then.deleted) return [];
    const { key, modRevision, lease, value, createRevision, version } = then;
    const row = `${modRevision} ${lease}`;
    const own = { row, key: `${key} ${row}`, numbers: `${createRevision} ${version}` };
    return [[name, { ...own, value: Bun.hash(value) }]];
  });
  return new Map(live.sort());
}
