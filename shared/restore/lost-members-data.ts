/**
 * Data directories of lost members: which of them has all acknowledged writes, and how its member continues
 * alone. Sources: etcd server/etcdserver/bootstrap.go and server/storage/util.go (CreateConfigChangeEnts,
 * what --force-new-cluster appends), server.go (applyConfChange); raft's election (raft.go, isUpToDate).
 *
 * An acknowledged write is in the logs of a quorum. So of any quorum the log that is up to date by the rule
 * of an election, the last entry's term, then its index, has all of them. The commit index does not tell: it
 * is written after the client has its answer. --force-new-cluster uses it, and drops the entries behind it:
 * acknowledged writes are lost, and their revisions given out again. Here the whole log counts as committed,
 * which claims no more than an election that this member would win; then the others are removed, and its own
 * address is the new one. etcd starts on it as always, without that flag.
 */
import * as fs from "node:fs";
import { appliedIn, explain } from "../etcd-data/directory.ts";
import { type Member, memberName } from "../etcd-data/members.ts";
import type { OldRoot } from "../etcd-data/old-roots.ts";
import { Damaged } from "../etcd-data/protobuf.ts";
import { readNewestSnapshot, snapNames } from "../etcd-data/raft-files.ts";
import { type Entry, firstEntryIn, readWal } from "../etcd-data/wal.ts";
import { Fail, Refused } from "../fail.ts";
import { copyLargeTree } from "../files/copy-tree.ts";
import { hostPath } from "../files/files.ts";
import { silently } from "../run.ts";
import { makeNewest } from "./db-edit.ts";
import { CHANGE, changeOf, entryOf, hardStateOf, LogRecords, metadataOf, RECORD } from "./log-records.ts";
import { appendTo, logTail } from "./log-tail.ts";
import { logName, memberJson, type SnapMember, snapBytes, snapName, snapRecordOf } from "./new-member.ts";
import { wayInto } from "./ways-back.ts";
import { makeMember, writeSynced } from "./write-data.ts";

export interface MemberData {
  dir: string;
  own: Member;
  members: Member[];
  clusterId: string;
  revision: number;
  lastWrite: Date;
  /** The log's last entry; `isCut` and `isDamaged` as `EtcdData` has them. */
  last: { index: number; term: number; isCut?: boolean; isDamaged?: boolean };
  /** Set if the newest tree of its db is damaged: an older one, from which the log leads to the same keys. */
  root?: OldRoot | undefined;
}

/**
 * `snapshot`: of this cluster; a damaged log may lead from it. Errors: Fail as `readEtcdData`; Refused if its member has no vote, or is none any more, and where it is damaged
 * without an exact way back.
 */
export function memberDataIn(dir: string, snapshot?: string): MemberData {
  const host = hostPath(dir);
  try {
    const { root, ...read } = wayInto(host, snapshot === undefined ? [] : [hostPath(snapshot)]);
    using data = read.data;
    const { memberId, members, clusterId, revision, lastWrite, end } = data;
    const own = members.find(({ id }) => id === memberId);
    if (!own || own.isLearner)
      throw new Refused(
        own
          ? `The member of "${dir}" has no vote yet: its data may be incomplete`
          : `The member of "${dir}" was taken out of etcd before: its data ends there`,
        { unchanged: true, hint: "take another member's data directory, or a snapshot" },
      );
    return { dir, own, members, clusterId, revision, lastWrite, last: end, root };
  } catch (cause) {
    throw explain(cause, { dir });
  }
}

type Ids = Parameters<typeof metadataOf>[0];

interface Chosen {
  chosen: MemberData;
  /** The number of voting members, and of those whose log is here to its end. */
  voters: number;
  here: number;
  isQuorum: boolean;
}

/**
 * The one whose log is up to date, undamaged if possible. Errors: Refused if they are of several clusters, or
 * two of one member.
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
  const [chosen] = all.toSorted(
    (a, b) => b.last.term - a.last.term || b.last.index - a.last.index || damageOf(a) - damageOf(b),
  );
  if (!chosen) throw new Fail("No data directory was named", { hint: "give the folder: --from DIR" });
  const voters = chosen.members.filter(({ isLearner }) => !isLearner);
  // a member may have acknowledged entries that its log has lost
  const complete = voters.filter(({ id }) =>
    all.some(({ own, last }) => own.id === id && !last.isCut),
  ).length;
  return { chosen, voters: voters.length, here: complete, isQuorum: 2 * complete > voters.length };
}

const damageOf = ({ root, last }: MemberData) => (last.isCut ? 2 : root ? 1 : 0);

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
  const source = `${survivor.dir}/member`;
  await makeMember({ dir, from: source }, async (folder) => {
    await silently(() => copyLargeTree(source, folder));
    if (survivor.root) await beginWith(survivor.root, hostPath(source), hostPath(folder));
    goOnAlone(hostPath(folder), survivor, peerUrl);
  });
}

/** Makes the copy start from this tree, or from the log alone. */
async function beginWith(root: OldRoot, from: string, folder: string) {
  const [snap, isOther] = [`${folder}/snap`, root.path !== `${from}/snap/db`];
  for (const name of fs.readdirSync(snap)) if (name.endsWith(".snap.db")) fs.rmSync(`${snap}/${name}`);
  if (root.index === 0 || isOther) fs.rmSync(`${snap}/db`, { force: true });
  if (root.index === 0) return;
  if (isOther) await fs.promises.copyFile(root.path, `${snap}/db`);
  fs.chmodSync(`${snap}/db`, 0o600);
  makeNewest(`${snap}/db`, root);
}

