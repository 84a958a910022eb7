/**
 * How a lost member's data is read: as etcd would read it, or, if that is damaged, by an older tree and the log from
 * there on. Both have the same keys. What is read is not changed.
 */
import { type EtcdData, readEtcdData } from "../etcd-data/data.ts";
import { DamagedData } from "../etcd-data/directory.ts";
import { beginningAt, type OldRoot, wholeTrees } from "../etcd-data/old-roots.ts";
import { Damaged } from "../etcd-data/protobuf.ts";
import { firstEntryIn, readWal } from "../etcd-data/wal.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { say } from "../run.ts";

interface WayBack {
  data: EtcdData;
  /** In place of the newest tree, where that is damaged. */
  root?: OldRoot;
}

/**
 * `snapshots`: dbs of this cluster, from which the log may lead, too. Errors: Fail as `readEtcdData`; Refused if the data
 * is damaged, and no other tree leads to the same keys, and if a snapshot is newer than the log.
 */
export function wayInto(host: string, snapshots: readonly string[] = []): WayBack {
  const read = attempt(() => readEtcdData(host));
  if (read instanceof Fail && !(read instanceof DamagedData)) throw read;
  const [end, dbs] = read instanceof Fail ? [-1, [`${host}/member/snap/db`]] : [read.end.index, []];
  if (read instanceof Fail) say(`${read.message}. Looks for an older tree that is whole`);
  const refused: { index: number; why: string }[] = [];
  for (const root of wholeTrees([...dbs, ...snapshots])) {
    if (root.index <= end) break;
    const data = attempt(() => readEtcdData(host, undefined, beginningAt(root)));
    if (!(data instanceof Fail)) return { data, root };
    refused.push({ index: root.index, why: reasonOf(data) });
  }
  if (!(read instanceof Fail) && refused.length === 0) return { data: read };
  const before = read instanceof Fail ? `${read.message}. ` : "";
  throw new Refused(`${before}No exact way leads back: ${refusedInWords(refused, logIn(host))}`, {
    unchanged: true,
    hint: 'name the folders of other members, too (--from DIR,DIR), or take a snapshot: RUNBOOK-MORE "If etcd\'s data is damaged"',
    cause: read,
  });
}

/** The first words for the operator. `until`: the time of the data, if that is known. */
export function wayInWords(
  { root, last }: { root?: OldRoot | undefined; last: { index: number; isCut?: boolean } },
  { until, snapshot }: { until?: Date | undefined; snapshot?: string | undefined } = {},
): string {
  if (last.isCut)
    return `as of ${until ? `${until.toISOString().slice(11, 19)} UTC` : "an unknown time"}, entry ${last.index}: what was acknowledged after that is lost`;
  const tree = root?.path === snapshot ? "the snapshot" : "an older tree";
  const by = root?.index ? `${tree}, of entry ${root.index}, and the log` : "the log from its first entry on";
  return `exact: ${by} has all keys up to entry ${last.index}, the last one`;
}

function reasonOf({ cause, message }: Fail): string {
  return cause instanceof Damaged ? cause.message : message;
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
    if (!(err instanceof Damaged)) throw err;
    return `the log is damaged, too: ${err.message}`;
  }
}
