/**
 * Judges what is brought back of a damaged member: each key is as it was at the revision that is said, by a log of which
 * nothing was compacted, and what is exact has all of them.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { type EtcdData, readEtcdData } from "../../shared/etcd-data/data.ts";
import { wireFields } from "../../shared/etcd-data/protobuf.ts";
import type { Entry } from "../../shared/etcd-data/wal.ts";
import { attemptLater, Fail } from "../../shared/fail.ts";
import { chooseData, isWhole, memberDataIn } from "../../shared/restore/lost-members-data.ts";
import { silently } from "../../shared/run.ts";
import { splitLog } from "../pretend/write-wal.ts";

/** Outcomes that are wrong begin so. */
export const WRONG = "WRONG: ";

const isCompaction = ({ type, data }: Entry) =>
  type === 0 && wireFields(data).some(({ number }) => number === 7);

/** The keys with what they hold, of the undamaged log in `wal`; `dir` gets a log of every revision. */
export class Judge {
  private readonly truth: EtcdData;
  private readonly known = new Map<number, Map<string, string>>();

  constructor(dir: string, wal: string) {
    for (const folder of ["snap", "wal"]) mkdirSync(`${dir}/member/${folder}`, { recursive: true });
    const kept = splitLog(wal, 64_000_000, (entry) => !isCompaction(entry));
    for (const [name, bytes] of kept) writeFileSync(`${dir}/member/wal/${name}`, bytes);
    this.truth = readEtcdData(dir);
  }

  /** In words how the member of `dir` is brought back. `mayEndEarly`: whole records at the log's end are zeros. */
  async outcomeOf(dir: string, mayEndEarly: boolean): Promise<string> {
    const judged = (without: readonly string[]) =>
      attemptLater(() => silently(async () => this.broughtBack(dir, mayEndEarly, without)));
    const outcome = await judged([]);
    if (!(outcome instanceof Fail)) return outcome;
    const keys = / --give-up (\S+)$/.exec(outcome.hint ?? "")?.[1]?.split(",");
    if (!keys) return "refused";
    const less = await judged(keys);
    if (less instanceof Fail) return `${WRONG}refused without ${keys}, too: ${less.message}`;
    return less.startsWith(WRONG) ? less : `${less}, keys given up`;
  }

  private broughtBack(dir: string, mayEndEarly: boolean, without: readonly string[]): string {
    const found = memberDataIn(dir, undefined, { without });
    using data = found.open();
    const { revision } = data;
    const then = this.known.getOrInsertComputed(revision, () => contentAt(this.truth, revision));
    const now = contentAt(data, revision);
    const names = [...new Set([...then.keys(), ...now.keys()])].filter((name) => !without.includes(name));
    if (without.some((key) => now.has(key))) return `${WRONG}a key that was given up is there`;
    const keys = names.filter((key) => withoutValue(then.get(key)) !== withoutValue(now.get(key)));
    const values = names.filter((key) => then.get(key) !== now.get(key));
    const isExact = isWhole(found.last) && without.length === 0;
    if (chooseData([found]).isQuorum && !isExact) return `${WRONG}a quorum, and not exact`;
    if (keys.length > 0) return `${WRONG}${keys.length} keys, ${isExact ? "exact" : "as of"}`;
    if (values.length > found.proof.alone) return `${WRONG}values that have a witness`;
    const counted = values.length > 0 ? ", values without a witness" : "";
    if (!isExact) return `as of${found.isAlone ? ", the database alone" : ""}${counted}`;
    if (revision === this.truth.revision) return `exact${counted}`;
    // as if nothing had come then: the log alone does not show it
    return mayEndEarly ? "zeros over whole records" : `${WRONG}exact, at ${revision}`;
  }
}

function contentAt(data: EtcdData, revision: number): Map<string, string> {
  const names = [...data.keys(""), ...data.deletedKeys("")];
  const live = names.flatMap((name): [string, string][] => {
    const then = data.history(name).find(({ modRevision }) => modRevision <= revision);
    if (!then || then.deleted) return [];
    const { value, ...rest } = then;
    return [[name, `${Bun.inspect(rest)} ${Bun.hash(value)}`]];
  });
  return new Map(live.sort());
}

const withoutValue = (line: string | undefined) => line?.replace(/ \d+$/, "");
