/**
 * The rows about etcd's data: what was read, members without a vote, and sources that name the API's address.
 * Without it, or beside an etcd that is not kubeadm's, parts 1 to 4 cannot repair a node: its files are judged
 * one by one.
 */
import { $ } from "zx/core";
import { command } from "../again.ts";
import { type Check, dated, hasFailed } from "../checks/check.ts";
import { ASSESS, type CheckId } from "../checks/kinds.ts";
import { DamagedData } from "../etcd-data/directory.ts";
import { isNameless, type Member, memberName } from "../etcd-data/members.ts";
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import { NoWayToEtcd } from "../etcd-location/living-etcd.ts";
import { FULL, makeRoom } from "../etcd-location/reach-etcd.ts";
import { severalCas } from "../facts/ca-copies.ts";
import { lacksOnlyConfiguration, ONLY_LABELLED, onlyLabelled, wasOff } from "../facts/cluster.ts";
import { endpointDifference } from "../facts/endpoint.ts";
import type { LostFile } from "../facts/lost-file.ts";
import { hasStandIn, lostHere } from "../facts/lost-files.ts";
import {
  isNotKubeadms,
  type NodeWithoutData,
  whyWithoutData,
  withoutDataSteps,
} from "../facts/no-etcd-data.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { unreadCertRows } from "../facts/read-by-pods.ts";
import { releaseNote } from "../facts/releases.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { certificatesDirOn, manifestPath, whereIs } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { certInfo, day } from "../pki/certificate.ts";
import { CERTS, type EtcdCa } from "../pki/certs.ts";
import { byKind, pkiFindings } from "../pki/examine.ts";
import { timeVerdict } from "../pki/judge.ts";
import { kubeconfigRow } from "../pki/kubeconfigs.ts";
import { bad, type Judged, row } from "./assessment.ts";
import { lostFileRows, manifestRows, podsBeside, sharedRow, summary } from "./rows.ts";
import { clientPemRow, kubeletRow } from "./worker.ts";

type WithObstacle = Omit<PartialFacts, "obstacle"> & { obstacle?: Fail | undefined };

