/** Static pod manifests as files: read, and written as kubeadm writes them. */
import { parse, stringify, YAMLParseError } from "yaml";
import { Fail } from "../fail.ts";
import { exists, list, readText, stat } from "../files/files.ts";
import type { Node } from "../nodes/node.ts";
import { attempt } from "../pki/verdicts.ts";
import type { Manifest } from "./manifests.ts";

/** A manifest from disk; undefined where there is none, or an empty file. Errors: Fail where it is no YAML. */
export function readManifest(path: string): Manifest | undefined {
  try {
    return (parse(readText(path) ?? "") as Manifest | null) ?? undefined;
  } catch (cause) {
    if (!(cause instanceof YAMLParseError)) throw cause;
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
 * The file of a static pod: NAME.yaml, or else the one there that holds a pod of this name, as the kubelet reads every file that does not
 * begin with a dot (pkg/kubelet/config/file.go). A second one beside it would be a second pod of the same name.
 */
export function manifestPath({ node }: { node: Node }, name: string): string {
  const folder = node.kubelet.staticPodPath;
  const usual = `${folder}/${name}.yaml`;
  if (exists(usual)) return usual;
  const files = list(folder).flatMap((file) => (file.startsWith(".") ? [] : [`${folder}/${file}`]));
  return files.find((path) => stat(path)?.kind === "file" && podIn(path) === name) ?? usual;
}

function podIn(path: string): string | undefined {
  const manifest = attempt(() => readManifest(path));
  return manifest instanceof Fail ? undefined : manifest?.metadata?.name;
}
