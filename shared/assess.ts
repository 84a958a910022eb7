/** Looks at a node and writes nothing: what is damaged, what survives, what mends it. One object, printed or given as JSON. */
import { certInfo } from "./certificate.ts";
import { CERTS, type ClusterFacts, certPath, certRow } from "./certs.ts";
import { type Cluster, factsFor, readCluster } from "./cluster.ts";
import type { EtcdData } from "./etcd/data.ts";
import { Fail } from "./fail.ts";
import { exists, readText } from "./files.ts";
import { kubeconfigRows } from "./kubeconfigs.ts";
import { trusted } from "./kubelet.ts";
import { standIns } from "./left-for-people.ts";
import { findMirrorPods, hostFiles, manifestFromMirrorPod, registryPrefix } from "./manifests.ts";
import type { Master } from "./master.ts";
import { kubeletActive, type Node, readNode } from "./node.ts";
import { examine, examineKubeconfig, examineServiceAccountKey, type Finding } from "./pki.ts";
import { findRepair } from "./rescue.ts";
import { CONTROL_PLANE, type Container, containers } from "./runtime.ts";
import { caIsNew, manifestPath, REDUCED, readManifest } from "./static-pods.ts";

export interface Row {
  what: string;
  /** `ok`, or in capitals what is wrong. */
  state: string;
  detail: string;
}

export interface Survivor {
  where: string;
  /** "yes", "worth a try", "no", or "none". */
  hope: string;
  detail: string;
}

export interface Assessment {
  node: string;
  role: "control plane" | "worker";
  kubernetes: string | undefined;
  cluster: string | undefined;
  damage: Row[];
  survivors: Survivor[];
  verdict: string;
  damaged: boolean;
  next: string[];
}

/** Looks at this node. Errors: Fail only where it is no kubeadm node at all; whatever else cannot be read is a row. */
export async function assess(dataDir: string): Promise<Assessment> {
  const node = await readNode();
  const running = await containersOrNone(node);
  return exists(dataDir) ? await assessMaster(node, dataDir, running) : await assessWorker(node, running);
}

interface Known {
  data?: EtcdData | undefined;
  dataFrom?: string | undefined;
  cluster?: Cluster | undefined;
  facts?: ClusterFacts | undefined;
  master?: Master | undefined;
}

async function assessMaster(node: Node, dataDir: string, running: Container[]): Promise<Assessment> {
  const rows: Row[] = [];
  const known = readKnown(node, dataDir, rows);
  const authorities = CERTS.filter((row) => row.shared).map((row) => examine(row, known.facts));
  const sa = examineServiceAccountKey(known.facts?.certificatesDir ?? "/etc/kubernetes/pki");
  const leaves = CERTS.filter((row) => !row.shared).map((row) => examine(row, known.facts));
  const configs = known.facts
    ? kubeconfigRows(known.facts, { superAdmin: false })
        .filter((row) => row.name !== "kubelet")
        .map((row) => examineKubeconfig(row, known.facts))
    : [];
  const damage = [
    ...authorities.map(authorityRow),
    findingRow(sa),
    ...summary("certificates", leaves),
    ...summary("kubeconfigs", configs),
    ...manifestRows(node, known),
  ];
  damage.push(...rows, await kubeletRow(node, running), ...repairRows(known));
  const lostKeys = [...authorities, sa].filter((finding) => finding.state !== "ok");
  const damaged = damage.some((row) => row.state !== "ok" && row.state !== "known");
  return {
    node: node.name,
    role: "control plane",
    kubernetes: known.cluster?.kubernetesVersion,
    cluster: known.cluster && describe(known.cluster, known.facts),
    damage,
    survivors: lostKeys.length > 0 ? survivors(known, running) : [],
    damaged,
    ...masterVerdict({ known, lostKeys, damaged }),
  };
}

async function assessWorker(node: Node, running: Container[]): Promise<Assessment> {
  const { kubelet } = node;
  const ca = readText(kubelet.clientCaFile);
  const own = ca !== undefined && trusted(kubelet.clientPem, ca);
  const damage: Row[] = [
    { what: kubelet.clientCaFile, state: ca ? "ok" : "!MISSING!", detail: "the CA that this kubelet trusts" },
    { what: kubelet.kubeconfig, state: exists(kubelet.kubeconfig) ? "ok" : "!MISSING!", detail: "" },
    {
      what: kubelet.clientPem,
      state: own ? "ok" : exists(kubelet.clientPem) ? "!OTHER CA!" : "!MISSING!",
      detail: "the kubelet's client certificate",
    },
    await kubeletRow(node, running),
  ];
  const damaged = damage.some((row) => row.state !== "ok");
  return {
    node: node.name,
    role: "worker",
    kubernetes: undefined,
    cluster: undefined,
    damage,
    survivors: [],
    damaged,
    verdict: damaged
      ? "this worker has to join again; its containers run on meanwhile"
      : "nothing is damaged here; if the masters have got a new CA, it has to join again nevertheless",
    next: damaged ? ["parts 1 and 2 on the masters, then the line that ./bunw scripts/03-workers.ts open prints there"] : [],
  };
}

