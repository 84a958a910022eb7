/**
 * The manifest on disk beside the one that belongs there: may it stay? And what two manifests of one static
 * pod say differently: hand edits of every kind, and whether one is cut off. Reads only.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { stat } from "../files/files.ts";
import { commandOf, flags, isOlderRelease, mainContainer, shownWord } from "../manifests/command.ts";
import { manifestPath, readableManifest, whereIs } from "../manifests/on-disk.ts";
import { full } from "../manifests/repair-changes.ts";
import type { ContainerSpec, Manifest } from "../objects/objects.ts";
import { veiled } from "../plain.ts";
import { FROM_MIRROR_POD, type WantedManifest } from "./wanted-manifests.ts";
import { flagsToComeBack, withoutFlags } from "./without-files.ts";

/** Why the manifest on disk cannot stay. A list: its differences from the mirror pod. */
export type Trouble = "missing or cut off" | string[];

export type FoundManifest = ReturnType<typeof onDisk>;

/**
 * A wanted manifest beside the one on disk, and whether that is `kept`. `trouble`: why `restoreManifests` will write the wanted one; undefined
 * if it will not. `next`: the manifest as it will be on disk, but for the changes of a repair. A kubelet that reaches the API keeps each mirror pod equal to
 * its manifest. So a manifest that differs and is older than this repair was written while the API was down:
 * by an attempt with kubeadm's defaults, or by hand.
 */
export function onDisk(one: WantedManifest, cp: ControlPlaneNode) {
  const path = manifestPath(cp, one.name, one.manifest.metadata.namespace);
  const at = whereIs(path);
  const now = usableManifest(at, one.manifest);
  const differences = now ? differencesOf(full(now), full(one.manifest)) : [];
  const isOlder = () =>
    one.source === FROM_MIRROR_POD && stat(at)!.modified < cp.rescue.made && !isNewerEtcd(now!, one, cp);
  const isStale = differences.length > 0 && (isOlder() || lacksFlagsAlone(now!, one));
  const trouble: Trouble | undefined = !now ? "missing or cut off" : isStale ? differences : undefined;
  const kept = trouble ? undefined : now;
  return { ...one, path, at, kept, next: kept ?? one.manifest, differences, trouble };
}

/** Whether it differs only by flags that were given up, and whose files are here again. */
function lacksFlagsAlone(now: Manifest, { before, manifest }: WantedManifest): boolean {
  const back = before ? flagsToComeBack(now, manifest) : [];
  return back.length > 0 && differencesOf(full(now), withoutFlags(manifest, back)).length === 0;
}

/**
 * Half a kubeadm upgrade: etcd came up with the file, and no API server wrote its mirror pod since. No older etcd opens
 * what a newer one has written; so the older one comes back only where its own container runs.
 */
function isNewerEtcd(
  now: Manifest,
  { name, manifest }: WantedManifest,
  { ran = [] }: ControlPlaneNode,
): boolean {
  const [here, before] = [now, manifest].map((one) => mainContainer(one)?.image);
  return (
    name === "etcd" && isOlderRelease(before, here) && !ran.some((one) => one.name === name && one.running)
  );
}

/** Flags, arguments, images and containers that differ: `+--v=4` is on disk only, `---v=2` in the mirror pod only. */
function differencesOf(now: Manifest, before: Manifest): string[] {
  const words = (manifest: Manifest) => {
    const { initContainers = [], containers } = manifest.spec;
    const sidecars = [...initContainers, ...containers].filter((one) => one !== mainContainer(manifest));
    const own = wordsOf(mainContainer(manifest));
    return [...own, ...sidecars.flatMap((one) => wordsOf(one).map((word) => `${one.name}:${word}`))];
  };
  return signedDifferences(words(now), words(before));
}

/** `+` before what is here only, `-` before what is there only. */
function signedDifferences(here: readonly string[], there: readonly string[]): string[] {
  const only = (sign: string, of: readonly string[], other: readonly string[]) =>
    of.filter((one) => !other.includes(one)).map((one) => sign + one);
  return [...only("+", here, there), ...only("-", there, here)];
}

function wordsOf({ name = "", command = [], args = [], image }: Partial<ContainerSpec> = {}): string[] {
  return [...[...command, ...args].map((word) => shownWord(word, name)), `image=${image}`];
}

/**
 * `+--v=4` is in `now` only, `-env[TZ].value=(hidden, …)` in `before` only. Changes that a repair makes for a time, and
 * etcd's first members, do not count.
 */
export function manifestDifferences(now: Manifest, before: Manifest): string[] {
  return signedDifferences(manifestLines(now), manifestLines(before));
}

/**
 * Each value of a manifest as a line: `--v=4`, `env[TZ].value=(hidden, …)`: a text that may be a secret is hidden.
 * Without the values that do not count in `manifestDifferences`.
 */
export function manifestLines(manifest: Manifest): string[] {
  const copy = structuredClone(full(manifest));
  const command = flags(commandOf(copy));
  // etcd reads its members from its data: the flags are for its first start
  if (copy.metadata.name === "etcd")
    for (const name of ["initial-cluster", "initial-cluster-state"]) command.remove(name);
  const { labels, annotations } = copy.metadata;
  const { containers, ...spec } = copy.spec;
  const inside = containers.flatMap((container) =>
    flat(container, containers.length > 1 ? container.name : "", container.name),
  );
  return [...flat({ labels, annotations, ...spec }, "", ""), ...inside];
}

/**
 * A line for each value; the order of a list does not count. An item of a list goes by its name, a word of a
 * command by itself.
 */
function flat(value: unknown, path: string, container: string): string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((item) => flat(item, `${path}[${nameOf(item)}]`, container));
  if (typeof value !== "object") {
    if (/\b(?<!\bexec\.)(command|args)\[\]$/.test(path)) return [shownWord(String(value), container)];
    const isHidden = typeof value === "string" && !OPEN.test(path);
    return [`${path}=${isHidden ? veiled(value) : String(value)}`];
  }
  const named = path.endsWith(`[${nameOf(value)}]`);
  return Object.entries(value).flatMap(([key, child]) =>
    named && key === "name" ? [] : flat(child, path ? `${path}.${key}` : key, container),
  );
}

/**
 * Fields whose text is no secret, by the end of their path. Every other text may be one: a variable, a header
 * of a probe, an annotation.
 */
const OPEN =
  /(^|\.)(image|imagePullPolicy|mountPath|mountPropagation|path|type|port|scheme|host|cpu|memory|priorityClassName|restartPolicy|dnsPolicy|protocol|effect|operator|key|terminationMessagePath|terminationMessagePolicy|(add|drop)\[\])$|^labels\./;

function nameOf(item: unknown): string {
  return typeof item === "object" && item && "name" in item ? String(item.name) : "";
}

/** The manifest on disk if it can be used: it is YAML, and is not cut off, compared with the old one. */
export function usableManifest(path: string, before: Manifest): Manifest | undefined {
  const now = readableManifest(path);
  return now && !isCut(now, before) ? now : undefined;
}

/** YAML that was cut off may still be YAML. A manifest's last keys are `volumes` and `status`. */
function isCut(now: Partial<Manifest>, before: Manifest): boolean {
  const [container, wanted] = [mainContainer({ spec: now.spec ?? {} }), mainContainer(before)];
  if (!container?.image || (wanted?.command && !container.command) || (wanted?.args && !container.args))
    return true;
  const volumes = new Set(now.spec?.volumes?.map(({ name }) => name));
  return now.status === undefined && (before.spec.volumes ?? []).some(({ name }) => !volumes.has(name));
}
