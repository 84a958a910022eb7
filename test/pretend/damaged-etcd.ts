/**
 * Forms of damage that etcd's data has in the field, seeded: pages that were not on the disk after a power cut, zeroed,
 * noise, or another's; a db that is cut, old, or gone; a log or a .snap that is. `FORMS` names them; "a+b" is both.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { DbFile, Page } from "../../shared/etcd-data/db-file.ts";
import type { DbNode } from "../../shared/restore/new-db.ts";
import { random } from "./damage.ts";
import { makeRoom } from "./write-wal.ts";

/** A member's files, undamaged; and its db some time before, and a moment before. */
export interface Source {
  db: Buffer;
  before: Buffer;
  old: Buffer;
  /** "snap/NAME.snap" and "wal/NAME.wal". */
  files: Map<string, Buffer>;
}

interface Pages {
  size: number;
  /** Page ids: newest meta page's root, the other one's, the root of the bucket `key`, and the pages of that tree. */
  root: number;
  otherRoot: number;
  top: number;
  leaves: number[];
  branches: number[];
}

interface Victim extends Pages {
  db: Buffer;
  source: Source;
  files: Map<string, Buffer>;
  /** Whether the log's last file keeps the room that etcd has made in it. */
  hasRoom: boolean;
  pick: (n: number) => number;
}

type Act = (victim: Victim) => Buffer | undefined;

const one = <T>({ pick }: Victim, list: readonly T[]): T => list[pick(list.length)]!;
const at = ({ db, size }: Victim, page: number, pages = 1) => db.subarray(page * size, (page + pages) * size);
const times = (n: number, act: (victim: Victim) => unknown): Act => {
  return (victim) => {
    for (let i = 0; i < n; i++) act(victim);
    return victim.db;
  };
};
const zero = (page: (victim: Victim) => number, n = 1) =>
  times(n, (victim) => at(victim, page(victim)).fill(0));
const noise = ({ pick }: Victim, bytes: Buffer) => bytes.set(bytes.map(() => pick(256)));
const newestMeta = (victim: Victim) =>
  at(victim, 0).readBigUInt64LE(64) > at(victim, 1).readBigUInt64LE(64) ? 0 : 1;
const files = ({ files: all }: Victim, kind: string) =>
  [...all.keys()].filter((name) => name.startsWith(kind)).sort();

/** Some of the pages that were written in the last moments still have what was there before. */
const lostWrites =
  (percent: number): Act =>
  (victim) => {
    const { before } = victim.source;
    for (let page = 2; page < victim.db.length / victim.size; page++) {
      const [now, was] = [at(victim, page), Buffer.alloc(victim.size)];
      before.subarray(page * victim.size, (page + 1) * victim.size).copy(was);
      if (!now.equals(was) && victim.pick(100) < percent) was.copy(now);
    }
    return victim.db;
  };

/** The root of the bucket `key` is its last leaf, as in bbolt#1033. */
const oneLeaf: Act = (victim) => {
  for (const root of [victim.root, victim.otherRoot]) {
    const page = at(victim, root);
    const key = page.indexOf("key\0", 0, "latin1") === -1 ? page.indexOf("key") : page.indexOf("key");
    page.writeBigUInt64LE(BigInt(victim.leaves.at(-1)!), key + 3);
  }
  return victim.db;
};

const changeFile = (kind: string, change: (victim: Victim, bytes: Buffer) => unknown): Act => {
  return (victim) => {
    const name = files(victim, kind).at(-1);
    const bytes = name && Buffer.from(victim.files.get(name)!);
    if (bytes) change(victim, bytes);
    if (name && bytes) victim.files.set(name, bytes);
    return victim.db;
  };
};
const flip = ({ pick }: Victim, bytes: Buffer) => {
  const place = pick(bytes.length);
  bytes[place]! ^= 1 << pick(8);
};
/** The last log file ends there, and has no room. */
const cutLog = (end: (victim: Victim, bytes: Buffer) => number): Act => {
  return (victim) => {
    const name = files(victim, "wal/").at(-1);
    const bytes = name && victim.files.get(name)!;
    if (name && bytes) victim.files.set(name, bytes.subarray(0, end(victim, bytes)));
    victim.hasRoom = false;
    return victim.db;
  };
};
const renameLog = (to: (name: string) => string): Act => {
  return (victim) => {
    const name = files(victim, "wal/").at(-1);
    if (name) victim.files.set(to(name), victim.files.get(name)!);
    if (name) victim.files.delete(name);
    return victim.db;
  };
};
const swapLogs: Act = (victim) => {
  const [one, two] = files(victim, "wal/").slice(-2);
  if (!one || !two) return victim.db;
  const [first, second] = [victim.files.get(one)!, victim.files.get(two)!];
  victim.files.set(one, second).set(two, first);
  return victim.db;
};
const without =
  (names: (victim: Victim) => string[]): Act =>
  (victim) => {
    for (const name of names(victim)) victim.files.delete(name);
    return victim.db;
  };

