/**
 * Static pod manifests as files: read, written as kubeadm writes them, and made to wait beside their place; and the
 * certificatesDir that the API server's names.
 */

import { basename, dirname } from "node:path";
import { YAMLParseError } from "yaml";
import { staticPodRecords } from "../evidence/sources.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list, readText, removeFile, renameFile, stat } from "../files/files.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { installer } from "../node/started-with.ts";
import { asPod, type Manifest } from "../objects/objects.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";
import { shell } from "../shell-line.ts";
import { noteUnfinished } from "../this-run.ts";
import { readFirstYaml, yamlText } from "../yaml.ts";
import { commandOf, flags } from "./command.ts";
import { waitingPath } from "./waiting-path.ts";

/** Bytes. The kubelet reads no larger one (pkg/kubelet/config/common.go, maxConfigLength). */
const MAX_SIZE = 10 * 2 ** 20;

/**
 * The first document of the file, as the kubelet reads it. Undefined if there is no file, or an empty one. Errors:
 * Fail if it is no YAML, or no pod.
 */
export function readManifest(path: string): Manifest | undefined {
  const fail = (why: string, cause?: unknown) =>
    new Fail(`"${path}" is no manifest: ${why}`, {
      hint: shell`move it away, then run the same line again: mv ${path} /root/`,
      cause,
    });
  const info = stat(path);
  if (!info) return undefined;
  if (info.kind !== "file") throw fail("it is no file");
  if (info.size > MAX_SIZE) throw fail(`it has ${info.size} bytes, the kubelet reads only ${MAX_SIZE}`);
  const text = readText(path);
  if (!text?.trim()) return undefined;
  const document = parseManifest(text, fail);
  return document === undefined ? undefined : (asPod(document, fail) as Manifest);
}

/** Its own path, or, if that cannot be read, its waiting path; else its own. */
export function whereIs(path: string): string {
  return !readableManifest(path) && exists(waitingPath(path)) ? waitingPath(path) : path;
}

/** Takes a manifest away until part 2 puts it back. */
export function setManifestAside(place: { node: Node }, name: string) {
  const path = manifestPath(place, name);
  const waiting = waitingPath(path);
  noteUnfinished(
    path,
    `${path} is moved aside, to ${waiting}: without it this node runs no ${name}. Part 2 brings it back`,
  );
  renameFile(path, waiting);
}

/** A manifest that waits comes into its place, or is removed if another has come: an exchange was cut off, or part 1 took it away. */
export function settleWaitingManifest(place: { node: Node }, name: string, namespace?: string) {
  const path = manifestPath(place, name, namespace);
  const waiting = waitingPath(path);
  if (exists(waiting) && readableManifest(path)) removeFile(waiting);
  else if (exists(waiting)) renameFile(waiting, path);
  noteUnfinished(path, undefined);
}

function parseManifest(text: string, fail: (why: string, cause: unknown) => Fail): unknown {
  try {
    return readFirstYaml(text);
  } catch (cause) {
    if (!(cause instanceof YAMLParseError)) throw cause;
    throw fail(cause.message.split("\n")[0]!.replace(/:$/, ""), cause);
  }
}

export function manifestText(manifest: Manifest): string {
  return yamlText(manifest);
}

/**
 * An installer's own files beside those of kubeadm: its next run makes them once more where they have another name.
 * Source: kubespray, roles/kubernetes/{node/tasks/loadbalancer,preinstall/tasks/0050-create_directories.yml}.
 */
const LAYOUTS = {
  kubespray: {
    ...{ manifests: ["kube-vip.yml", "nginx-proxy.yml", "haproxy.yml"], linksUsualDir: true },
    balancer: "localhost",
  },
  KubeKey: undefined,
};

function layoutHere() {
  const tool = installer();
  return tool && LAYOUTS[tool];
}

export function linksUsualDir(): boolean {
  return layoutHere()?.linksUsualDir === true;
}

export function balancerHost(): string {
  return layoutHere()?.balancer ?? "127.0.0.1";
}

