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
import { type EtcdData, readEtcdData } from "../etcd-data/data.ts";
import { explain } from "../etcd-data/directory.ts";
import { type Member, memberName } from "../etcd-data/members.ts";
import { beginningAt, type OldRoot } from "../etcd-data/old-roots.ts";
import { Fail, Refused } from "../fail.ts";
import { hostPath } from "../files/files.ts";
import { refuseState } from "./snapshot-file.ts";
import { wayInto } from "./ways-back.ts";
import { writeMember } from "./write-data.ts";

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
  /** Reads it again: what was proved is not proved once more. */
  open(): EtcdData;
}

/**
 * `snapshot`: of this cluster; a damaged log may lead from it. Errors: Fail as `readEtcdData`; Refused if its member
 * has no vote, or is none any more, and if it is damaged without an exact way back.
 */
export function memberDataIn(dir: string, snapshot?: string): MemberData {
  const host = hostPath(dir);
  try {
    const { root, ...read } = wayInto(host, snapshot === undefined ? [] : [hostPath(snapshot)]);
    using data = read.data;
    refuseState(data, { path: dir, disarm: true });
    const { memberId, members, clusterId, revision, lastWrite, end } = data;
    const own = members.find(({ id }) => id === memberId);
    if (!own || own.isLearner)
      throw new Refused(
        own
          ? `The member of "${dir}" has no vote yet: its data may be incomplete`
          : `The member of "${dir}" was taken out of etcd before: its data ends there`,
        { unchanged: true, hint: "take another member's data directory, or a snapshot" },
      );
    const open = () => readEtcdData(host, undefined, root && beginningAt(root, { isCut: end.isCut }));
    return { dir, own, members, clusterId, revision, lastWrite, last: end, root, open };
  } catch (cause) {
    throw explain(cause, { dir });
  }
}

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

/** Its member continues alone with what `data` has. Errors: as `makeMember`. */
export async function writeAlone(
  survivor: MemberData,
  place: { dir: string; peerUrl: string; bump?: number },
  data = survivor.open(),
) {
  const { own, members, clusterId, last, dir: from } = survivor;
  const known = members.map((one) => ({ ...one, id: idOf(one) }));
  const itself = known.find(({ id }) => id === idOf(own))!;
  const { alarms } = data.stored();
  const as = { own: itself, members: known, clusterId: BigInt(`0x${clusterId}`), last, alarms };
  await writeMember(as, data, { bump: 0, ...place, from: `${from}/member` });
}

const idOf = ({ id }: Member) => BigInt(`0x${id}`);