/** Appends: the others are removed, its own URL is the new one, and all of it is committed. */
function goOnAlone(folder: string, { own, members, last, clusterId }: MemberData, peerUrl: string) {
  const id = ({ id }: Member) => BigInt(`0x${id}`);
  const known = members.map((member): SnapMember => ({ ...member, id: id(member) }));
  const ids = { memberId: id(own), clusterId: BigInt(`0x${clusterId}`) };
  const tail = last.isDamaged ? undefined : logTail(`${folder}/wal`);
  const made = tail ? undefined : newLog(`${folder}/wal`, ids, appliedIn(`${folder}/snap`));
  const { records, at } = made ?? { records: new LogRecords(tail!.crc), at: placeWithoutSnap(folder) };
  const { term, vote } = tail ?? { term: last.term, vote: id(own) };
  const url = memberJson(id(own), { name: own.name, peerUrl });
  const changes = [
    ...members
      .filter((member) => member.id !== own.id)
      .map((other) => changeOf(CHANGE.removeNode, id(other))),
    changeOf(CHANGE.updateNode, id(own), url),
  ];
  for (const [i, change] of changes.entries())
    records.add(RECORD.entry, entryOf({ type: 1, term, index: last.index + 1 + i }, change));
  if (at) for (const name of snapNames(`${folder}/snap`)) fs.rmSync(`${folder}/snap/${name}`);
  if (at?.index) {
    writeSynced(`${folder}/snap/${snapName(at)}`, snapBytes(at, known));
    records.add(RECORD.snapshot, snapRecordOf(at, known));
  }
  records.add(RECORD.state, hardStateOf({ term, vote, commit: last.index + changes.length }));
  if (tail) return appendTo(tail, records);
  for (const name of fs.readdirSync(`${folder}/wal`)) fs.rmSync(`${folder}/wal/${name}`);
  writeSynced(`${folder}/wal/${logName(at!.index)}`, records.bytes());
}

/** Replaces a damaged log by its entries that the db does not have yet, up to the lost ones. */
function newLog(folder: string, ids: Ids, applied: number) {
  const wish = { after: applied, applied, isWanted: ({ index }: Entry) => index > applied, readsOn: true };
  const { before, entries } = readWal(folder, wish);
  const at = before.at(-1) ?? { index: 0, term: 0 };
  if (at.index !== applied) throw new Damaged(`the db's last entry, ${applied}, is not in the log`);
  const records = new LogRecords().begin().add(RECORD.metadata, metadataOf(ids));
  if (at.index === 0) records.add(RECORD.snapshot, snapRecordOf(at, []));
  else records.add(RECORD.state, hardStateOf({ term: at.term, vote: ids.memberId, commit: at.index }));
  for (const entry of [...entries.values()].sort((a, b) => a.index - b.index))
    records.add(RECORD.entry, entryOf(entry, entry.data));
  return { records, at };
}

/**
 * The db's last entry, or 0 without a db, if there is no .snap from which etcd could continue: one that is
 * not newer than the db, and that the log reaches back to. Errors: Damaged if the log does not have that
 * entry.
 */
function placeWithoutSnap(folder: string): { index: number; term: number } | undefined {
  const applied = appliedIn(`${folder}/snap`);
  const newest = readNewestSnapshot(`${folder}/snap`);
  const isUsable = newest && newest.index <= applied && newest.index >= firstEntryIn(`${folder}/wal`)!;
  if (applied === 0) return { index: 0, term: 0 };
  if (isUsable) return undefined;
  const wish = { after: applied, applied, isWanted: () => false };
  const entry = readWal(`${folder}/wal`, wish).before.at(-1);
  if (entry) return entry;
  throw new Damaged(`no .snap fits the db, and its last entry, ${applied}, is not in the log`);
}