// biome-ignore format: a table
const ACTS: Record<string, Act> = {
  "none": ({ db }) => db,
  "meta-new": times(1, (victim) => noise(victim, at(victim, newestMeta(victim)).subarray(16, 80))),
  "meta-both": times(1, (victim) => at(victim, 0, 2).fill(0)),
  "root": zero(({ root }) => root),
  "root-both": times(1, (victim) => [victim.root, victim.otherRoot].map((page) => at(victim, page).fill(0))),
  "branch-1": zero((victim) => one(victim, victim.branches)),
  "branch-top": zero(({ top }) => top),
  "leaf-1": zero((victim) => one(victim, victim.leaves)),
  "leaf-10": zero((victim) => one(victim, victim.leaves), 10),
  "leaf-100": zero((victim) => one(victim, victim.leaves), 100),
  "lost-write-3": lostWrites(3),
  "lost-write-30": lostWrites(30),
  "truncate": ({ db, size, pick }) => db.subarray(0, Math.floor((db.length / size) * (0.5 + 0.49 * (pick(1000) / 1000))) * size),
  "zero-run": (victim) => {
    const pages = victim.db.length / victim.size;
    const run = Math.min(Math.floor(16 * 2 ** (6 * (victim.pick(1000) / 1000))), pages >> 2);
    at(victim, 2 + victim.pick(pages - run - 2), run).fill(0);
    return victim.db;
  },
  "garbage-20": times(20, (victim) => noise(victim, at(victim, one(victim, victim.leaves)))),
  "misplaced-20": times(20, (victim) => at(victim, one(victim, victim.leaves)).copy(at(victim, one(victim, victim.leaves)))),
  "empty-tree": oneLeaf,
  "db-gone": () => undefined,
  "db-zero": ({ db }) => db.fill(0),
  "wal-flip": changeFile("wal/", flip),
  "wal-zero": changeFile("wal/", ({ pick }, bytes) => { const place = pick(bytes.length) & ~511; bytes.fill(0, place, Math.min(place + 4096, bytes.length)); }),
  "wal-last-gone": without((victim) => files(victim, "wal/").slice(-1)),
  "wal-none": without((victim) => files(victim, "wal/")),
  "wal-cut": cutLog(({ pick }, bytes) => pick(bytes.length)),
  "wal-cut-near-end": cutLog(({ pick }, bytes) => bytes.length - 1 - pick(Math.min(4096, bytes.length))),
  "wal-no-room": cutLog((_, bytes) => bytes.length),
  "wal-empty": cutLog(() => 0),
  "wal-end-zero": changeFile("wal/", ({ pick }, bytes) => bytes.fill(0, bytes.length - 64 - pick(Math.min(60_000, bytes.length - 64)))),
  "wal-head-zero": changeFile("wal/", (_, bytes) => bytes.fill(0, 0, 4096)),
  "wal-foreign-page": changeFile("wal/", ({ pick, source, size }, bytes) => source.db.copy(bytes, pick(bytes.length) & ~511, 2 * size, 3 * size)),
  "wal-renamed": renameLog((name) => `${name}.bak`),
  "wal-copied-over": changeFile("wal/", ({ pick }, bytes) => bytes.copyWithin(pick(bytes.length) & ~511, pick(bytes.length) & ~511, bytes.length >> 1)),
  "wal-swapped": swapLogs,
  "snap-flip": changeFile("snap/", flip),
  "snap-none": without((victim) => files(victim, "snap/")),
  "db-old": ({ source }) => Buffer.from(source.old),
  "meta-old": ({ db, size, source }) => { source.old.copy(db, 0, 0, 2 * size); return db; },
  "grown": ({ db, pick, size, source }) => Buffer.concat([db, pick(2) ? source.old.subarray(0, 200 * size) : Buffer.alloc(pick(300) * size + 100)]),
  "torn-copy": ({ db, size, source, pick }) => { source.before.copy(db, 0, 0, pick(db.length / size) * size); return db; },
  "bits-100": times(100, (victim) => flip(victim, at(victim, one(victim, victim.leaves)))),
};

