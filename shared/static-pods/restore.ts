/**
 * The static pods of this control plane node: their manifests come back from the mirror pods in etcd's data, hand edits and all. A pod whose files are
 * not there is not started blind: the missing files are named, with the flag that names them.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { attempt, Fail } from "../fail.ts";
import { copyAside, moveAside } from "../files/file-tree.ts";
import { exists, readText, stat, writeFile } from "../files/files.ts";
import { type HostFile, hostFiles } from "../manifests/command.ts";
import type { Manifest } from "../manifests/from-mirror-pod.ts";
import { isKubeadms, manifestPath, manifestText, readManifest, secondManifests, usableManifest } from "../manifests/on-disk.ts";
import { full, isReduced, reduced } from "../manifests/reduced-controllers.ts";
import { checksByOldSaKey, fitOldSaKey } from "../manifests/sa-old-flag.ts";
import { renewedAfterEnd } from "../node/kubelet-certs.ts";
import { certInfo } from "../pki/certificate.ts";
import { CERTS, certPath, certRow } from "../pki/certs.ts";
import { say } from "../run.ts";
import { layAsideUnproved } from "./unproved-pods.ts";
import { FROM_MIRROR_POD, type WantedManifest, wantedManifests } from "./wanted-manifests.ts";

/** Written in the place of a lost audit policy, so that the API server starts and something is recorded. */
const STAND_IN_AUDIT_POLICY = `# A stand-in made by kube-pki-repair: the policy that was here is lost, and the API server does not start without one.
# It records who did what, without bodies. Put your own policy back, then restart the API server (RUNBOOK 2.3).
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
`;

/** How a stand-in is told from a policy of the operator's. */
export const STAND_IN_MARK = "# A stand-in made by kube-pki-repair";

/**
 * Writes the manifests that are missing. `names` are pod names without the node's (`etcd`, `kube-apiserver`); without it all others than
 * etcd, kube-apiserver last. Mirror pods that nothing proves are laid aside. Returns whether a manifest was written.
 * Errors: Fail, before anything is written, where a mirror pod or a file that a pod needs is gone.
 */
export function restoreManifests(cp: ControlPlaneNode, names?: readonly string[]): boolean {
  const manifests = wantedManifests(cp, names).filter((one) => isKubeadms(one.name) || isStartable(one, cp));
  manifests.sort((a, b) => Number(a.name === "kube-apiserver") - Number(b.name === "kube-apiserver"));
  provideFiles(
    manifests
      .filter((one) => isKubeadms(one.name) && manifestTrouble(one, cp))
      .flatMap(({ name, manifest }) => hostFiles(manifest).map((file) => ({ ...file, pod: name }))),
  );
  const written = manifests.map((wanted) => restore(wanted, cp)).includes(true);
  layAsideUnproved(cp, names);
  return written;
}

/** A balancer whose configuration is lost is no reason to leave the API away: it waits alone, its manifest in the rescue folder. */
function isStartable(wanted: WantedManifest, cp: ControlPlaneNode): boolean {
  const lost = hostFiles(wanted.manifest).filter(
    // what is not configuration is made by the program itself, or by the runtime
    ({ type, path }) => path.startsWith("/etc/") && type !== "DirectoryOrCreate" && !isMade(path) && !exists(path),
  );
  if (lost.length === 0 || !manifestTrouble(wanted, cp)) return true;
  const waiting = `${cp.rescue.dir}/${wanted.name}.yaml`;
  writeFile(waiting, manifestText(wanted.manifest), { mode: 0o600, folderMode: 0o700, note: wanted.source + wanted.remark });
  const files = lost.map(({ path, namedBy }) => `"${path}" (${namedBy})`).join(", ");
  say(`${wanted.name}: NOT started, as it needs ${files}: put that back, then: mv ${waiting} ${fileOf(wanted, cp)}`);
  return false;
}

const OLD_TOKENS = "sa-old.pub as a second key for service-account tokens";

