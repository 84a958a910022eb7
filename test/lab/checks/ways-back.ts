/**
 * Damaged data of a lost member, on real etcd of both releases: where this kit says "exact" it has every key of the
 * undamaged data, where it says "as of an entry" what was there then, and etcd starts on what it writes, as the same
 * cluster, with one member at its new address.
 */
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type EtcdData, readEtcdData } from "../../../shared/etcd-data/data.ts";
import { attempt, attemptLater, Fail } from "../../../shared/fail.ts";
import { isWhole, memberDataIn, writeAlone } from "../../../shared/restore/lost-members-data.ts";
import { REVISION_BUMP } from "../../../shared/restore/write-data.ts";
import { run, silently } from "../../../shared/run.ts";
import { random } from "../../pretend/damage.ts";
import { type Source, writeDamaged } from "../../pretend/damaged-etcd.ts";
import { laterLog } from "../../pretend/write-wal.ts";
import { ask } from "../machine/loopback-etcd.ts";
import { compareWithEtcd } from "./etcd-equal.ts";
import {
  askMember,
  type Member,
  memberAt,
  membersOf,
  startMember,
  takeSnapshot,
  watchFrom,
} from "./etcd-member.ts";
import { onEachRelease } from "./etcd-releases.ts";

const KEYS = 400;
const WRITES = 1500;
const AT_SNAPSHOT = 1000;

/** Forms of damage, with what is said: these have a way back whatever is hit. */
const WAYS = {
  "meta-both": "exact",
  root: "exact",
  "branch-top": "exact",
  "leaf-10": "exact",
  "lost-write-30": "exact",
  "db-gone": "exact",
  "db-zero": "exact",
} as const;

/** Damages of the log: what is lost depends on the place. */
const OF_THE_LOG = ["wal-flip", "wal-zero"];

async function main() {
  await onEachRelease(({ etcd, folder }) => check(etcd, folder));
}

async function check(etcd: string, folder: string): Promise<string[]> {
  const only = memberAt(folder, "lost");
  const { source, snapshot } = await killed(etcd, only);
  using truth = readEtcdData(only.dataDir);
  const all = { disk: `${folder}/disk`, truth };
  const lines: string[] = [];
  for (const [form, way] of Object.entries(WAYS)) {
    writeDamaged(all.disk, form, { seed: 1, source });
    lines.push(await comesBack(etcd, folder, { ...all, form, way }));
  }
  writeFileSync(`${folder}/night.db`, snapshot);
  writeDamaged(all.disk, "db-zero", { seed: 1, source: purged(source, only, AT_SNAPSHOT - 100) });
  const more = { form: "db-zero, purged log, a snapshot", snapshot: `${folder}/night.db` };
  lines.push(await comesBack(etcd, folder, { ...all, ...more, way: "exact" }));
  for (const form of OF_THE_LOG)
    for (let seed = 1; seed <= 3; seed++) {
      writeDamaged(all.disk, form, { seed, source: purged(source, only, truth.end.index - 40) });
      lines.push(await comesBack(etcd, folder, { ...all, form: `${form} ${seed}, purged log` }));
    }
  return lines;
}

/** The same with a log that begins with this entry. */
export function purged(source: Source, { dataDir }: Pick<Member, "dataDir">, from: number): Source {
  const { name, bytes } = laterLog(`${dataDir}/member/wal`, from);
  const files = [...source.files].filter(([file]) => file.startsWith("snap/"));
  return { ...source, files: new Map([...files, [`wal/${name}`, used(bytes)]]) };
}

/** The files of a member that was killed while it was written to, and a snapshot of before. */
export async function killed(etcd: string, only: Member) {
  const member = await startMember(etcd, only, { flags: ["--snapshot-count=500"] });
  const pick = random(3);
  const db = () => readFileSync(`${only.dataDir}/member/snap/db`);
  const copies: Buffer[] = [];
  let revision = 1;
  let snapshot: Uint8Array = new Uint8Array();
  for (let n = 0; n < WRITES; n++) {
    const key = btoa(`/registry/configmaps/default/${pick(KEYS)}`);
    const value = btoa(`of write ${n} `.repeat(1 + pick(80) * (pick(20) === 0 ? 8 : 1)));
    const success = [pick(7) === 0 ? { request_delete_range: { key } } : { request_put: { key, value } }];
    const { header } = await ask<{ header: { revision: string } }>(only.url, "kv/txn", { success });
    revision = Number(header.revision);
    if (n === 700) await ask(only.url, "kv/compaction", { revision: String(revision - 90), physical: true });
    if (n === AT_SNAPSHOT || n === WRITES - 100) copies.push(db());
    if (n === AT_SNAPSHOT) snapshot = await takeSnapshot(only.url);
  }
  await member.stop();
  const source: Source = { db: db(), old: copies[0]!, before: copies[1]!, files: filesOf(only) };
  return { source, snapshot };
}

