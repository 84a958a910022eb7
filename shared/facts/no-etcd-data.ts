/**
 * A control plane node without etcd data: etcd is external, or its data is lost. Other traces show that this is a control plane node; a
 * deletion of /etc/kubernetes does not remove all of them. Reads only.
 */
import { attempt, Fail, Refused } from "../fail.ts";
import { exists, list } from "../files/files.ts";
import { flags } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { endpointHost } from "../pki/addresses.ts";
import { isStaticUid, type PodRecord, podRecords } from "../trust/pod-owner.ts";
import { may, ofNamespace } from "../trust/sources.ts";
import { certificatesDirOn } from "./certificates-dir.ts";
import { memberFolders } from "./etcd-elsewhere.ts";
import { optionOf } from "./etcd-proof.ts";

export interface WithoutData {
  /** `unknown`: nothing shows whether etcd ever was here. */
  etcd: "external" | "lost" | "unknown";
  /** What shows that this is a control plane node. */
  from: string[];
  /** URLs in the API server's --etcd-servers, where its manifest can be read. */
  servers: string[];
  /** Files that the API server needs to reach etcd: those that its manifest names, or else kubeadm's. */
  files: string[];
}

/** Undefined where there is a data directory, and on a worker. `all`: the containers, if they are known, also those that have ended. */
export function controlPlaneWithoutData(node: Node, dataDir: string, all: readonly Container[] = []): WithoutData | undefined {
  if (exists(dataDir)) return undefined;
  const [apiServer, etcd] = [tracesOf("kube-apiserver", node, all), tracesOf("etcd", node, all)];
  const from = [...apiServer, ...etcd, ...controlPlaneFiles(node).filter((path) => exists(path))];
  if (from.length === 0) return undefined;
  const { servers, files } = etcdOptions(node);
  const isLocal = servers.some((url) => isOwn(url, node.addresses)) || etcd.length > 0;
  const isElsewhere = servers.length > 0 || apiServer.length > 0;
  return { etcd: isLocal ? "lost" : isElsewhere ? "external" : "unknown", from, servers, files };
}

/** Refuses everything that needs the data; the hint has the next commands. */
export function withoutDataFail(found: WithoutData, node: Node, dataDir: string): Fail {
  const commands = withoutDataSteps(found, node).map(bare);
  const about = found.etcd === "external" ? "If etcd is external" : "If a member has no data";
  return new Refused(whyWithoutData(found, dataDir), { hint: `${commands.join("; ")}: RUNBOOK 1, "${about}"` });
}

