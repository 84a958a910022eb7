/**
 * Files that are lost and that no script can make again: the flags of the static pods and of the kubelet name
 * them, or the files that these flags name. kubeadm did not make them; only a copy brings them back.
 */

import type { EtcdData } from "../etcd-data/data.ts";
import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import { comingFiles } from "../etcd-location/etcd-home.ts";
import { attempt } from "../fail.ts";
import { exists } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { type HostFile, hostFiles, hostPathOf, namedInside } from "../manifests/command.ts";
import { manifestAsItRan, manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { findStaticPods } from "../manifests/mirror-pods.ts";
import { isKubeadms, podsOnDisk } from "../manifests/on-disk.ts";
import type { Ran } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import type { Manifest, Pod } from "../objects/objects.ts";
import { AGGREGATED_TRUST, configMapIn } from "../objects/stored.ts";
import { infoOf } from "../pki/certificate.ts";
import { CERTIFICATES_DIR, CERTS, type ClusterFacts, certPath, keyPath } from "../pki/certs.ts";
import { KUBECONFIGS } from "../pki/kubeconfigs.ts";
import { oldSaPub } from "../pki/sa-keys.ts";
import type { LostFile } from "./lost-file.ts";

interface Wanted {
  name: string;
  manifest: Pick<Manifest, "spec">;
}

interface Loss {
  /** Whose flag it is; unset: the API server's. */
  of?: string;
  without?: string;
  /** Part 2 puts a replacement into its place. */
  standIn?: true;
  /** A start without the flag means this; unset: there is none. */
  choice?: string;
}

// biome-ignore format: a table
const FLAGS: Record<string, Loss> = {
  "--audit-policy-file":             { standIn: true, without: "part 2 puts a replacement there, which records metadata only" },
  "--config":                        { of: "kube-scheduler", standIn: true, without: "part 2 puts a replacement there, with kube-scheduler's defaults: profiles and extenders of yours are lost" },
  "--encryption-provider-config":    { without: "kube-apiserver does not start, and nothing else decrypts etcd's data", choice: "what is encrypted in etcd stays unreadable, and new Secrets are stored unencrypted. A file that names only a KMS plugin holds no key: RUNBOOK-MORE \"Files that kubeadm never made\" has the lines for it" },
  "--authentication-config":         { choice: "its issuers' tokens are refused, and anonymous requests are as --anonymous-auth says: allowed by default" },
  "--authorization-config":          { choice: "--authorization-mode=Node,RBAC takes its place, so its webhooks are asked no more" },
  "--admission-control-config-file": { choice: "admission plugins have their defaults: PodSecurity enforces nothing in a namespace without its labels" },
  "--egress-selector-config-file":   { choice: "the API server reaches nodes and webhooks without its proxy" },
  "--tracing-config-file":           { choice: "no traces" },
  "--oidc-ca-file":                  { choice: "the OIDC issuer needs a certificate of a CA that the API server's image knows" },
  "--kubelet-certificate-authority": { choice: "the API server does not check the kubelets' serving certificates: kubectl logs and exec may reach another machine" },
  "--service-account-key-file":      { choice: "tokens that the key in it has signed are refused. Part 4 makes new tokens for Secrets, and copies of the old ones outside of the cluster stop working" },
  "--audit-webhook-config-file":     { choice: "audit events go to no webhook" },
  "--authentication-token-webhook-config-file": { choice: "tokens that this webhook accepts are refused" },
};

/** Flags whose files the programs themselves publish, all of their content: the ConfigMap, and its key. */
const PUBLISHED: Record<string, [of: string, key: string]> = {
  "--root-ca-file": ["kube-system/kube-root-ca.crt", "ca.crt"],
  "--client-ca-file": [AGGREGATED_TRUST, "client-ca-file"],
  "--requestheader-client-ca-file": [AGGREGATED_TRUST, "requestheader-client-ca-file"],
};

export function withStored(files: readonly LostFile[], data: EtcdData | undefined): LostFile[] {
  return files.map((file) => {
    const [of, key] = (Object.hasOwn(PUBLISHED, file.namedBy) && PUBLISHED[file.namedBy]) || [];
    if (!data || !of || !isKubeadms(file.program)) return file;
    const text = attempt(() => configMapIn(data, of)?.[key!], undefined);
    const from = `the ConfigMap ${of} in etcd's data`;
    return infoOf(text) ? { ...file, stored: { text: text!, from } } : file;
  });
}

function lossOf(flag: string, program: string): Loss {
  const { of = "kube-apiserver", ...loss } = Object.hasOwn(FLAGS, flag) ? FLAGS[flag]! : {};
  return of === program ? loss : {};
}

/** Undefined where the API server cannot start without the flag. */
export function startWithoutFlag(flag: string): string | undefined {
  return lossOf(flag, "kube-apiserver").choice;
}

type Making = Pick<ClusterFacts, "certificatesDir" | "externalEtcd">;

/** Files that parts 1 and 2 make; also by the link that they make in the place of kubeadm's usual folder. */
export function filesMadeByParts({ certificatesDir, externalEtcd }: Making): ReadonlySet<string> {
  const coming = externalEtcd?.toMake?.flatMap(comingFiles) ?? [];
  const made = [certificatesDir, CERTIFICATES_DIR].flatMap((dir) => [
    ...CERTS.flatMap((row) => [certPath(row, dir), keyPath(row, dir)]),
    ...["/sa.key", "/sa.pub", "", "/etcd"].map((name) => `${dir}${name}`),
    oldSaPub(dir),
  ]);
  return new Set([...coming, ...made, ...KUBECONFIGS.map(({ path }) => path)]);
}

/** Its data says what its static pods need, or else its manifests on disk. */
interface Place {
  data: EtcdData | undefined;
  node: Node;
  certificatesDir: string;
  /** Its folders, and the API server as it runs, or ran. */
  etcd: EtcdFolders;
  ran?: readonly Ran[] | undefined;
  facts?: Pick<ClusterFacts, "externalEtcd"> | undefined;
}

/** The mirror pods in etcd's data name them; of the API server its container, too. */
export function lostHere({ data, node, certificatesDir, etcd, ran, facts }: Place): LostFile[] {
  const mirrors = data ? attempt(() => findStaticPods(data, node.name).proved, []) : [];
  const ranAs = (pod: Pod) => manifestAsItRan(manifestFromMirrorPod(pod, node.name), pod, ran).manifest;
  const manifests = mirrors.flatMap(({ name, pod }) => attempt(() => [{ name, manifest: ranAs(pod) }], []));
  const onDisk = [...podsOnDisk({ node }).values()].map((manifest) => ({
    name: manifest.metadata.name,
    manifest,
  }));
  const others = onDisk.filter(({ name }) => !manifests.some((one) => one.name === name));
  const made = filesMadeByParts({ certificatesDir, externalEtcd: facts?.externalEtcd });
  const all = [...manifests, ...others];
  const lost = lostFiles(all, made);
  if (etcd.apiServer && !all.some(({ name }) => name === "kube-apiserver")) {
    const files = lostFiles([{ name: "kube-apiserver", manifest: etcd.apiServer }], made);
    // without its volumes: the runtime does not say which ones the kubelet creates
    lost.push(...files.filter(({ namedBy }) => !namedBy.startsWith("volume ")));
  }
  return [...withStored(lost, data), ...lostOfKubelet(node)];
}

/** Each lost file of these static pods once, except those that are `made`. `beside`: those that may serve a socket. */
export function lostFiles(pods: readonly Wanted[], made: ReadonlySet<string>, beside = pods): LostFile[] {
  const all = pods.flatMap(({ name, manifest }) => {
    const needed = hostFiles(manifest).filter((file) => isNeeded(file, name));
    const named = needed.flatMap((file) => byPriority(file, manifest, name));
    return [...needed.map((file) => lostFile(file, name)), ...named];
  });
  const lost = firstOfEach(all.filter(({ path }) => !made.has(path) && !exists(path)));
  return lost.map((file) => (file.kind === "socket" ? { ...file, ...serverOf(file, beside) } : file));
}

/** The plugin, if it is a static pod: its words name the socket. */
function serverOf({ path }: LostFile, pods: readonly Wanted[]): { servedBy?: string } {
  const names = ({ manifest }: Wanted) =>
    hostFiles(manifest).some((file) => file.path === path && !file.namedBy.startsWith("volume "));
  const server = pods.find((pod) => !isKubeadms(pod.name) && names(pod));
  return server ? { servedBy: server.name } : {};
}

/** "kube-apiserver --audit-policy-file", or the file that names it. */
export function flagOfLostFile({ namedBy, program }: LostFile): string {
  return namedBy.startsWith("/") ? namedBy : `${program} ${namedBy}`;
}

/** Undefined for what only a copy brings back. */
export function restoredWhen({ kind, servedBy, stored }: LostFile): string | undefined {
  if (stored) return `part 2 writes it again, from ${stored.from}`;
  if (kind !== "socket") return undefined;
  return `not there until ${servedBy ? `the static pod ${servedBy}` : "what serves it"} runs`;
}

/**
 * The runtime, or the program itself, makes the others. Of pods that kubeadm did not make, only their
 * configuration counts.
 */
function isNeeded({ type, path }: HostFile, pod: string): boolean {
  return isKubeadms(pod)
    ? !type.endsWith("OrCreate")
    : path.startsWith("/etc/") && !["DirectoryOrCreate", "Socket"].includes(type);
}

function lostFile({ path, namedBy, type, inside }: HostFile, program: string): LostFile {
  const kind = type === "Directory" ? "folder" : type === "Socket" ? "socket" : "file";
  const usual = kind === "socket" ? unanswered(program) : `${program} does not start`;
  const { without = usual } = lossOf(namedBy, program);
  return { path, kind, program, namedBy, without, inside };
}

function unanswered(program: string): string {
  return `${program} gets no answer from the plugin that serves it`;
}

/** So deep do files name others: admission configuration, a plugin's file, its kubeconfig, its certificate. */
const DEPTH = 4;

function byPriority(
  { path, inside }: Pick<HostFile, "path" | "inside">,
  manifest: Wanted["manifest"],
  program: string,
  depth = DEPTH,
): LostFile[] {
  // kubeadm's kubeconfigs have all inside
  const isConfig = depth > 0 && inside !== "" && !/\.(crt|key|pub|pem)$/.test(path);
  return namedInside((isConfig && smallText(path)) || "", inside).flatMap((named) => {
    const host = hostPathOf(manifest, named.path);
    if (host === undefined) return [];
    const without = named.kind === "socket" ? unanswered(program) : `${program} does not start`;
    const file = { path: host, kind: named.kind, program, namedBy: path, without, inside: named.path };
    return [file, ...byPriority(file, manifest, program, depth - 1)];
  });
}

export function isConfigOfKubelet({ program, namedBy }: Pick<LostFile, "program" | "namedBy">): boolean {
  return program === "kubelet" && namedBy === "--config";
}

export function lostOfKubelet({ kubelet }: Pick<Node, "kubelet">): LostFile[] {
  return kubelet.files
    .filter(({ path, isKept }) => !isKept && !exists(path))
    .map(({ path, flag }) => ({
      ...{ path, namedBy: flag, program: "kubelet", without: "the kubelet does not start", inside: "" },
      kind: flag.endsWith("-dir") ? "folder" : "file",
    }));
}

/** A flag says more than a volume, and a lost folder says nothing where a file below it is lost, too. */
function firstOfEach(files: readonly LostFile[]): LostFile[] {
  const byFlag = [...files].sort(
    (a, b) => Number(a.namedBy.startsWith("volume ")) - Number(b.namedBy.startsWith("volume ")),
  );
  const once = [...new Map(byFlag.toReversed().map((file) => [file.path, file])).values()].reverse();
  return once.filter(
    ({ path, namedBy }) =>
      !namedBy.startsWith("volume ") || !once.some((other) => other.path.startsWith(`${path}/`)),
  );
}

/**
 * Whether it stops a static pod or the kubelet for good. A lost audit policy, or the scheduler's configuration, does
 * not: part 2 puts a replacement there, or what is stored. A socket does not: what serves it may be another static
 * pod, or come later. kube-apiserver asks a KMS plugin again and again, and without its signer it ends after a minute,
 * and its kubelet starts it again (apiserver encryptionconfig/config.go, pkg/serviceaccount/externaljwt/plugin).
 */
export function stopsAll(file: LostFile): boolean {
  return !hasStandIn(file) && file.kind !== "socket" && !file.stored;
}

export function hasStandIn({ program, namedBy }: LostFile): boolean {
  return lossOf(namedBy, program).standIn === true;
}
