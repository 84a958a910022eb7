/**
 * Judges a node and writes nothing: the damage, what survives, the commands that repair it. One object,
 * printed or given as JSON.
 */
import { command, inLines } from "../again.ts";
import { type Check, found, hasFailed, isOfDates } from "../checks/check.ts";
import { type CheckId, KINDS } from "../checks/kinds.ts";
import { sharedKeyRows } from "../checks/usual-folder-row.ts";
import { ConfigMissing } from "../etcd-location/etcd-folders.ts";
import { knownHere, type StoppedProcess, stoppedProcesses } from "../evidence/owners.ts";
import { clusterCaSeen, type StrangeCa, strangeCa } from "../facts/ca-copies.ts";
import { clockTrouble } from "../facts/clock.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import { type LostNodes, NONE_LOST } from "../facts/course.ts";
import { type ClusterEvidence, readEvidence } from "../facts/evidence.ts";
import { believedPeers, controlPlaneNames } from "../facts/known-nodes.ts";
import type { LostFile } from "../facts/lost-file.ts";
import { lostHere, stopsAll } from "../facts/lost-files.ts";
import { controlPlaneWithoutData, isNotForParts } from "../facts/no-etcd-data.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { type Container, isServerContainer } from "../node/containers.ts";
import { kubeletsOtherName, type Node } from "../node/node.ts";
import {
  type EndedConf,
  endedConf,
  kubeletsLostFlags,
  StartedWithoutFlags,
} from "../node/systemctl-kubelet.ts";
import { savedOptionsHere } from "../node/words.ts";
import { oldSaKey } from "../old-sa-key/old-tokens.ts";
import { type Remedy, remedyOf } from "../pki/actions.ts";
import { CERTS, type ClusterFacts } from "../pki/certs.ts";
import { byKind, type Finding, pkiFindings, wholePki, withAdminElsewhere } from "../pki/examine.ts";
import { caReaders } from "../renew/ca-readers.ts";
import { readerRows } from "../renew/reader-rows.ts";
import { silently } from "../run.ts";
import { holders, mountedFiles } from "../salvage/memory/processes.ts";
import { shell } from "../shell-line.ts";
import { wantsSuperAdmin } from "../static-pods/wanted-manifests.ts";
import { restoreCommands } from "../static-pods/without-files.ts";
import {
  type Assessment,
  bad,
  type Judged,
  openRows,
  row,
  withForecast,
  withoutServers,
} from "./assessment.ts";
import { assessWithoutParts, clusterRows, dataRows, unitRows } from "./data-rows.ts";
import { listedContainers, type NodeLook, refusalsHere, wellLine } from "./look-here.ts";
import {
  clockRows,
  foreignSaRow,
  lostFileRows,
  manifestRows,
  modeRows,
  otherSecrets,
  repairRows,
  sharedRow,
  summary,
} from "./rows.ts";
import { type DeepOptions, keysBeside, searchDeep, survivors } from "./survivors.ts";
import { controlPlaneVerdict, NOTHING_DAMAGED } from "./verdict.ts";
import { assessWorker, cniRows, holdCommands, kubeletRow, kubeletTrustRows, nothingRuns } from "./worker.ts";

interface AssessOptions {
  deep?: DeepOptions | undefined;
  lost?: LostNodes | undefined;
}