export function dataRows(
  { data, dataFrom = "", obstacle, cluster, certificatesDir, cp, facts }: WithObstacle,
  dataDir: string,
): Check[] {
  if (obstacle instanceof DamagedData) return [bad("etcd-damage", dataDir, "damaged", obstacle.message)];
  if (!data) return [bad("etcd-data", dataDir, "unreadable", obstacle!.message)];
  const count = (data.elsewhere ?? data).members.length;
  const members = `${count} member${count === 1 ? "" : "s"}`;
  const lastWrite = `${data.lastWrite.toISOString().slice(0, 19)}Z`;
  const detail = `${members}, ${data.keyCount} keys, revision ${data.revision}, last write ${lastWrite}`;
  const rows = [row("etcd-data", dataFrom, detail)];
  const warn = (id: CheckId, what: string, warning: string) => rows.push(row(id, what, { warning }));
  // a full database is named, but it is no damage: certificates do not mend it
  const room = makeRoom(facts ?? { certificatesDir }, data.revision);
  if (data.isFull) warn("etcd-room", "room in etcd's database", `${FULL}. When etcd runs: ${room}`);
  const note = cluster && releaseNote(cluster.kubernetesVersion);
  if (note) warn("release", "release", note);
  if (data.damage) rows.push(bad("etcd-damage", dataDir, "damaged", data.damage.message));
  else for (const warning of data.warnings) warn("etcd-data", dataFrom, warning);
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

/** Members, roles, endpoint and CAs: no damage, but good to know. */
export function clusterRows({ data, cluster, cp }: PartialFacts): Check[] {
  // a join is in progress, or was cut off; part 1 says so if etcd needs one that never started
  const members = (data?.members ?? []).filter((member) => isNameless(member) || member.isLearner);
  // whoever may write a Node's status can write its labels: none is believed
  const labelled = onlyLabelled(cluster?.nodes ?? []);
  const why = data?.elsewhere ? wasOff : () => ONLY_LABELLED;
  const endpoint = cp && endpointDifference(cp.endpoint, cp.facts);
  const cas = cp && severalCas(cp);
  return [
    ...members.map((one) =>
      row("etcd-members", `etcd's member ${memberName(one)}`, { warning: cutOff(one) }),
    ),
    ...labelled.map((name) => row("node-role", name, { warning: why(name) })),
    ...(endpoint ? [row("endpoint", "endpoint", endpoint)] : []),
    ...(cas ? [row("root-ca", "CA", cas)] : []),
  ];
}

/** The data may be old; part 2 and 05-verify ask etcd itself. */
function cutOff(member: Member): string {
  if (isNameless(member))
    return `never started: a join was cut off. Part 2 takes it out: ${command("02-control-plane", { lost: [memberName(member)] })}`;
  return `has no vote: a join is in progress there, or was cut off. When the API answers, ${command("05-verify")} prints what ends it`;
}

interface Look {
  node: Node;
  dataDir: string;
  running: Container[] | Fail;
  partialFacts: PartialFacts | undefined;
}

/** Reads only. Does not judge names in certificates: this kit issues none there. */
export async function assessWithoutParts(
  { node, dataDir, running, partialFacts }: Look,
  found: NodeWithoutData,
): Promise<Judged> {
  const why = whyWithoutData(found, dataDir);
  const damage = [
    ...(await etcdRows(found, dataDir)),
    ...fileRows(node, found, partialFacts?.certificatesDir ?? certificatesDirOn(node)),
    ...(partialFacts?.data
      ? [...manifestRows(node, partialFacts), ...lostFileRows(lostBeside(node, partialFacts))]
      : lostManifests(node, found)),
    // the verdict has the obstacle already
    ...(partialFacts?.data ? dataRows({ ...partialFacts, obstacle: undefined }, dataDir) : []),
    ...(await kubeletRow(node, running)),
    await clientPemRow(node),
  ];
  const damaged = damage.some(hasFailed);
  return {
    role: "control plane",
    cluster: undefined,
    damage,
    verdict: damaged ? `parts 1 to 4 cannot begin here. ${why}` : `nothing is damaged on this node. ${why}`,
    next: damaged ? withoutDataSteps(found, node) : [],
  };
}

/**
 * Lost files that only a copy brings back. The API server's files for etcd have rows of their own, and part 2
 * replaces none here.
 */
function lostBeside(node: Node, { data, certificatesDir, home, etcd }: PartialFacts): LostFile[] {
  const lost = lostHere({ data, node, certificatesDir, etcd }).filter(
    ({ path }) => !home.client.includes(path),
  );
  return lost.map((file) =>
    hasStandIn(file) ? { ...file, without: `${file.program} does not start` } : file,
  );
}

const EXTERNAL = 'see RUNBOOK-MORE "If etcd is external"';

async function etcdRows(
  { etcd: { runs, unit, servers }, from, unreached }: NodeWithoutData,
  dataDir: string,
): Promise<Check[]> {
  if (unit && runs === "unit") return await unitRows({ runs, unit, client: [] });
  if (runs !== "elsewhere") return [bad("etcd-data", dataDir, "missing", "etcd's data")];
  if (unreached instanceof NoWayToEtcd)
    return [row("etcd-data", "etcd", { state: "unreachable", failed: unreached.message, mend: ASSESS })];
  const detail = servers.length > 0 ? "by --etcd-servers" : `no trace of it beside ${from[0]}`;
  return [row("etcd-data", "etcd", { warning: `external: ${detail}`, mend: EXTERNAL })];
}

function fileRows(node: Node, { etcd }: NodeWithoutData, certificatesDir: string): Check[] {
  const unread = unreadCertRows(undefined, undefined, node);
  const all = CERTS.filter(({ name }) => !unread.includes(name));
  const certs = isNotKubeadms(etcd)
    ? all.filter((row) => row.ca !== "etcd-ca" && row.name !== "etcd-ca")
    : all;
  const kubeconfigs = (["admin", "controller-manager", "scheduler"] as const).map((name) =>
    kubeconfigRow(name),
  );
  const found = byKind(
    pkiFindings({ certs, serviceAccountKey: true, kubeconfigs }, undefined, { certificatesDir }),
  );
  return [
    ...found.shared.map((finding) => sharedRow(finding)),
    ...summary("certificates", found.leaves),
    ...(isNotKubeadms(etcd) ? clientRows(etcd.client, ASSESS) : []),
    ...summary("kubeconfigs", found.kubeconfigs),
  ];
}

function lostManifests(node: Node, { etcd }: NodeWithoutData): Check[] {
  return podsBeside(etcd)
    .filter((name) => !exists(whereIs(manifestPath({ node }, name))))
    .map((name) =>
      bad(
        "manifest",
        `manifests/${name}.yaml`,
        "missing",
        "its mirror pod is in etcd, and etcd's data is not here",
      ),
    );
}

/** Returns no row if etcd is no systemd unit of this node. `ca`: the CA of etcd has its own row. */
export async function unitRows(
  { runs, unit, client }: Pick<EtcdHome, "runs" | "unit" | "client">,
  ca?: EtcdCa,
): Promise<Check[]> {
  if (runs !== "unit" || !unit) return [];
  const { path, name, dataDir, lostSettings, files } = unit;
  const { exitCode } = await $({ quiet: true, nothrow: true })`systemctl is-active --quiet etcd`;
  const place = `${path}${name ? `, member "${name}"` : ""}, data in ${dataDir}`;
  return [
    row("etcd-unit", "etcd.service", exitCode === 0 ? place : { state: "stopped", failed: place }),
    ...lostSettings.map((what) => bad(id, what, "missing", "etcd.service does not start without it")),
    ...etcdsFileRows(files.filter((path) => path !== ca?.cert)),
    ...(ca ? clientRows(client.filter((path) => !files.includes(path))) : []),
  ];
}

function clientRows(client: readonly string[], mend?: string): Check[] {
  return client
    .filter((path) => !exists(path))
    .map((what) =>
      row("certificate-apiserver-etcd-client", what, {
        ...{ state: "missing", failed: "the API server needs it to reach etcd", ...(mend && { mend }) },
      }),
    );
}

const id = "etcd-unit-file";

/** One row if all are well. The running etcd proves that they fit each other. */
function etcdsFileRows(files: readonly string[]): Check[] {
  const rows = files.map(etcdsFileRow);
  const wrong = rows.filter(hasFailed);
  if (wrong.length > 0 || rows.length === 0) return wrong;
  const [soonest] = rows.flatMap(({ detail }) => detail || []).sort();
  return [row(id, `${rows.length} files of etcd's own`, soonest ? `the first expires on ${soonest}` : "")];
}

function etcdsFileRow(what: string): Check {
  const text = attempt(() => readText(what));
  if (text === undefined)
    return bad(id, what, "missing", "etcd's own; every new connection to it fails without it");
  const info =
    text instanceof Fail || text.includes(" PRIVATE KEY-----") ? undefined : attempt(() => certInfo(text));
  if (text instanceof Fail || info instanceof Fail) return bad(id, what, "unreadable", "etcd's own");
  const verdict = info && timeVerdict(info);
  const answer = verdict ? { state: verdict[0], failed: verdict[1] } : info ? day(info.notAfter) : "";
  return row(id, what, dated(answer, info?.notAfter));
}
