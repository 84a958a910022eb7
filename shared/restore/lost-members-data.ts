/**
 * Data directories of lost members: which of them has all that was acknowledged, and how its member goes on
 * alone. Sources: etcd server/etcdserver/bootstrap.go and server/storage/util.go (CreateConfigChangeEnts,
 * what --force-new-cluster appends), server.go (applyConfChange); raft's election (raft.go, isUpToDate).
 *
 * What a client was told lies in the logs of a quorum. So of any quorum the log that is up to date by the
 * rule of an election, the last entry's term, then its index, has all of it. The commit index does not tell:
 * it is written later than a client is answered. --force-new-cluster goes by it, and drops the entries behind
 * it: acknowledged writes are lost, and their revisions given out again. Here the whole log counts as
 * committed, which claims no more than an election that this member would win; then the others are taken out,
 * and its own address is the new one. etcd starts on it as always, without that flag.
 */
import * as fs from "node:fs";
import { readEtcdData } from "../etcd-data/data.ts";
import { appliedIn, explain } from "../etcd-data/directory.ts";
import { type Member, memberName } from "../etcd-data/members.ts";
import { Damaged } from "../etcd-data/protobuf.ts";
import { readNewestSnapshot, snapNames } from "../etcd-data/raft-files.ts";
import { readWal } from "../etcd-data/wal.ts";
import { Fail, Refused } from "../fail.ts";
import { copyLargeTree } from "../files/copy-tree.ts";
import { hostPath } from "../files/files.ts";
import { silently } from "../run.ts";
import { CHANGE, changeOf, entryOf, hardStateOf, LogRecords, RECORD } from "./log-records.ts";
import { appendTo, logTail } from "./log-tail.ts";
import { memberJson, type SnapMember, snapBytes, snapName, snapRecordOf } from "./new-member.ts";
import { makeMember, writeSynced } from "./write-data.ts";

export interface MemberData {
  dir: string;
  own: Member;
  members: Member[];
  clusterId: string;
  revision: number;
  lastWrite: Date;
  last: { index: number; term: number };
}

/** Errors: Fail as `readEtcdData`; Refused where its member has no vote, or is none any more. */
export function memberDataIn(dir: string): MemberData {
  const host = hostPath(dir);
  try {
    using data = readEtcdData(host);
    const { memberId, members, clusterId, revision, lastWrite } = data;
    const own = members.find(({ id }) => id === memberId);
    if (!own || own.isLearner)
      throw new Refused(
        own
          ? `The member of "${dir}" has not got a vote yet: its data may be a part of all`
          : `The member of "${dir}" was taken out of etcd before: its data ends there`,
        { unchanged: true, hint: "take another member's data directory, or a snapshot" },
      );
    const { last } = logTail(`${host}/member/wal`);
    return { dir, own, members, clusterId, revision, lastWrite, last };
  } catch (cause) {
    throw explain(cause, { dir });
  }
}

interface Chosen {
  chosen: MemberData;
  /** Members with a vote, and those of them whose data is here. */
  voters: number;
  here: number;
  isQuorum: boolean;
}

/**
 * The one whose log is up to date. Errors: Refused where they are of several clusters, or two of one member.
 */
export function chooseData(all: readonly MemberData[]): Chosen {
  const clusters = new Set(all.map(({ clusterId }) => clusterId));
  if (clusters.size > 1)
    throw new Refused(`These are data of ${clusters.size} clusters: ${inWords(all)}`, {
      unchanged: true,
      hint: "name the directories of this cluster's members alone",
    });
  const twice = all.find(({ own }, i) => all.findIndex((other) => other.own.id === own.id) !== i);
  if (twice)
    throw new Refused(`Two of these are data of one member, "${memberName(twice.own)}": ${inWords(all)}`, {
      unchanged: true,
      hint: "name the one that was written last",
    });
  const [chosen] = all.toSorted((a, b) => b.last.term - a.last.term || b.last.index - a.last.index);
  if (!chosen) throw new Fail("No data directory was named", { hint: "give the folder: --from DIR" });
  const voters = chosen.members.filter(({ isLearner }) => !isLearner);
  const here = voters.filter(({ id }) => all.some(({ own }) => own.id === id)).length;
  return { chosen, voters: voters.length, here, isQuorum: 2 * here > voters.length };
}

function inWords(all: readonly MemberData[]): string {
  return all
    .map(
      ({ dir, own, clusterId, lastWrite }) =>
        `"${dir}" (${memberName(own)} of ${clusterId}, written ${lastWrite.toISOString()})`,
    )
    .join(", ");
}

/** A copy of its data in `dir`, in which it is the only member, at a new address. Errors: as `makeMember`. */
export async function writeAlone(survivor: MemberData, { dir, peerUrl }: { dir: string; peerUrl: string }) {
  const from = `${survivor.dir}/member`;
  await makeMember({ dir, from }, async (folder) => {
    await silently(() => copyLargeTree(from, folder));
    goOnAlone(hostPath(folder), survivor, peerUrl);
  });
}

/** Behind the last entry: the others are out, its own URL is the new one, and all of it is committed. */
function goOnAlone(folder: string, { own, members }: MemberData, peerUrl: string) {
  const tail = logTail(`${folder}/wal`);
  const id = ({ id }: Member) => BigInt(`0x${id}`);
  const url = memberJson(id(own), { name: own.name, peerUrl });
  const changes = [
    ...members
      .filter((member) => member.id !== own.id)
      .map((other) => changeOf(CHANGE.removeNode, id(other))),
    changeOf(CHANGE.updateNode, id(own), url),
  ];
  const records = new LogRecords(tail.crc);
  const { term, vote, last } = tail;
  for (const [i, change] of changes.entries())
    records.add(RECORD.entry, entryOf({ type: 1, term, index: last.index + 1 + i }, change));
  const at = placeWithoutSnap(folder);
  const known = members.map((member): SnapMember => ({ ...member, id: id(member) }));
  if (at) {
    for (const name of snapNames(`${folder}/snap`)) fs.rmSync(`${folder}/snap/${name}`);
    writeSynced(`${folder}/snap/${snapName(at)}`, snapBytes(at, known));
    records.add(RECORD.snapshot, snapRecordOf(at, known));
  }
  records.add(RECORD.state, hardStateOf({ term, vote, commit: last.index + changes.length }));
  appendTo(tail, records);
}

/**
 * The db's last entry, where no .snap is there from which etcd could go on: one that is not newer than the db,
 * and that the log reaches back to. Errors: Damaged where the log has not that entry.
 */
function placeWithoutSnap(folder: string): { index: number; term: number } | undefined {
  const applied = appliedIn(`${folder}/snap`);
  const newest = readNewestSnapshot(`${folder}/snap`);
  const [first] = fs
    .readdirSync(`${folder}/wal`)
    .filter((name) => name.endsWith(".wal"))
    .sort();
  const isUsable =
    newest && newest.index <= applied && newest.index >= Number.parseInt(first!.slice(17, 33), 16);
  if (isUsable || applied === 0) return undefined;
  const wish = { after: applied, applied, isWanted: () => false };
  const entry = readWal(`${folder}/wal`, wish).before.at(-1);
  if (entry) return entry;
  throw new Damaged(`no .snap fits the db, and its last entry, ${applied}, is not in the log`);
}
