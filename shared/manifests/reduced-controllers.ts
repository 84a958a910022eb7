/**
 * The controller-manager while nodes come back: the controllers that taint and evict unreachable nodes are off. Its manifest's annotations keep what it
 * had before, so that any later run can put it back.
 */

import type { Node } from "../node/node.ts";
import type { Manifest } from "../objects/objects.ts";
import { minorOf } from "../pki/certs.ts";
import { commandOf, flags } from "./command.ts";
import { manifestPath, readableManifest } from "./on-disk.ts";

/** The annotation that keeps the controller-manager's own `--controllers` while it runs reduced. */
export const REDUCED = "kube-pki-repair/controllers-before";

/** Beside a manifest that is written so, for the operator. */
export const REDUCED_NOTE = "reduced: no taints, no evictions, endpoints stay, until all nodes are back";

/**
 * Controllers that act when a node is silent: a node that the repair has not reached is not dead, and a kubelet that has just restarted
 * reports its pods as unready for a moment (before 1.35). The short names are those before 1.28; taint eviction is a separate controller
 * since 1.29. Source: cmd/kube-controller-manager/names and the aliases in its app/*.go.
 */
// biome-ignore format: a table
const PUNISHERS: { name: string; old: string; since?: number }[] = [
  { name: "node-lifecycle-controller",          old: "nodelifecycle" },
  { name: "taint-eviction-controller",          old: "", since: 29 },
  { name: "pod-garbage-collector-controller",   old: "podgc" },
  { name: "endpoints-controller",               old: "endpoint" },
  { name: "endpointslice-controller",           old: "endpointslice" },
  { name: "endpointslice-mirroring-controller", old: "endpointslicemirroring" },
];

/**
 * The controller-manager's own limit is 20 requests a second: 5,000 CSRs would take four minutes, 10,000 Secrets with an old CA nine.
 * During the repair the limit is higher, unless the operator has set it higher still. Flag → value, and the annotation that keeps the value
 * from before, "" for none.
 */
const LIMITS = {
  "kube-api-qps": { value: 1000, before: "kube-pki-repair/kube-api-qps-before" },
  "kube-api-burst": { value: 2000, before: "kube-pki-repair/kube-api-burst-before" },
} as const;

/**
 * The controller-manager without the controllers that would punish nodes that the repair has not reached yet: no taints, no evictions, no
 * pods collected, Services keep their endpoints. And with more requests per second, so that thousands of nodes do not wait for it.
 */
export function reduced(manifest: Manifest, kubernetesVersion: string): Manifest {
  if (isReduced(manifest)) return manifest;
  const minor = minorOf(kubernetesVersion);
  const off = PUNISHERS.filter(({ since }) => (since ?? 0) <= minor).map(({ name, old }) => (minor < 28 ? old : name));
  const before = flags(commandOf(manifest)).get("controllers") ?? "*,bootstrapsigner,tokencleaner";
  const copy = structuredClone(manifest);
  copy.metadata.annotations = { ...copy.metadata.annotations, [REDUCED]: before };
  flags(commandOf(copy)).set("controllers", [before, ...off.map((name) => `-${name}`)].join(","));
  liftLimits(copy);
  return copy;
}

function liftLimits(manifest: Manifest) {
  const command = flags(commandOf(manifest));
  for (const [flag, { value, before }] of Object.entries(LIMITS)) {
    const now = command.get(flag);
    // A negative limit means no limit.
    if (now !== undefined && (Number(now) >= value || Number(now) < 0)) continue;
    manifest.metadata.annotations![before] = now ?? "";
    command.set(flag, String(value));
  }
}

export function isReduced(pod: Pick<Manifest, "metadata">): boolean {
  return pod.metadata.annotations?.[REDUCED] !== undefined;
}

/** Whether this node's controller-manager is still reduced; false also where its manifest is missing, or damaged. */
export function managerIsReduced(place: { node: Node }): boolean {
  const manifest = readableManifest(manifestPath(place, "kube-controller-manager"));
  return manifest !== undefined && isReduced(manifest);
}

/** The controller-manager as it was before `reduced`. */
export function full(manifest: Manifest): Manifest {
  const before = manifest.metadata.annotations?.[REDUCED];
  if (before === undefined) return manifest;
  const copy = structuredClone(manifest);
  delete copy.metadata.annotations?.[REDUCED];
  flags(commandOf(copy)).set("controllers", before);
  restoreLimits(copy);
  if (Object.keys(copy.metadata.annotations ?? {}).length === 0) delete copy.metadata.annotations;
  return copy;
}

function restoreLimits(manifest: Manifest) {
  const command = flags(commandOf(manifest));
  for (const [flag, { before }] of Object.entries(LIMITS)) {
    const value = manifest.metadata.annotations?.[before];
    if (value === undefined) continue;
    delete manifest.metadata.annotations?.[before];
    if (value === "") command.remove(flag);
    else command.set(flag, value);
  }
}