/** Judges what was seen of this node. A row names what cannot be read. */
export async function assess(
  { node: found, all, place, partialFacts }: NodeLook,
  { deep, lost = NONE_LOST }: AssessOptions = {},
): Promise<Assessment> {
  const node = partialFacts?.cp?.node ?? found;
  const running = all instanceof Fail ? all : all.filter((container) => container.running);
  const ca = clusterCaSeen(node, partialFacts);
  const without = partialFacts
    ? isNotForParts(partialFacts.home) && { etcd: partialFacts.home, from: [], unreached: place.unreached }
    : controlPlaneWithoutData(node, place, listedContainers(all));
  const look = { node, dataDir: place.dir, running, partialFacts };
  const judged = without
    ? await assessWithoutParts(look, without)
    : partialFacts
      ? await assessControlPlane({ ...look, deep, lost, partialFacts })
      : await assessWorker(node, running, ca);
  const serversStopped =
    judged.role === "control plane" && !(running instanceof Fail) && !running.some(isServerContainer);
  const others = partialFacts?.cluster
    ? believedPeers(partialFacts.cluster, { node }).map(({ name }) => name)
    : [];
  const damage = serversStopped ? judged.damage.map((one) => withoutServers(one, others)) : judged.damage;
  const whole = {
    ...{ ...judged, node: node.name, kubernetes: partialFacts?.cluster?.kubernetesVersion, ca, damage },
    ...{ damaged: damage.some(hasFailed), survivors: judged.survivors ?? [] },
    ...(running instanceof Fail
      ? {}
      : { workloads: running.filter((one) => !isServerContainer(one)).length }),
  };
  const stopped = withStopped(whole, stoppedProcesses(knownHere(listedContainers(all))));
  const named = withOtherName(stopped, await kubeletsOtherName(node));
  const started = withUnfitKubelet(named, "kubelet-start", await kubeletsLostFlags(node.systemd));
  return withEndedConf(started, await endedConf(node.systemd));
}

/** One that has no certificate in its file runs, and may have been started so: all is well until it restarts. */
function withEndedConf(assessed: Assessment, ended: EndedConf | undefined): Assessment {
  if (!ended) return assessed;
  const { fail, isExpired } = ended;
  if (!isExpired && runs(assessed)) {
    return withFirst(
      assessed,
      [row("kubelet-conf", "kubelet.conf", { warning: fail.message })],
      [fail.hint],
      "",
    );
  }
  const hint = assessed.role === "worker" ? fail.hint : command("01-etcd");
  return withUnfitKubelet(assessed, "kubelet-conf", new Fail(fail.message, { hint }));
}

function runs({ damage }: Assessment): boolean {
  return damage.some(({ id, result }) => id === "kubelet" && result === "ok");
}

/** First: `rows`, and the way out where there is one. `why`: of a node that is well. */
function withFirst(
  assessed: Assessment,
  rows: readonly Check[],
  next: readonly string[],
  why: string,
): Assessment {
  const { damage, damaged, verdict } = assessed;
  const all = { ...assessed, damage: [...damage, ...rows], next: [...next, ...assessed.next] };
  if (!rows.some(hasFailed)) return all;
  return { ...all, well: undefined, silent: undefined, damaged: true, verdict: damaged ? verdict : why };
}

/** A running kubelet may be older than the host's name: all is well until it restarts. */
function withOtherName(assessed: Assessment, other: Fail | undefined): Assessment {
  if (!other || !runs(assessed)) return withUnfitKubelet(assessed, "kubelet-name", other);
  const warning = row("kubelet-name", KINDS["kubelet-name"].what, { warning: other.message });
  return withFirst(assessed, [warning], [other.hint], "");
}

/**
 * So that nobody starts a kubelet that would lose flags, take another name, or exit at once. Its other files have
 * rows of their own.
 */
function withUnfitKubelet(assessed: Assessment, id: CheckId, unfit: Fail | undefined): Assessment {
  if (!unfit) return assessed;
  const file = id === "kubelet-conf" ? "kubelet.conf" : KINDS[id].what;
  const unsafe = bad(id, file, "unsafe", unfit.message);
  const rows = [unfit instanceof StartedWithoutFlags ? nothingRuns(unsafe) : unsafe];
  return withFirst(assessed, rows, [unfit.hint], unfit.message);
}

function withStopped(assessed: Assessment, stopped: readonly StoppedProcess[]): Assessment {
  const kubelet = assessed.damage.find(({ id }) => id === "kubelet");
  const rows = stopped.map((process) => stoppedRow(process, kubelet?.result === "ok"));
  const pids = stopped.filter((_, i) => hasFailed(rows[i]!)).map(({ pid }) => String(pid));
  const note = "processes of kube-system that a signal has stopped";
  const next = pids.length > 0 ? inLines([{ command: shell`kill -CONT ${pids}`, note }]) : [];
  const names = rows.filter(hasFailed).map(({ what }) => what);
  return withFirst(assessed, rows, next, `a signal has stopped what must run: ${names.join(", ")}`);
}

