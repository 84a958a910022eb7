/**
 * A controller-manager that runs in full comes last. A kubelet that has just started reports its pods as unready for a moment, and a full
 * controller-manager then takes them out of their Services: for customers that is an outage. So on this node it waits until the pods are
 * ready again. Under a new CA it is reduced and need not wait: see adapted in restore.ts.
 */
import { waitForEndpoints } from "../api/endpoints.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { stat } from "../files/files.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import { isReduced } from "../manifests/reduced-controllers.ts";
import { controlPlaneContainers, stopContainers } from "../node/containers.ts";
import { turnKubelet } from "../node/turn-kubelet.ts";
import { say } from "../run.ts";
import { finishExchange, takeAway, waitingSince } from "./exchange.ts";
import { mayRunInFull, restoreManifests } from "./restore.ts";

const MANAGER = "kube-controller-manager";

/**
 * Restarts the kubelet of a control plane node. Its controller-manager ends before: part 0 may have paused it, and nothing else wakes it. A
 * full one leaves.
 */
export async function restartKubelet(cp: ControlPlaneNode) {
  const path = manifestPath(cp, MANAGER);
  const manifest = readableManifest(path);
  if (manifest && !isReduced(manifest) && mayRunInFull(cp, stat(path)?.modified)) {
    takeAway(cp, MANAGER);
    say(`${MANAGER}: waits for this node's pods to be ready again; it comes back at the end of part 2`);
  }
  if (manifest) await endManager(cp);
  await turnKubelet("restart");
}

async function endManager({ node }: ControlPlaneNode) {
  const running = (await controlPlaneContainers(node.runtimeEndpoint)).filter(({ name }) => name === MANAGER);
  if (running.length > 0) await stopContainers(node.runtimeEndpoint, running);
}

/** Puts the static pods of part 2 back, except a controller-manager that comes last. Returns whether a manifest was written. */
export function restoreServers(cp: ControlPlaneNode): boolean {
  return restoreManifests(cp, undefined, { except: comesLast(cp) ? MANAGER : undefined });
}

function comesLast(cp: ControlPlaneNode): boolean {
  return !readableManifest(manifestPath(cp, MANAGER)) && mayRunInFull(cp, waitingSince(cp, MANAGER));
}

/** The end of part 2: the controller-manager that waited. */
export async function restoreLateManager(cp: ControlPlaneNode, api: KubeApi) {
  if (!comesLast(cp)) return;
  await waitForEndpoints(api, [cp.node.name]);
  finishExchange(cp, MANAGER);
  restoreManifests(cp, [MANAGER]);
}
