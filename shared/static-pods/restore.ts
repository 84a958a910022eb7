/**
 * The static pods of this control plane node: their manifests come back from the mirror pods in etcd's data,
 * with all hand edits. A pod whose files are missing is not started: the files are named, each with the flag
 * that needs it.
 */

import { caIsNew } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { silentSinceCaEnded } from "../facts/leaders.ts";
import { type LostFile, lostFiles, madeFiles, withStored } from "../facts/lost-files.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { copyToRescue, moveToRescue } from "../files/file-tree.ts";
import { stat, writeFile } from "../files/files.ts";
import { isKubeadms, manifestPath, manifestText, secondManifests } from "../manifests/on-disk.ts";
import {
  checksByOldSaKey,
  fitOldSaKey,
  isReduced,
  REDUCED_NOTE,
  reduced,
} from "../manifests/repair-changes.ts";
import { renewedAfterExpiry } from "../node/control-plane-kubelet.ts";
import type { Manifest } from "../objects/objects.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { endWaiting } from "./exchange.ts";
import { fitNamedCas } from "./fit-files.ts";
import { keepBefore } from "./flags-back.ts";
import { manifestToRun, manifestTrouble, onDisk, type Trouble } from "./manifest-trouble.ts";
import { layAsideUnproved } from "./unproved-pods.ts";
import { apiServerMayLive, type WantedManifest, wantedManifests } from "./wanted-manifests.ts";
import { provideFiles, refuseLost, startWithout } from "./without-files.ts";

/**
 * Writes the manifests that are missing. `names` are pod names without the node's (`etcd`, `kube-apiserver`);
 * without it, all pods except etcd. kube-apiserver comes last. Mirror pods without a proof are laid aside.
 * `starts`: those that start with the manifest that lies there, too. Returns whether a manifest was written. Errors:
 * Fail, before anything is written, where a mirror pod is gone, or a file that a pod needs.
 */
export function restoreManifests(cp: ControlPlaneNode, names?: readonly string[], starts?: Starts): boolean {
  const manifests = wantedManifests(cp, names).filter((one) => isKubeadms(one.name) || isStartable(one, cp));
  manifests.sort((a, b) => Number(a.name === "kube-apiserver") - Number(b.name === "kube-apiserver"));
  provideFiles(neededBy(manifests, cp, { made: new Set(), starts }), cp);
  fitNamedCas(cp, names);
  const written = manifests.map((wanted) => restore(wanted, cp)).includes(true);
  layAsideUnproved(cp, names);
  return written;
}

/**
 * The API starts also where a balancer's configuration is lost: the balancer's manifest then waits in the
 * rescue folder.
 */
function isStartable(wanted: WantedManifest, cp: ControlPlaneNode): boolean {
  const lost = lostFiles([wanted], madeFiles(cp.facts.certificatesDir));
  if (lost.length === 0 || !manifestTrouble(wanted, cp)) return true;
  const waiting = `${cp.rescue.dir}/${wanted.name}.yaml`;
  writeFile(waiting, manifestText(wanted.manifest), {
    mode: 0o600,
    folderMode: 0o700,
    note: wanted.source + wanted.remark,
  });
  const files = lost.map(({ path, namedBy }) => `"${path}" (${namedBy})`).join(", ");
  const place = manifestPath(cp, wanted.name, wanted.manifest.metadata.namespace);
  say(
    `${wanted.name}: NOT started, it needs ${files}. Put that back, then: ${shell`mv ${waiting} ${place}`}`,
  );
  return false;
}

/**
 * The manifest on disk, or the wanted one where that on disk cannot stay; adapted to this repair, and written
 * if this changes the disk.
 */
function restore(one: WantedManifest, cp: ControlPlaneNode): boolean {
  const { path, at, kept, differences, trouble } = onDisk(one, cp);
  for (const second of secondManifests(cp, one.name, one.manifest.metadata.namespace))
    moveToRescue(second, cp.asideDir);
  const next = adapted(
    one.name,
    kept ?? one.manifest,
    cp,
    kept && at === path ? stat(at)?.modified : undefined,
  );
  if (next === kept) {
    endWaiting(path);
    say(
      `unchanged ${path}${differences.length > 0 ? `; it differs from the manifest before the repair: ${differences.join(" ")}` : ""}`,
    );
    return at !== path;
  }
  if (trouble) keepOld(at, trouble, cp);
  if (one.before) keepBefore(kept ?? one.before, next, cp);
  const note = [...(kept ? [] : [one.source + one.remark]), ...changesOf(next, kept, cp)].join(", ");
  if (!kept) for (const words of one.said) say(`${one.name}: ${words}`);
  const isNew = writeFile(path, manifestText(next), { folderMode: 0o700, note });
  endWaiting(path);
  return isNew;
}

