/** The files of a node that name addresses of machines, and what they say when these have moved. */
import { attempt, Fail } from "../fail.ts";
import { copyToRescue } from "../files/file-tree.ts";
import { exists, list, readText, writeFile } from "../files/files.ts";
import { KUBELET_CONFIG } from "../node/kubelet-config.ts";
import { hasOtherName, type Node } from "../node/node.ts";
import { kubeletFlags, USUAL_FLAG_FILES } from "../node/started-with.ts";
import { asMoved, type Moved, ofMachines } from "../pki/addresses.ts";
import { KUBECONFIGS, leadsToEndpoint } from "../pki/kubeconfigs.ts";
import { say } from "../run.ts";

export interface FileChange {
  path: string;
  before: string;
  after: string;
}

/** Kubeconfigs, manifests and the kubelet's flags that name an old address, or that do not keep the node's name. */
export async function changesHere(
  node: Node,
  moved: Moved,
  { isControlPlane = false } = {},
): Promise<FileChange[]> {
  const { kubeconfig, staticPodPath } = node.kubelet;
  const keepsName = !(await hostRenamed(node));
  const manifests = list(staticPodPath).filter(
    (name) => /\.(ya?ml|json)$/.test(name) && !name.startsWith("."),
  );
  const paths = [
    ...KUBECONFIGS.map(({ name, path }) => (name === "kubelet" ? kubeconfig : path)),
    ...manifests.map((name) => `${staticPodPath}/${name}`),
    ...USUAL_FLAG_FILES,
    KUBELET_CONFIG,
  ];
  const toEndpoint = new Set(KUBECONFIGS.filter(leadsToEndpoint).map(({ path }) => path));
  const changes = paths.flatMap((path) => {
    const before = exists(path) ? attempt(() => readText(path), undefined) : undefined;
    if (before === undefined) return [];
    const today = asMoved(before, isControlPlane && !toEndpoint.has(path) ? ofMachines(moved) : moved);
    const after = keepsName || path !== KUBEADMS ? today : withName(today, node.name);
    return after === before ? [] : [{ path, before, after }];
  });
  if (!keepsName && !changes.some(({ after }) => after.includes(overrideOf(node.name))))
    throw keepsNoName(node);
  return changes;
}

const overrideOf = (name: string) => `--hostname-override=${name}`;

function keepsNoName({ name, hostName }: Node): Fail {
  return new Fail(`This host is called "${hostName}" now, and "${KUBEADMS}" has no KUBELET_KUBEADM_ARGS`, {
    unchanged: true,
    hint: `put ${overrideOf(name)} where systemctl cat kubelet says that flags are read from; then run the same line again`,
  });
}

/** Whether the host has another name than its node, and the kubelet is not told the node's. */
export async function hostRenamed(node: Node): Promise<boolean> {
  return hasOtherName(node, await kubeletFlags());
}

/** kubeadm keeps the flag in this file (cmd/kubeadm/app/phases/kubelet/flags.go). */
const [KUBEADMS] = USUAL_FLAG_FILES;

function withName(flags: string, name: string): string {
  return flags.replace(/^KUBELET_KUBEADM_ARGS="?/m, (start) => `${start}${overrideOf(name)} `);
}

/** Each old file stays beside, in the rescue folder. */
export function writeChanges(changes: readonly FileChange[], asideDir: string) {
  if (changes.length === 0) say("no file of this node has to change");
  for (const { path, after } of changes) {
    copyToRescue(path, asideDir);
    writeFile(path, after, { note: "with the new addresses" });
  }
}
