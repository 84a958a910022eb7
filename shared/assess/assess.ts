/** Looks at a node and writes nothing: what is damaged, what survives, what repairs it. One object, printed or given as JSON. */
import type { Cluster } from "../facts/cluster.ts";
import { lookAtControlPlaneNode, type PartialFacts } from "../facts/control-plane-node.ts";
import { readEvidence } from "../facts/evidence.ts";
import { command } from "../facts/next.ts";
import { controlPlaneWithoutData } from "../facts/no-etcd-data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { type Container, containers } from "../node/containers.ts";
import { type Node, readNode } from "../node/node.ts";
import { certInfo } from "../pki/certificate.ts";
import { CERTS, type ClusterFacts, certPath, certRow } from "../pki/certs.ts";
import { examine, examineKubeconfig } from "../pki/examine.ts";
import { kubeconfigRows } from "../pki/kubeconfigs.ts";
import { remedyOf } from "../pki/lost-keys.ts";
import { examineServiceAccountKey } from "../pki/sa-keys.ts";
import { mountsSuperAdmin } from "../static-pods/wanted-manifests.ts";
import { type DeepOptions, searchDeep } from "./deep.ts";
import { clientPemRow, kubeletRow, kubeletTrustRows } from "./kubelet-rows.ts";
import { type Assessment, isDamage, type Row } from "./report.ts";
import { caRow, dataRows, FOREIGN, findingRow, foreignRows, manifestRows, modeRows, repairRows, summary } from "./rows.ts";
import { survivors } from "./survivors.ts";
import { controlPlaneVerdict } from "./verdict.ts";
import { assessWithoutData } from "./without-data.ts";

/** Looks at this node. Errors: Fail only where it is no kubeadm node at all; anything else that cannot be read is a row. */
export async function assess(dataDir: string, deep?: DeepOptions): Promise<Assessment> {
  const node = await readNode();
  const running = await runningContainers(node);
  if (exists(dataDir)) return await assessControlPlane({ node, dataDir, running, deep });
  const withoutData = controlPlaneWithoutData(node, dataDir, running instanceof Fail ? [] : running);
  return withoutData ? await assessWithoutData({ node, dataDir, running }, withoutData) : await assessWorker(node, running);
}

interface Look {
  node: Node;
  dataDir: string;
  running: Container[] | Fail;
  deep: DeepOptions | undefined;
}

async function assessControlPlane({ node: found, dataDir, running, deep: options }: Look): Promise<Assessment> {
  const known = lookAtControlPlaneNode(dataDir, found);
  const node = known.cp?.node ?? found;
  const cas = CERTS.filter((row) => row.shared).map((row) => examine(row, known.facts));
  const sa = examineServiceAccountKey(known.facts?.certificatesDir ?? "/etc/kubernetes/pki");
  const leaves = CERTS.filter((row) => !row.shared).map((row) => examine(row, known.facts));
  const configs = kubeconfigFindings(known);
  const evidence = readEvidence({ data: known.data, node, certificatesDir: known.certificatesDir });
  const damage = [
    ...cas.map(caRow),
    findingRow(sa),
    ...foreignRows(known, [cas[0]!, sa], evidence),
    ...summary("certificates", leaves),
    ...summary("kubeconfigs", configs),
    ...manifestRows(node, known),
    ...dataRows(known, dataDir),
    ...(await kubeletRow(node, running)),
    ...kubeletTrustRows(node, known),
    ...modeRows([...cas, sa, ...leaves, ...configs].flatMap(({ paths }) => paths.filter((path) => /\.(key|conf)$/.test(path)))),
    ...repairRows(known),
  ];
  const lostKeys = [...cas, sa].filter((finding) => finding.state !== "ok" && remedyOf(finding, evidence).do === "lost");
  const damaged = damage.some(isDamage);
  const deep = options && (lostKeys.length > 0 ? await searchDeep({ node, known, evidence, lostKeys }, options) : undefined);
  return {
    node: node.name,
    role: "control plane",
    kubernetes: known.cluster?.kubernetesVersion,
    cluster: known.cluster && describe(known.cluster, known.facts),
    damage,
    survivors: lostKeys.length > 0 ? survivors(known, node, running) : [],
    deep,
    damaged,
    ...controlPlaneVerdict({ known, lostKeys, damaged, foreign: damage.some(({ state }) => state === FOREIGN), deep }),
  };
}

function kubeconfigFindings({ facts, cp }: PartialFacts) {
  if (!facts) return [];
  const rows = kubeconfigRows(facts, { superAdmin: cp !== undefined && mountsSuperAdmin(cp) }).filter((row) => row.name !== "kubelet");
  return rows.map((row) => examineKubeconfig(row, facts));
}

async function assessWorker(node: Node, running: Container[] | Fail): Promise<Assessment> {
  const { kubelet } = node;
  const ca = readText(kubelet.clientCaFile);
  const damage: Row[] = [
    { what: kubelet.clientCaFile, state: ca ? "ok" : "!MISSING!", detail: "the CA that this kubelet trusts" },
    { what: kubelet.kubeconfig, state: exists(kubelet.kubeconfig) ? "ok" : "!MISSING!", detail: "" },
    clientPemRow(node),
    ...(await kubeletRow(node, running)),
  ];
  const damaged = damage.some(isDamage);
  return {
    node: node.name,
    role: "worker",
    kubernetes: undefined,
    cluster: undefined,
    damage,
    survivors: [],
    damaged,
    verdict: damaged
      ? "this worker has to join again. Its containers run on"
      : "nothing is damaged here. If the control plane nodes have a new CA now, this worker has to join again nevertheless",
    next: damaged ? [`parts 1 and 2 on the control plane nodes, then the line that ${command("03-workers open")} prints there`] : [],
  };
}

function describe(cluster: Cluster, facts: ClusterFacts | undefined): string {
  const controlPlanes = cluster.nodes.filter((node) => node.controlPlane).length;
  const ca = attempt(() => certInfo(readText(certPath(certRow("ca"), cluster.certificatesDir)) ?? ""));
  return [
    cluster.name,
    `API ${cluster.endpoint ?? facts?.advertiseAddress ?? "?"}`,
    `Services ${cluster.serviceSubnets}`,
    `Pods ${cluster.podSubnet ?? "?"}`,
    `${controlPlanes} control plane`,
    `${cluster.nodes.length - controlPlanes} workers`,
    ...(facts ? [facts.keyAlgorithm] : []),
    ...(ca instanceof Fail ? [] : [`CA ${ca.publicKeyHash.slice(0, 19)}…`]),
  ].join(", ");
}

/** The running containers, or why they cannot be seen: that is no damage of the PKI. */
async function runningContainers(node: Node): Promise<Container[] | Fail> {
  try {
    return (await containers(node.runtimeEndpoint)).filter((container) => container.running);
  } catch (err) {
    if (err instanceof Fail) return err;
    throw err;
  }
}
