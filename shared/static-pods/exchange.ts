/**
 * Another manifest for a static pod that runs. Written over the old manifest, the new pod would wait for ten
 * seconds and more: the kubelet starts no static pod beside another of the same name, and tries again only
 * after its back-off (pkg/kubelet/pod_workers.go, allowPodStart). So the old manifest is removed first. The
 * new one waits beside its place under a name with a dot, which the kubelet ignores
 * (pkg/kubelet/config/file.go).
 */

import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { exists, removeFile, renameFile, stat, writeFile } from "../files/files.ts";
import { manifestPath, manifestText, readableManifest, waitingPath } from "../manifests/on-disk.ts";
import { type Container, controlPlaneContainers } from "../node/containers.ts";
import type { Manifest } from "../objects/objects.ts";
import { shell } from "../shell-line.ts";
import { leaves } from "../signals.ts";
import { inTime, waitFor } from "../wait-for.ts";

type Place = Pick<ControlPlaneNode, "node">;

/**
 * Exchanges the manifest of a static pod of the control plane. `when`: waits for what the new one needs, while
 * the old one ends. Does not wait for the new pod: the kubelet starts it within a second or two. Errors: Fail
 * if the old pod does not end. The new manifest then stays where it waits, and the next call continues from
 * there.
 */
export async function exchangeManifest(
  cp: Place,
  name: string,
  next: { manifest: Manifest; note: string; when?: () => Promise<void> },
) {
  const path = manifestPath(cp, name);
  const waiting = waitingPath(path);
  const old = await startedNow(cp, name);
  writeFile(waiting, manifestText(next.manifest), { mode: stat(path)?.mode ?? 0o600, note: next.note });
  leaves(
    path,
    `${path} is moved aside: its new content waits in ${waiting}: without it this node runs no ${name}. Run this script again`,
  );
  removeFile(path);
  const hint = shell`crictl ps --name ${name}; journalctl -u kubelet -n 50; then run the same line again`;
  const ends = () => waitFor(`the old ${name} to end`, isForgotten(old, cp.node), { seconds: 90, hint });
  await Promise.all([old.length > 0 && ends(), next.when?.()]);
  renameFile(waiting, path);
  leaves(path, undefined);
}

/**
 * Its containers that run. A kubelet that has just started may not have begun with this pod yet: if the manifest goes
 * then, and another one comes at once, it starts neither. So the pod of the one in place is awaited; one that cannot
 * run holds nothing up.
 */
async function startedNow({ node }: Place, name: string): Promise<Container[]> {
  const look = async () =>
    (await controlPlaneContainers(node.runtimeEndpoint)).filter((container) => container.name === name);
  const isThere = async () => {
    const found = await look();
    return found.length > 0 && found;
  };
  if (!exists(manifestPath({ node }, name))) return await look();
  const hint = shell`crictl ps -a --name ${name}; journalctl -u kubelet -n 50`;
  return (await inTime(`the kubelet to start ${name}`, isThere, { seconds: 30, hint })) ?? [];
}

/** Takes a manifest away until part 2 puts it back. */
export function takeAway(cp: Place, name: string) {
  const path = manifestPath(cp, name);
  leaves(
    path,
    `${path} is moved aside, to ${waitingPath(path)}: without it this node runs no ${name}. Part 2 brings it back`,
  );
  renameFile(path, waitingPath(path));
}

/** Ends an interrupted exchange: the waiting manifest comes into its place, or is removed if another has come. */
export function endWaiting(cp: Place, name: string, namespace?: string) {
  const path = manifestPath(cp, name, namespace);
  const waiting = waitingPath(path);
  if (exists(waiting) && readableManifest(path)) removeFile(waiting);
  else if (exists(waiting)) renameFile(waiting, path);
  leaves(path, undefined);
}

/**
 * Milliseconds. The kubelet removes a pod's folder when the pod's containers have ended. It frees the pod's
 * name at the next tick of its main loop, once a second (pkg/kubelet/kubelet.go, syncTicker). Nothing outside
 * of the kubelet shows that.
 */
const TICK = 1_400;

/** Whether the kubelet has finished with these pods. */
function isForgotten(pods: readonly Container[], { kubelet }: Place["node"]): () => boolean {
  let end: number | undefined;
  return () => {
    if (pods.some(({ podUid }) => exists(`${kubelet.podsDir}/${podUid}`))) return false;
    end ??= Date.now();
    return Date.now() - end >= TICK;
  };
}
