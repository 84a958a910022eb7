/** The manifest on disk beside the one that belongs there: may it stay? Reads only. */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { stat } from "../files/files.ts";
import { mainContainer } from "../manifests/command.ts";
import { shownWord, usableManifest } from "../manifests/differences.ts";
import { manifestPath, whereIs } from "../manifests/on-disk.ts";
import { full } from "../manifests/reduced-controllers.ts";
import type { ContainerSpec, Manifest } from "../objects/objects.ts";
import { FROM_MIRROR_POD, type WantedManifest } from "./wanted-manifests.ts";

/** Why the manifest on disk cannot stay. A list: its differences from the mirror pod. */
export type Trouble = "missing or cut off" | string[];

/** Why `restoreManifests` will write this manifest; undefined: it will not. */
export function manifestTrouble(one: WantedManifest, cp: ControlPlaneNode): Trouble | undefined {
  return onDisk(one, cp).trouble;
}

/** The manifest as it will be on disk, but for what a repair changes in it. */
export function manifestToRun(one: WantedManifest, cp: ControlPlaneNode): Manifest {
  return onDisk(one, cp).kept ?? one.manifest;
}

/**
 * What is on disk, and whether it is `kept`. A kubelet that reaches the API keeps each mirror pod equal to its manifest. So a manifest that
 * differs and is older than this repair was written while the API was down: by an attempt with kubeadm's defaults, or by hand.
 */
export function onDisk(one: WantedManifest, cp: ControlPlaneNode) {
  const path = manifestPath(cp, one.name, one.manifest.metadata.namespace);
  const at = whereIs(path);
  const now = usableManifest(at, one.manifest);
  const differences = now ? differencesOf(full(now), one.manifest) : [];
  const isStale = differences.length > 0 && one.source === FROM_MIRROR_POD && stat(at)!.modified < cp.rescue.made;
  const trouble: Trouble | undefined = !now ? "missing or cut off" : isStale ? differences : undefined;
  return { path, at, kept: trouble ? undefined : now, differences, trouble };
}

/** In flags, arguments, images and containers: `+--v=4` is on disk only, `---v=2` in the mirror pod only. */
function differencesOf(now: Manifest, before: Manifest): string[] {
  const [here, there] = [now, before].map((manifest) => {
    const { initContainers = [], containers } = manifest.spec;
    const sidecars = [...initContainers, ...containers].filter((one) => one !== mainContainer(manifest));
    const own = wordsOf(mainContainer(manifest));
    return [...own, ...sidecars.flatMap((one) => wordsOf(one).map((word) => `${one.name}:${word}`))];
  }) as [string[], string[]];
  const only = (sign: string, of: string[], other: string[]) => of.filter((word) => !other.includes(word)).map((word) => sign + word);
  return [...only("+", here, there), ...only("-", there, here)];
}

function wordsOf({ name = "", command = [], args = [], image }: Partial<ContainerSpec> = {}): string[] {
  return [...[...command, ...args].map((word) => shownWord(word, name)), `image=${image}`];
}
