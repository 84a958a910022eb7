#!/usr/bin/env bun
/**
 * Damaged data of etcd, and what each tool brings back of 20,000 keys: etcd itself, `bbolt compact`, `bbolt surgery`,
 * `etcdutl snapshot restore --skip-hash-check`, and this kit. A table for both releases of etcd; on each tool's data etcd
 * is started and asked for all keys. The log begins with an entry some time before the end, as etcd purges it.
 */
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { attemptLater, Fail } from "../../../shared/fail.ts";
import { memberDataIn, writeAlone } from "../../../shared/restore/lost-members-data.ts";
import { run, silently } from "../../../shared/run.ts";
import { random } from "../../pretend/damage.ts";
import { type Source, writeDamaged } from "../../pretend/damaged-etcd.ts";
import { buildGo } from "../machine/go-build.ts";
import { ask } from "../machine/loopback-etcd.ts";
import { BBOLT_BUILD } from "../machine/pins.ts";
import { askEtcd } from "./etcd-equal.ts";
import { type Member, memberAt, startMember, takeSnapshot } from "./etcd-member.ts";
import { ETCDUTL, onEachRelease } from "./etcd-releases.ts";
import { filesOf, purged } from "./ways-back.ts";

const KEYS = 20_000;
const AT_ONCE = 100;
const WRITES = 6000;
/** Of them, when the snapshot was taken, and the log's first one. */
const NIGHT = 3000;
const PURGED = 2500;

const DAMAGES = [
  ...[
    "none",
    "meta-new",
    "meta-both",
    "root",
    "branch-top",
    "branch-1",
    "leaf-10",
    "lost-write-30",
    "zero-run",
    "truncate",
  ],
  ...["empty-tree", "db-zero", "wal-flip", "snap-none"],
];

interface Lost {
  etcd: string;
  folder: string;
  disk: string;
  bbolt: string;
  etcdutl: string;
}

/** Each makes a data directory, and gives the member that goes on with it. Errors: any, where it cannot. */
const TOOLS: Record<string, (lost: Lost) => Promise<Member>> = {
  async etcd({ folder, disk }) {
    const as = { ...memberAt(folder, "by-etcd"), name: "lost" };
    cpSync(disk, as.dataDir, { recursive: true });
    return as;
  },
  "bbolt compact": (lost) => restored(lost, (db, out) => [lost.bbolt, "compact", "-o", out, db]),
  "bbolt surgery": (lost) =>
    restored(lost, (db, out) => [lost.bbolt, "surgery", "revert-meta-page", db, "--output", out]),
  "etcdutl restore": (lost) => restored(lost),
  async "this kit"({ folder, disk }) {
    return await broughtBack(folder, disk);
  },
  async "this kit, and a snapshot of before"({ folder, disk }) {
    return await broughtBack(folder, disk, `${folder}/night.db`);
  },
};

async function main() {
  const bbolt = join(await buildGo(BBOLT_BUILD), "bbolt");
  const etcdutl = join(await buildGo(ETCDUTL), "etcdutl");
  await onEachRelease(async ({ etcd, folder }) => {
    const { whole, purgedLater } = await made(etcd, folder);
    const truth = await keysOf(
      etcd,
      await TOOLS.etcd!({ etcd, folder, disk: `${folder}/whole`, bbolt, etcdutl }),
    );
    const rows = [`| damage (${truth.size} keys) | ${Object.keys(TOOLS).join(" | ")} |`];
    rows.push(`|${"---|".repeat(Object.keys(TOOLS).length + 1)}`);
    for (const damage of DAMAGES) {
      const cells: string[] = [];
      for (const tool of Object.values(TOOLS)) {
        const lost = { etcd, folder, disk: `${folder}/disk`, bbolt, etcdutl };
        // a log that is cut by hand does not name its .snap, which etcd asks for
        const source = tool === TOOLS.etcd ? whole : purgedLater;
        writeDamaged(lost.disk, damage, { seed: 1, source });
        cells.push(await cell(lost, tool, truth));
      }
      rows.push(`| ${damage} | ${cells.join(" | ")} |`);
    }
    return ["what each tool brings back", ...rows];
  });
}

