#!/usr/bin/env bun
/**
 * The log and the database of a real member are damaged, alone and together, and brought back, with the programs of both
 * releases as judges: each database that our reader accepts passes `bbolt check`, and so does each that restore writes;
 * etcd starts on what restore writes, and has the keys that restore has said; those are the keys of then, by the whole
 * log. It starts on each result without keys that were given up. One log has a real full file of 64 MB, and one member is
 * one of three, of which another one is damaged, too.
 * `SEEDS=20` takes more, `EVERY=1` starts etcd on each result, `LOGS=three` and `FORMS=wal-` take only these, `WHICH=3.6.5`
 * one release.
 */
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { attempt, attemptLater, Fail } from "../../../shared/fail.ts";
import {
  chooseData,
  type MemberData,
  memberDataIn,
  writeAlone,
} from "../../../shared/restore/lost-members-data.ts";
import { membersDataIn } from "../../../shared/restore/several-members.ts";
import { REVISION_BUMP } from "../../../shared/restore/write-data.ts";
import { run, silently } from "../../../shared/run.ts";
import { FORMS, PAIRS, type Source, writeDamaged } from "../../pretend/damaged-etcd.ts";
import { purgeLog } from "../../pretend/write-wal.ts";
import { Judge, WRONG } from "../../soak/judge.ts";
import { buildGo } from "../machine/go-build.ts";
import { ask } from "../machine/loopback-etcd.ts";
import { BBOLT_BUILD } from "../machine/pins.ts";
import { compareWithEtcd } from "./etcd-equal.ts";
import { askMember, type Member, memberAt, startMember, takeSnapshot } from "./etcd-member.ts";
import { onEachRelease } from "./etcd-releases.ts";
import { filesOf, killed, purged } from "./ways-back.ts";

const SEEDS = Number(process.env.SEEDS || 1);
const EVERY = Number(process.env.EVERY || 10);
const isWanted = (log: string) => log.includes(process.env.LOGS ?? "");
const WANTED = [...FORMS, ...PAIRS].filter((form) => form.includes(process.env.FORMS ?? ""));
/** Bytes of a value, and how many fill a log's file. */
const LARGE = 1_000_000;
const FULL = 70;

interface Programs {
  etcd: string;
  bbolt: string;
  folder: string;
}

/** What is wrong, or how it came back. */
type Outcome = Record<string, number>;

const FULL_FILE = "a log whose last file of 64 MB is lost";
const GIVEN_UP = "a damaged value that nothing has whole";

async function main() {
  const bbolt = join(await buildGo(BBOLT_BUILD), "bbolt");
  await onEachRelease(async ({ etcd, folder }) => {
    const programs = { etcd, bbolt, folder };
    let known: Promise<Damaged> | undefined;
    const whole = () => (known ??= ofOne(programs));
    const logs: Record<string, () => Promise<Damaged>> = {
      "a whole log": whole,
      "a purged log": async () => {
        const { source, truth } = await whole();
        const only = { dataDir: `${folder}/lost` };
        return { source: purged(source, only, readEtcdData(only.dataDir).end.index - 300), truth };
      },
      "a log with a full file of 64 MB": () => withFullFile(programs),
      "three members, two of them damaged": () => ofThree(programs),
    };
    const lines = isWanted(FULL_FILE) ? [`${FULL_FILE}: ${await fullFile(programs)}`] : [];
    if (isWanted(GIVEN_UP)) lines.push(`${GIVEN_UP}: ${await givenUp(programs)}`);
    for (const [log, make] of Object.entries(logs).filter(([name]) => isWanted(name)))
      lines.push(`${log}: ${Bun.inspect(await matrix(programs, await make()), { compact: true })}`);
    return lines;
  });
}

/** A member that was killed while it was written to. */
async function ofOne({ etcd, folder }: Programs): Promise<Damaged> {
  const only = memberAt(folder, "lost");
  const { source } = await killed(etcd, only);
  return { source, truth: new Judge(`${folder}/truth`, `${only.dataDir}/member/wal`) };
}

interface Damaged {
  source: Source;
  /** Another member of the same cluster, which has another damage. */
  other?: Source;
  truth: Judge;
}

