/**
 * The controller-manager is held until nodes are back.
 *
 * Part 0 has paused it, and the line of an older kit has paused others of its name beside it. One that a
 * repair starts begins reduced, whatever the CA: a node that the repair has not reached yet is silent, and a
 * kubelet that has just started reports its pods as unready for a moment. In full it would evict the pods of
 * the one, and take those of the other out of their Services. What lets it run in full again:
 * full-manager.ts.
 */

import { $ } from "zx/core";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { stat, writeFile } from "../files/files.ts";
import { manifestPath, manifestText, readableManifest } from "../manifests/on-disk.ts";
import { isReduced, REDUCED_NOTE, reduced } from "../manifests/repair-changes.ts";
import { type Container, controlPlaneContainers, stopContainers } from "../node/containers.ts";
import { refuseUnfitKubelet, systemctlKubelet } from "../node/systemctl-kubelet.ts";
import { act, say } from "../run.ts";
import { COMM, shell } from "../shell-line.ts";

const MANAGER = "kube-controller-manager";

/**
 * Restarts the kubelet of a control plane node. Its controller-manager ends before: part 0 may have paused
 * it, and nothing else wakes it.
 */
export async function restartKubelet(cp: ControlPlaneNode) {
  await refuseUnfitKubelet();
  reduceInPlace(cp);
  if (readableManifest(manifestPath(cp, MANAGER))) await endManager(cp);
  await systemctlKubelet("restart");
}

/**
 * Reduces the manifest that the kubelet has: before the credentials come with which one in full could lead, and
 * before its process ends, as the kubelet starts it again at once. Returns whether it was in full.
 */
export function reduceInPlace(cp: ControlPlaneNode): boolean {
  const path = manifestPath(cp, MANAGER);
  const manifest = readableManifest(path);
  if (!manifest || isReduced(manifest)) return false;
  const mode = stat(path)?.mode ?? 0o600;
  const text = manifestText(reduced(manifest, cp.facts.kubernetesVersion));
  return writeFile(path, text, { mode, note: REDUCED_NOTE });
}

async function endManager({ node }: ControlPlaneNode) {
  const running = (await controlPlaneContainers(node.runtimeEndpoint)).filter(({ name }) => name === MANAGER);
  if (running.length > 0) await stopContainers(node.runtimeEndpoint, running);
}

/** Whether this node's controller-manager is: nothing but a restart wakes it. */
export function managerIsPaused(all: readonly Container[]): boolean {
  return stoppedProcesses(knownHere(all)).some(({ isManager }) => isManager);
}

/**
 * Continues what has the controller-manager's name and is not this node's own: an older kit paused all of
 * that name, and nothing else continues it. What is called otherwise somebody else has stopped: it is named.
 */
export async function continueOthers(all: readonly Container[]) {
  for (const { pid, comm, of, isManager } of stoppedProcesses(knownHere(all))) {
    const [what, line] = [`${comm} (pid ${pid}) of ${of}`, shell`kill -CONT ${String(pid)}`];
    const pausesAll = `${what}; the line of an older kit pauses all of this name`;
    if (comm === MANAGERS && !isManager)
      // the program: a shell has a kill of its own
      await act("continue", pausesAll, () => $({ quiet: true })`env kill -CONT ${pid}`);
    else if (!isManager) say(`${what} is stopped, and not by this kit. To continue it: ${line}`);
  }
}

const MANAGERS = "kube-controller-manager".slice(0, COMM);