/** Whether this repair's cluster CA is another than the one the kubelets know. */
export function caIsNew({ facts, cluster }: Pick<ControlPlaneNode, "facts" | "cluster">): boolean {
  const now = readText(certPath(certRow("ca"), facts.certificatesDir));
  return now !== undefined && certInfo(now).publicKeyHash !== certInfo(cluster.oldCaPem).publicKeyHash;
}

/**
 * While workers cannot be heard, a whole controller-manager empties them: under a new CA, and where the kubelets' certificates have ended, as this
 * control plane node's own had, which tells it. One that was written later is what part 3 leaves; an older one is not safe yet. Undefined: all are.
 */
function unsafeBefore(cp: ControlPlaneNode): Date | undefined {
  return caIsNew(cp) ? cp.rescue.made : renewedAfterEnd(cp.node);
}

/** Whether this control plane node's controller-manager is still reduced; false also where its manifest is not there. */
export function managerIsReduced(cp: Pick<ControlPlaneNode, "node">): boolean {
  const manifest = readManifest(manifestPath(cp, "kube-controller-manager"));
  return manifest !== undefined && isReduced(manifest);
}

/** Where the kubelet reads it, or is to read it. */
function fileOf({ name, manifest }: WantedManifest, cp: Pick<ControlPlaneNode, "node">): string {
  return manifestPath(cp, name, manifest.metadata.namespace);
}

function restore(one: WantedManifest, cp: ControlPlaneNode): boolean {
  const { name, source, remark, manifest } = one;
  const path = fileOf(one, cp);
  for (const second of secondManifests(cp, name, manifest.metadata.namespace)) moveAside(second, cp.asideDir);
  const unsafe = name === "kube-controller-manager" ? unsafeBefore(cp) : undefined;
  const reduce = unsafe !== undefined;
  const wanted = reduce ? reduced(manifest, cp.facts.kubernetesVersion) : manifest;
  const now = usableManifest(path, manifest);
  if (!now) {
    const info = stat(path);
    if (info && (info.kind !== "file" || info.size > 0)) moveAside(path, cp.asideDir);
    const old = checksByOldSaKey(wanted, cp.facts.certificatesDir) ? `, with ${OLD_TOKENS}` : "";
    const how = reduce ? ", reduced: no taints, no evictions, endpoints stay, until part 3 is closed" : old;
    return writeFile(path, manifestText(wanted), { mode: 0o600, folderMode: 0o700, note: source + remark + how });
  }
  const differences = differencesOf(full(now), manifest);
  if (differences.length > 0 && isWrittenInSilence(path, source, cp)) {
    say(`${path}: other than its mirror pod: ${differences.join(" ")}`);
    copyAside(path, cp.asideDir);
    return writeFile(path, manifestText(wanted), { note: "as it was while the API could be told" });
  }
  if (unsafe && stat(path)!.modified < unsafe && !isReduced(now)) {
    return writeFile(path, manifestText(reduced(now, cp.facts.kubernetesVersion)), {
      note: "reduced: no taints, no evictions, endpoints stay, until part 3 is closed",
    });
  }
  const fitted = name === "kube-apiserver" ? fitOldSaKey(now, cp.facts.certificatesDir) : now;
  if (fitted !== now) {
    const onOff = checksByOldSaKey(fitted, cp.facts.certificatesDir) ? "with" : "without";
    return writeFile(path, manifestText(fitted), { note: `${onOff} ${OLD_TOKENS}` });
  }
  say(`${path}: kept${differences.length > 0 ? `; other than before the repair: ${differences.join(" ")}` : ""}`);
  return false;
}

/**
 * A kubelet that hears the API keeps each mirror pod equal to its manifest. A manifest from before this repair that differs was written when
 * no API was there: by an earlier attempt with kubeadm's defaults, or by hand in the disaster.
 */
function isWrittenInSilence(path: string, source: string, { rescue }: ControlPlaneNode): boolean {
  return source === FROM_MIRROR_POD && stat(path)!.modified < rescue.made;
}

