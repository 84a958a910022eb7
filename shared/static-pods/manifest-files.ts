/** Static pod manifests as files: read, and written as kubeadm writes them. */
import { type Document, parseAllDocuments, stringify, YAMLParseError } from "yaml";
import { Fail } from "../fail.ts";
import { exists, list, readText, stat } from "../files/files.ts";
import type { Node } from "../nodes/node.ts";
import { CONTROL_PLANE } from "../nodes/runtime.ts";
import { attempt } from "../pki/verdicts.ts";
import type { Manifest } from "./manifests.ts";

/**
 * A manifest from disk, the first document in it, as the kubelet reads it; undefined where there is none, or an empty file. Errors: Fail
 * where it is no YAML.
 */
export function readManifest(path: string): Manifest | undefined {
  const text = readText(path);
  if (!text?.trim()) return undefined;
  try {
    const [document] = parseAllDocuments(text);
    const [error] = document && "errors" in document ? document.errors : [];
    if (error) throw error;
    return (document as Document | undefined)?.toJS() ?? undefined;
  } catch (cause) {
    // an alias to nothing is found out by toJS
    if (!(cause instanceof YAMLParseError || cause instanceof ReferenceError)) throw cause;
    throw new Fail(`"${path}" is no manifest: ${cause.message.split("\n")[0]?.replace(/:$/, "")}`, {
      hint: `move it away, then run this again: mv ${path} /root/`,
      cause,
    });
  }
}

/** The manifest on disk if it can be used: it is YAML, and has not lost its end, held against the one from before. */
export function usableManifest(path: string, before: Manifest): Manifest | undefined {
  const now = attempt(() => readManifest(path));
  return now instanceof Fail || now === undefined || isCut(now, before) ? undefined : now;
}

/** YAML that was cut off may still be YAML. Its last keys are `volumes` and `status`. */
function isCut(now: Partial<Manifest>, before: Manifest): boolean {
  const [container, wanted] = [now.spec?.containers?.[0], before.spec.containers[0]];
  if (!container?.image || (wanted?.command && !container.command) || (wanted?.args && !container.args)) return true;
  const volumes = new Set(now.spec?.volumes?.map(({ name }) => name));
  return now.status === undefined && (before.spec.volumes ?? []).some(({ name }) => !volumes.has(name));
}

/** YAML as kubeadm writes it. */
export function manifestText(manifest: Manifest): string {
  return stringify(manifest, { lineWidth: 0, indentSeq: false });
}

/**
 * The file of a static pod. kubeadm's lie in NAME.yaml; of any other pod it may have another name, as the kubelet reads every file that
 * does not begin with a dot (pkg/kubelet/config/file.go).
 */
export function manifestPath({ node }: { node: Node }, name: string): string {
  const usual = `${node.kubelet.staticPodPath}/${name}.yaml`;
  if (exists(usual) || isKubeadms(name)) return usual;
  return filesWith(node, name).at(-1) ?? usual;
}

/** Other files with a pod of this name: the kubelet runs only one of them, the last by its file's name, and that after each restart anew. */
export function secondManifests({ node }: { node: Node }, name: string): string[] {
  const path = manifestPath({ node }, name);
  return filesWith(node, name).filter((file) => file !== path);
}

function filesWith(node: Node, name: string): string[] {
  const folder = node.kubelet.staticPodPath;
  const files = list(folder).flatMap((file) => (file.startsWith(".") ? [] : [`${folder}/${file}`]));
  return files.filter((path) => stat(path)?.kind === "file" && podIn(path) === name);
}

function podIn(path: string): string | undefined {
  const manifest = attempt(() => readManifest(path));
  return manifest instanceof Fail ? undefined : manifest?.metadata?.name;
}

/** Whether kubeadm makes the static pod of this name. */
export function isKubeadms(name: string): boolean {
  return (CONTROL_PLANE as readonly string[]).includes(name);
}
