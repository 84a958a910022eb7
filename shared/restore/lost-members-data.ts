/**
 * Data directories of lost members: how each is read, or, if it is damaged, which older tree and the log lead to the
 * same keys; which of them has all acknowledged writes; and how its member continues alone. Reading changes nothing. Sources: etcd server/etcdserver/bootstrap.go and server/storage/util.go (CreateConfigChangeEnts,
 * what --force-new-cluster appends), server.go (applyConfChange); raft's election (raft.go, isUpToDate).
 *
 * An acknowledged write is in the logs of a quorum. So of any quorum the log that is up to date by the rule
 * of an election, the last entry's term, then its index, has all of them. The commit index does not tell: it
 * is written after the client has its answer. --force-new-cluster uses it, and drops the entries behind it:
 * acknowledged writes are lost, and their revisions given out again. Here the whole log counts as committed,
 * which claims no more than an election that this member would win; then the others are removed, and its own
 * address is the new one. etcd starts on it as always, without that flag.
 */

import { again } from "../again.ts";
import { ChangedFile } from "../etcd-data/changed-file.ts";
import { type EtcdData, readEtcdData } from "../etcd-data/data.ts";
import { consistentIndex, DamagedData, explain, LogEndsFirst } from "../etcd-data/directory.ts";
import { laterThan } from "../etcd-data/log-end.ts";
import { type Member, memberName } from "../etcd-data/members.ts";
import { beginningAt, databaseAlone, type OldRoot, wholeTrees } from "../etcd-data/old-roots.ts";
import { isDamage } from "../etcd-data/protobuf.ts";
import { firstEntryIn, readWal } from "../etcd-data/wal.ts";
import { minute } from "../evidence/server-clock.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { hostPath } from "../files/files.ts";
import { say } from "../run.ts";
import { withDatabase } from "./database-alone.ts";
import { Unmended, withKeysLeftOut } from "./left-out.ts";
import { refuseState } from "./snapshot-file.ts";
import { type Proof, type Proved, proofWords, proveMember } from "./value-witnesses.ts";
import { writeMember } from "./write-data.ts";

interface WayBack extends Proved {
  /** In place of the newest tree, where that is damaged. */
  root?: OldRoot;
  /** The newest tree, whose log ends before it does. */
  isAlone?: boolean;
  /** That log has a gap, and goes on from the tree's own entry. */
  goesOn?: boolean;
}

/**
 * `snapshots`: dbs of this cluster, from which the log may lead, too. Errors: Fail as `readEtcdData`; Refused if the data
 * is damaged, and no other tree leads to the same keys, and if a snapshot is newer than the log. `dir`: as the operator
 * has named it. `without`: keys that may be given up.
 */
export function wayInto(
  host: string,
  snapshots: readonly string[] = [],
  { dir = host, without = [] }: { dir?: string; without?: readonly string[] } = {},
): WayBack {
  const prove = (data: EtcdData) => proveMember(host, data, { snapshots, without });
  const read = attempt(() => prove(readEtcdData(host)));
  if (read instanceof Fail && !(read instanceof DamagedData)) throw withDatabase(read, host, dir);
  const [end, dbs] = read instanceof Fail ? [-1, [`${host}/member/snap/db`]] : [read.data.end.index, []];
  if (read instanceof Fail) say(`${read.message}. Looks for an older tree that is whole`);
  const refused: { index: number; why: string }[] = [];
  let unmended = unmendedOf(read);
  const alone = read instanceof Fail ? databaseBefore(host, snapshots, read) : undefined;
  for (const root of wholeTrees([...dbs, ...snapshots])) {
    if (root.index <= end) break;
    const way = attempt(() => prove(readEtcdData(host, undefined, beginningAt(root))));
    if (!(way instanceof Fail)) return laterOf({ ...way, root }, alone);
    unmended ??= unmendedOf(way);
    refused.push({ index: root.index, why: reasonOf(way) });
  }
  if (alone) return laterOf(undefined, alone);
  if (!(read instanceof Fail) && refused.length === 0) return read;
  const before = read instanceof Fail ? `${read.message}. ` : "";
  const others = isChanged(read)
    ? read.hint
    : 'name the folders of other members, too (--from DIR,DIR), or take a snapshot: RUNBOOK-MORE "If etcd\'s data is damaged"';
  const found = new Refused(`${before}No exact way leads back: ${refusedInWords(refused, logIn(host))}`, {
    unchanged: true,
    hint: unmended
      ? `${others}. If there is none, give up these keys: ${again({ "give-up": unmended.keys })}`
      : others,
    cause: read,
  });
  // a database with such a value is not whole either
  throw unmended ? found : withDatabase(found, host, dir);
}

/** The damage that names keys which can be given up. */
function unmendedOf(read: unknown): Unmended | undefined {
  const cause = read instanceof Fail ? read.cause : undefined;
  return cause instanceof Unmended && cause.keys.length > 0 ? cause : undefined;
}

