/**
 * The 35 forms of damage, seeded, on a real member's files whose log begins with its first entry, and on the same with a
 * purged log: restore has an exact way, and then each key is as before; or it refuses. `SEEDS=100` takes more,
 * `./bunw test test/soak/ways-back.test.ts -t lost-write` one form.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { type EtcdData, readEtcdData } from "../../shared/etcd-data/data.ts";
import { readFrame } from "../../shared/etcd-data/wal.ts";
import { attemptLater, Fail } from "../../shared/fail.ts";
import { wayInto } from "../../shared/restore/lost-members-data.ts";
import { silently } from "../../shared/run.ts";
import { busyEtcd, purgedEtcd } from "../pretend/busy-etcd.ts";
import { FORMS, writeDamaged } from "../pretend/damaged-etcd.ts";
import { laterLog } from "../pretend/write-wal.ts";
import { IS_SAMPLE, rowsOf } from "./sample.ts";

setDefaultTimeout(900_000);

const SEEDS = Number(process.env.SEEDS || (IS_SAMPLE ? 1 : 20));
/** These have an exact way, whatever is hit: by the tree of before, or by the log alone. */
const BY_TREE = ["none", "meta-new", "meta-both", "root", "branch-top", "snap-flip", "snap-none"];
const BY_LOG = [
  "branch-1",
  "leaf-10",
  "leaf-100",
  "zero-run",
  "truncate",
  "empty-tree",
  "db-gone",
  "db-zero",
];

const dir = mkdtempSync(`${tmpdir()}/ways-back-`);
afterAll(() => rmSync(dir, { recursive: true }));

const SOURCES = { "a log from its first entry on": busyEtcd(), "a purged log": purgedEtcd(3606) };

/** At a revision that the data still has. */
function contentAt(data: EtcdData, revision: number) {
  const names = [...data.keys(""), ...data.deletedKeys("")];
  const live = names.flatMap((name): [string, string][] => {
    const then = data.history(name).find(({ modRevision }) => modRevision <= revision);
    if (!then || then.deleted) return [];
    const { value, ...rest } = then;
    return [[name, `${Bun.inspect(rest)} ${Bun.hash(value)}`]];
  });
  return new Map(live.sort());
}
writeDamaged(dir, "none", { seed: 0, source: busyEtcd() });
writeDamaged(`${dir}/whole`, "none", { seed: 0, source: busyEtcd() });
const truth = readEtcdData(dir);

/** What was there when this was the last entry: by the undamaged log alone, as the truth has no revision that was compacted away. */
function truthAt({ index }: EtcdData["end"]): EtcdData {
  const then = `${dir}/then/member`;
  rmSync(then, { recursive: true, force: true });
  for (const folder of ["snap", "wal"]) mkdirSync(`${then}/${folder}`, { recursive: true });
  const { name, bytes } = laterLog(`${dir}/whole/member/wal`, 1, index);
  writeFileSync(`${then}/wal/${name}`, bytes);
  return readEtcdData(`${dir}/then`);
}

/** How data is that is as of an earlier entry: it says so. Zeros over the last records are as if nothing had come then. */
function outcomeOf({ end, warnings, revision }: EtcdData): string {
  if (end.isCut) return "as of an earlier entry";
  if (warnings.length > 0) return "a torn end";
  return revision < truth.revision && isEndOfZeros() ? "nothing had come" : "exact";
}

/** Whether nothing but zeros is behind the last whole record, as in a log that etcd has made room in. */
function isEndOfZeros(): boolean {
  const wal = `${dir}/member/wal`;
  const bytes = readFileSync(`${wal}/${readdirSync(wal).sort().at(-1)!}`);
  let position = 0;
  for (;;) {
    const frame = position + 8 <= bytes.length ? readFrame(bytes.subarray(position), position) : undefined;
    if (!frame || frame.end > bytes.length) break;
    position = frame.end;
  }
  return bytes.subarray(position).every((byte) => byte === 0);
}

const ROWS = Object.entries(SOURCES).flatMap(([log, source]) => FORMS.map((form) => ({ log, source, form })));

for (const { log, source, form } of rowsOf(ROWS, 5))
  test(`${form}, ${log}: exact and wrong, 0 of ${SEEDS}`, async () => {
    const outcomes: Record<string, number> = {};
    for (let seed = 1; seed <= SEEDS; seed++) {
      writeDamaged(dir, form, { seed, source });
      const way = await attemptLater(() => silently(async () => wayInto(dir)));
      const outcome = way instanceof Fail ? "refused" : outcomeOf(way.data);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      if (way instanceof Fail) continue;
      using data = way.data;
      using then = outcome === "exact" ? undefined : truthAt(data.end);
      expect(data.revision).toBe((then ?? truth).revision);
      expect(contentAt(data, data.revision)).toEqual(contentAt(then ?? truth, data.revision));
    }
    const isExact = BY_TREE.includes(form) || (source === busyEtcd() && BY_LOG.includes(form));
    if (isExact) expect(outcomes).toEqual({ exact: SEEDS });
    console.log(`${form}, ${log}: ${Bun.inspect(outcomes, { compact: true })}`);
  });