/** A paused controller-manager is no damage if its kubelet is stopped: part 0 does both. */
function stoppedRow({ pid, comm, of, isManager, inKubeSystem }: StoppedProcess, kubeletRuns: boolean): Check {
  const undo = shell`kill -CONT ${String(pid)}`;
  const isExpected = isManager && !kubeletRuns;
  const detail = isExpected
    ? `paused, as part 0 does: part 1 or 2 ends it. Undo: ${undo}`
    : `of ${of}, stopped by a signal: ${undo}`;
  const answer = isExpected || !inKubeSystem ? { warning: detail } : { state: "stopped", failed: detail };
  return row("stopped-process", `${isManager ? "kube-controller-manager" : comm} (pid ${pid})`, answer);
}

interface Look {
  node: Node;
  dataDir: string;
  running: Container[] | Fail;
  deep: DeepOptions | undefined;
  lost: LostNodes;
  partialFacts: PartialFacts;
}

async function assessControlPlane(look: Look): Promise<Judged> {
  const { node, deep: options, partialFacts, running, lost } = look;
  const { cp, certificatesDir, etcdCa } = partialFacts;
  const findings = findingsOf(partialFacts);
  const evidence = readEvidence({ data: partialFacts.data, node, certificatesDir, etcdCa });
  const looked = {
    findings,
    evidence,
    strange: strangeCa(partialFacts),
    clock: cp ? await clockTrouble(cp) : [],
  };
  const lostFiles = lostHere({ ...partialFacts, data: partialFacts.data, node, ran: cp?.ran });
  const damage = await damageOf(look, looked, lostFiles);
  const network = await cniRows(node);
  const oldKey = oldSaKey(partialFacts.data, node, certificatesDir);
  const keys = { ...keysOf(looked), strange: looked.strange, oldKey, partialFacts, lost };
  const besideKeys = await keysBeside({ ...keys, evidence });
  const isSearched = options && keys.lostKeys.length > 0;
  const deep = isSearched ? await searchDeep({ ...keys, node, evidence }, options) : undefined;
  const verdict = controlPlaneVerdict({
    ...{ ...keys, nodeName: node.name, clock: looked.clock, damage, deep, besideKeys },
    noNewPod: network.length > 0,
    hold: await holdCommands(running),
  });
  const isDamaged = damage.some(hasFailed);
  const isWell = cp && !isDamaged && verdict.verdict === NOTHING_DAMAGED;
  const made = {
    makesKeys: keys.lostKeys.length > 0,
    makesCa: keys.lostKeys.some(({ name }) => name === "ca"),
  };
  return {
    role: "control plane",
    ...(isWell ? await wellLine(cp, findings) : {}),
    cluster: partialFacts.cluster && describe(partialFacts.cluster, partialFacts.facts),
    damage: [...withForecast(damage, node, certificatesDir, partialFacts.home), ...network],
    ...(made.makesKeys && { survivors: survivors({ partialFacts, node, running, lost, besideKeys }) }),
    ...filesBack(look, lostFiles),
    ...sealedBy(partialFacts.obstacle),
    ...(savedOptionsHere().length > 0 && { words: savedOptionsHere() }),
    ...(cp && isDamaged && { refusals: await silently(() => refusalsHere(cp, made)) }),
    ...{ deep, ...verdict },
  };
}

interface Here {
  findings: Finding[];
  evidence: ClusterEvidence;
  strange: StrangeCa | undefined;
  clock: Fail | readonly string[];
}

