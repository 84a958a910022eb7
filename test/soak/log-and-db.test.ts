/**
 * The log and the database of one member are damaged together, and the room behind the log's last record is kept. Nothing
 * is "exact" that is not all; what is "as of" is as it was then; no key is other than it was. `SEEDS=100` takes more.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { type EtcdData, readEtcdData } from "../../shared/etcd-data/data.ts";
import { wireFields } from "../../shared/etcd-data/protobuf.ts";
import type { Entry } from "../../shared/etcd-data/wal.ts";
import { attemptLater, Fail } from "../../shared/fail.ts";
import { isWhole, memberDataIn } from "../../shared/restore/lost-members-data.ts";
import { silently } from "../../shared/run.ts";
import { busyEtcd, purgedEtcd } from "../pretend/busy-etcd.ts";
import { FORMS, PAIRS, type Source, writeDamaged } from "../pretend/damaged-etcd.ts";
import { sandbox } from "../pretend/sandbox.ts";
import { splitLog } from "../pretend/write-wal.ts";
import { IS_SAMPLE, rowsOf } from "./sample.ts";

setDefaultTimeout(900_000);

const SEEDS = Number(process.env.SEEDS || (IS_SAMPLE ? 1 : 5));

const box = sandbox();
const { dir } = box;
afterAll(() => box[Symbol.dispose]());

writeDamaged(`${dir}/whole`, "none", { seed: 0, source: busyEtcd() });
const WAL = `${dir}/whole/member/wal`;

/** The member with a log of several files. */
function inFiles(segment: number): Source {
  const { files, ...source } = busyEtcd();
  const kept = [...files].filter(([name]) => name.startsWith("snap/"));
  const log = [...splitLog(WAL, segment)].map(([name, bytes]) => [`wal/${name}`, bytes] as const);
  return { ...source, files: new Map([...kept, ...log]) };
}

const SOURCES: Record<string, Source> = {
  "a log from its first entry on": busyEtcd(),
  "a purged log": purgedEtcd(3606),
  "a log of many files": inFiles(120_000),
};

const isCompaction = ({ type, data }: Entry) =>
  type === 0 && wireFields(data).some(({ number }) => number === 7);

/** Every revision that there was: the log, without its compactions. */
function everyRevision(): EtcdData {
  for (const folder of ["snap", "wal"]) mkdirSync(`${dir}/all/member/${folder}`, { recursive: true });
  const kept = splitLog(WAL, 64_000_000, (entry) => !isCompaction(entry));
  for (const [name, bytes] of kept) writeFileSync(`${dir}/all/member/wal/${name}`, bytes);
  return readEtcdData(`${dir}/all`);
}

const truth = everyRevision();
const known = new Map<number, Map<string, string>>();

/** `values`: with them, too. */
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

const truthAt = (revision: number) => known.getOrInsertComputed(revision, () => contentAt(truth, revision));
const withoutValue = (line: string | undefined) => line?.replace(/ \d+$/, "");

/** Outcomes that are wrong have a name that begins so. */
const WRONG = "WRONG: ";

function outcomeOf(form: string): string {
  const found = memberDataIn("/disk");
  using data = found.open();
  const [then, now] = [truthAt(data.revision), contentAt(data, data.revision)];
  const names = [...new Set([...then.keys(), ...now.keys()])];
  const keys = names.filter((key) => withoutValue(then.get(key)) !== withoutValue(now.get(key)));
  const values = names.filter((key) => then.get(key) !== now.get(key));
  if (keys.length > 0) return `${WRONG}${keys.length} keys, ${isWhole(found.last) ? "exact" : "as of"}`;
  if (values.length > found.proof.alone) return `${WRONG}values that have a witness`;
  const counted = values.length > 0 ? ", values without a witness" : "";
  if (!isWhole(found.last)) return `as of${found.isAlone ? ", the database alone" : ""}${counted}`;
  if (data.revision === truth.revision) return `exact${counted}`;
  // as if nothing had come then: the log alone does not show it
  return form.includes("wal-end-zero") ? "zeros over whole records" : `${WRONG}exact, at ${data.revision}`;
}

const KINDS = [...FORMS, ...PAIRS];
const ROWS = Object.entries(SOURCES).flatMap(([log, source]) => KINDS.map((form) => ({ log, source, form })));

for (const { log, source, form } of rowsOf(ROWS, 29))
  test(`${form}, ${log}: wrong, 0 of ${SEEDS}`, async () => {
    const outcomes: Record<string, number> = {};
    for (let seed = 1; seed <= SEEDS; seed++) {
      writeDamaged(`${dir}/disk`, form, { seed, source });
      const result = await attemptLater(() => silently(async () => outcomeOf(form)));
      const outcome = result instanceof Fail ? "refused" : result;
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    expect(Object.keys(outcomes).filter((outcome) => outcome.startsWith(WRONG))).toEqual([]);
    console.log(`${form}, ${log}: ${Bun.inspect(outcomes, { compact: true })}`);
  });