/** The db alone, where its log ends before it. */
function databaseBefore(
  host: string,
  snapshots: readonly string[],
  { cause }: DamagedData,
): WayBack | undefined {
  if (!(cause instanceof LogEndsFirst)) return undefined;
  const read = () => readEtcdData(host, undefined, databaseAlone());
  const way = attempt(() => proveMember(host, read(), { snapshots, isAlone: true }));
  if (way instanceof Fail) return undefined;
  const { db } = way.data.stored();
  const goesOn = db !== undefined && way.data.end.index > db.stable(consistentIndex);
  return { ...way, isAlone: true, goesOn };
}

/** The way that leads further: by the log, or to the db's own end. Both ends are said. */
function laterOf(byLog: WayBack | undefined, alone: WayBack | undefined): WayBack {
  if (!byLog || !alone) return (byLog ?? alone)!;
  const [log, db] = [byLog.data.end.index, alone.data.end.index];
  const [taken, left] = db > log ? [alone, byLog] : [byLog, alone];
  left.data[Symbol.dispose]();
  const database = alone.goesOn ? "the database, and the log behind its gap," : "the database alone";
  say(
    `the log leads to entry ${log}, ${database} to entry ${db}: ${db > log ? "the database" : "the log"} is taken`,
  );
  return taken;
}

const isChanged = (read: unknown): read is Fail => read instanceof Fail && read.cause instanceof ChangedFile;

type WayOfMember = Pick<MemberData, "root" | "proof" | "isAlone" | "goesOn">;

/** The first words for the operator. `until`: the time of the data, if that is known. */
export function wayInWords(
  { root, last, proof, isAlone, goesOn }: Partial<WayOfMember> & { last: LogEnd },
  { until, snapshot }: { until?: Date | undefined; snapshot?: string | undefined } = {},
): string {
  const values = proof ? `; ${proofWords(proof)}` : "";
  const left = last.leftOut ?? [];
  if (!isWhole(last)) {
    const then = until ? `${until.toISOString().slice(11, 19)} UTC` : "an unknown time";
    const lost = last.isCut
      ? "what was acknowledged after that is lost"
      : last.isEndSeen
        ? "each other key is the last one on this disk"
        : "the log's end is not seen, so what was acknowledged after that, if anything was, is lost";
    const given =
      left.length > 0 ? `, without ${left.length} key(s) that are given up (${left.join(", ")})` : "";
    const database = goesOn ? "and its log behind a gap" : "alone, whose log ends before it";
    const source = isAlone ? `, by the database ${database}` : "";
    return `as of ${then}, entry ${last.index}${given}${source}: ${lost}${values}`;
  }
  const end = `has all keys up to entry ${last.index}, the last one on this disk${values}`;
  if (!root) return `${proof?.mended.length ? "exact" : "as it is"}: this data ${end}`;
  const tree = root.path === snapshot ? "the snapshot" : "an older tree";
  const beginning = root.index
    ? `${tree}, of entry ${root.index}, and the log`
    : "the log from its first entry on";
  return `exact: ${beginning} ${end}`;
}

function reasonOf({ cause, message }: Fail): string {
  return isDamage(cause) ? cause.message : message;
}

/** `log`: which entries it has. The last one that was refused is the log alone. */
function refusedInWords(refused: readonly { index: number; why: string }[], log: string): string {
  const trees = refused.filter(({ index }) => index > 0);
  const [newest, oldest] = [trees[0], trees.at(-1)];
  const entries = [...new Set([oldest?.index, newest?.index])].join(" to ");
  const why = refused.at(-1)?.index === 0 ? refused.at(-1)!.why : "";
  return [
    newest
      ? `${trees.length} older tree(s), of entry ${entries}, do not fit the log (the newest: ${newest.why})`
      : "no older tree is whole",
    ...(why && !log.includes(why) ? [`the log alone: ${why}`] : []),
    log,
  ].join("; ");
}

function logIn(host: string): string {
  const folder = `${host}/member/wal`;
  const from = firstEntryIn(folder);
  if (from === undefined) return "the log is gone";
  try {
    const { last } = readWal(folder, { after: from, isWanted: () => false });
    return `the log has entries ${from} to ${last.index}`;
  } catch (err) {
    if (!isDamage(err)) throw err;
    return `the log is damaged, too: ${err.message}`;
  }
}

/** The log's last entry, as `EtcdData` has it. */
type LogEnd = Pick<EtcdData["end"], "index"> &
  Partial<EtcdData["end"]> & {
    /** Keys that are given up. */
    leftOut?: readonly string[];
  };

/** Whether the data is complete up to the end of the log. This disk shows no later entry, and no key was left out. */
export function isWhole({ isCut, isEndSeen, leftOut = [] }: Omit<LogEnd, "index">): boolean {
  return isEndSeen === true && !isCut && leftOut.length === 0;
}

