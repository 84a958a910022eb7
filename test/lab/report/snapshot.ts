/** A snapshot of a cluster, before the damage and after the repair, and the differences between the two. */
import { createHash, X509Certificate } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { parse } from "yaml";
import { Fail } from "../../../shared/fail.ts";
import { kubectlAgain, type Lab, type Machine } from "../machine/machine.ts";

export interface Snapshot {
  kubernetes: string;
  nodes: Record<string, NodeSnapshot>;
  nodeUids: Record<string, string>;
  configMaps: Record<string, string>;
  secrets: Record<string, string>;
}

interface NodeSnapshot {
  /** Files below /etc/kubernetes. */
  files: string[];
  /** sha256 of the files that no repair can make: all but certificates, keys, kubeconfigs and manifests. */
  others: Record<string, string>;
  /** sha256 of the kubelet's own configuration, which no repair may change. */
  kubelet: Record<string, string>;
  /** Static pods, flattened to "path=value" lines. */
  manifests: Record<string, string[]>;
  apiServerNames: string[];
}

const KUBELET_FILES = ["/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env"];

/** These hold the old CA or an old signature: a repair must change them. */
const MUST_CHANGE =
  /\/(kube-root-ca\.crt|cluster-info|extension-apiserver-authentication|kubeadm-certs|bootstrap-token-[a-z0-9]+)$/;

export async function takeSnapshot(lab: Lab): Promise<Snapshot> {
  const [nodes, configMaps, secrets] = await Promise.all(
    ["nodes", "configmaps", "secrets"].map((kind) => list(lab, kind)),
  );
  return {
    ...snapshotOfDisks(lab),
    kubernetes: nodes![0]!.status.nodeInfo.kubeletVersion,
    nodeUids: byName(nodes!, (node) => node.metadata.uid),
    configMaps: byName(unchanging(configMaps!), (map) =>
      sha256(JSON.stringify([map.data ?? null, map.binaryData ?? null])),
    ),
    secrets: byName(unchanging(secrets!), secretFact),
  };
}

/** What the disks show, without an API. */
export function snapshotOfDisks(lab: Lab): Snapshot {
  const nodes = Object.fromEntries(
    lab.nodes.map((node) => [node.name, nodeSnapshot(node, lab.profile.certificatesDir)]),
  );
  return { kubernetes: "", nodes, nodeUids: {}, configMaps: {}, secrets: {} };
}

export async function list(lab: Lab, kind: string): Promise<Item[]> {
  const { stdout, stderr, exitCode } = await kubectlAgain(lab, [
    "get",
    kind,
    "--all-namespaces",
    "-o",
    "json",
  ]);
  if (exitCode !== 0)
    throw new Fail(`Cannot list ${kind}: ${stderr.trim()}`, { hint: "look at the node with --keep" });
  return (JSON.parse(stdout) as { items: Item[] }).items;
}