/** A member that was killed while it was written to, whose log etcd has purged. */
async function made(etcd: string, folder: string) {
  const only = memberAt(folder, "lost");
  const member = await startMember(etcd, only, { flags: ["--snapshot-count=500", "--unsafe-no-fsync"] });
  const db = () => readFileSync(`${only.dataDir}/member/snap/db`);
  const put = (n: number, of: number) => ({
    request_put: {
      key: btoa(`/registry/configmaps/default/${n}`),
      value: btoa(`of write ${of} `.repeat(40)),
    },
  });
  for (let n = 0; n < KEYS; n += AT_ONCE)
    await ask(only.url, "kv/txn", { success: Array.from({ length: AT_ONCE }, (_, i) => put(n + i, 0)) });
  const [pick, copies] = [random(3), [] as Buffer[]];
  for (let n = 0; n < WRITES; n++) {
    const key = btoa(`/registry/configmaps/default/${pick(KEYS)}`);
    const write = pick(7) === 0 ? { request_delete_range: { key } } : put(pick(KEYS), n);
    await ask(only.url, "kv/txn", { success: [write] });
    if (n === NIGHT || n === WRITES - 100) copies.push(db());
    if (n === NIGHT) writeFileSync(`${folder}/night.db`, await takeSnapshot(only.url));
  }
  await member.stop();
  const whole: Source = { db: db(), old: copies[0]!, before: copies[1]!, files: filesOf(only) };
  writeDamaged(`${folder}/whole`, "none", { seed: 1, source: whole });
  return { whole, purgedLater: purged(whole, only, KEYS / AT_ONCE + PURGED) };
}

/** A restore of the db, or of what a command makes of it. */
async function restored({ folder, disk, etcdutl }: Lost, command?: (db: string, out: string) => string[]) {
  const as = memberAt(folder, "by-tool");
  const [db, out] = [`${disk}/member/snap/db`, `${folder}/made.db`];
  if (command) await program(command(db, out));
  const url = ["--initial-advertise-peer-urls", as.peerUrl];
  const cluster = ["--name", as.name, "--initial-cluster", `${as.name}=${as.peerUrl}`, ...url];
  const from = ["snapshot", "restore", command ? out : db, "--skip-hash-check"];
  await program([etcdutl, ...from, "--data-dir", as.dataDir, ...cluster]);
  return as;
}

async function program(command: string[]) {
  const child = Bun.spawn(["timeout", "120", ...command], { stdout: "ignore", stderr: "pipe" });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Fail(said.slice(0, 200), { hint: command.join(" ") });
}

async function broughtBack(folder: string, disk: string, snapshot?: string): Promise<Member> {
  const found = memberDataIn(disk, snapshot);
  const as = { ...memberAt(folder, "by-kit"), name: found.own.name };
  await writeAlone(found, { dir: as.dataDir, peerUrl: as.peerUrl });
  return as;
}

async function keysOf(etcd: string, as: Member): Promise<Map<string, string>> {
  await using started = await startMember(etcd, as);
  return (await askEtcd(started.url)).keys;
}

/** "all", how many keys are right and what is wrong with the others, or "none". */
async function cell(lost: Lost, tool: (lost: Lost) => Promise<Member>, truth: Map<string, string>) {
  const keys = await attemptLater(() => silently(() => tool(lost).then((as) => keysOf(lost.etcd, as))));
  for (const name of ["by-etcd", "by-tool", "by-kit", "made.db"])
    rmSync(`${lost.folder}/${name}`, { recursive: true, force: true });
  if (keys instanceof Fail) return keys.exitCode === 3 ? "refused" : "none";
  const right = [...truth].filter(([key, line]) => keys.get(key) === line).length;
  const missing = [...truth.keys()].filter((key) => !keys.has(key)).length;
  const back = [...keys.keys()].filter((key) => !truth.has(key)).length;
  const wrong = { older: truth.size - right - missing, missing, "deleted ones back": back };
  const words = Object.entries(wrong).flatMap(([what, count]) => (count > 0 ? `${count} ${what}` : []));
  return words.length === 0 ? "**all**" : [`${right} right`, ...words].join(", ");
}

if (import.meta.main) await run(main);