/** Its log and .snap files. */
export function filesOf({ dataDir }: Member): Source["files"] {
  const files = ["snap", "wal"].flatMap((folder) =>
    readdirSync(`${dataDir}/member/${folder}`)
      .filter((name) => /\.(snap|wal)$/.test(name))
      .map(
        (name) => [`${folder}/${name}`, used(readFileSync(`${dataDir}/member/${folder}/${name}`))] as const,
      ),
  );
  return new Map(files);
}

/** Without the room that etcd has made at the end of its log, which `writeDamaged` makes again: a damage there hits nothing. */
function used(bytes: Buffer): Buffer {
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
  return end < bytes.length ? bytes.subarray(0, Math.ceil((end + 64) / 8) * 8) : bytes;
}

interface Case {
  disk: string;
  truth: EtcdData;
  form: string;
  snapshot?: string;
  /** What has to be said; undefined: as it comes. */
  way?: "exact";
}

async function comesBack(etcd: string, folder: string, { disk, truth, form, snapshot, way: wanted }: Case) {
  const found = await silently(() => attemptLater(() => memberDataIn(disk, snapshot)));
  if (found instanceof Fail) {
    if (wanted) throw found;
    return `${form}: refused`;
  }
  const kept = `${folder}/kept`;
  cpSync(disk, kept, { recursive: true });
  const alone = { ...memberAt(folder, `alone-${form.replaceAll(/\W/g, "")}`), name: found.own.name };
  const bump = isWhole(found.last) ? 0 : REVISION_BUMP;
  await silently(() => writeAlone(found, { dir: alone.dataDir, peerUrl: alone.peerUrl, bump }));
  using before = readEtcdData(alone.dataDir);
  await using started = await startMember(etcd, alone);
  const { etcd: answers, said } = await askMember(started.url);
  const way = isWhole(found.last) ? "exact" : "as of an entry";
  const here = {
    asWritten: compareWithEtcd("", answers, before),
    // the truth at that revision
    asBefore:
      way === "exact" ? compareWithEtcd("", answers, truth) : otherThen(before, truth, found.revision),
    members: await membersOf(started.url),
    ...{ clusterId: said.clusterId, revision: said.revision },
    isKept: Bun.spawnSync(["diff", "-r", kept, disk]).exitCode === 0,
    // a client of before that has seen all
    watch: await watchFrom(started.url, truth.revision + 1),
  };
  const members = [`${truth.memberId} lost ${alone.peerUrl}`];
  const { clusterId } = truth;
  const expected = {
    asWritten: [],
    asBefore: [],
    members,
    clusterId,
    revision: found.revision + bump,
    isKept: true,
    watch: bump > 0 ? "compacted" : "seen",
  };
  if (!Bun.deepEquals(here, expected))
    throw new Fail(`${form}: ${Bun.inspect(here)}`, { hint: `expected ${Bun.inspect(expected)}` });
  for (const path of [kept, alone.dataDir]) rmSync(path, { recursive: true });
  if (wanted && way !== wanted)
    throw new Fail(`${form}: ${way}, and it should be ${wanted}`, { hint: "wayInto" });
  return `${form}: ${way}, ${said.keys} keys at revision ${said.revision}, same cluster`;
}

/** Keys that were not so at the revision that the data is of. */
function otherThen(data: EtcdData, truth: EtcdData, revision: number): string[] {
  return truth.keys("").filter((key) => {
    const then = attempt(
      () => truth.history(key).find(({ modRevision }) => modRevision <= revision),
      undefined,
    );
    const now = data.get(key);
    return (then && !then.deleted ? then.modRevision : 0) !== (now?.modRevision ?? 0);
  });
}

if (import.meta.main) await run(main);
