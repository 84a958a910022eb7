/**
 * The static pods of this control plane node: their manifests come back from the mirror pods in etcd's data,
 * with all hand edits. A pod whose files are missing is not started: the files are named, each with the flag
 * that needs it. Mirror pods without a proof are named, and kept in the rescue folder for a person to check.
 */
import { keepUnproved, ofNamespace, type Unproved } from "../evidence/sources.ts";
import { caIsNew } from "../facts/ca-copies.ts";
import { caExpiryIfKubeletsAreSilent } from "../facts/leaders.ts";
import type { LostFile } from "../facts/lost-file.ts";
import { filesMadeByParts, lostFiles, withStored } from "../facts/lost-files.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { copyToRescue, moveToRescue } from "../files/file-tree.ts";
import { stat, writeFile } from "../files/files.ts";
import { manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import type { UnprovedPod } from "../manifests/mirror-pods.ts";
import {
  isKubeadms,
  manifestName,
  manifestText,
  secondManifests,
  settleWaitingManifest,
} from "../manifests/on-disk.ts";
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
import { yamlText } from "../yaml.ts";
import { fitNamedCas } from "./fit-files.ts";
import { apiServerMayLive, unprovedPods, type WantedManifest, wantedManifests } from "./wanted-manifests.ts";
import { keepBefore, provideFiles, refuseLost, startWithout } from "./without-files.ts";
import { type FoundManifest, onDisk, type Trouble } from "./work.ts";

interface How {
  wanted?: readonly WantedManifest[];
  starts?: Starts;
}

/** Whether this part starts a pod, or starts it again: one that keeps running has read what is lost now. */
type Starts = (name: string) => boolean;

/**
 * Writes the manifests that are missing. `names` are pod names without the node's (`etcd`, `kube-apiserver`);
 * without it, all pods except etcd. kube-apiserver comes last. Returns whether a manifest was written. Errors:
 * Fail, before anything is written, if a mirror pod is gone, or a file that a pod needs.
 */
export function restoreManifests(
  cp: ControlPlaneNode,
  names?: readonly string[],
  { wanted = wantedManifests(cp, names), starts }: How = {},
): boolean {
  // looked at once more: a step before may have reduced one of them
  const found = wanted.map((one) => onDisk(one, cp));
  const manifests = found.filter((one) => isKubeadms(one.name) || isStartable(one, cp));
  manifests.sort((a, b) => Number(a.name === "kube-apiserver") - Number(b.name === "kube-apiserver"));
  provideFiles(neededBy(manifests, cp, { made: new Set(), starts }), cp);
  fitNamedCas(cp, wanted);
  const written = manifests.map((one) => restore(one, cp)).includes(true);
  layAsideUnproved(cp, names);
  return written;
}

/**
 * The API starts also where a balancer's configuration is lost: the balancer's manifest then waits in the
 * rescue folder.
 */
function isStartable(one: FoundManifest, cp: ControlPlaneNode): boolean {
  const lost = lostFiles([one], filesMadeByParts(cp.facts));
  if (lost.length === 0 || !one.trouble) return true;
  const { name, manifest, source, remark, path } = one;
  const waiting = `${cp.rescue.dir}/${name}.yaml`;
  writeFile(waiting, manifestText(manifest), { mode: 0o600, folderMode: 0o700, note: source + remark });
  const files = lost.map((file) => `"${file.path}" (${file.namedBy})`).join(", ");
  say(`${name}: NOT started, it needs ${files}. Put that back, then: ${shell`mv ${waiting} ${path}`}`);
  return false;
}

/**
 * The manifest on disk, or the wanted one if that on disk cannot stay; adapted to this repair, and written if
 * this changes the disk.
 */
function restore(one: FoundManifest, cp: ControlPlaneNode): boolean {
  const { name, manifest, path, at, kept, differences, trouble } = one;
  for (const second of secondManifests(cp, name, manifest.metadata.namespace))
    moveToRescue(second, cp.asideDir);
  const inPlace = kept && at === path ? stat(at)?.modified : undefined;
  const next = adapted(name, one.next, cp, inPlace);
  if (next === kept) {
    settleWaitingManifest(cp, name, manifest.metadata.namespace);
    const before = `; it differs from the manifest before the repair: ${differences.join(" ")}`;
    say(`unchanged ${path}${differences.length > 0 ? before : ""}`);
    return at !== path;
  }
  if (trouble) keepOld(at, trouble, cp);
  if (one.before) keepBefore(kept ?? one.before, next, cp);
  const notes = kept ? [] : [one.source + one.remark];
  if (isReduced(next)) notes.push(REDUCED_NOTE);
  const [has, had] = [next, kept].map((pod) => pod && checksByOldSaKey(pod, cp.facts.certificatesDir));
  if (has || had)
    notes.push(`${has ? "with" : "without"} sa-old.pub as a second key for service-account tokens`);
  if (!kept) for (const words of one.corrections) say(`${name}: ${words}`);
  const isNew = writeFile(path, manifestText(next), { folderMode: 0o700, note: notes.join(", ") });
  settleWaitingManifest(cp, name, manifest.metadata.namespace);
  return isNew;
}

/**
 * The manifest as this repair needs it; the same object if nothing has to change. A controller-manager that
 * is started here begins reduced. `inPlace`: since when the manifest is there; undefined if it is not, so that
 * nothing runs of it.
 */
function adapted(name: string, manifest: Manifest, cp: ControlPlaneNode, inPlace?: Date): Manifest {
  if (name === "kube-apiserver") return startWithout(fitOldSaKey(manifest, cp.facts.certificatesDir), cp);
  if (name !== "kube-controller-manager") return manifest;
  // one in full that is older than a new CA, than the kubelets' expired certificates, or than the end of the CA
  // that they trust, must not go on; part 3 has left a younger one
  const unsafeBefore = caIsNew(cp)
    ? [cp.rescue.made]
    : [renewedAfterExpiry(cp.node), caExpiryIfKubeletsAreSilent(cp)];
  const isSafe = inPlace && unsafeBefore.every((time) => time === undefined || inPlace >= time);
  return isSafe ? manifest : reduced(manifest, cp.facts.kubernetesVersion);
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
export function restoreOthers(cp: ControlPlaneNode, servers: readonly WantedManifest[]) {
  const mayLive = apiServerMayLive(cp);
  const others = servers.filter((one) => {
    const { name, trouble } = onDisk(one, cp);
    return Array.isArray(trouble) || (trouble && mayLive && !isKubeadms(name));
  });
  if (others.length === 0) return;
  const names = others.map(({ name }) => name);
  const restored = attempt(() => restoreManifests(cp, names, { wanted: others }));
  if (restored instanceof Fail) say(`${names.join(", ")}: not put back yet: ${restored.message}`);
}

/** Before certificates are written. Errors: as `restoreManifests`; Refused if a file is lost that no step makes. */
export function refuseLostFiles(cp: ControlPlaneNode, pods: readonly FoundManifest[], starts: Starts) {
  const made = filesMadeByParts(cp.facts);
  refuseLost(neededBy(pods, cp, { made, starts }), cp, Refused);
}

/**
 * Lost files of those of kubeadm's pods whose manifests will be written, or that start with the one that lies there;
 * and of the pods that serve their sockets, so that none waits in vain.
 */
function neededBy(
  manifests: readonly FoundManifest[],
  cp: ControlPlaneNode,
  { made, starts }: { made: ReadonlySet<string>; starts?: Starts | undefined },
): LostFile[] {
  const run = manifests.flatMap(({ name, trouble, next }) =>
    isKubeadms(name) && (trouble || starts?.(name)) ? [{ name, manifest: adapted(name, next, cp) }] : [],
  );
  const lost = withStored(lostFiles(run, made, manifests), cp.data);
  const servers = manifests.filter(({ name }) => lost.some(({ servedBy }) => servedBy === name));
  return [...lost, ...lostFiles(servers, made)];
}

/** Prints the command that would use each. */
function layAsideUnproved(cp: ControlPlaneNode, names?: readonly string[]) {
  const { pods, more } = unprovedPods(cp, names);
  keepUnproved(
    pods.map((pod) => asUnproved(pod, cp)),
    cp.rescue.dir,
  );
  if (more > 0)
    say(
      `${more} more such mirror pods: NOT put to use, and not saved; see them with kubectl get pods -A when the API answers`,
    );
}

function asUnproved(one: UnprovedPod, { node }: ControlPlaneNode): Unproved {
  const { namespace, name, pod, why, alike } = one;
  const manifest = attempt(() => manifestText(manifestFromMirrorPod(pod, node.name)));
  const isUsable = !(manifest instanceof Fail) && !isKubeadms(name);
  return {
    what: `the static pod ${namespace}/${name}`,
    from: `the mirror pod ${namespace}/${pod.metadata.name} in etcd's data`,
    source: ofNamespace(namespace),
    why,
    content: manifest instanceof Fail ? yamlText(pod) : manifest,
    file: `${namespace}_${name}.yaml`,
    place: isUsable
      ? `${node.kubelet.staticPodPath}/${alike ? `${namespace}-` : ""}${manifestName(name)}`
      : undefined,
  };
}