/**
 * The manifest as this repair needs it; the same object if nothing has to change. A controller-manager that
 * is started here begins reduced. `inPlace`: since when the manifest is there; undefined where it is not, so
 * that nothing runs of it.
 */
function adapted(
  name: string,
  manifest: Manifest,
  cp: ControlPlaneNode,
  inPlace: Date | undefined,
): Manifest {
  if (name === "kube-apiserver") return startWithout(fitOldSaKey(manifest, cp.facts.certificatesDir), cp);
  if (name !== "kube-controller-manager") return manifest;
  return inPlace && goesOnInFull(cp, inPlace) ? manifest : reduced(manifest, cp.facts.kubernetesVersion);
}

/**
 * A full one that is older than a new CA, than the kubelets' expired certificates, or than the end of the CA
 * that they trust, must not go on; a younger one was left by part 3.
 */
function goesOnInFull(cp: ControlPlaneNode, inPlace: Date): boolean {
  const unsafeBefore = caIsNew(cp) ? [cp.rescue.made] : [renewedAfterExpiry(cp.node), silentSinceCaEnded(cp)];
  return unsafeBefore.every((time) => time === undefined || inPlace >= time);
}

/** What `adapted` has changed, for the operator. */
function changesOf(next: Manifest, kept: Manifest | undefined, { facts }: ControlPlaneNode): string[] {
  const [has, had] = [next, kept].map(
    (one) => one !== undefined && checksByOldSaKey(one, facts.certificatesDir),
  );
  return [
    ...(isReduced(next) ? [REDUCED_NOTE] : []),
    ...(has || had
      ? [`${has ? "with" : "without"} sa-old.pub as a second key for service-account tokens`]
      : []),
  ];
}

function keepOld(path: string, trouble: Trouble, { asideDir }: ControlPlaneNode) {
  const info = stat(path);
  if (Array.isArray(trouble)) {
    say(`${path}: differs from the manifest before the repair: ${trouble.join(" ")}`);
    copyToRescue(path, asideDir);
  } else if (info && (info.kind !== "file" || info.size > 0)) moveToRescue(path, asideDir, trouble);
}

/**
 * Puts back the manifests on disk that differ from their mirror pods. This comes before the kubelet starts:
 * it would change the mirror pods to match the disk. Missing manifests wait for part 2; but not those of others than
 * kubeadm where the API may live: it would delete their mirror pods, and nobody could tell then that they were not
 * removed on purpose. All of them wait for part 2 where a file is lost that one of them needs.
 */
export function restoreOthers(cp: ControlPlaneNode) {
  const mayLive = apiServerMayLive(cp);
  const others = wantedManifests(cp).filter((one) => {
    const trouble = manifestTrouble(one, cp);
    return Array.isArray(trouble) || (trouble && mayLive && !isKubeadms(one.name));
  });
  if (others.length === 0) return;
  const names = others.map(({ name }) => name);
  const restored = attempt(() => restoreManifests(cp, names));
  if (restored instanceof Fail) say(`${names.join(", ")}: not put back yet: ${restored.message}`);
}

/** Whether this part starts a pod, or starts it anew: one that goes on has read what is lost now. */
export type Starts = (name: string) => boolean;

/**
 * Fails as `restoreManifests` would, before certificates are written. Errors: Refused where a file is lost
 * that no step makes.
 */
export function refuseLostFiles(cp: ControlPlaneNode, starts: Starts) {
  const made = madeFiles(cp.facts.certificatesDir);
  refuseLost(neededBy(wantedManifests(cp), cp, { made, starts }), cp, Refused);
}

/**
 * What those of kubeadm's pods lack whose manifests will be written, or that start with the one that lies there; and,
 * so that none waits in vain, the pods that serve their sockets.
 */
function neededBy(
  manifests: readonly WantedManifest[],
  cp: ControlPlaneNode,
  { made, starts }: { made: ReadonlySet<string>; starts?: Starts | undefined },
): LostFile[] {
  const run = manifests
    .filter((one) => isKubeadms(one.name) && (manifestTrouble(one, cp) || starts?.(one.name)))
    .map((one) => ({ name: one.name, manifest: adapted(one.name, manifestToRun(one, cp), cp, undefined) }));
  const lost = withStored(lostFiles(run, made, manifests), cp.data);
  const servers = manifests.filter(({ name }) => lost.some(({ servedBy }) => servedBy === name));
  return [...lost, ...lostFiles(servers, made)];
}
