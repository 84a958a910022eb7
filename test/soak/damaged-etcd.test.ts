/**
 * The 35 forms of damage of etcd's data, seeded, on a real member's files (fixtures/etcd/3.6.5-busy): each is refused, or
 * read as the undamaged files are, or as of an earlier entry with a warning. None is read wrong. `SEEDS=100` takes more,
 * `./bunw test test/soak/damaged-etcd.test.ts -t lost-write` one form.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { type EtcdData, readEtcdData } from "../../shared/etcd-data/data.ts";
import { DamagedData } from "../../shared/etcd-data/directory.ts";
import { attempt, Fail } from "../../shared/fail.ts";
import { busyEtcd } from "../pretend/busy-etcd.ts";
import { FORMS, writeDamaged } from "../pretend/damaged-etcd.ts";
import { IS_SAMPLE } from "./sample.ts";

setDefaultTimeout(900_000);

const SEEDS = Number(process.env.SEEDS || (IS_SAMPLE ? 2 : 25));
/** No key is lost by them: they have to be read. */
const HARMLESS = ["none", "meta-new", "snap-flip", "snap-none", "db-old", "db-gone"];

const dir = mkdtempSync(`${tmpdir()}/damaged-etcd-`);
afterAll(() => rmSync(dir, { recursive: true }));
const source = busyEtcd();
writeDamaged(dir, "none", { seed: 0, source });
const truth = readEtcdData(dir);

/** Keys with what they hold; of the truth at a revision that it still has. */
function contentAt(data: EtcdData, revision: number): Map<string, string> {
  const names = [...data.keys(""), ...data.deletedKeys("")];
  const live = names.flatMap((name): [string, string][] => {
    const then = data.history(name).find(({ modRevision }) => modRevision <= revision);
    return then && !then.deleted ? [[name, `${then.modRevision} ${Bun.hash(then.value)}`]] : [];
  });
  return new Map(live.sort());
}

function outcomeOf(read: EtcdData | Fail): "right" | "as of an earlier entry" | "refused" {
  if (read instanceof Fail) {
    expect(read).toBeInstanceOf(DamagedData);
    expect(read.hint).not.toBe("");
    return "refused";
  }
  expect(contentAt(read, read.revision)).toEqual(contentAt(truth, read.revision));
  if (read.revision === truth.revision) return "right";
  expect(read.warnings).not.toEqual([]);
  return "as of an earlier entry";
}

for (const form of FORMS)
  test(`${form}: accepted and wrong, 0 of ${SEEDS}`, () => {
    const outcomes: Record<string, number> = {};
    for (let seed = 1; seed <= SEEDS; seed++) {
      writeDamaged(dir, form, { seed, source });
      const read = attempt(() => readEtcdData(dir));
      const outcome = outcomeOf(read);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    if (HARMLESS.includes(form)) expect(outcomes).toEqual({ right: SEEDS });
    console.log(`${form}: ${Bun.inspect(outcomes, { compact: true })}`);
  });