async function matrix(programs: Programs, { source, other, truth }: Damaged): Promise<Outcome> {
  const outcomes: Outcome = {};
  const [disk, beside] = [`${programs.folder}/disk`, `${programs.folder}/beside`];
  const note = (outcome: string) => (outcomes[outcome] = (outcomes[outcome] ?? 0) + 1);
  for (const [i, form] of WANTED.entries())
    for (let seed = 1; seed <= SEEDS; seed++) {
      writeDamaged(disk, form, { seed, source });
      const its = WANTED[(i + 7 * seed) % WANTED.length]!;
      if (other) writeDamaged(beside, its, { seed, source: other });
      const what = `${form} ${seed}${other ? ` beside ${its}` : ""}`;
      const accepted = attempt(() => readEtcdData(disk)[Symbol.dispose]());
      if (!(accepted instanceof Fail) && existsSync(`${disk}/member/snap/db`)) {
        checkPages(programs, `${disk}/member/snap/db`, `${what}, which is read`);
        note("read, and sound for bbolt");
      }
      let found: MemberData | undefined;
      const read = (without: readonly string[]) => {
        const all = other ? foundOf([disk, beside], without) : [memberDataIn(disk, undefined, { without })];
        found = chooseData(all).chosen;
        return found;
      };
      const judged = await truth.outcomeOf(disk, read);
      if (judged.startsWith(WRONG)) throw new Fail(`${what}: ${judged}`, { hint: "shared/restore" });
      if (judged === "refused") note(judged);
      else {
        const isStarted = found!.proof.leftOut.length > 0 || (outcomes.written ?? 0) % EVERY === 0;
        await brought(programs, found!, { what, isStarted });
        note(`${judged}${isStarted ? ", etcd started" : ""}`);
        note("written");
      }
    }
  return outcomes;
}

/** Of these folders, those that have a way back: an operator leaves out the others. */
function foundOf(dirs: readonly string[], without: readonly string[]): MemberData[] {
  const each = dirs.map((dir) => attempt(() => membersDataIn([dir], undefined, without)));
  const all = attempt(() => membersDataIn(dirs, undefined, without));
  if (!(all instanceof Fail)) return all;
  const some = each.flatMap((one) => (one instanceof Fail ? [] : one));
  if (some.length === 0) throw all;
  return some;
}

/** Its result; where etcd was started on that, its answers. */
async function brought(
  programs: Programs,
  found: MemberData,
  { what, isStarted }: { what: string; isStarted: boolean },
) {
  const as = { ...memberAt(programs.folder, "alone"), name: found.own.name };
  const { isQuorum } = chooseData([found]);
  try {
    await silently(() =>
      writeAlone(found, { dir: as.dataDir, peerUrl: as.peerUrl, bump: isQuorum ? 0 : REVISION_BUMP }),
    );
    checkPages(programs, `${as.dataDir}/member/snap/db`, `${what}, as written`);
    if (!isStarted) return undefined;
    using before = readEtcdData(as.dataDir);
    await using started = await startMember(programs.etcd, as);
    const { etcd: answers } = await askMember(started.url);
    const wrong = compareWithEtcd("", answers, before);
    if (wrong.length > 0)
      throw new Fail(`${what}: etcd has other keys: ${Bun.inspect(wrong.slice(0, 3))}`, {
        hint: "writeAlone",
      });
    return answers;
  } finally {
    rmSync(as.dataDir, { recursive: true, force: true });
  }
}

/** Errors: Fail if bbolt finds a fault. */
function checkPages({ bbolt, folder }: Programs, db: string, what: string) {
  const copy = `${folder}/checked.db`;
  copyFileSync(db, copy);
  const { exitCode, stdout, stderr } = Bun.spawnSync([bbolt, "check", copy]);
  rmSync(copy);
  const said = `${stdout}${stderr}`.trim();
  // no release of etcd keeps its free pages in the file
  if (exitCode === 0) return;
  throw new Fail(`${what}: bbolt check says ${said.slice(0, 300)}`, { hint: "shared/etcd-data/bbolt.ts" });
}

const WIDGETS = 20;
const AFTER = 5;
const widget = (n: number) => `/registry/example.com/widgets/default/w${n}`;

/** The refusal's own line gives up the key, and etcd starts on what is then written: it has all others. */
async function givenUp(programs: Programs): Promise<string> {
  const only = memberAt(programs.folder, "widgets");
  await makeWidgets(programs.etcd, only);
  zeroEach(`${only.dataDir}/member/snap/db`, "spec of w0 ");
  const { hint } = await failOf(() => silently(async () => membersDataIn([only.dataDir])));
  const key = / --give-up (\S+)$/.exec(hint!)?.[1];
  if (key !== widget(0)) throw new Fail(`${widget(0)} has no line: ${hint}`, { hint: "wayInto" });
  const all = await silently(async () => membersDataIn([only.dataDir], undefined, [key]));
  const found = chooseData(all).chosen;
  const answers = await brought(programs, found, { what: GIVEN_UP, isStarted: true });
  const names = [...answers!.keys.keys()].filter((name) => name.startsWith("/registry/example.com/"));
  rmSync(only.dataDir, { recursive: true });
  if (names.length !== WIDGETS - 1 || names.includes(key))
    throw new Fail(`etcd has ${Bun.inspect(names)}`, { hint: "withKeysLeftOut" });
  return `given up, etcd started with the other ${names.length}`;
}

