/**
 * A controller-manager that a repair starts begins reduced, whatever the CA: a node that the repair has not reached yet is silent, and a
 * kubelet that has just started reports its pods as unready for a moment. In full it would evict the pods of the one, and take those of the
 * other out of their Services. What lets it run in full again: full-manager.ts.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { stat, writeFile } from "../files/files.ts";
import { manifestPath, manifestText, readableManifest } from "../manifests/on-disk.ts";
import { isReduced, REDUCED_NOTE, reduced } from "../manifests/reduced-controllers.ts";
import { controlPlaneContainers, stopContainers } from "../node/containers.ts";
import { systemctlKubelet } from "../node/systemctl-kubelet.ts";

const MANAGER = "kube-controller-manager";

/** Restarts the kubelet of a control plane node. Its controller-manager ends before: part 0 may have paused it, and nothing else wakes it. */
export async function restartKubelet(cp: ControlPlaneNode) {
  const path = manifestPath(cp, MANAGER);
  const manifest = readableManifest(path);
  if (manifest && !isReduced(manifest)) {
    const mode = stat(path)?.mode ?? 0o600;
    writeFile(path, manifestText(reduced(manifest, cp.facts.kubernetesVersion)), { mode, note: REDUCED_NOTE });
  }
  if (manifest) await endManager(cp);
  await systemctlKubelet("restart");
}

async function endManager({ node }: ControlPlaneNode) {
  const running = (await controlPlaneContainers(node.runtimeEndpoint)).filter(({ name }) => name === MANAGER);
  if (running.length > 0) await stopContainers(node.runtimeEndpoint, running);
}