export interface MemberData {
  dir: string;
  own: Member;
  members: Member[];
  clusterId: string;
  revision: number;
  /** The last one that a quorum had, as far as this member knew. */
  committed: number;
  lastWrite: Date;
  last: LogEnd & { term: number };
  /** Set if the newest tree of its db is damaged: an older one, from which the log leads to the same keys. */
  root?: OldRoot | undefined;
  /** Whether its values are those that were written. */
  proof: Proof;
  /** Its log ends before its db does, and only the db is taken. */
  isAlone?: boolean | undefined;
  /** Its log has a gap before the db's entry, and goes on from there: both are taken. */
  goesOn?: boolean | undefined;
  /** Reads it again: what was proved is not proved once more. */
  open(): EtcdData;
}

/**
 * `snapshot`: of this cluster, `others`: dbs of other members; a damaged log may lead from them. `without`: keys that are
 * given up. Errors: Fail as `readEtcdData`; Refused if its member has no vote, or is none any more, and if it is damaged
 * without an exact way back.
 */
export function memberDataIn(
  dir: string,
  snapshot?: string,
  { others = [], without = [] }: { others?: readonly string[]; without?: readonly string[] } = {},
): MemberData {
  const [host, dbs] = [hostPath(dir), [...(snapshot === undefined ? [] : [snapshot]), ...others]];
  try {
    const {
      root,
      from = root,
      proof,
      isAlone,
      goesOn,
      ...read
    } = wayInto(host, dbs.map(hostPath), { dir, without });
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
    const beginning = from ? beginningAt(from, { isCut: end.isCut }) : isAlone ? databaseAlone() : undefined;
    const { leftOut } = proof;
    const open = () => withKeysLeftOut(readEtcdData(host, undefined, beginning), leftOut);
    const last = { ...end, isCut: end.isCut || saysLater(host, end), leftOut };
    const committed = data.committed.revision;
    const place = { dir, own, members, clusterId };
    return { ...place, ...{ revision, committed, lastWrite, last, root, isAlone, goesOn, proof }, open };
  } catch (cause) {
    throw explain(cause, { dir });
  }
}

/** Whether an entry that is later than the end lies somewhere in the folders, in words for the operator. */
function saysLater(host: string, end: EtcdData["end"]): boolean {
  const later = laterThan(end, { wal: `${host}/member/wal`, snap: `${host}/member/snap` });
  if (later) say(`warning: the log ends at entry ${end.index}, but ${later}`);
  return later !== undefined;
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
      hint: "name the folder that was written last",
    });
  const [chosen] = all.toSorted(
    (a, b) => b.last.term - a.last.term || b.last.index - a.last.index || damageOf(a) - damageOf(b),
  );
  if (!chosen) throw new Fail("No data directory was named", { hint: "give the folder: --from DIR" });
  const voters = chosen.members.filter(({ isLearner }) => !isLearner);
  // a member may have acknowledged entries that its log has lost
  const complete = voters.filter(({ id }) =>
    all.some(({ own, last }) => own.id === id && isWhole(last)),
  ).length;
  const isQuorum = 2 * complete > voters.length && chosen.proof.leftOut.length === 0;
  return { chosen, voters: voters.length, here: complete, isQuorum };
}

/** Each directory, the one that is taken, and what is lost without the others. */
export function sayChosen(all: readonly MemberData[], { chosen, here, voters, isQuorum }: Chosen) {
  for (const { dir, own, revision, lastWrite, last } of all)
    say(
      `${dir}: ${memberName(own)}, written ${minute(lastWrite)}, entry ${last.index} of term ${last.term}, revision ${revision}${dir === chosen.dir ? ": this one is taken" : ""}`,
    );
  say(
    isQuorum
      ? `${here} of ${voters} members: a quorum, so every acknowledged write is there, as far as these disks show`
      : `${here} of ${voters} members${here < all.length ? " with their log's end" : ""}: writes of the others alone are lost. More disks would help`,
  );
  const { leftOut } = chosen.proof;
  if (leftOut.length > 0) say(`given up: ${leftOut.join(", ")}`);
  if (!isQuorum) say("its revision is raised, so that clients list all objects again");
}

const damageOf = ({ root, last }: MemberData) => (isWhole(last) ? (root ? 1 : 0) : 2);

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
  const identified = members.map((one) => ({ ...one, id: idOf(one) }));
  const itself = identified.find(({ id }) => id === idOf(own))!;
  const { alarms } = data.stored();
  const as = { own: itself, members: identified, clusterId: BigInt(`0x${clusterId}`), last, alarms };
  await writeMember(as, data, { bump: 0, ...place, from: `${from}/member` });
}

const idOf = ({ id }: Member) => BigInt(`0x${id}`);
