/**
 * A snapshot restored by this kit, beside `etcdutl snapshot restore`, on real etcd of both releases: the same
 * ids, keys and hash, a member that joins gets all of it, and a client that has seen later revisions is told
 * so. What the raised revision and the .snap are for is shown by leaving them out.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { REVISION_BUMP } from "../../../shared/restore/write-data.ts";
import { run, silently } from "../../../shared/run.ts";
import { writeRestored } from "../../pretend/restored.ts";
import { buildGo } from "../machine/go-build.ts";
import { ask, fill } from "../machine/loopback-etcd.ts";
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
import { ETCDUTL, onEachRelease } from "./etcd-releases.ts";

const TOKEN = "restored-2026";
const LOAD = { objects: 3000, bytes: 700 };

async function main() {
  const etcdutl = join(await buildGo(ETCDUTL), "etcdutl");
  await onEachRelease(({ etcd, folder }) => check({ etcd, etcdutl, folder }));
}

interface Tools {
  etcd: string;
  etcdutl: string;
  folder: string;
}

async function check(tools: Tools): Promise<string[]> {
  const { snapshot, revision } = await oldCluster(tools);
  return [
    await besideEtcdutl(tools, snapshot),
    await joined(tools, snapshot),
    await watched(tools, { snapshot, revision }),
  ];
}

/** Its snapshot, and a revision that a client has seen after it. */
async function oldCluster({ etcd, folder }: Tools) {
  await using member = await startMember(etcd, memberAt(folder, "old"));
  await fill(member.url, LOAD);
  const put = (key: string, more = {}) =>
    ask(member.url, "kv/put", { key: btoa(key), value: btoa("value"), ...more });
  const { ID: lease } = await ask<{ ID: string }>(member.url, "lease/grant", { TTL: 36_000 });
  await put("/registry/masterleases/10.0.0.1", { lease });
  await ask(member.url, "kv/deleterange", { key: btoa("/registry/configmaps/default/object-0000007") });
  await ask(member.url, "kv/compaction", { revision: "20", physical: true });
  const snapshot = `${folder}/snapshot.db`;
  writeFileSync(snapshot, await takeSnapshot(member.url));
  for (let i = 0; i < 5; i++) await put(`/registry/later/${i}`);
  const { header } = await ask<{ header: { revision: string } }>(member.url, "kv/range", { key: btoa("/") });
  return { snapshot, revision: Number(header.revision) };
}

/** Restores into the member's folder. */
async function restoreTo({ name, peerUrl, dataDir }: Member, snapshot: string, bump = REVISION_BUMP) {
  await silently(() => writeRestored(snapshot, dataDir, { name, peerUrl, token: TOKEN }, bump));
}

async function besideEtcdutl({ etcd, etcdutl, folder }: Tools, snapshot: string): Promise<string> {
  const ours = memberAt(folder, "cp1");
  const theirs = { ...ours, dataDir: `${folder}/theirs` };
  await restoreTo(ours, snapshot);
  const cluster = ["--initial-cluster", `cp1=${ours.peerUrl}`, "--initial-cluster-token", TOKEN];
  const urls = ["--name", "cp1", "--initial-advertise-peer-urls", ours.peerUrl];
  const bump = ["--bump-revision", String(REVISION_BUMP), "--mark-compacted", "--data-dir", theirs.dataDir];
  const done = Bun.spawnSync([etcdutl, "snapshot", "restore", snapshot, ...cluster, ...urls, ...bump]);
  if (done.exitCode !== 0) throw new Fail(`etcdutl: ${done.stderr}`, { hint: "see above" });
  const [here, there] = [await answersOf(etcd, ours), await answersOf(etcd, theirs)];
  const equal = Bun.deepEquals(here.said, there.said);
  if (!equal)
    throw new Fail(`ours: ${Bun.inspect(here.said)}, etcdutl's: ${Bun.inspect(there.said)}`, {
      hint: "which field?",
    });
  refuseDifferences(here.differences);
  return `as etcdutl's: ids, members, ${here.said.keys} keys, hash ${here.said.hash} at revision ${here.said.revision}`;
}

/** What etcd says of itself on this folder; before that our reader has read it. */
async function answersOf(etcd: string, at: Member) {
  const { readEtcdData } = await import("../../../shared/etcd-data/data.ts");
  using before = readEtcdData(at.dataDir);
  await using member = await startMember(etcd, at);
  const answers = await askMember(member.url);
  const differences = compareWithEtcd("", answers.etcd, before);
  return { differences, said: { ...answers.said, members: await membersOf(member.url) } };
}

function refuseDifferences(differences: ReturnType<typeof compareWithEtcd>) {
  for (const { what, etcd, offline } of differences.slice(0, 5))
    console.error(`  ${what}: etcd says ${etcd}, its files say ${offline}`);
  if (differences.length > 0)
    throw new Fail(`${differences.length} differences between etcd and its files`, { hint: "etcd-equal.ts" });
}

/** A learner that is promoted has what the restored member has; without the .snap it has next to nothing. */
async function joined(tools: Tools, snapshot: string): Promise<string> {
  const whole = await joinTo(tools, snapshot, { withSnap: true });
  if (whole.first.hash !== whole.second.hash || whole.first.keys !== whole.second.keys)
    throw new Fail(`the joined member differs: ${Bun.inspect(whole)}`, { hint: "snapBytes" });
  const bare = await joinTo(tools, snapshot, { withSnap: false }).catch((err: Error) => err.message);
  const isRed = typeof bare === "string" || bare.second.keys < bare.first.keys;
  if (!isRed)
    throw new Fail("a member joins well without the .snap: this check sees nothing", { hint: "joinTo" });
  const red =
    typeof bare === "string" ? "it does not join" : `${bare.second.keys} of ${bare.first.keys} keys`;
  return `a learner is promoted with ${whole.second.keys} keys and the same hash; without the .snap ${red}`;
}

async function joinTo({ etcd, folder }: Tools, snapshot: string, { withSnap }: { withSnap: boolean }) {
  const at = memberAt(folder, `cp-${withSnap}`);
  await restoreTo(at, snapshot);
  if (!withSnap) rmSync(`${at.dataDir}/member/snap/0000000000000001-0000000000000001.snap`);
  await using first = await startMember(etcd, at);
  const second = memberAt(folder, `joins-${withSnap}`);
  const { member } = await ask<{ member: { ID: string } }>(first.url, "cluster/member/add", {
    ...{ peerURLs: [second.peerUrl], isLearner: true },
  });
  await using learner = await startMember(etcd, { ...second, joins: at });
  await learner.until("promoted", () =>
    ask(first.url, "cluster/member/promote", { ID: member.ID }).then(() => true),
  );
  return { first: (await askMember(first.url)).said, second: (await askMember(learner.url)).said };
}

/** A client that lives on, and has seen what came after the snapshot. */
async function watched(
  { etcd, folder }: Tools,
  { snapshot, revision }: { snapshot: string; revision: number },
) {
  const watch = async (name: string, bump: number) => {
    const at = memberAt(folder, name);
    await restoreTo(at, snapshot, bump);
    await using member = await startMember(etcd, at);
    return await watchFrom(member.url, revision + 1);
  };
  const told = await watch("raised", REVISION_BUMP);
  const silent = await watch("plain", 0);
  if (told !== "compacted" || silent !== "missed")
    throw new Fail(`a watch from a later revision: ${told}; without the bump: ${silent}`, {
      hint: "revisionsOf",
    });
  return `a watch from revision ${revision + 1} is told that it is compacted; without the bump it misses what is written`;
}

if (import.meta.main) await run(main);