/** What etcd's data tells; what it does not, becomes a row. */
function readKnown(node: Node, dataDir: string, rows: Row[]): Known {
  const known: Known = {};
  try {
    const repair = findRepair(dataDir);
    const { data, dataFrom } = repair;
    const members = `${data.members.length} member${data.members.length === 1 ? "" : "s"}`;
    rows.push({
      what: dataFrom,
      state: "ok",
      detail: `${members}, ${data.keyCount} keys, revision ${data.revision}, last write ${data.lastWrite.toISOString().slice(0, 19)}Z`,
    });
    rows.push(...data.warnings.map((detail) => ({ what: dataFrom, state: "known", detail })));
    known.data = data;
    known.dataFrom = dataFrom;
    known.cluster = readCluster(data);
    known.facts = factsFor(node, known.cluster, data);
    known.master = { ...repair, node, dataDir, cluster: known.cluster, facts: known.facts, asideDir: "" };
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    rows.push({ what: dataDir, state: "!UNREADABLE!", detail: `${err.message}; ${err.hint}` });
  }
  return known;
}

function authorityRow(finding: Finding): Row {
  const signs = CERTS.filter((row) => row.ca === finding.name).map((row) => row.name);
  const more = finding.name === "ca" ? ", all kubeconfigs, every kubelet" : "";
  return findingRow(finding, `signs: ${signs.join(", ")}${more}`);
}

function findingRow(finding: Finding, lost = "signs every service-account token"): Row {
  const what = finding.paths.map((path) => path.replace("/etc/kubernetes/", "")).join(", ");
  return { what, state: shown(finding.state), detail: finding.state === "missing" ? lost : finding.detail };
}

/** One line where all are well, or all are missing; else a line for each that is not. */
function summary(what: string, findings: Finding[]): Row[] {
  if (findings.length === 0) return [];
  const wrong = findings.filter((finding) => finding.state !== "ok");
  if (wrong.length === 0) return [{ what: `${findings.length} ${what}`, state: "ok", detail: soonest(findings) }];
  if (wrong.every((finding) => finding.state === "missing") && wrong.length === findings.length)
    return [{ what: `${findings.length} ${what}`, state: "!MISSING!", detail: "" }];
  return wrong.map((finding) => findingRow(finding, ""));
}

function soonest(findings: Finding[]): string {
  const ends = findings.flatMap((finding) => finding.cert?.notAfter ?? []).sort((a, b) => a.getTime() - b.getTime());
  return ends[0] ? `the first ends on ${ends[0].toISOString().slice(0, 10)}` : "";
}

function manifestRows(node: Node, { data }: Known): Row[] {
  if (!data) return [];
  const pods = findMirrorPods(data, node.name);
  const rows = CONTROL_PLANE.map((name): Row => {
    const there = exists(manifestPath({ node }, name));
    const pod = pods.find((mirror) => mirror.name === name);
    const source = pod
      ? `can be rebuilt from its mirror pod in etcd${pod.from === "history" ? "'s history" : ""}`
      : "no mirror pod in etcd either";
    return { what: `manifests/${name}.yaml`, state: there ? "ok" : "!MISSING!", detail: there ? "" : source };
  });
  const made = (path: string) =>
    CERTS.some((row) => path.endsWith(`/${row.file}.crt`) || path.endsWith(`/${row.file}.key`)) ||
    /\/sa\.(key|pub)$|\.conf$|\/pki(\/etcd)?$/.test(path);
  const files = pods.flatMap(({ pod, name }) => hostFiles(manifestFromMirrorPod(pod, node.name)).map((file) => ({ ...file, pod: name })));
  const lost = files.filter(
    (file) => !file.type.endsWith("OrCreate") && file.namedBy.startsWith("--") && !made(file.path) && !exists(file.path),
  );
  return [
    ...rows,
    ...lost.map((file) => ({ what: file.path, state: "!MISSING!", detail: `named by ${file.pod} ${file.namedBy}; cannot be rebuilt` })),
  ];
}

