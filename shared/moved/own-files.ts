/** The files of a node that name addresses of machines, and what they say when these have moved. */
import { attempt } from "../fail.ts";
import { copyToRescue } from "../files/file-tree.ts";
import { exists, list, readText, writeFile } from "../files/files.ts";
import { KUBELET_CONFIG } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { USUAL_FLAG_FILES } from "../node/started-with.ts";
import { asMoved, type Moved } from "../pki/addresses.ts";
import { KUBECONFIGS } from "../pki/kubeconfigs.ts";
import { say } from "../run.ts";

export interface FileChange {
  path: string;
  before: string;
  after: string;
}

/** Kubeconfigs, manifests and the kubelet's flags that name an old address. */
export function changesHere({ kubelet }: Node, moved: Moved): FileChange[] {
  const { kubeconfig, staticPodPath } = kubelet;
  const manifests = list(staticPodPath).filter(
    (name) => /\.(ya?ml|json)$/.test(name) && !name.startsWith("."),
  );
  const paths = [
    ...KUBECONFIGS.map(({ name, path }) => (name === "kubelet" ? kubeconfig : path)),
    ...manifests.map((name) => `${staticPodPath}/${name}`),
    ...USUAL_FLAG_FILES,
    KUBELET_CONFIG,
  ];
  return paths.flatMap((path) => {
    const before = exists(path) ? attempt(() => readText(path), undefined) : undefined;
    const after = before === undefined ? undefined : asMoved(before, moved);
    return before === undefined || after === before ? [] : [{ path, before, after: after! }];
  });
}

/** Each old file stays beside, in the rescue folder. */
export function writeChanges(changes: readonly FileChange[], asideDir: string) {
  if (changes.length === 0) say("no file of this node names an old address");
  for (const { path, after } of changes) {
    copyToRescue(path, asideDir);
    writeFile(path, after, { note: "with the new addresses" });
  }
}
