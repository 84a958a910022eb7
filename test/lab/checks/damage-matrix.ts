#!/usr/bin/env bun
/**
 * The log and the database of a real member are damaged, alone and together, and brought back, with the programs of both
 * releases as judges: each database that our reader accepts passes `bbolt check`, and so does each that restore writes;
 * etcd starts on what restore writes, and has the keys that restore has said. One log has a real full file of 64 MB.
 * `SEEDS=20` takes more; `EVERY=10` starts etcd on each tenth result alone.
 */
import { copyFileSync, existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { attempt, attemptLater, Fail } from "../../../shared/fail.ts";
import {
  chooseData,
  type MemberData,
  memberDataIn,
  writeAlone,
} from "../../../shared/restore/lost-members-data.ts";
import { BUMP } from "../../../shared/restore/write-data.ts";
import { run, silently } from "../../../shared/run.ts";
import { FORMS, PAIRS, type Source, writeDamaged } from "../../pretend/damaged-etcd.ts";
import { buildGo } from "../machine/go-build.ts";
import { ask } from "../machine/loopback-etcd.ts";
import { BBOLT_BUILD } from "../machine/pins.ts";
import { compareWithEtcd } from "./etcd-equal.ts";
import { askMember, memberAt, startMember } from "./etcd-member.ts";
import { onEachRelease } from "./etcd-releases.ts";
import { killed, purged } from "./ways-back.ts";

const SEEDS = Number(process.env.SEEDS || 1);
const EVERY = Number(process.env.EVERY || 10);
/** Bytes of a value, and how many fill a log's file. */
const LARGE = 1_000_000;
const FULL = 70;

interface Judge {
  etcd: string;
  bbolt: string;
  folder: string;
}

/** What is wrong, or how it came back. */
type Outcome = Record<string, number>;

async function main() {
  const bbolt = join(await buildGo(BBOLT_BUILD), "bbolt");
  await onEachRelease(async ({ etcd, folder }) => {
    const judge = { etcd, bbolt, folder };
    const only = memberAt(folder, "lost");
    const { source } = await killed(etcd, only);
    const { end } = readEtcdData(only.dataDir);
    const lines = [await fullFile(judge)];
    for (const [log, from] of Object.entries({
      "a whole log": source,
      "a purged log": purged(source, only, end.index - 300),
    }))
      lines.push(`${log}: ${Bun.inspect(await matrix(judge, from), { compact: true })}`);
    return lines;
  });
}

async function matrix(judge: Judge, source: Source): Promise<Outcome> {
  const outcomes: Outcome = {};
  const disk = `${judge.folder}/disk`;
  const note = (outcome: string) => (outcomes[outcome] = (outcomes[outcome] ?? 0) + 1);
  for (const form of [...FORMS, ...PAIRS])
    for (let seed = 1; seed <= SEEDS; seed++) {
      writeDamaged(disk, form, { seed, source });
      const accepted = attempt(() => readEtcdData(disk)[Symbol.dispose]());
      if (!(accepted instanceof Fail) && existsSync(`${disk}/member/snap/db`)) {
        checkPages(judge, `${disk}/member/snap/db`, `${form} ${seed}, which is read`);
        note("read, and sound for bbolt");
      }
      const found = await silently(() => attemptLater(() => broughtBack(disk)));
      if (found instanceof Fail) note("refused");
      else
        note(
          await brought(judge, found, {
            what: `${form} ${seed}`,
            isStarted: (outcomes.written ?? 0) % EVERY === 0,
          }),
        );
      if (!(found instanceof Fail)) note("written");
    }
  return outcomes;
}

/** Without the keys that a refusal offers to give up. */
function broughtBack(disk: string): MemberData {
  const found = attempt(() => memberDataIn(disk));
  if (!(found instanceof Fail)) return found;
  const without = / --give-up (\S+)$/.exec(found.hint ?? "")?.[1]?.split(",");
  if (!without) throw found;
  return memberDataIn(disk, undefined, { without });
}

async function brought(
  judge: Judge,
  found: MemberData,
  { what, isStarted }: { what: string; isStarted: boolean },
) {
  const as = { ...memberAt(judge.folder, "alone"), name: found.own.name };
  const { isQuorum } = chooseData([found]);
  try {
    await silently(() =>
      writeAlone(found, { dir: as.dataDir, peerUrl: as.peerUrl, bump: isQuorum ? 0 : BUMP }),
    );
    checkPages(judge, `${as.dataDir}/member/snap/db`, `${what}, as written`);
    const said = found.proof.leftOut.length > 0 ? "keys given up" : isQuorum ? "exact" : "as of";
    if (!isStarted) return said;
    using before = readEtcdData(as.dataDir);
    await using started = await startMember(judge.etcd, as);
    const { etcd: answers } = await askMember(started.url);
    const wrong = compareWithEtcd("", answers, before);
    if (wrong.length > 0)
      throw new Fail(`${what}: etcd has other keys: ${Bun.inspect(wrong.slice(0, 3))}`, {
        hint: "writeAlone",
      });
    return `${said}, etcd started`;
  } finally {
    rmSync(as.dataDir, { recursive: true, force: true });
  }
}

/** Errors: Fail if bbolt finds a fault. */
function checkPages({ bbolt, folder }: Judge, db: string, what: string) {
  const copy = `${folder}/checked.db`;
  copyFileSync(db, copy);
  const { exitCode, stdout, stderr } = Bun.spawnSync([bbolt, "check", copy]);
  rmSync(copy);
  const said = `${stdout}${stderr}`.trim();
  // no release of etcd keeps its free pages in the file
  if (exitCode === 0) return;
  throw new Fail(`${what}: bbolt check says ${said.slice(0, 300)}`, { hint: "shared/etcd-data/bbolt.ts" });
}

/** A log of which a file is full: without the next one nothing is a quorum. */
async function fullFile({ etcd, folder }: Judge): Promise<string> {
  const only = memberAt(folder, "full");
  const member = await startMember(etcd, only, { flags: ["--unsafe-no-fsync"] });
  for (let n = 0; n < FULL; n++)
    await ask(only.url, "kv/put", {
      key: btoa(`/registry/large/${n}`),
      value: btoa(`${n} `.padEnd(LARGE, "x")),
    });
  await member.stop();
  const wal = `${only.dataDir}/member/wal`;
  const files = readdirSync(wal)
    .filter((name) => name.endsWith(".wal"))
    .sort();
  const said = async () => {
    const found = await silently(async () => memberDataIn(only.dataDir));
    return { isQuorum: chooseData([found]).isQuorum, isCut: found.last.isCut };
  };
  const whole = await said();
  rmSync(`${wal}/${files.at(-1)}`);
  // the database of before has the log's beginning alone
  rmSync(`${only.dataDir}/member/snap/db`);
  const cut = await said();
  rmSync(only.dataDir, { recursive: true });
  const expected = [2, { isQuorum: true, isCut: false }, { isQuorum: false, isCut: true }];
  if (!Bun.deepEquals([files.length, whole, cut], expected))
    throw new Fail(`a full file: ${Bun.inspect([files, whole, cut])}`, {
      hint: `expected ${Bun.inspect(expected)}`,
    });
  return "a log whose last file of 64 MB is lost: no quorum, and with it one";
}

if (import.meta.main) await run(main);
