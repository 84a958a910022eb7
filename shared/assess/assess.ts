/** Judges a node and writes nothing: what is damaged, what survives, what repairs it. One object, printed or given as JSON. */

import { inLines } from "../again.ts";
import { KINDS } from "../checks/kinds.ts";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import { clusterCaSeen, strangeCa } from "../facts/ca-copies.ts";
import { clockTrouble } from "../facts/clock.ts";
import type { Cluster } from "../facts/cluster.ts";
import type { PartialFacts } from "../facts/control-plane-node.ts";
import { type LostNodes, NONE_LOST } from "../facts/course.ts";
import { readEvidence } from "../facts/evidence.ts";
import { restoreCommands } from "../facts/files-back.ts";
import { type LostFile, lostHere } from "../facts/lost-files.ts";
import { otherControlPlanes } from "../facts/next.ts";
import { controlPlaneWithoutData, isNotKubeadms } from "../facts/no-etcd-data.ts";
import { Fail } from "../fail.ts";
import { type Container, isServerContainer } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { kubeletsLostFlags } from "../node/systemctl-kubelet.ts";
import { oldSaKey } from "../old-sa-key/old-tokens.ts";
import { CERTS, type ClusterFacts } from "../pki/certs.ts";
import { byKind, type Finding, pkiFindings, wholePki } from "../pki/examine.ts";
import { remedyOf } from "../pki/lost-keys.ts";
import { mountedFiles } from "../salvage/memory/mounted-files.ts";
import { holders } from "../salvage/memory/processes.ts";
import { mountsSuperAdmin } from "../static-pods/wanted-manifests.ts";
import { type Assessment, isDamage, type Row } from "./assessment.ts";
import { withWhatComes } from "./coming-rows.ts";
import { caRows, dataRows, endpointRows, memberRows, roleRows } from "./data-rows.ts";
import { type DeepOptions, searchDeep } from "./deep.ts";
import { cniRows, kubeletRow, kubeletTrustRows } from "./kubelet-rows.ts";
import { type Looked, seen } from "./look-here.ts";
import { clockRows, foreignSaRow, lostFileRows, manifestRows, modeRows, repairRows, sharedRow, summary } from "./rows.ts";
import { withStopped } from "./stopped-rows.ts";
import { survivors } from "./survivors.ts";
import { controlPlaneVerdict, NOTHING_DAMAGED } from "./verdict.ts";
import { wellLine } from "./well.ts";
import { assessWithoutParts } from "./without-data.ts";
import { assessWorker } from "./worker.ts";

interface AssessOptions {
  deep?: DeepOptions | undefined;
  /** As the operator says. */
  lost?: LostNodes | undefined;
}

/** Judges what was seen of this node. Anything that cannot be read is a row. */
export async function assess({ node, all, place, known }: Looked, { deep, lost = NONE_LOST }: AssessOptions = {}): Promise<Assessment> {
  const running = all instanceof Fail ? all : all.filter((container) => container.running);
  const containersSeen = seen(all);
  const look = { node, dataDir: place.dir, running };
  const assessed = known
    ? isNotKubeadms(known.home)
      ? await assessWithoutParts({ ...look, known }, { etcd: known.home, from: [] })
      : await assessControlPlane({ ...look, deep, lost, known })
    : await assessNoData(look, containersSeen);
  const unfit = await kubeletsLostFlags();
  const stopped = assessed.role === "control plane" && !(running instanceof Fail) && !running.some(isServerContainer);
  if (stopped) assessed.damage = assessed.damage.map(withoutServers);
  const whole = withStopped(assessed, stoppedProcesses(knownHere(containersSeen)));
  return unfit ? withUnfitKubelet(whole, unfit) : whole;
}

/** What is missing is missed at once. */
function withoutServers(row: Row): Row {
  const { area, severity } = KINDS[row.id];
  return isDamage(row) && area === "files" && severity === "soon" ? { ...row, serversStopped: true } : row;
}

async function assessNoData(look: Omit<Look, "deep" | "lost" | "known">, all: readonly Container[]): Promise<Assessment> {
  const found = controlPlaneWithoutData(look.node, look.dataDir, all);
  return found ? await assessWithoutParts(look, found) : await assessWorker(look.node, look.running);
}