export const FORMS = [
  ...Object.keys(ACTS),
  ...[
    "leaf-10+wal-none",
    "branch-1+wal-none",
    "root-both+wal-none",
    "truncate+wal-none",
    "zero-run+wal-flip",
  ],
];

const [OF_THE_LOG, OF_THE_DB] = [true, false].map((isLog) =>
  Object.keys(ACTS).filter((name) => name !== "none" && name.startsWith("wal-") === isLog),
) as [string[], string[]];

/** Each damage of the log with each third one of the db, in turn. */
export const PAIRS = OF_THE_LOG.flatMap((log, i) =>
  OF_THE_DB.filter((_, k) => k % 3 === i % 3).map((db) => `${db}+${log}`),
);

/** Writes the member's files with this damage to `dir`/member. */
export function writeDamaged(dir: string, form: string, { seed, source }: { seed: number; source: Source }) {
  const names = form.split("+");
  const victim: Victim = {
    ...pagesOf(source.db, dir),
    ...{ db: Buffer.from(source.db), source, files: new Map(source.files), hasRoom: true },
    pick: random(seed * 7919 + [...FORMS, ...PAIRS].indexOf(form)),
  };
  let db: Buffer | undefined = victim.db;
  for (const name of names) db = ACTS[name]!(victim);
  rmSync(`${dir}/member`, { recursive: true, force: true });
  for (const folder of ["snap", "wal"]) mkdirSync(`${dir}/member/${folder}`, { recursive: true });
  if (db) writeFileSync(`${dir}/member/snap/db`, db);
  for (const [name, bytes] of victim.files) writeFileSync(`${dir}/member/${name}`, bytes);
  const last = lastLogOf(source.files);
  if (last && victim.hasRoom && victim.files.has(last)) makeRoom(`${dir}/member/${last}`);
}

const lastLogOf = (files: Source["files"]) =>
  [...files.keys()]
    .filter((name) => name.startsWith("wal/"))
    .sort()
    .at(-1);

const known = new WeakMap<Buffer, Pages>();

function pagesOf(db: Buffer, dir: string): Pages {
  const made = known.get(db) ?? walk(db, `${dir}/undamaged.db`);
  known.set(db, made);
  return made;
}

function walk(db: Buffer, file: string): Pages {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, db);
  const opened = new DbFile(file);
  const { pageSize: size, root } = opened.newestMeta();
  opened.close();
  const node = (id: number) =>
    dbNodeIn(db.subarray(id * size, (id + db.readUInt32LE(id * size + 12) + 1) * size), `page ${id}`);
  const buckets = node(root);
  if (!buckets.isLeaf) throw new Error("the bucket of buckets has branches");
  const top = Number(buckets.items.find(({ key }) => key.toString() === "key")!.value!.readBigUInt64LE(0));
  const pages: Pages = { size, root, otherRoot: 0, top, leaves: [], branches: [] };
  pages.otherRoot = [0, 1]
    .map((slot) => Number(db.readBigUInt64LE(slot * size + 32)))
    .find((id) => id !== root)!;
  const visit = (id: number) => {
    const found = node(id);
    if (found.isLeaf) pages.leaves.push(id);
    else {
      if (id !== top) pages.branches.push(id);
      for (const { child } of found.items) visit(child!);
    }
  };
  visit(top);
  return pages;
}

/** A page taken apart; copies. */
function dbNodeIn(bytes: Buffer, what: string): DbNode {
  const rest = (start: number, length: number) => bytes.subarray(start, start + length);
  const page = new Page(what, { head: bytes, size: bytes.length, rest });
  const items = Array.from({ length: page.count }, (_, i) => {
    const key = Buffer.from(page.key(i));
    return page.isLeaf ? { key, value: Buffer.from(page.value(i)) } : { key, child: page.child(i) };
  });
  return { isLeaf: page.isLeaf, items };
}