async function kubeletRow(node: Node, running: Container[]): Promise<Row> {
  const active = await kubeletActive();
  const controlPlane = running.filter((c) => c.namespace === "kube-system" && (CONTROL_PLANE as readonly string[]).includes(c.name));
  const pem = readText(node.kubelet.clientPem);
  const certificate = pem ? `client certificate until ${certInfo(pem).notAfter.toISOString().slice(0, 10)}` : "no client certificate";
  const detail = `${controlPlane.length} control-plane and ${running.length - controlPlane.length} other containers running; ${certificate}`;
  return { what: "kubelet", state: active ? "ok" : "!STOPPED!", detail };
}

/** States that a repair passes through: no damage, but not the end either. */
function repairRows({ master }: Known): Row[] {
  if (!master) return [];
  const reduced = readManifest(manifestPath(master, "kube-controller-manager"))?.metadata.annotations?.[REDUCED] !== undefined;
  return [
    ...(reduced ? [{ what: "kube-controller-manager", state: "known", detail: "reduced until part 3 is closed" }] : []),
    ...standIns(master).map((path) => ({ what: path, state: "known", detail: "a stand-in for the lost audit policy" })),
  ];
}

function survivors({ cluster, data }: Known, running: Container[]): Survivor[] {
  const others = (cluster?.nodes ?? []).filter((node) => node.controlPlane).length - 1;
  const alive = running.filter((c) => c.name === "kube-controller-manager" || c.name === "kube-apiserver").map((c) => c.name);
  const certs = data?.get(`${registryPrefix(data)}/secrets/kube-system/kubeadm-certs`);
  return [
    {
      where: "another master",
      hope: others > 0 ? "worth a try" : "none",
      detail: others > 0 ? "look there first: the same keys lie on every master, in /etc/kubernetes/pki" : "this cluster has one",
    },
    {
      where: "a backup",
      hope: "worth a try",
      detail: "of /etc/kubernetes/pki, at any age, as long as the CA was the same",
    },
    {
      where: "memory",
      hope: alive.length > 0 ? "worth a try" : "no",
      detail:
        alive.length > 0
          ? `${alive.join(", ")} still runs and may hold ca.key or sa.key: stop the kubelet, touch nothing else`
          : "no control-plane process is left",
    },
    {
      where: "kubeadm-certs Secret",
      hope: certs ? "worth a try" : "no",
      detail: certs ? "it is in etcd's data; it opens with the key that kubeadm init --upload-certs printed" : "not in etcd's data",
    },
  ];
}

function masterVerdict({ known, lostKeys, damaged }: { known: Known; lostKeys: Finding[]; damaged: boolean }): {
  verdict: string;
  next: string[];
} {
  if (!known.cluster)
    return {
      verdict: "etcd's data cannot be read here: nothing can be rebuilt from it",
      next: ["restore an etcd snapshot or the data directory first, then run this again"],
    };
  const { master } = known;
  if (lostKeys.length > 0) {
    const names = lostKeys.map((finding) => finding.name).join(", ");
    return {
      verdict: `lost on this node: the keys of ${names}. Bring them back from another place if you can; if not: new ones, workloads run on, pods that talk to the API restart once in part 4`,
      next: ["systemctl stop kubelet", "./bunw scripts/01-etcd.ts --new-cas     # only if the old keys are nowhere to be found"],
    };
  }
  if (damaged)
    return {
      verdict: "the keys are here: what is missing can be issued under them",
      next: ["./bunw scripts/01-etcd.ts", "./bunw scripts/02-control-plane.ts"],
    };
  if (master && caIsNew(master))
    return {
      verdict: "this master is repaired, with a new CA",
      next: ["./bunw scripts/03-workers.ts open", "./bunw scripts/04-sa-tokens.ts", "./bunw scripts/05-verify.ts"],
    };
  return { verdict: "nothing is damaged on this node", next: [] };
}

function describe(cluster: Cluster, facts: ClusterFacts | undefined): string {
  const masters = cluster.nodes.filter((node) => node.controlPlane).length;
  const ca = readText(certPath(certRow("ca"), cluster.certificatesDir));
  const id = ca ? `, CA ${certInfo(ca).publicKeyHash.slice(0, 19)}…` : "";
  return `${cluster.name}, API ${cluster.endpoint ?? facts?.advertiseAddress}, Services ${cluster.serviceSubnets}, Pods ${cluster.podSubnet ?? "?"}, ${masters} control plane, ${cluster.nodes.length - masters} workers, ${facts?.keyAlgorithm ?? ""}${id}`;
}

function shown(state: string): string {
  return state === "ok" ? "ok" : `!${state.toUpperCase()}!`;
}

async function containersOrNone(node: Node): Promise<Container[]> {
  try {
    return (await containers(node.runtimeEndpoint)).filter((container) => container.running);
  } catch (err) {
    if (err instanceof Fail) return [];
    throw err;
  }
}
