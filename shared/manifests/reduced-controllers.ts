/**
 * The controller-manager while nodes come back: what punishes silence is off, and what it had before stands in its manifest's annotations,
 * so that any run on any day can put it back.
 */
import { minorOf } from "../pki/certs.ts";
import { flags } from "./command.ts";
import type { Manifest } from "./from-mirror-pod.ts";

/** Where the controller-manager's own `--controllers` is kept while it runs reduced: in its manifest, for everybody to see. */
export const REDUCED = "kube-pki-repair/controllers-before";

/**
 * Controllers that draw conclusions from silence: a node that the repair has not reached is not dead, and a kubelet that has just been
 * restarted calls its pods unready for a moment (before 1.35). The short names are those of before 1.28; taint eviction is a controller of
 * its own since 1.29. Source: cmd/kube-controller-manager/names and the aliases in its app/*.go.
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
 * The controller-manager's own limit on requests is 20/s: 5,000 signing requests would take four minutes, 10,000 Secrets with an old CA
 * nine. For the time of the repair it is higher, unless the operator has set it higher still. Flag → value and the annotation that keeps
 * what stood there before, "" where nothing did.
 */
const LIMITS = {
  "kube-api-qps": { value: 1000, before: "kube-pki-repair/kube-api-qps-before" },
  "kube-api-burst": { value: 2000, before: "kube-pki-repair/kube-api-burst-before" },
} as const;

/**
 * The controller-manager without what would punish nodes that the repair has not reached yet: no taints, no evictions, no pods collected,
 * Services keep the endpoints they have; and with more requests per second, so that it is not what thousands of nodes wait for.
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
    // A negative limit means none at all.
    if (now !== undefined && (Number(now) >= value || Number(now) < 0)) continue;
    manifest.metadata.annotations![before] = now ?? "";
    command.set(flag, String(value));
  }
}

export function isReduced(pod: Pick<Manifest, "metadata">): boolean {
  return pod.metadata.annotations?.[REDUCED] !== undefined;
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

function commandOf(manifest: Manifest): string[] {
  return manifest.spec.containers[0]?.command ?? [];
}
