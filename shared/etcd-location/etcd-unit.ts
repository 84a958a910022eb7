/**
 * etcd as a systemd unit of this node, as kubespray and KubeKey set it up: kubeadm calls that an external etcd. Its unit,
 * settings, data and certificates lie outside of /etc/kubernetes. While it lives, parts 1 and 2 prove it and leave it
 * alone; else this says what to do by hand. Reads only. Sources: kubespray,
 * roles/etcd/templates/{etcd-host.service,etcd.env}.j2; KubeKey, pkg/etcd/templates and
 * builtin/core/roles/etcd. By hand (read, not tried): kubespray, playbooks/cluster.yml and
 * docs/operations/nodes.md (facts before --limit), roles/kubernetes/control-plane/tasks/kubeadm-setup.yml,
 * roles/kubernetes/node/tasks/kubelet.yml; kubeadm, certlist.go (with an external etcd its phases make no
 * certificate of etcd) and certs/renewal/manager.go.
 *
 * And other signs that this is, or was, a control plane node: traces of its static pods, which stay after manifests and
 * containers are gone, files that kubeadm makes only there, and the usual paths of etcd's data. Reads no data.
 */
import { dirname } from "node:path";
import { isStaticPodOf, may, ofNamespace, podRecords } from "../evidence/sources.ts";
import { attempt } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import { type Container, isServerContainer, isStaticUid } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { installer, UNIT_FOLDERS } from "../node/started-with.ts";
import { flagsOf, readUnit } from "../node/systemd-unit.ts";
import type { EtcdClientFiles } from "../pki/certs.ts";
import { shell } from "../shell-line.ts";

export interface EtcdUnit {
  path: string;
  /** Settings files that it names and that are gone: it does not start without them. */
  lostSettings: string[];
  name: string | undefined;
  dataDir: string;
  /** Where clients reach it, as it tells the others. */
  clientUrls: string[];
  /** Its CA, certificate and key, and those for its peers, as its settings name them. */
  files: string[];
  pairs: EtcdClientFiles[];
  user: string;
  /** The tool that set it up, if its files show that. */
  by: ReturnType<typeof installer>;
}

const PKI_SETTINGS = [
  "trusted-ca-file",
  "cert-file",
  "key-file",
  "peer-trusted-ca-file",
  "peer-cert-file",
  "peer-key-file",
];

/** Undefined if this machine knows no such user. `user`: a name, or a number. */
export function idsOf(user: string) {
  if (user === "root" || user === "0") return { uid: 0, gid: 0 };
  const lines = textOf("/etc/passwd")
    .split("\n")
    .map((line) => line.split(":"));
  const found = lines.find(([name, , uid]) => name === user || uid === user);
  return found && { uid: Number(found[2]), gid: Number(found[3]) };
}

type Environ = readonly { name: string; value?: string }[];

/** Undefined if this node has no such unit. `ran`: what its process has, asked where a file of its settings is lost. */
export function readEtcdUnit(ran: () => Environ | undefined = () => []): EtcdUnit | undefined {
  const path = UNIT_FOLDERS.map((folder) => `${folder}/etcd.service`).find((file) => exists(file));
  if (path === undefined) return undefined;
  const dropIns = UNIT_FOLDERS.flatMap((folder) =>
    list(`${folder}/etcd.service.d`).map((name) => `${folder}/etcd.service.d/${name}`),
  );
  const { command, variables, files, user } = readUnit(
    [path, ...dropIns.filter((file) => file.endsWith(".conf"))].map(textOf).join("\n"),
  );
  const flags = flagsOf(command);
  const lostSettings = files.flatMap((file) => (file.isHere || file.optional ? [] : file.path));
  const environ = lostSettings.length > 0 ? ran() : [];
  const setting = (name: string) => {
    const variable = `ETCD_${name.toUpperCase().replaceAll("-", "_")}`;
    return flags.get(name) ?? variables.get(variable) ?? environ?.find((one) => one.name === variable)?.value;
  };
  return {
    ...{ path, user },
    lostSettings,
    name: setting("name"),
    dataDir: setting("data-dir") ?? "/var/lib/etcd",
    clientUrls: setting("advertise-client-urls")?.split(",") ?? [],
    files: [...new Set(PKI_SETTINGS.flatMap((name) => setting(name) ?? []))],
    pairs: ["", "peer-"].flatMap((prefix) => {
      const [ca, cert, key] = PKI_SETTINGS.slice(0, 3).map((name) => setting(`${prefix}${name}`));
      return ca && cert && key ? [{ ca, cert, key }] : [];
    }),
    by: installer(),
  };
}

/** Only a cluster's etcd is secured: that of a distribution has no certificates. */
export function isClusters({ files, lostSettings }: EtcdUnit): boolean {
  return files.length > 0 || lostSettings.length > 0;
}

