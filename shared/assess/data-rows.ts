/**
 * The rows about etcd's data: what was read, members without a vote, and sources that name the API's address.
 */
import { command } from "../again.ts";
import type { Check } from "../checks/check.ts";
import type { CheckId } from "../checks/kinds.ts";
import { DamagedData } from "../etcd-data/directory.ts";
import { isNameless, type Member, memberName } from "../etcd-data/members.ts";
import { FULL, makeRoom } from "../etcd-location/reach-etcd.ts";
import { severalCas } from "../facts/ca-copies.ts";
import { lacksOnlyConfiguration, ONLY_LABELLED, onlyLabelled } from "../facts/cluster.ts";
import type { PartialFacts } from "../facts/control-plane-node.ts";
import { endpointDifference } from "../facts/endpoint.ts";
import { releaseNote } from "../facts/node-to-repair.ts";
import { bad, row } from "./assessment.ts";

/** Rows for etcd's data: the parts read, and those that could not be read. */
export function dataRows(
  { data, dataFrom = "", obstacle, cluster, certificatesDir, cp }: PartialFacts,
  dataDir: string,
): Check[] {
  if (obstacle instanceof DamagedData) return [bad("etcd-damage", dataDir, "damaged", obstacle.message)];
  if (!data) return [bad("etcd-data", dataDir, "unreadable", obstacle!.message)];
  const members = `${data.members.length} member${data.members.length === 1 ? "" : "s"}`;
  const lastWrite = `${data.lastWrite.toISOString().slice(0, 19)}Z`;
  const detail = `${members}, ${data.keyCount} keys, revision ${data.revision}, last write ${lastWrite}`;
  const rows = [row("etcd-data", dataFrom, detail)];
  const warn = (id: CheckId, what: string, warning: string) => rows.push(row(id, what, { warning }));
  // a full database is named, but it is no damage: certificates do not mend it
  const room = makeRoom({ certificatesDir, revision: data.revision });
  if (data.isFull) warn("etcd-room", "room in etcd's database", `${FULL}. When etcd runs: ${room}`);
  const note = cluster && releaseNote(cluster.kubernetesVersion);
  if (note) warn("release", "release", note);
  for (const warning of data.warnings) warn("etcd-data", dataFrom, warning);
  // facts that only the repair needs are no damage if the cluster works without them
  if (obstacle && lacksOnlyConfiguration(data)) warn("etcd-facts", FACTS, obstacle.message);
  else if (obstacle) rows.push(bad("etcd-facts", FACTS, "incomplete", obstacle.message));
  const nat = cp?.node.nat;
  const move = command("move", { moved: [`${nat}=NEW`] });
  if (nat)
    warn(
      "etcd-facts",
      FACTS,
      `${nat} is at no card of this machine, NAT leads it here. If the machine has moved: ${move}`,
    );
  return rows;
}

const FACTS = "facts in etcd's data";

/**
 * Members whose join is in progress or was cut off: no damage. Part 1 says so if etcd needs one that never
 * started.
 */
export function memberRows({ data }: PartialFacts): Check[] {
  const members = (data?.members ?? []).filter((member) => isNameless(member) || member.isLearner);
  return members.map((member) =>
    row("etcd-members", `etcd's member ${memberName(member)}`, { warning: cutOff(member) }),
  );
}

/**
 * Nodes whose label says more than etcd's member list: whoever may write a Node's status can write its
 * labels. No label is believed.
 */
export function roleRows({ cluster }: PartialFacts): Check[] {
  return onlyLabelled(cluster?.nodes ?? []).map((name) => row("node-role", name, { warning: ONLY_LABELLED }));
}

/** The data may be old; part 2 and 05-verify ask etcd itself. */
function cutOff(member: Member): string {
  if (isNameless(member))
    return `never started: a join was cut off. Part 2 takes it out: ${command("02-control-plane", { lost: [memberName(member)] })}`;
  return `has no vote: a join is in progress there, or was cut off. When the API answers, ${command("05-verify")} prints what ends it`;
}

/** Extra CAs that the pods trust, beside the one that signs. */
export function caRows({ cp }: PartialFacts): Check[] {
  const difference = cp && severalCas(cp);
  return difference ? [row("root-ca", "CA", difference)] : [];
}

/**
 * Sources that disagree about the cluster's endpoint. That is no damage, but parts 1 to 3 ask for the
 * address.
 */
export function endpointRows({ cp }: PartialFacts): Check[] {
  const difference = cp && endpointDifference(cp.endpoint, cp.facts);
  return difference ? [row("endpoint", "endpoint", difference)] : [];
}