export interface Item {
  type?: string;
  data?: Record<string, string>;
  binaryData?: Record<string, string>;
  metadata: {
    name: string;
    namespace?: string;
    uid: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  // biome-ignore lint/suspicious/noExplicitAny: status differs by kind
  status?: any;
  // biome-ignore lint/suspicious/noExplicitAny: spec differs by kind
  spec?: any;
}

function unchanging(items: Item[]) {
  return items.filter(({ metadata }) => !MUST_CHANGE.test(`/${metadata.name}`));
}

/** A token Secret gets a new token: only its existence and the names in its data can be compared. */
function secretFact({ type, data }: Item) {
  if (type === "kubernetes.io/service-account-token") return `a token: ${Object.keys(data ?? {}).sort()}`;
  return sha256(JSON.stringify([type, data ?? null]));
}

function byName(items: Item[], value: (item: Item) => string) {
  const name = ({ metadata }: Item) =>
    metadata.namespace ? `${metadata.namespace}/${metadata.name}` : metadata.name;
  return Object.fromEntries(items.map((item) => [name(item), value(item)]));
}

function nodeSnapshot(node: Machine, certificatesDir: string): NodeSnapshot {
  const home = node.path("/etc/kubernetes");
  const all = existsSync(home) ? readdirSync(home, { recursive: true, encoding: "utf8" }) : [];
  const files = all.filter((file) => statSync(`${home}/${file}`).isFile()).sort();
  const manifests = files.filter((file) => /^manifests\/.+\.ya?ml$/.test(file));
  const certificate = node.path(`${certificatesDir}/apiserver.crt`);
  const isCertificate = (file: string) =>
    node.path(`/etc/kubernetes/${file}`).startsWith(`${node.path(certificatesDir)}/`);
  const others = files.filter((file) => !isCertificate(file) && !/^manifests\/|^[^/]+\.conf$/.test(file));
  return {
    files,
    others: Object.fromEntries(others.map((file) => [file, sha256OfFile(`${home}/${file}`)])),
    kubelet: Object.fromEntries(KUBELET_FILES.map((file) => [file, sha256OfFile(node.path(file))])),
    manifests: Object.fromEntries(
      manifests.map((file) => [file, flatten(parse(readFileSync(`${home}/${file}`, "utf8")))]),
    ),
    apiServerNames: existsSync(certificate) ? namesOf(readFileSync(certificate, "utf8")) : [],
  };
}

function namesOf(pem: string) {
  return (new X509Certificate(pem).subjectAltName ?? "").split(", ").sort();
}

/**
 * A manifest as sorted "path=value" lines, so that order does not count: the path uses an item's name, or a
 * flag. Empty values and nulls, which kubeadm writes and an API server leaves out, do not count.
 */
export function flatten(value: unknown, path = ""): string[] {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.flatMap((item) => flatten(item, `${path}[${key(item)}]`)).sort();
  if (typeof value === "object")
    return Object.entries(value)
      .flatMap(([name, inner]) => flatten(inner, `${path}.${name}`))
      .sort();
  return [`${path}=${value}`];
}

function key(item: unknown): string {
  if (typeof item === "string" && item.startsWith("--")) return item.split("=")[0]!;
  if (item && typeof item === "object") {
    if ("name" in item) return String(item.name);
    if ("mountPath" in item) return String(item.mountPath);
  }
  return "";
}

export interface Changes {
  secretsLost: string[];
  configMapsChanged: string[];
  filesNotRestored: string[];
  kubeletFilesChanged: string[];
  manifestsChanged: string[];
  namesLost: string[];
  uidsChanged: string[];
}

/** What differs in `after`. A machine that was `replaced` by a new one is not compared. */
export function compare(before: Snapshot, after: Snapshot, replaced: string[] = []): Changes {
  const changes: Changes = {
    secretsLost: unlike(before.secrets, after.secrets),
    configMapsChanged: unlike(before.configMaps, after.configMaps),
    filesNotRestored: [],
    kubeletFilesChanged: [],
    manifestsChanged: [],
    namesLost: [],
    uidsChanged: unlike(before.nodeUids, after.nodeUids).filter((node) => !replaced.includes(node)),
  };
  for (const [node, was] of Object.entries(before.nodes).filter(([name]) => !replaced.includes(name))) {
    const is = after.nodes[node]!;
    const on = (items: string[]) => items.map((item) => `${node}: ${item}`);
    changes.filesNotRestored.push(
      ...on(was.files.filter((file) => !is.files.includes(file)).map((file) => `/etc/kubernetes/${file}`)),
    );
    const replaced = unlike(was.others, is.others).filter((file) => is.files.includes(file));
    changes.filesNotRestored.push(...on(replaced.map((file) => `/etc/kubernetes/${file} (changed)`)));
    changes.kubeletFilesChanged.push(...on(unlike(was.kubelet, is.kubelet)));
    changes.namesLost.push(...on(was.apiServerNames.filter((name) => !is.apiServerNames.includes(name))));
    for (const [file, lines] of Object.entries(was.manifests))
      changes.manifestsChanged.push(...on(lineDiff(file, lines, is.manifests[file])));
  }
  return changes;
}

function unlike(before: Record<string, string>, after: Record<string, string>) {
  return Object.keys(before).filter((name) => after[name] !== before[name]);
}

function lineDiff(file: string, was: string[], is: string[] | undefined): string[] {
  if (!is) return [`${file} is gone`];
  const lost = was.filter((line) => !is.includes(line)).map((line) => `${file} lost ${line}`);
  const added = is.filter((line) => !was.includes(line)).map((line) => `${file} has a new ${line}`);
  return [...lost, ...added];
}

function sha256(text: string | Uint8Array) {
  return createHash("sha256").update(text).digest("hex");
}

function sha256OfFile(path: string) {
  return existsSync(path) ? sha256(readFileSync(path)) : "no such file";
}
