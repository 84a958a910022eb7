/** Static pod manifests as files: read, and written as kubeadm writes them. */
import { parse, stringify, YAMLParseError } from "yaml";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
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
  if (!now.spec?.containers?.[0]?.command) return true;
  const volumes = new Set(now.spec.volumes?.map(({ name }) => name));
  return now.status === undefined && (before.spec.volumes ?? []).some(({ name }) => !volumes.has(name));
}

/** YAML as kubeadm writes it. */
export function manifestText(manifest: Manifest): string {
  return stringify(manifest, { lineWidth: 0, indentSeq: false });
}

/** Where the kubelet looks for a static pod. */
export function manifestPath({ node }: { node: Node }, name: string): string {
  return `${node.kubelet.staticPodPath}/${name}.yaml`;
}
