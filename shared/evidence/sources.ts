/**
 * The table of sources: who can write what we read, and what that may decide. The kit runs as root on control
 * plane nodes, often unattended: what it believes, it puts to use. So the writer of evidence limits what the
 * evidence may prove, not its look, its age or its number.
 *
 * Every reader of evidence names its source and asks `may`. Unproved evidence is never used: `keepUnproved`
 * names it, saves it with its origin, and prints the command that would use it.
 * `test/shared/evidence/sources.test.ts` walks this table and plays each writer.
 */
import { list, writeFile } from "../files/files.ts";
import { isStaticUid, nameSuffix } from "../node/containers.ts";
import { podLogsDir } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";

/** The decisions that evidence may support. */
export type Decision =
  /** Names, addresses, ranges and flags for certificates and manifests. */
  | "facts"
  /** The cluster's CA and service-account key: by certificates, or by tokens whose signature verifies. */
  | "keys"
  /** The static pods of this node. */
  | "static pods"
  /** The content of a file, put into its place unchanged. */
  | "files"
  /** Programs that run as root. */
  | "code"
  /** The report's words about the whole cluster. */
  | "report"
  /** The operator's words about the cluster: who is away, what was given up. */
  | "words";

export interface Source {
  /** The people or programs that can write there, for the operator. */
  writer: string;
  decides: readonly Decision[];
  /** A decision that it may still support: mostly by comparison with something known. */
  but?: string;
}

// biome-ignore format: a table
export const SOURCES = {
  /** /etc/kubernetes, the kubelet's own files, etcd's data directory, root's rescue folders. */
  "this node":                 { writer: "root on this node", decides: ["facts", "keys", "static pods", "files", "code", "report", "words"] },
  /**
   * ConfigMaps, Secrets, pods and RBAC objects there, the UIDs and names of Nodes, members of etcd; not
   * workers' mirror pods.
   */
  "kube-system in etcd":       { writer: "cluster administrators", decides: ["facts", "keys", "static pods"] },
  /** kube-public/cluster-info: joining nodes read it, and by kubeadm's roles nobody else writes there. */
  "cluster-info in etcd":      { writer: "cluster administrators", decides: ["facts"], but: "where the API is reached: one voice of several" },
  /** A worker's mirror pod in any namespace, also in kube-system. */
  "a worker's mirror pod":     { writer: "that worker's kubelet, so whoever owns the worker", decides: [] },
  /** Objects of every other namespace, whatever their names, annotations and labels say. */
  "another namespace in etcd": { writer: "whoever may create a pod there", decides: [], but: "keys by a known public half" },
  /**
   * Volumes below the kubelet's pods folder, of pods that etcd or the kubelet's own records place in
   * kube-system.
   */
  "a pod of kube-system":      { writer: "cluster administrators", decides: ["keys"] },
  "a pod":                     { writer: "the pod that owns the volume", decides: [] },
  /**
   * Labels, annotations and taints: flannel's, Calico's and Weave's accounts may patch nodes/status of every
   * Node, and that takes metadata, too; Cilium's may patch Nodes. Their tokens lie on every worker.
   */
  "a Node's metadata":         { writer: "accounts of pods on any worker, so whoever owns one", decides: [], but: "what is named to the operator" },
  /** Addresses and names in Node.status. */
  "a kubelet's status":        { writer: "that kubelet, and accounts of pods on any worker", decides: [], but: "an address of its own that nobody else has" },
  /**
   * Labels and annotations of any pod, but for the one that makes it a mirror pod: who may patch pods/status may write
   * them, as Calico's account (registry/core/pod/strategy.go, ValidatePodStatusUpdate).
   */
  "a mirror pod's metadata":   { writer: "accounts of pods on any worker, so whoever owns one", decides: [], but: "whether its container ran here under the same UID" },
  /** Metrics, logs and health, through the API server. */
  "a kubelet's answer":        { writer: "that kubelet, so whoever owns that node", decides: [], but: "whether probes of its own pods have run; of limited length, and it leads nowhere else" },
  /** In its Node, where many can write; but it is signed. */
  "an old serving certificate": { writer: "the CA of the cluster as it was", decides: [], but: "which of several nodes an address was of" },
  "a signing request":         { writer: "whoever holds that kubelet's certificate, or its bootstrap token", decides: [], but: "a name or an address of a node that etcd knew, if no other node has it" },
  /** A process of a container of kube-system's static pods, or of a systemd unit of the host. */
  "a control plane process":   { writer: "the control plane itself", decides: ["files"], but: "keys by a known public half, kubeconfigs by the cluster's CA" },
  /** The name proves nothing. */
  "another process":           { writer: "any container", decides: [] },
  /**
   * A user names cgroups below his own as a pod's, makes data in his home, and shows any file below
   * /proc/PID/root.
   */
  "a user of this node":       { writer: "a user of this node, without privilege", decides: [] },
  /** The whole device is read, with the files that are there. */
  "a disk's blocks":           { writer: "any pod with an emptyDir, any log line", decides: [], but: "keys by a known public half, an encryption configuration by what it opens" },
  /** The folder of --backup, a snapshot of a disk, a history of /etc. */
  "a folder of copies":        { writer: "whoever had that stick or share before the operator", decides: [], but: "keys by a known public half; lost files by the operator's word" },
  "an unverified server":      { writer: "whoever answers", decides: [], but: "what a fingerprint proves afterwards, and that a script asks; not even its text reaches the terminal as it is" },
  /** Only a person who knows the passphrase can lock one. */
  "a bundle with a passphrase": { writer: "cluster administrators", decides: ["keys", "words", "files"] },
  "a bundle for recipients":   { writer: "everybody who knows a recipient, which is no secret", decides: [], but: "keys of the CA that etcd's data names; keys and words by the fingerprint that the operator gives" },
  /**
   * Also the etcd that restore.ts makes of one. A CA's certificate is public: its fingerprint proves keys,
   * not the rest.
   */
  "a snapshot for recipients": { writer: "whoever can write where backups lie, as a recipient is no secret", decides: [], but: "what a new machine starts with, by the operator's word: the fingerprint of its CA" },
  /** Transcripts of runs on a member of etcd, whose root has the CAs' keys. */
  "a control plane node's transcripts": { writer: "cluster administrators", decides: ["report"] },
  /** Transcripts of runs on any other node. */
  "another node's transcripts": { writer: "root on that node", decides: [], but: "what the report quotes as that node's words" },
  /** Answers of 00-assess there, in a folder on the operator's machine: plan --seen. */
  "a node's answer":           { writer: "root on that node, and whoever writes into that folder", decides: [], but: "which node the operator looks at, and which steps a plan shows" },
  /** A folder that existed before, in a place where everybody may make one, such as /dev/shm. */
  "a folder that was there":   { writer: "any user of this node", decides: [] },
} as const satisfies Record<string, Source>;