/** Before every other command: nobody starts a kubelet that would lose flags. Other files of its have rows of their own. */
function withUnfitKubelet(assessed: Assessment, { message, hint }: Fail): Assessment {
  const row: Row = { id: "kubelet-start", what: "the kubelet's start", state: "!UNSAFE!", detail: message };
  return { ...assessed, damaged: true, damage: [...assessed.damage, row], next: [hint, ...assessed.next] };
}

interface Look {
  node: Node;
  dataDir: string;
  running: Container[] | Fail;
  deep: DeepOptions | undefined;
  lost: LostNodes;
  known: PartialFacts;
}

async function assessControlPlane({ node: found, dataDir, running, deep: options, lost, known }: Look): Promise<Assessment> {
  const node = known.cp?.node ?? found;
  const findings = findingsOf(known);
  const { shared, leaves, kubeconfigs } = byKind(findings);
  const evidence = readEvidence({ data: known.data, node, certificatesDir: known.certificatesDir });
  const strange = strangeCa(known);
  const clock = known.cp ? await clockTrouble(known.cp) : [];
  const files = lostHere({ data: known.data, node, certificatesDir: known.certificatesDir, etcd: known.etcd, ran: known.cp?.ran });
  const damage = [
    ...clockRows(clock),
    ...shared.map((finding) => sharedRow(finding, finding.name === "ca" ? strange : undefined)),
    ...foreignSaRow(shared.at(-1)!, evidence),
    ...summary("certificates", leaves),
    ...summary("kubeconfigs", kubeconfigs),
    ...manifestRows(node, known),
    ...lostFileRows(files),
    ...dataRows(known, dataDir),
    ...memberRows(known),
    ...roleRows(known),
    ...endpointRows(known),
    ...caRows(known),
    ...(await kubeletRow(node, running)),
    ...kubeletTrustRows(node, known),
    ...modeRows(findings.flatMap(({ paths }) => paths.filter((path) => /\.(key|conf)$/.test(path)))),
    ...repairRows(known),
  ];
  const network = await cniRows(node);
  const isLost = (finding: Finding) =>
    finding.state === "ok" ? strange && finding.name === "ca" : remedyOf(finding, evidence).do === "lost";
  const lostKeys = shared.filter(isLost);
  const oldKey = oldSaKey(known.data, node, known.certificatesDir);
  const deep =
    options && (lostKeys.length > 0 ? await searchDeep({ node, known, evidence, lostKeys, strange, oldKey, lost }, options) : undefined);
  const verdict = controlPlaneVerdict({ known, clock, lostKeys, damage, noNewPod: network.length > 0, strange, oldKey, deep, lost });
  const isWell = known.cp && !damage.some(isDamage) && verdict.verdict === NOTHING_DAMAGED;
  return {
    node: node.name,
    role: "control plane",
    well: isWell ? await wellLine(known.cp!, findings) : undefined,
    kubernetes: known.cluster?.kubernetesVersion,
    cluster: known.cluster && describe(known.cluster, known.facts),
    ca: clusterCaSeen(node, known),
    damage: [...withWhatComes(damage, node, known.certificatesDir), ...network],
    survivors: lostKeys.length > 0 ? survivors({ known, node, running, lost }) : [],
    filesBack: filesBack({ node, running, lost }, files, known),
    deep,
    damaged: [...damage, ...network].some(isDamage),
    ...verdict,
  };
}

/** What brings lost files back, before part 1 stops anything. */
function filesBack(
  { node, running, lost }: Pick<Look, "node" | "running" | "lost">,
  files: readonly LostFile[],
  { cluster, certificatesDir }: PartialFacts,
): string[] {
  if (files.length === 0) return [];
  const known = knownHere(running instanceof Fail ? [] : running);
  const mounted = mountedFiles(holders(known).own, files).map(({ path }) => path);
  const others = cluster ? otherControlPlanes(cluster, { node, without: lost.names }).map(({ name }) => name) : [];
  return inLines(restoreCommands(files, { mounted, others, pki: certificatesDir }));
}

/** Nothing says where a kubeconfig has to lead while the cluster is unknown. */
function findingsOf(known: PartialFacts): Finding[] {
  const { facts, cp } = known;
  const wanted = facts
    ? wholePki(facts, { superAdmin: cp !== undefined && mountsSuperAdmin(cp) })
    : { certs: CERTS, serviceAccountKey: true };
  return pkiFindings(wanted, facts, known);
}

function describe(cluster: Cluster, facts: ClusterFacts | undefined): string {
  const controlPlanes = cluster.nodes.flatMap(({ controlPlane, name }) => (controlPlane ? [name] : []));
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