/** Why `restoreManifests` will write this manifest; undefined: it will not. */
export function manifestTrouble(one: WantedManifest, cp: ControlPlaneNode): "missing or cut off" | string[] | undefined {
  const { source, manifest } = one;
  const path = fileOf(one, cp);
  const now = usableManifest(path, manifest);
  if (!now) return "missing or cut off";
  const differences = differencesOf(full(now), manifest);
  return differences.length > 0 && isWrittenInSilence(path, source, cp) ? differences : undefined;
}

/**
 * Puts right those manifests of the control plane that are other than the cluster had them, before a kubelet starts that would make them the
 * cluster's own, mirror pod and all. Those that are missing wait for part 2, and so do all where a file is lost that one of them needs.
 */
export function restoreOthers(cp: ControlPlaneNode) {
  const others = wantedManifests(cp).filter((one) => Array.isArray(manifestTrouble(one, cp)));
  if (others.length === 0) return;
  const names = others.map(({ name }) => name);
  const restored = attempt(() => restoreManifests(cp, names));
  if (restored instanceof Fail) say(`${names.join(", ")}: other than before; ${restored.message}`);
}

function differencesOf(now: Manifest, before: Manifest): string[] {
  const image = (manifest: Manifest) => manifest.spec.containers[0]?.image;
  const words = ({ spec: { containers } }: Manifest) => [...(containers[0]?.command ?? []), ...(containers[0]?.args ?? [])];
  return [...diffOf(words(now), words(before)), ...(image(now) === image(before) ? [] : [`image ${image(now)}`])];
}

function diffOf(now: string[], before: string[]): string[] {
  return [
    ...now.filter((flag) => !before.includes(flag)).map((flag) => `+${flag}`),
    ...before.filter((flag) => !now.includes(flag)).map((flag) => `-${flag}`),
  ];
}

/** The refusal of `restoreManifests` alone, before certificates are written: a Fail where a file is lost that no step makes. */
export function refuseLostFiles(cp: ControlPlaneNode) {
  const written = wantedManifests(cp).filter((one) => isKubeadms(one.name) && manifestTrouble(one, cp));
  const files = written.flatMap(({ name, manifest }) => hostFiles(manifest).map((file) => ({ ...file, pod: name })));
  refuseLost(files.filter(({ path, namedBy }) => namedBy.startsWith("--") && !isMade(path)));
}

/** Whether parts 1 and 2 make this file. */
export function isMade(path: string): boolean {
  if (/\/sa\.(key|pub)$|\.conf$|\/pki(\/etcd)?$/.test(path)) return true;
  return CERTS.some((row) => path.endsWith(`/${row.file}.crt`) || path.endsWith(`/${row.file}.key`));
}

/** Files that a pod needs and that no step makes: a stand-in for the audit policy, a stop for all others. */
function provideFiles(files: (HostFile & { pod: string })[]) {
  for (const { path } of refuseLost(files)) {
    writeFile(path, STAND_IN_AUDIT_POLICY, { mode: 0o600, note: "a STAND-IN for the lost audit policy: it records metadata only" });
  }
}

/** Errors: Fail that names what is lost. Returns the audit policies that are: those have a stand-in. */
function refuseLost(files: (HostFile & { pod: string })[]): HostFile[] {
  const missing = files.filter((file) => !file.type.endsWith("OrCreate") && !exists(file.path));
  const audit = missing.filter((file) => file.namedBy === "--audit-policy-file");
  // The policy's own folder may be a volume, too: it comes with the stand-in.
  const lost = missing.filter((file) => !audit.some((policy) => policy.path === file.path || policy.path.startsWith(`${file.path}/`)));
  if (lost.length === 0) return audit;
  throw new Fail(
    `Cannot start ${[...new Set(lost.map((file) => file.pod))].join(", ")}: ${lost.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")} missing`,
    {
      hint: "these files were never made by kubeadm: ./bunw scripts/00-salvage.ts disk looks for them; or put them back from a backup or another control plane node (scp), then run this script again",
    },
  );
}
