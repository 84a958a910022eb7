/**
 * Data directories of lost members, on real etcd of both releases: each write that a client was told of is
 * there after this kit has taken one of them; `--force-new-cluster` alone loses the last.
 */
import { cpSync, rmSync } from "node:fs";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { readNewestSnapshot, snapNames } from "../../../shared/etcd-data/raft-files.ts";
import { Fail } from "../../../shared/fail.ts";
import {
  chooseData,
  type MemberData,
  memberDataIn,
  writeAlone,
} from "../../../shared/restore/lost-members-data.ts";
import { run, silently } from "../../../shared/run.ts";
import { purgeLog } from "../../pretend/write-wal.ts";
import { ask } from "../machine/loopback-etcd.ts";
import { compareWithEtcd } from "./etcd-equal.ts";
import { askMember, type Member, memberAt, membersOf, startMember } from "./etcd-member.ts";
import { onEachRelease } from "./etcd-releases.ts";

const WRITES = 60;

async function main() {
  await onEachRelease(({ etcd, folder }) => check(etcd, folder));
}

async function check(etcd: string, folder: string): Promise<string[]> {
  const names = ["m1", "m2", "m3"].map((name) => memberAt(folder, name));
  const acknowledged = await writeUntilKilled(etcd, names);
  const survivors = names.map(({ dataDir }) => memberDataIn(dataDir));
  const behind = survivors.toSorted((a, b) => a.last.index - b.last.index);
  const { chosen, isQuorum } = chooseData(behind.slice(0, 2));
  if (!isQuorum) throw new Fail("two of three are no quorum", { hint: "chooseData" });
  const lines = [await goesOn(etcd, folder, { chosen, acknowledged }), await withoutSnap(etcd, folder)];
  const lost = await forced(etcd, folder, { chosen, names, acknowledged });
  if (lost === 0)
    throw new Fail("--force-new-cluster lost nothing: this check sees nothing", { hint: "writeUntilKilled" });
  return [...lines, `--force-new-cluster on the same directory loses ${lost} acknowledged`];
}

/** Returns the keys whose writes were answered. All members are killed in the moment of the last answer. */
async function writeUntilKilled(etcd: string, cluster: Member[]): Promise<string[]> {
  const members = await Promise.all(cluster.map((member) => startMember(etcd, member, { cluster })));
  const keys = Array.from({ length: WRITES }, (_, i) => `/registry/acknowledged/${i}`);
  try {
    for (const key of keys) await ask(cluster[0]!.url, "kv/put", { key: btoa(key), value: btoa("value") });
  } finally {
    await Promise.all(members.map((member) => member.stop()));
  }
  return keys;
}

/** A disk whose log was purged up to its newest .snap, and that has lost its .snap files. */
async function withoutSnap(etcd: string, folder: string): Promise<string> {
  const only = memberAt(folder, "purged");
  const lost = await startMember(etcd, only, { flags: ["--snapshot-count=100"] });
  for (let i = 0; i < 250; i++)
    await ask(lost.url, "kv/put", { key: btoa(`/registry/${i % 90}`), value: btoa(`${i}`) });
  await lost.stop();
  const member = `${only.dataDir}/member`;
  purgeLog(`${member}/wal`, readNewestSnapshot(`${member}/snap`)!.index);
  for (const name of snapNames(`${member}/snap`)) rmSync(`${member}/snap/${name}`);
  const found = memberDataIn(only.dataDir);
  const alone = { ...memberAt(folder, "without-snap"), name: only.name };
  await silently(() => writeAlone(found, { dir: alone.dataDir, peerUrl: alone.peerUrl }));
  using before = readEtcdData(alone.dataDir);
  await using started = await startMember(etcd, alone);
  const { etcd: answers, said } = await askMember(started.url);
  const here = {
    differences: compareWithEtcd("", answers, before),
    clusterId: said.clusterId,
    revision: said.revision,
  };
  if (!Bun.deepEquals(here, { differences: [], clusterId: found.clusterId, revision: found.revision }))
    throw new Fail(`it does not start without its .snap: ${Bun.inspect(here)}`, { hint: "writeAlone" });
  return `without its .snap files, and with a purged log: ${said.keys} keys at revision ${said.revision}, same cluster`;
}

interface Case {
  chosen: MemberData;
  acknowledged: string[];
}

async function goesOn(etcd: string, folder: string, { chosen, acknowledged }: Case): Promise<string> {
  const alone = { ...memberAt(folder, "alone"), name: chosen.own.name };
  await silently(() => writeAlone(chosen, { dir: alone.dataDir, peerUrl: alone.peerUrl }));
  using before = readEtcdData(alone.dataDir);
  await using member = await startMember(etcd, alone);
  const { etcd: answers, said } = await askMember(member.url);
  const missing = acknowledged.filter((key) => !answers.keys.has(key));
  const differences = compareWithEtcd("", answers, before);
  const members = await membersOf(member.url);
  const expected = [`${chosen.own.id} ${chosen.own.name} ${alone.peerUrl}`];
  const here = { missing, differences, members, clusterId: said.clusterId };
  if (!Bun.deepEquals(here, { missing: [], differences: [], members: expected, clusterId: chosen.clusterId }))
    throw new Fail(`it does not go on alone: ${Bun.inspect(here)}`, { hint: "writeAlone" });
  const second = memberAt(folder, "joins");
  const added = await ask<{ member: { ID: string } }>(member.url, "cluster/member/add", {
    ...{ peerURLs: [second.peerUrl], isLearner: true },
  });
  await using learner = await startMember(etcd, { ...second, joins: alone });
  const promoted = () => ask(member.url, "cluster/member/promote", { ID: added.member.ID }).then(() => true);
  await learner.until("the learner to be promoted", promoted);
  const [first, other] = [(await askMember(member.url)).said, (await askMember(learner.url)).said];
  if (first.hash !== other.hash)
    throw new Fail("the joined member differs", { hint: Bun.inspect({ first, other }) });
  return `${acknowledged.length} of ${acknowledged.length} acknowledged writes are there, same ids, one member at its new address; a second joins with the same hash`;
}

/** The number of acknowledged writes that etcd's own flag loses on the same directory. */
async function forced(
  etcd: string,
  folder: string,
  { chosen, names, acknowledged }: Case & { names: Member[] },
) {
  const old = names.find(({ dataDir }) => dataDir === chosen.dir)!;
  const at = { ...old, dataDir: `${folder}/forced` };
  cpSync(chosen.dir, at.dataDir, { recursive: true });
  await using member = await startMember(etcd, at, { flags: ["--force-new-cluster"] });
  const { keys } = (await askMember(member.url)).etcd;
  return acknowledged.filter((key) => !keys.has(key)).length;
}

if (import.meta.main) await run(main);