/** Values of Kubernetes' form, in the database alone: the log begins behind them. */
async function makeWidgets(etcd: string, only: Member) {
  const member = await startMember(etcd, only);
  for (let n = 0; n < WIDGETS; n++) {
    const metadata = { name: `w${n}`, namespace: "default" };
    const object = {
      apiVersion: "example.com/v1",
      kind: "Widget",
      metadata,
      spec: `spec of w${n} `.repeat(99),
    };
    await ask(only.url, "kv/put", { key: btoa(widget(n)), value: btoa(JSON.stringify(object)) });
  }
  await takeSnapshot(only.url); // etcd writes all of them to its database first
  await putSmall([only], AFTER);
  await member.stop();
  using data = readEtcdData(only.dataDir);
  purgeLog(`${only.dataDir}/member/wal`, data.end.index - AFTER);
}

/** In each copy that the file has of it. */
function zeroEach(path: string, text: string) {
  const bytes = readFileSync(path);
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) bytes.fill(0, at, at + 4);
  writeFileSync(path, bytes);
}

async function failOf(action: () => Promise<unknown>): Promise<Fail> {
  const failed = await attemptLater(action);
  if (failed instanceof Fail) return failed;
  throw new Fail("A damaged value is accepted", { hint: "proveMember" });
}

/** A log of which a file is full: without the next one nothing is a quorum. */
async function fullFile({ etcd, folder }: Programs): Promise<string> {
  const only = memberAt(folder, "full");
  const member = await startMember(etcd, only, { flags: ["--unsafe-no-fsync"] });
  await putLarge(only);
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
  return "no quorum, and with it one";
}

/** So many that a log's file is full. */
async function putLarge({ url }: Member) {
  for (let n = 0; n < FULL; n++)
    await ask(url, "kv/put", { key: btoa(`/registry/large/${n}`), value: btoa(`${n} `.padEnd(LARGE, "x")) });
}

const dbOf = ({ dataDir }: Member) => readFileSync(`${dataDir}/member/snap/db`);

/** A member that was killed with a full file of its log, and a second one. */
async function withFullFile({ etcd, folder }: Programs): Promise<Damaged> {
  const only = memberAt(folder, "large");
  const member = await startMember(etcd, only, { flags: ["--unsafe-no-fsync"] });
  const old = dbOf(only);
  await putLarge(only);
  const before = dbOf(only);
  await putSmall([only], 100);
  await member.stop();
  const truth = new Judge(`${folder}/large-truth`, `${only.dataDir}/member/wal`);
  return { source: { db: dbOf(only), old, before, files: filesOf(only) }, truth };
}

async function putSmall(members: readonly Member[], count: number) {
  for (let n = 0; n < count; n++)
    await ask(members[n % members.length]!.url, "kv/put", {
      key: btoa(`/registry/configmaps/default/${n % 90}`),
      value: btoa(`of write ${n} `.repeat(1 + (n % 60))),
    });
}

const THREE = 600;

/** Two members of three that were killed: the log of the third has all that was acknowledged. */
async function ofThree({ etcd, folder }: Programs): Promise<Damaged> {
  const cluster = ["m1", "m2", "m3"].map((name) => memberAt(folder, name));
  const [m1, m2, m3] = cluster as [Member, Member, Member];
  const started = await Promise.all(cluster.map((one) => startMember(etcd, one, { cluster })));
  await putSmall(cluster, THREE / 2);
  const old = [dbOf(m1), dbOf(m2)] as const;
  await putSmall(cluster, THREE / 2 - 50);
  const before = [dbOf(m1), dbOf(m2)] as const;
  await putSmall(cluster, 50);
  await Promise.all(started.map((one) => one.stop()));
  const [source, other] = [m1, m2].map((one, i) => ({
    ...{ db: dbOf(one), old: old[i]!, before: before[i]!, files: filesOf(one) },
  })) as [Source, Source];
  return { source, other, truth: new Judge(`${folder}/three`, `${m3.dataDir}/member/wal`) };
}

if (import.meta.main) await run(main);
