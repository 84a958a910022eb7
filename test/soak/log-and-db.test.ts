/**
 * The log and the database of one member are damaged together, and the room behind the log's last record is kept. Nothing
 * is "exact" that is not all; what is "as of" is as it was then; no key is other than it was. `SEEDS=100` takes more.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { busyEtcd, purgedEtcd } from "../pretend/busy-etcd.ts";
import { FORMS, PAIRS, type Source, writeDamaged } from "../pretend/damaged-etcd.ts";
import { sandbox } from "../pretend/sandbox.ts";
import { splitLog } from "../pretend/write-wal.ts";
import { Judge, WRONG } from "./judge.ts";
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

const judge = new Judge(`${dir}/all`, WAL);

const KINDS = [...FORMS, ...PAIRS];
const ROWS = Object.entries(SOURCES).flatMap(([log, source]) => KINDS.map((form) => ({ log, source, form })));

for (const { log, source, form } of rowsOf(ROWS, 29))
  test(`${form}, ${log}: wrong, 0 of ${SEEDS}`, async () => {
    const outcomes: Record<string, number> = {};
    for (let seed = 1; seed <= SEEDS; seed++) {
      writeDamaged(`${dir}/disk`, form, { seed, source });
      const outcome = await judge.outcomeOf("/disk");
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    expect(Object.keys(outcomes).filter((outcome) => outcome.startsWith(WRONG))).toEqual([]);
    console.log(`${form}, ${log}: ${Bun.inspect(outcomes, { compact: true })}`);
  });
