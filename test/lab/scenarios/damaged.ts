/**
 * Power is lost while somebody writes, and etcd's data is damaged then: pages of the database's tree, the log, or the
 * whole database, with a snapshot of the night beside it. Each write that was answered is there after the repair, or it
 * was said as of which entry the data is. With etcd's data nothing else is lost: the node goes on when its kubelet starts.
 */
import { randomBytes } from "node:crypto";
import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { Bbolt } from "../../../shared/etcd-data/bbolt.ts";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { consistentIndex } from "../../../shared/etcd-data/directory.ts";
import { writesIn } from "../../../shared/etcd-data/fits-log.ts";
import { legacyRequest } from "../../../shared/etcd-data/members.ts";
import { fieldsOf, wireFields } from "../../../shared/etcd-data/protobuf.ts";
import { readPut } from "../../../shared/etcd-data/replay.ts";
import { parseRecord, readFrame, readWal } from "../../../shared/etcd-data/wal.ts";
import { RECORD } from "../../../shared/restore/new-member.ts";
import { writeDamaged } from "../../pretend/damaged-etcd.ts";
import { purgeLog } from "../../pretend/write-wal.ts";
import { kubectl } from "../machine/machine.ts";
import { KIT, type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { follow, othersJoin } from "./restored.ts";
import { compareWrites, lose, survivor, takeData, WRITTEN } from "./survivor.ts";

/** Both root pages and a hundred leaves are zeros, as on the disk that has lost the last blocks that it was told to write. */
const PAGES = "root-both+leaf-100";

interface Damage {
  /** Before the power is cut. */
  before?: (scene: Scene) => Promise<unknown>;
  /** To what is below /var/lib/etcd. */
  damage: (dataDir: string) => unknown;
  /** What restore is given beside the folder, with a blank behind it. */
  snapshot?: string;
  /** What is said of the way back. */
  said: RegExp;
}

const lines = ({ before, damage, snapshot, said }: Damage, goesOn: (scene: Scene) => Promise<unknown>) => [
  ...(before ? [{ title: "The operator makes a backup in the night", run: before }] : []),
  {
    title: "Power is lost while somebody writes, and etcd's data is damaged",
    run: (scene: Scene) => lose(scene, damage),
  },
  { title: "00-assess names the damage, and the way back", run: assess },
  {
    title: "The operator goes that way",
    async run(scene: Scene) {
      const words = await takeData(scene, snapshot);
      const first = words
        .split("\n")
        .find((line) => /^ +(exact:|as of .* entry \d+: )/.test(line))
        ?.trim();
      const isOne = first !== undefined && said.test(first);
      scene.checks.push({
        name: "restore says first how far its way leads",
        ok: isOne,
        detail: first ?? words,
      });
      await goesOn(scene);
    },
  },
  { title: "Every write that was answered is there, or was said to be lost", run: compareSaid },
];

const one: Omit<Scenario, "name" | "title" | "lines"> = {
  ...{ controlPlanes: 1, workers: 1, byRunbook: true, machinesFail: true },
};

export const damaged: Scenario = {
  ...one,
  name: "damaged",
  title:
    "The only control plane node loses power while somebody writes, and pages of etcd's database are zeros then; all keys come back from its log",
  lines: lines({ damage: (dir) => damageForm(dir, PAGES), said: /^exact: / }, startKubelet),
};

export const damagedAsOf: Scenario = {
  ...one,
  name: "damaged-as-of",
  title:
    "The only control plane node loses power while somebody writes; pages of etcd's database are zeros then, and a block of its log near the end is damaged; it goes on as of the entry before that, and says so",
  goesBack: true,
  lines: lines({ damage: lastWritesOf, said: /^as of \d\d:\d\d:\d\d UTC, entry \d+: what/ }, startKubelet),
};

export const damagedLog: Scenario = {
  ...one,
  name: "damaged-log",
  title:
    "The only control plane node loses power while somebody writes, and a block of etcd's log is damaged then; all keys come back from its database and what is whole of the log",
  lines: lines({ damage: flipInLog, said: /^exact: an older tree, of entry \d+, and the log/ }, startKubelet),
};

export const damagedSnapshot: Scenario = {
  ...one,
  name: "damaged-snapshot",
  title:
    "The only control plane node loses power while somebody writes, and etcd's database is zeros then; all keys come back from a snapshot of the night and the log",
  lines: lines(
    {
      before: backUp,
      damage: zerosAndPurgedLog,
      snapshot: "snapshot.db ",
      said: /^exact: the snapshot, of entry/,
    },
    startKubelet,
  ),
};

export const damagedSurvivor: Scenario = {
  ...survivor,
  name: "damaged-survivor",
  title:
    "All three control plane nodes lose power while somebody writes, two never come back, and pages of the third one's etcd are zeros; it goes on alone with all that was acknowledged, and new machines join",
  lines: [
    ...lines({ damage: (dir) => damageForm(dir, PAGES), said: /^exact: / }, (scene) =>
      follow(scene, ["old-cas"], [1, 2, 3, 4, 5]),
    ),
    ...othersJoin({ elsewhere: false }),
  ],
};

/** One of the forms of test/pretend/damaged-etcd.ts. */
function damageForm(dataDir: string, form: string) {
  const file = (name: string) => readFileSync(`${dataDir}/member/${name}`);
  const db = file("snap/db");
  const names = ["snap", "wal"].flatMap((folder) =>
    readdirSync(`${dataDir}/member/${folder}`).map((name) => `${folder}/${name}`),
  );
  const files = names.filter((name) => /\.(snap|wal)$/.test(name)).map((name) => [name, file(name)] as const);
  writeDamaged(dataDir, form, { seed: 1, source: { db, before: db, old: db, files: new Map(files) } });
  rmSync(`${dataDir}/undamaged.db`, { force: true });
}

/** A bit of a record in the middle of the last file: etcd refuses the log, and the database has what it was. */
function flipInLog(dataDir: string) {
  const path = lastLogOf(dataDir);
  const middle = readFileSync(path).findLastIndex((byte) => byte !== 0) / 2;
  flipRecord(path, ({ end }) => end >= middle);
}

function lastLogOf(dataDir: string): string {
  const names = readdirSync(`${dataDir}/member/wal`).filter((name) => name.endsWith(".wal"));
  return `${dataDir}/member/wal/${names.sort().at(-1)}`;
}

/** One bit of the first such record. `entry`: its index, if it is an entry. */
function flipRecord(path: string, isVictim: (record: { end: number; entry: number }) => boolean) {
  const bytes = readFileSync(path);
  for (let frame = readFrame(bytes, 0); frame; frame = readFrame(bytes.subarray(frame.end), frame.end)) {
    const record = parseRecord(bytes.subarray(frame.start, frame.start + frame.length))!;
    const entry = record.type === RECORD.entry ? fieldsOf(record.data).number(3) : 0;
    if (!isVictim({ end: frame.end, entry })) continue;
    const at = frame.start + frame.length - 1;
    const file = openSync(path, "r+");
    writeSync(file, Buffer.of(bytes[at]! ^ 1), 0, 1, at);
    return closeSync(file);
  }
}

/** What was in the log from the damage on: names of ConfigMaps, the entry before them, and the last revision of all. */
let beyond: { names: string[]; entry: number; revision: number } | undefined;

/** The database's pages of before, and the log from the fifth last write on. */
function lastWritesOf(dataDir: string) {
  using truth = readEtcdData(dataDir);
  const { entries } = readWal(`${dataDir}/member/wal`, { after: 0, isWanted: ({ type }) => type === 0 });
  const written = [...entries.values()].flatMap(({ index, data }) =>
    writtenIn(data).map((name) => ({ name, index })),
  );
  const lost = written.slice(-5);
  beyond = { names: lost.map(({ name }) => name), entry: lost[0]!.index - 1, revision: truth.revision };
  damageForm(dataDir, PAGES);
  flipRecord(lastLogOf(dataDir), ({ entry }) => entry === lost[0]!.index);
}

function writtenIn(request: Uint8Array): string[] {
  if (legacyRequest(request)) return [];
  return wireFields(request)
    .flatMap(({ number, bytes }) => writesIn(number, bytes))
    .filter(({ isPut }) => isPut)
    .map(({ message }) => readPut(message).key)
    .filter((key) => key.startsWith(WRITTEN))
    .map((key) => key.slice(WRITTEN.lastIndexOf("/") + 1))
    .toArray();
}

/** A client that has seen all, as kubelets and controllers have, is told to list again. */
async function compareSaid(scene: Scene) {
  await compareWrites(scene, beyond?.names);
  if (!beyond) return;
  const { entry, revision } = beyond;
  beyond = undefined;
  const said = scene.steps.find(({ command }) => command.includes("scripts/restore.ts"))?.stderr ?? "";
  scene.checks.push({
    name: "restore says the last entry that there is",
    ok: said.includes(`, entry ${entry}: what was acknowledged after that is lost`),
    detail: `entry ${entry}`,
  });
  const list = "/api/v1/namespaces/default/configmaps";
  const now = Number(
    JSON.parse((await kubectl(scene.lab, ["get", "--raw", list])).stdout).metadata.resourceVersion,
  );
  const { stdout, stderr } = await kubectl(scene.lab, [
    ...["get", "--raw", `${list}?watch=1&timeoutSeconds=5&resourceVersion=${revision}`],
  ]);
  scene.checks.push({
    name: "a client that has seen later revisions has to list again",
    ok: now > revision && /too old resource version/.test(stdout + stderr),
    detail: `revision ${revision} before, ${now} now; a watch from there: ${stdout}${stderr}`.slice(0, 200),
  });
}

/** The snapshot of the night, which the operator keeps elsewhere. */
let kept = "";

const PASSPHRASE = "--passphrase-file passphrase";

async function backUp(scene: Scene) {
  const cp1 = scene.lab.controlPlanes[0]!;
  await cp1.run(["bash", "-c", `umask 077; cat > ${KIT}/passphrase`], {
    input: randomBytes(24).toString("base64url"),
  });
  await type(scene, cp1, `./bunw scripts/hand-over.ts pack ${PASSPHRASE} --out keys.age --with-etcd`);
  await type(scene, cp1, `./bunw scripts/hand-over.ts snapshot ${PASSPHRASE} keys.etcd.age`);
  kept = (await cp1.run(["base64", "-w0", `${KIT}/snapshot.db`])).stdout;
}

/** etcd has purged its log since: without the snapshot there is no way back. */
function zerosAndPurgedLog(dataDir: string) {
  const folder = `${dataDir}/member/wal`;
  const night = `${dataDir}/night.db`;
  writeFileSync(night, Buffer.from(kept, "base64"));
  using db = new Bbolt(night);
  purgeLog(folder, Math.max(1, db.stable(consistentIndex) - 200));
  rmSync(night);
  const { length } = readFileSync(`${dataDir}/member/snap/db`);
  writeFileSync(`${dataDir}/member/snap/db`, Buffer.alloc(length));
}

async function assess(scene: Scene) {
  const cp1 = scene.lab.controlPlanes[0]!;
  if (kept) await cp1.run(["bash", "-c", `umask 077; base64 -d > ${KIT}/snapshot.db`], { input: kept });
  kept = "";
  const { stdout } = await type(scene, cp1, "./bunw scripts/00-assess.ts", { part: 0, exit: [2] });
  scene.checks.push({
    name: "00-assess names the damage, and restore",
    ok: stdout.includes("!DAMAGED!") && stdout.includes("restore.ts --from DIR"),
    detail: stdout.split("\n").find((line) => line.startsWith("verdict:")) ?? stdout,
  });
}

/** All else is whole: keys, certificates, manifests. */
async function startKubelet(scene: Scene) {
  const cp1 = scene.lab.controlPlanes[0]!;
  await type(scene, cp1, "systemctl start kubelet", { part: 2 });
  const answers = async () => (await kubectl(scene.lab, ["get", "--raw", "/readyz"])).stdout === "ok";
  await sayAndWait(scene, "the API to answer", answers, {
    seconds: 300,
    hint: "crictl ps -a on cp1, with --keep",
  });
  for (const node of scene.lab.nodes)
    await type(scene, node, "./bunw scripts/05-verify.ts --wait 60", { part: 5, exit: [0, 2] });
}