/** A command without its comment. */
function bare(line: string): string {
  return line.replace(/ +# .*/, "");
}

/** Nothing of a control plane is here: most likely a worker. */
export function noControlPlane(dataDir: string): Fail {
  return new Refused(`This is no control plane node: nothing of a control plane is here, and there is no "${dataDir}"`, {
    hint: `run it on a control plane node; for a worker there is only ./bunw scripts/03-workers.ts join. If this is a control plane node: ${whereDataIs().map(bare).join("; ")}`,
  });
}

/** Errors: Fail on a control plane node: with a bootstrap token it would come back as a worker. */
export function refuseControlPlane(node: Node, dataDir: string) {
  const trace = exists(`${dataDir}/member`) ? `${dataDir}/member` : controlPlaneWithoutData(node, dataDir)?.from[0];
  if (trace === undefined) return;
  throw new Refused(`This is a control plane node (${trace}): join is for workers`, {
    hint: "part 2 gives its kubelet a certificate: ./bunw scripts/02-control-plane.ts; what is to be done here says ./bunw scripts/00-assess.ts",
  });
}

/**
 * Errors: Refused where nothing of a control plane is here, and this node is none of the cluster's control plane nodes: the CAs' keys do not
 * belong on a worker. A control plane node may have lost everything, so that its traces alone do not tell.
 */
export function refuseWorker(node: Node | undefined, dataDir: string, controlPlanes: readonly string[] | undefined) {
  if (!node || !controlPlanes || controlPlanes.includes(node.name) || exists(dataDir) || controlPlaneWithoutData(node, dataDir)) return;
  throw new Refused(`This is a worker: "${node.name}" is none of the control plane nodes ${controlPlanes.join(", ")}`, {
    hint: "nothing was changed. The CAs' keys belong on control plane nodes only: a worker joins with ./bunw scripts/03-workers.ts join. Remove the bundle here",
  });
}

/** The same where a copy of an external etcd's data was brought here. */
export function refuseExternalEtcd({ node, etcd, cluster }: { node: Node; etcd: { dir: string }; cluster: { externalEtcd: boolean } }) {
  if (cluster.externalEtcd) throw withoutDataFail({ etcd: "external", from: [], ...etcdOptions(node) }, node, etcd.dir);
}

/** The same for a script that goes on all the same: the steps in one line. Undefined where the data is here, or this is no such node. */
export function stepsWhereDataIsLost(node: Node | undefined, dataDir: string): string | undefined {
  const found = node && controlPlaneWithoutData(node, dataDir);
  const steps = found && withoutDataSteps(found, node).map((line) => line.split(/ +# /) as [string, string?]);
  return steps?.map(([command, note]) => (note?.startsWith("on ") ? `${note.split(":")[0]}: ${command}` : command)).join(", then ");
}

export function whyWithoutData({ etcd, from, servers }: WithoutData, dataDir: string): string {
  if (etcd === "external")
    return `This cluster's etcd is external: it does not run on the control plane nodes${servers.length > 0 ? `, but at ${servers.join(", ")}` : ""}`;
  const reason = etcd === "lost" ? "its etcd data is lost" : "its etcd data is lost, or its etcd is external";
  return `This is a control plane node (${from.slice(0, 2).join(", ")}), and there is no "${dataDir}": ${reason}`;
}

/** What takes the place of part 1 where etcd is not on the control plane nodes. */
export const KUBEADM_CERTS = `kubeadm init phase certs all --config FILE   # and what follows in RUNBOOK 1, "If etcd is external"`;

/** Parts 1 to 4 need etcd on the control plane nodes. An external etcd is repaired where it runs, and kubeadm's own phases do the rest. */
export function withoutDataSteps({ etcd, files }: WithoutData, node: Node): string[] {
  if (etcd === "external")
    return [
      `repair etcd where it runs, and put back the files that the API server needs to reach it: ${files.join(", ")}`,
      `./bunw scripts/00-salvage.ts memory   # lost CA keys; or copy ca.*, front-proxy-ca.*, sa.* in ${certificatesDirOn(node)} from another control plane node (scp -p)`,
      KUBEADM_CERTS,
    ];
  return [...whereDataIs(), withoutNode(node.name)];
}

/** What `etcdDataOf` did not take, as nothing names it. */
function whereDataIs(): string[] {
  const found = memberFolders();
  if (found.length > 0)
    return found.map((dir) => `./bunw scripts/00-assess.ts ${optionOf(dir)}   # etcd's data is in it, and nothing here says whose`);
  return ["lsblk -f   # no folder of this machine holds etcd's data. Is a disk not mounted? Mount it, then ./bunw scripts/00-assess.ts"];
}

/** How the other control plane nodes go on without this one. */
export function withoutNode(name: string): string {
  return `./bunw scripts/02-control-plane.ts --without ${name}   # on another control plane node, if the data is gone for good: RUNBOOK 1, "If a member has no data"`;
}

/** Files that kubeadm makes only on control plane nodes. Not admin.conf: workers may have a copy. */
function controlPlaneFiles(node: Node): string[] {
  return ["/etc/kubernetes/controller-manager.conf", ...inCertificatesDir(node, ["ca.key", "sa.key", "apiserver.crt"])];
}

const ETCD_FILES = ["etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"];

function inCertificatesDir(node: Node, files: readonly string[]): string[] {
  return files.map((file) => `${certificatesDirOn(node)}/${file}`);
}

/**
 * Traces of a static pod: its manifest, its container, and the kubelet's folder for it, which stays while the kubelet does not run. Where
 * the kubelet has stopped it: the container that has ended, and the kubelet's record of the pod, the folder of its logs.
 */
function tracesOf(name: string, node: Node, all: readonly Container[]): string[] {
  const manifest = manifestPath({ node }, name);
  const { podsDir } = node.kubelet;
  // any pod may give its container this name
  const records = podRecords();
  const others = new Set(records.flatMap(({ namespace, uid }) => (may(ofNamespace(namespace), "static pods") ? [] : [uid])));
  const uids = list(podsDir).filter((uid) => !others.has(uid));
  const folders = uids.map((uid) => `${podsDir}/${uid}/containers/${name}`);
  return [
    ...[manifest, ...folders].filter((path) => exists(path)),
    ...(all.some((one) => one.name === name && one.namespace === "kube-system") ? [`the container ${name}`] : []),
    ...(records.some((one) => isRecordOf(one, name, node)) ? [`the kubelet's record of ${name}`] : []),
  ];
}

/** Nobody but root writes a manifest: the kubelet names such a pod after it and the node, and its UID is an MD5 sum. */
function isRecordOf({ namespace, name, uid }: PodRecord, pod: string, node: Node): boolean {
  return may(ofNamespace(namespace), "static pods") && isStaticUid(uid) && name === `${pod}-${node.name.toLowerCase()}`;
}

function etcdOptions(node: Node): Pick<WithoutData, "servers" | "files"> {
  const manifest = attempt(() => readManifest(manifestPath({ node }, "kube-apiserver")));
  const command = flags(manifest instanceof Fail ? [] : (manifest?.spec?.containers?.[0]?.command ?? []));
  const named = ["etcd-cafile", "etcd-certfile", "etcd-keyfile"].flatMap((flag) => command.get(flag) ?? []);
  return { servers: command.get("etcd-servers")?.split(",") ?? [], files: named.length > 0 ? named : inCertificatesDir(node, ETCD_FILES) };
}

function isOwn(url: string, addresses: readonly string[]): boolean {
  const host = URL.canParse(url) ? endpointHost(new URL(url).host) : "";
  return host === "localhost" || host === "::1" || host.startsWith("127.") || addresses.includes(host);
}