export type SourceName = keyof typeof SOURCES;

export function may(source: SourceName, decision: Decision): boolean {
  return (SOURCES[source] as Source).decides.includes(decision);
}

/** The source of an object of this namespace in etcd's data. */
export function ofNamespace(namespace: string): SourceName {
  return namespace === "kube-system" ? "kube-system in etcd" : "another namespace in etcd";
}

export interface Unproved {
  /** Its name for the operator: "etcd/ca.key", "the static pod kube-vip". */
  what: string;
  /** The place of the find, for the operator: "byte 4096 of /dev/vda1". */
  from: string;
  source: SourceName;
  /** Why it is not used, for the operator. Default: nothing proves it. */
  why?: string | undefined;
  content: string | Uint8Array;
  /** Its name in the rescue folder. */
  file: string;
  /** The path at which it would be used; undefined if it is only for a person to look at. */
  place?: string | undefined;
  /** Permission bits at that path. Default 0600. */
  mode?: number | undefined;
}

export function keepUnproved(found: readonly Unproved[], rescueDir: string) {
  const pathOf = ({ file }: Unproved) => `${rescueDir}/unproved/${file}`;
  for (const one of found)
    writeFile(pathOf(one), one.content, { mode: 0o600, folderMode: 0o700, note: "for you to look at" });
  for (const one of found) {
    const { what, why = "nothing proves it", from, source, place, mode = 0o600 } = one;
    say(`${what}: NOT put to use: ${why}; it is from ${from}, where ${SOURCES[source].writer} can write`);
    const take = shell`install -D -m ${mode.toString(8)} ${pathOf(one)} ${place ?? ""}`;
    // a stranger has written it: its bytes may be orders to the terminal
    const look = shell`cat -v ${pathOf(one)}`;
    say(
      place
        ? `  look at it first: ${look}; only if you know that it is yours: ${take}`
        : `  look at it: ${look}`,
    );
  }
}

/**
 * A pod that ran on this node, by its kubelet's records: /var/log/pods/NAMESPACE_NAME_UID, which only root can
 * write (kubernetes pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory). Neither a namespace nor a pod's
 * name can have an underscore. A static pod's `name` ends in the node's name, its `uid` is its config.hash.
 */
interface PodRecord {
  namespace: string;
  name: string;
  uid: string;
}

/** Every pod that the kubelet's records on this node name; none if there is no such folder. */
export function podRecords(): PodRecord[] {
  return list(podLogsDir()).flatMap((folder) => {
    const [, namespace, name, uid] = /^([a-z0-9-]+)_([a-z0-9.-]+)_([0-9a-f-]+)$/.exec(folder) ?? [];
    return namespace && name && uid ? [{ namespace, name, uid }] : [];
  });
}

/**
 * Only root writes a manifest: the kubelet names such a pod after it and the node, and its UID is an MD5 sum.
 */
export function isStaticPodOf({ namespace, name, uid }: PodRecord, pod: string, node: Node): boolean {
  return (
    may(ofNamespace(namespace), "static pods") &&
    isStaticUid(uid) &&
    name === `${pod}-${node.name.toLowerCase()}`
  );
}

/** Static pods that ran here, as `namespace/name` without the node's name → their UIDs. */
export function staticPodRecords(nodeName: string): Map<string, string[]> {
  const records = new Map<string, string[]>();
  for (const { namespace, name, uid } of podRecords()) {
    if (!isStaticUid(uid) || !name.endsWith(nameSuffix(nodeName))) continue;
    const key = `${namespace}/${name.slice(0, -nameSuffix(nodeName).length)}`;
    records.set(key, [...(records.get(key) ?? []), uid]);
  }
  return records;
}