/** The name of the file of a static pod that is nowhere on disk. */
export function manifestName(name: string): string {
  const own = isKubeadms(name) ? undefined : layoutHere();
  return own?.manifests.find((file) => file === `${name}.yml`) ?? `${name}.yaml`;
}

/**
 * kubeadm's pods are in NAME.yaml, others in files of any name: the kubelet reads every file whose name does not
 * begin with a dot (pkg/kubelet/config/file.go). `namespace`, if known: NAME.yaml may have a pod of this name of
 * another namespace.
 */
export function manifestPath({ node }: { node: Node }, name: string, namespace?: string): string {
  const folder = node.kubelet.staticPodPath;
  const usual = `${folder}/${manifestName(name)}`;
  if (isKubeadms(name)) return usual;
  if (exists(usual) && !isAnothers(usual, { name, namespace })) return usual;
  return (
    filesWith(node, name, namespace).at(-1) ??
    (exists(usual) ? `${folder}/${namespace}-${manifestName(name)}` : usual)
  );
}

/**
 * Other files with a pod of this name. The kubelet runs only one of them, the last by file name; it chooses
 * again at each restart.
 */
export function secondManifests({ node }: { node: Node }, name: string, namespace?: string): string[] {
  const path = manifestPath({ node }, name, namespace);
  return filesWith(node, name, namespace).filter((file) => file !== path);
}

/** Static pods with a manifest on disk, by `namespace/name`. Only root can write there. */
export function podsOnDisk({ node }: { node: Node }): Map<string, Manifest> {
  const pods = filesOf(node)
    .flatMap((path) => readableManifest(path) ?? [])
    .filter(({ kind = "Pod", metadata }) => kind === "Pod" && metadata.name);
  return new Map(
    pods.map((manifest) => [
      `${manifest.metadata.namespace ?? "default"}/${manifest.metadata.name}`,
      manifest,
    ]),
  );
}

/** Those in the kubelet's records, and others in kube-system that are known: `namespace/name`. */
export function lostPods(node: Node, names: readonly string[] = []): string[] {
  const onDisk = podsOnDisk({ node });
  const all = new Set([...staticPodRecords(node.name).keys(), ...names.map((name) => `kube-system/${name}`)]);
  return [...all].filter((key) => !onDisk.has(key)).sort();
}

function filesWith(node: Node, name: string, namespace: string | undefined): string[] {
  return filesOf(node).filter(
    (path) => readableManifest(path)?.metadata.name === name && !isAnothers(path, { name, namespace }),
  );
}

function filesOf(node: Node): string[] {
  const folder = node.kubelet.staticPodPath;
  return list(folder).flatMap((file) => (file.startsWith(".") ? [] : [`${folder}/${file}`]));
}

/** Whether it is a pod of this name in another namespace. kubeadm's pods are in one namespace only. */
function isAnothers(
  path: string,
  { name, namespace }: { name: string; namespace: string | undefined },
): boolean {
  const pod = isKubeadms(name) || namespace === undefined ? undefined : readableManifest(path)?.metadata;
  return pod?.name === name && (pod.namespace ?? "default") !== namespace;
}

/** As `readManifest`, but undefined also if the file is none: no kubelet starts that either. */
export function readableManifest(path: string): Manifest | undefined {
  return attempt(() => readManifest(path), undefined);
}

export function isKubeadms(name: string): boolean {
  return (CONTROL_PLANE as readonly string[]).includes(name);
}

/**
 * The folder of ca.crt, as the API server's or the kubelet's configuration names it: kubeadm writes both
 * (componentconfigs/kubelet.go). Else kubeadm's default.
 */
export function certificatesDirOn(node: Node | undefined): string {
  const manifest = node && attempt(() => readManifest(whereIs(manifestPath({ node }, "kube-apiserver"))));
  const command =
    manifest === undefined || manifest instanceof Fail || !manifest.spec ? [] : commandOf(manifest);
  const named = [flags(command).get("client-ca-file"), node?.kubelet.clientCaFile];
  const path = named.find((one) => one !== undefined && basename(one) === "ca.crt");
  return path ? dirname(path) : CERTIFICATES_DIR;
}