/** `trouble`: why parts 1 to 4 cannot go by it. */
export function isUnitHere({ path, dataDir, by }: EtcdUnit, trouble: string): string {
  return `etcd runs on this node as a systemd unit (${path}, data in ${dataDir})${by ? `, as ${by} sets it up` : ""}: ${trouble}`;
}

/** Why this kit does nothing to such an etcd. */
export const ONLY_PROVED = "this kit repairs etcd only as the static pod that kubeadm makes";

export const UNIT_BY_HAND = `./bunw scripts/00-assess.ts says what is lost here, what is well, and what to do by hand; RUNBOOK-MORE "If etcd is a unit of this node"`;

/** "" if it is not there, or may not be read. */
export function textOf(path: string): string {
  return attempt(() => readText(path), "") ?? "";
}

/** One command a line, some with a comment; files in place need none. */
export function unitSteps(unit: EtcdUnit | undefined, client: readonly string[]): string[] {
  const lost = client.filter((path) => !exists(path));
  const isKubesprays = unit?.by === "kubespray";
  return [
    "leave etcd alone while it runs and its files are here; if not, repair it first: systemctl status etcd; journalctl -u etcd -n 50",
    ...(lost.length > 0 ? clientPair(lost, unit?.files ?? []) : []),
    "./bunw scripts/00-salvage.ts   # lost CA keys; or copy ca.*, front-proxy-ca.*, sa.* from another control plane node (scp -p)",
    `./bunw scripts/00-assess.ts --kubeadm-config > kubeadm.yaml   # the cluster's own, out of etcd's data${isKubesprays ? '; with the inventory, kubespray writes it and the kubelet\'s files: RUNBOOK-MORE "If etcd is a unit of this node"' : ""}`,
    "kubeadm init phase certs all --config kubeadm.yaml   # then: kubeconfig all, control-plane all; when the kubelet runs: kubelet-finalize all. Files that flags name and kubeadm does not make come from a backup",
    ...(isKubesprays ? [] : ["systemctl start kubelet   # then 00-assess on this node, and the next one"]),
  ];
}

/** etcd accepts every certificate of its CA that is for clients, or has no usages. */
function clientPair(lost: readonly string[], files: readonly string[]): string[] {
  const [ca, cert, key] = files;
  if (!ca || !cert || !key || lost.length !== 3)
    return [`put back the files by which the API server reaches etcd: ${lost.join(", ")}`];
  const copies = [ca, cert, key].map((from, i) => shell`cp -p ${from} ${lost[i]!}`);
  return [
    `${[shell`mkdir -p ${dirname(lost[0]!)}`, ...copies].join(" && ")}   # the API server's way to etcd: a certificate of the same CA`,
  ];
}

/**
 * Traces of a static pod: its manifest, its container, and the kubelet's folder for it, which stays while no kubelet runs;
 * after that the exited container, and its logs.
 */
export function tracesOf(name: "etcd" | "kube-apiserver", node: Node, all: readonly Container[]): string[] {
  const { podsDir, staticPodPath } = node.kubelet;
  // any pod may give its container this name, even in kube-system: Cilium's clustermesh-apiserver has an etcd
  const records = podRecords();
  const others = new Set(
    records.flatMap(({ namespace, uid }) => (may(ofNamespace(namespace), "static pods") ? [] : [uid])),
  );
  const uids = list(podsDir).filter((uid) => isStaticUid(uid) && !others.has(uid));
  const folders = uids.map((uid) => `${podsDir}/${uid}/containers/${name}`);
  return [
    ...[`${staticPodPath}/${name}.yaml`, ...folders].filter((path) => exists(path)),
    ...(all.some((one) => one.name === name && isServerContainer(one)) ? [`the container ${name}`] : []),
    ...(records.some((one) => isStaticPodOf(one, name, node)) ? [`the kubelet's record of ${name}`] : []),
  ];
}

/**
 * Traces of the API server and etcd, and files that kubeadm makes only on control plane nodes. Not
 * admin.conf: workers may have a copy.
 */
export function controlPlaneTraces(node: Node, all: readonly Container[], certificatesDir: string): string[] {
  const inPki = ["ca.key", "sa.key", "apiserver.crt"].map((file) => `${certificatesDir}/${file}`);
  const files = ["/etc/kubernetes/controller-manager.conf", ...inPki].filter((path) => exists(path));
  return [...tracesOf("kube-apiserver", node, all), ...tracesOf("etcd", node, all), ...files];
}

/**
 * Folders that only root writes to: kubeadm's default, those of Red Hat's and Debian's packages, Cluster
 * API's on Azure, and the one that kubeadm guides use for a disk of its own.
 */
export const USUAL_DATA = [
  "/var/lib/etcd",
  "/var/lib/etcd/default.etcd",
  "/var/lib/etcd/default",
  "/var/lib/etcddisk/etcd",
  "/data/etcd",
];