async function damageOf(
  { node, dataDir, running, partialFacts }: Look,
  { findings, evidence, strange, clock }: Here,
  lostFiles: readonly LostFile[],
): Promise<Check[]> {
  const { shared, leaves, kubeconfigs } = byKind(findings);
  const files = [
    ...clockRows(clock),
    ...shared.map((finding) => sharedRow(finding, finding.name === "ca" ? strange : undefined)),
    ...foreignSaRow(shared.at(-1)!, evidence),
    ...summary("certificates", leaves),
    ...summary("kubeconfigs", kubeconfigs),
    ...manifestRows(node, partialFacts),
    ...lostFileRows(lostFiles),
    ...(await unitRows(partialFacts.home, partialFacts.etcdCa)),
    ...dataRows(partialFacts, dataDir),
    ...sharedKeyRows(partialFacts, node).map((one) => found(one, one.look())),
    ...clusterRows(partialFacts),
  ];
  const rest = [
    ...kubeletTrustRows(node, partialFacts),
    ...modeRows([
      ...findings.flatMap(({ paths }) => paths.filter((path) => /\.(key|conf)$/.test(path))),
      ...otherSecrets(node),
    ]),
    ...repairRows(partialFacts),
  ];
  const held = [...files, ...rest].some((one) => hasFailed(one) && one.severity !== "weakens");
  const readers = partialFacts.cp
    ? openRows(readerRows(await caReaders(partialFacts.cp, listedContainers(running))))
    : [];
  return [...files, ...(await kubeletRow(node, running, { held })), ...rest, ...readers];
}

/** `ofOthers`: expired CAs that only another CA can renew. With a wrong clock no key is lost by its dates. */
function keysOf({ findings, evidence, strange, clock }: Here) {
  const { shared } = byKind(findings);
  const isDoubtful = ({ state }: Finding) => clock instanceof Fail && isOfDates(state);
  const bad = shared.filter((one) => one.state !== "ok" && !isDoubtful(one));
  const withRemedy = (way: Remedy["do"]) => bad.filter((one) => remedyOf(one, evidence).do === way);
  const foreign = shared.filter(({ name, state }) => strange && name === "ca" && state === "ok");
  return { lostKeys: [...foreign, ...withRemedy("lost")], ofOthers: withRemedy("elsewhere") };
}

function filesBack(
  { node, running, lost, partialFacts: { cluster, certificatesDir } }: Look,
  files: readonly LostFile[],
): Pick<Assessment, "filesBack" | "lostFiles"> {
  if (files.length === 0) return { filesBack: [] };
  const { own } = holders(knownHere(listedContainers(running)));
  const mounted = mountedFiles(own, files).map(({ path }) => path);
  const others = cluster ? believedPeers(cluster, { node, without: lost.names }).map(({ name }) => name) : [];
  const needed = files.filter(stopsAll).map(({ path, program, namedBy }) => ({
    ...{ path, program, namedBy },
    mounted: mounted.includes(path),
  }));
  return {
    filesBack: inLines(restoreCommands(files, { mounted, others, pki: certificatesDir })),
    lostFiles: needed,
  };
}

function sealedBy(obstacle: Fail | undefined): Pick<Assessment, "sealedBy"> {
  if (!(obstacle instanceof ConfigMissing)) return {};
  return { sealedBy: obstacle.paths.map((path) => ({ path, isThere: exists(path) })) };
}

/** While the cluster is unknown, nothing says where a kubeconfig has to lead. */
function findingsOf(partialFacts: PartialFacts): Finding[] {
  const { facts, cp } = partialFacts;
  const wanted = facts
    ? wholePki(facts, { superAdmin: cp !== undefined && wantsSuperAdmin(cp) })
    : { certs: CERTS, serviceAccountKey: true };
  return withAdminElsewhere(pkiFindings(wanted, facts, partialFacts), facts);
}

function describe(cluster: Cluster, facts: ClusterFacts | undefined): string {
  const controlPlanes = controlPlaneNames(cluster.nodes);
  return [
    cluster.name,
    `API ${cluster.endpoint ?? facts?.advertiseAddress ?? "?"}`,
    `Services ${cluster.serviceSubnets}`,
    `Pods ${cluster.podSubnet ?? "?"}`,
    `${controlPlanes.length} control plane (${controlPlanes.join(", ")})`,
    `${cluster.nodes.length - controlPlanes.length} workers`,
    ...(facts ? [facts.keyAlgorithm] : []),
  ].join(", ");
}
