/**
 * A large etcd that is written to a hundred times a second, and compacted, is read from its files again and
 * again. Each answer is what etcd itself answers for that revision: the same keys, with the same revisions
 * and leases, and whole values.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EtcdData, readEtcdData } from "../../../shared/etcd-data/data.ts";
import { Fail } from "../../../shared/fail.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import {
  ask,
  compact,
  fill,
  isWhole,
  type LoopbackEtcd,
  startEtcd,
  writing,
} from "../machine/loopback-etcd.ts";
import { peakMemory } from "../machine/program.ts";
import { askEtcd, compareWithEtcd } from "./etcd-equal.ts";

/** 220 MB: more than what is held in memory. */
const LOAD = { objects: 4000, bytes: 55_000 };
const WRITES = 100;
const READS = 50;
const FIFTH = 5;
const HINT = "test/lab/checks/busy-etcd.ts compares";

/** Reads it, and ends it. Returns a line of what was compared. */
export async function readBusyEtcd(program: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "busy-etcd-"));
  const etcd = await startEtcd(program, folder);
  try {
    await fill(etcd.url, LOAD);
    using held = readEtcdData(etcd.dataDir);
    const first = held.revision;
    const revisions = await readWhileWritten(etcd);
    await compareHeld(etcd, held);
    await compareAll(etcd);
    const size = Math.round(statSync(`${etcd.dataDir}/member/snap/db`).size / 1e6);
    const moved = `one read before them went from ${first} to ${held.revision}`;
    return `etcd of ${size} MB under ${WRITES} writes/s: ${READS} reads at ${revisions} revisions equal, ${moved}; ${peakMemory()} MB at most`;
  } finally {
    await etcd.program.stop();
    rmSync(folder, { recursive: true });
  }
}

/** Returns how many revisions were met. */
async function readWhileWritten(etcd: LoopbackEtcd): Promise<number> {
  await using _writer = writing(etcd.url, LOAD, WRITES);
  const revisions = new Set<number>();
  for (let read = 0; read < READS; read++) {
    using data = readEtcdData(etcd.dataDir);
    revisions.add(data.revision);
    await compareAt(etcd, data, read % FIFTH);
    await compact(etcd.url, data.revision); // goes on during the next read
  }
  return revisions.size;
}

interface Listed {
  header: { revision: string };
  kvs: { key: string; create_revision: string; mod_revision: string; version: string; lease?: string }[];
}

/**
 * All keys, and of those whose place leaves `rest` when divided by `FIFTH` all numbers, and whether their
 * values are whole.
 */
async function compareAt({ url }: LoopbackEtcd, data: EtcdData, rest: number) {
  const all = { key: "AA==", range_end: "AA==", keys_only: true };
  const reached = async () =>
    Number((await ask<Listed>(url, "kv/range", { ...all, limit: 1 })).header.revision) >= data.revision;
  await waitFor(`etcd to apply its log up to ${data.revision}`, reached, { seconds: 60, hint: HINT });
  const { kvs } = await ask<Listed>(url, "kv/range", { ...all, revision: data.revision });
  const theirs = kvs.map((kv, i) => (i % FIFTH === rest ? numbersOf(kv) : atob(kv.key)));
  const ours = data.keys("").map((key, i) => (i % FIFTH === rest ? checkedNumbers(key, data) : key));
  const different = theirs.filter((line, i) => line !== ours[i]);
  if (ours.length === theirs.length && different.length === 0 && data.warnings.length === 0) return;
  const first = [...different, ...data.warnings][0];
  throw new Fail(
    `revision ${data.revision}: ${ours.length} of ${theirs.length} keys, ${different.length} differ: ${first}`,
    {
      hint: HINT,
    },
  );
}

function numbersOf(kv: Listed["kvs"][number]): string {
  return `${atob(kv.key)} ${kv.create_revision} ${kv.mod_revision} ${kv.version} ${kv.lease ?? 0}`;
}

function checkedNumbers(key: string, data: EtcdData): string {
  const { value, createRevision, modRevision, version, lease } = data.get(key)!;
  return `${key} ${createRevision} ${modRevision} ${version} ${lease}${isWhole(value) ? "" : ", torn"}`;
}

/**
 * What was read before the first write is long compacted away: it is read again, and the answers are of a
 * later revision.
 */
async function compareHeld(etcd: LoopbackEtcd, held: EtcdData) {
  const before = held.revision;
  for (const { value } of held.list(""))
    if (!isWhole(value)) throw new Fail("A value is torn", { hint: HINT });
  if (held.revision === before)
    throw new Fail("Compaction removed nothing that had been read", { hint: HINT });
  for (let rest = 0; rest < FIFTH; rest++) await compareAt(etcd, held, rest);
}

/** The values as well, now that nobody writes. */
async function compareAll(etcd: LoopbackEtcd) {
  const differences = compareWithEtcd(etcd.dataDir, await askEtcd(etcd.url));
  if (differences.length > 0)
    throw new Fail(`${differences.length} differences, first ${JSON.stringify(differences[0])}`, {
      hint: HINT,
    });
}
