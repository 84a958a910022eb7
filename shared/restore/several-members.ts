/**
 * Data directories of several members, side by side: a damaged one is read by another one's database, and at the revision
 * that all of them have their keys are compared. etcd compares a sum of them, at its start and while it runs
 * (server/etcdserver/corrupt.go), and names no key: etcd#17084.
 */

import { again } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { DamagedData } from "../etcd-data/directory.ts";
import { memberName } from "../etcd-data/members.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { exists } from "../files/files.ts";
import { listed } from "../plain.ts";
import { say } from "../run.ts";
import { type MemberData, memberDataIn } from "./lost-members-data.ts";

/**
 * Each of these folders. One that is refused by itself is read once more with the others' databases, from which its log may
 * lead, and only then without the keys of `without`. Errors: as `memberDataIn`; Refused if one of them is whole.
 */
export function membersDataIn(
  dirs: readonly string[],
  snapshot?: string,
  without: readonly string[] = [],
): MemberData[] {
  const all = dirs.map((dir) => {
    const found = attempt(() => memberDataIn(dir, snapshot));
    if (!(found instanceof Fail)) return found;
    const others = dirs.filter((other) => other !== dir).map((other) => `${other}/member/snap/db`);
    const dbs = found.cause instanceof DamagedData ? others.filter(exists) : [];
    if (dbs.length === 0) return lessOf(found, () => memberDataIn(dir, snapshot, { without }));
    say(`${dir}: looks for a database of the other members from which its log leads`);
    const more = attempt(() => memberDataIn(dir, snapshot, { others: dbs }));
    if (!(more instanceof Fail)) return more;
    return lessOf(found, () => memberDataIn(dir, snapshot, { others: dbs, without }));
  });
  refuseNeedless(all, without);
  return all;

  function lessOf(found: Fail, read: () => MemberData): MemberData {
    if (without.length === 0) throw found;
    return read();
  }
}

/** Nothing that is whole is given up. */
function refuseNeedless(all: readonly MemberData[], without: readonly string[]) {
  const whole = without.filter((key) => !all.some(({ proof }) => proof.leftOut.includes(key)));
  if (whole.length === 0) return;
  throw new Refused(`--give-up names what is not damaged in this data: ${listed(whole)}`, {
    unchanged: true,
    hint: `type the line without it: ${again({}, { less: whole })}`,
  });
}

/** Keys that are shown of those that differ. */
const SHOWN = 3;

/** In words, for each member whose keys differ from most others': nothing where all are equal. */
export function differencesOf(all: readonly MemberData[]): string[] {
  const revision = Math.min(...all.map(({ committed }) => committed));
  const contents = all.flatMap((member) => {
    using data = member.open();
    return data.compactedRevision > revision ? [] : [{ member, keys: contentAt(data, revision) }];
  });
  const [most, ...less] = groupsOf(contents).sort((a, b) => b.length - a.length);
  if (!most || less.length === 0) return [];
  const names = (group: typeof most) => listed(group.map(({ member }) => memberName(member.own)));
  return less.map((group) => {
    const keys = differingKeys(group[0]!.keys, most[0]!.keys);
    const verb = group.length === 1 ? "differs" : "differ";
    return `${names(group)} ${verb} from ${names(most)} in ${keys.length} key(s) at revision ${revision}: ${listed(keys.slice(0, SHOWN))}`;
  });
}

export function sayDifferences(all: readonly MemberData[]) {
  for (const difference of all.length > 1 ? differencesOf(all) : [])
    say(
      `warning: ${difference}. The folder that is taken counts: to use others' keys, name their folders alone`,
    );
}

interface Contents {
  member: MemberData;
  keys: Map<string, string>;
}

function groupsOf(contents: readonly Contents[]): Contents[][] {
  const groups: Contents[][] = [];
  for (const one of contents) {
    const same = groups.find(([first]) => differingKeys(first!.keys, one.keys).length === 0);
    if (same) same.push(one);
    else groups.push([one]);
  }
  return groups;
}

function differingKeys(one: Map<string, string>, other: Map<string, string>): string[] {
  return [...new Set([...one.keys(), ...other.keys()])]
    .filter((key) => one.get(key) !== other.get(key))
    .sort();
}

/** Each key that is live at this revision, with a sum of what it holds there. */
function contentAt(data: EtcdData, revision: number): Map<string, string> {
  const names = [...data.keys(""), ...data.deletedKeys("")];
  const live = names.flatMap((name): [string, string][] => {
    const then = data.history(name).find(({ modRevision }) => modRevision <= revision);
    if (!then || then.deleted) return [];
    const { createRevision, modRevision, version, lease, value } = then;
    return [[name, [createRevision, modRevision, version, lease, Bun.hash(value)].join(" ")]];
  });
  return new Map(live);
}
