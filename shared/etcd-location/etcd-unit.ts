/**
 * etcd as a systemd unit of this node, as kubespray and KubeKey set it up beside a kubeadm control plane: kubeadm calls that an external
 * etcd, wherever it runs. Its unit, settings, data and certificates lie outside of /etc/kubernetes. Sources: kubespray,
 * roles/etcd/templates/{etcd-host.service,etcd.env}.j2; KubeKey, pkg/etcd/templates and builtin/core/roles/etcd. Reads only.
 */
import { attempt } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import { flagsOf, readUnit } from "../node/unit-file.ts";

export interface EtcdUnit {
  /** The unit's file. */
  path: string;
  /** Files of settings that it names and that are gone: it does not start without them. */
  lostSettings: string[];
  /** etcd's name of this member. */
  name: string | undefined;
  dataDir: string;
  /** Its CA, its certificate and key, and those that it shows its peers: as its settings name them. */
  files: string[];
  /** Who set it up, where a file of theirs tells. */
  by: "kubespray" | "KubeKey" | undefined;
}

/** Where systemd looks for units, the first one counts: systemd.unit(5). */
const FOLDERS = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"].map((folder) => `${folder}/systemd/system`);

const PKI_SETTINGS = ["trusted-ca-file", "cert-file", "key-file", "peer-trusted-ca-file", "peer-cert-file", "peer-key-file"];

/** Undefined where this node has no such unit. */
export function readEtcdUnit(): EtcdUnit | undefined {
  const path = FOLDERS.map((folder) => `${folder}/etcd.service`).find((file) => exists(file));
  if (path === undefined) return undefined;
  const dropIns = FOLDERS.flatMap((folder) => list(`${folder}/etcd.service.d`).map((name) => `${folder}/etcd.service.d/${name}`));
  const { command, variables, files } = readUnit([path, ...dropIns.filter((file) => file.endsWith(".conf"))].map(text).join("\n"));
  const flags = flagsOf(command);
  const setting = (name: string) => flags.get(name) ?? variables.get(`ETCD_${name.toUpperCase().replaceAll("-", "_")}`);
  return {
    path,
    lostSettings: files.filter(({ isHere, optional }) => !isHere && !optional).map((file) => file.path),
    name: setting("name"),
    dataDir: setting("data-dir") ?? "/var/lib/etcd",
    files: [...new Set(PKI_SETTINGS.flatMap((name) => setting(name) ?? []))],
    by: maker(),
  };
}

/** A distribution's own etcd has no certificates: only a cluster's is secured. */
export function isClusters({ files, lostSettings }: EtcdUnit): boolean {
  return files.length > 0 || lostSettings.length > 0;
}

/** Why parts 1 to 4 are not for it. */
export function isUnitHere({ path, dataDir, by }: EtcdUnit): string {
  return `etcd runs on this node as a systemd unit (${path}, data in ${dataDir})${by ? `, as ${by} sets it up` : ""}: this kit repairs etcd only as the static pod that kubeadm makes`;
}

export const UNIT_BY_HAND = `nothing was changed. ./bunw scripts/00-assess.ts says what is lost here, what is well, and what to do by hand; RUNBOOK 1, "If etcd is a unit of this node"`;

/** kubespray's kubelet unit reads kubelet.env; KubeKey has a folder for its scripts, and since version 4 one for its backups. */
function maker(): EtcdUnit["by"] {
  if (FOLDERS.some((folder) => text(`${folder}/kubelet.service`).includes("/kubelet.env"))) return "kubespray";
  return ["/usr/local/bin/kube-scripts", "/etc/kubekey"].some((path) => exists(path)) ? "KubeKey" : undefined;
}

function text(path: string): string {
  return attempt(() => readText(path), "") ?? "";
}
