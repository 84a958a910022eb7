#!/usr/bin/env bun
/**
 * Damaged data of gigabytes of a lost member, with 2 KB a key: how long `restore --from` takes for its way back,
 * and how much memory. An older tree of the db and the log, and all of it written anew.
 *
 * By hand: ./bunw test/lab/bench/big-rescue.ts GIGABYTES. With two folders it takes the data of one to the other.
 */
import { mkdirSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "../../../shared/etcd-data/bbolt.ts";
import type { EtcdData } from "../../../shared/etcd-data/data.ts";
import { bucketKey } from "../../../shared/etcd-data/revisions.ts";
import { memberDataIn, writeAlone } from "../../../shared/restore/lost-members-data.ts";
import { writeNewDb } from "../../../shared/restore/new-db.ts";
import {
  bytesField,
  entryOf,
  hardStateOf,
  intField,
  LogRecords,
  metadataOf,
  RECORD,
  snapBytes,
  snapName,
} from "../../../shared/restore/new-member.ts";
import { random } from "../../pretend/damage.ts";
import { cost, ended } from "./big-etcd.ts";
import { refuseFullDisk } from "./carve.ts";

const BYTES = 1800;
const PAGE = 4096;
/** Entries before the tree's last one that the log still has, and behind it. */
const BEFORE = 20_000;
const BEHIND = 10_000;
const MEMBERS = [
  {
    id: 0xa1n,
    name: "cp1",
    peerURLs: ["https://10.0.0.1:2380"],
    clientURLs: ["https://10.0.0.1:2379"],
    isLearner: false,
  },
];
const TERM = 2;

async function bench(gigabytes: number): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "bench-big-rescue-"));
  refuseFullDisk(folder, 2.5 * gigabytes);
  try {
    const writes = Math.round((gigabytes * 1e9) / (BYTES + 248));
    await writeDamaged(`${folder}/disk`, writes);
    const size = (statSync(`${folder}/disk/member/snap/db`).size / 1e9).toFixed(2);
    const command = [process.execPath, import.meta.path, `${folder}/disk`, `${folder}/new`];
    const took = await ended(Bun.spawn(command, { stdout: "pipe", stderr: "pipe" }));
    return `damaged data of ${size} GB, ${writes} revisions: back in ${cost(took)}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Four of five writes make a key. */
function writeAt(n: number) {
  const of = n % 5 === 4 ? random(n)(n) : n;
  const key = `/registry/pods/namespace-${of % 97}/deployment-${of % 1013}-${of.toString(36).padStart(16, "x")}`;
  return { key, value: Buffer.alloc(BYTES, `of write ${n} `) };
}

/** As etcd has it that was killed, then both meta pages were lost. */
export async function writeDamaged(dir: string, writes: number) {
  for (const part of ["snap", "wal"]) mkdirSync(`${dir}/member/${part}`, { recursive: true });
  const created = new Map<string, [created: number, version: number]>();
  function* rows(): Generator<Row> {
    for (let n = 0; n < writes; n++) {
      const { key, value } = writeAt(n);
      const main = n + 2;
      const [create, version] = created.get(key) ?? [main, 0];
      created.set(key, [create, version + 1]);
      const numbers = [create, main, version + 1].map((number, i) => intField(2 + i, number));
      yield {
        key: bucketKey({ main, sub: 0, isTombstone: false }),
        value: Buffer.concat([bytesField(1, key), ...numbers, bytesField(5, value)]),
      };
    }
  }
  const data = {
    ...{ revision: writes + 1, compactedRevision: 0, storageVersion: undefined },
    stored: () => ({ rows: rows(), changes: [], leases: new Map(), alarms: new Set(), hasUsers: false }),
  } as unknown as EtcdData;
  const last = { index: writes, term: TERM };
  await writeNewDb(`${dir}/member/snap/db`, data, { members: MEMBERS, alarms: [], last, bump: 0 });
  const db = openSync(`${dir}/member/snap/db`, "r+");
  writeSync(db, Buffer.alloc(2 * PAGE), 0, 2 * PAGE, 0);
  const first = writes - BEFORE;
  const log = new LogRecords()
    .begin()
    .add(RECORD.metadata, metadataOf({ memberId: 0xa1n, clusterId: 0x77n }));
  for (let index = first; index <= writes + BEHIND; index++) {
    const { key, value } = writeAt(index - 1);
    const put = bytesField(4, Buffer.concat([bytesField(1, key), bytesField(2, value)]));
    log.add(RECORD.entry, entryOf({ type: 0, term: TERM, index }, put));
  }
  log.add(RECORD.state, hardStateOf({ term: TERM, vote: 0xa1n, commit: writes + BEHIND }));
  writeFileSync(
    `${dir}/member/wal/${"1".padStart(16, "0")}-${first.toString(16).padStart(16, "0")}.wal`,
    log.bytes(),
  );
  const snap = { index: first, term: TERM };
  writeFileSync(`${dir}/member/snap/${snapName(snap)}`, snapBytes(snap, MEMBERS));
}

async function bringBack(disk: string, dir: string) {
  const found = memberDataIn(disk);
  using data = found.open();
  await writeAlone(found, { dir, peerUrl: "https://10.9.9.9:2380" }, data);
}

if (import.meta.main) {
  const [first, dir] = process.argv.slice(2);
  if (dir) await bringBack(first!, dir);
  else console.log(await bench(Number(first)));
}
