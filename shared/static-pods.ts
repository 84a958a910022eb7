/**
 * The static pods of this master: their manifests come back from the mirror pods in etcd's data, hand edits and all. A pod whose files are
 * not there is not started blind: the missing files are named, with the flag that names them.
 */
import { parse, stringify } from "yaml";
import { certInfo } from "./certificate.ts";
import { certPath, certRow, minorOf } from "./certs.ts";
import { Fail } from "./fail.ts";
import { exists, readText, stat, writeFile } from "./files.ts";
import { findMirrorPods, flags, type HostFile, hostFiles, type Manifest, manifestFromMirrorPod } from "./manifests.ts";
import type { Master } from "./master.ts";
import { say } from "./run.ts";
import { manifestFromSister } from "./sister-manifests.ts";

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
 * etcd, kube-apiserver last. Returns whether anything was written.
 * Errors: Fail, before anything is written, where a mirror pod or a file that a pod needs is gone.
 */
export function restoreManifests(master: Master, names?: readonly string[]): boolean {
  const own = findMirrorPods(master.data, master.node.name).filter(({ name }) => names?.includes(name) ?? name !== "etcd");
  const manifests: Restored[] = own.map(({ name, pod, from }) => ({
    name,
    source: `from its mirror pod in etcd${from === "history" ? "'s history" : ""}`,
    manifest: manifestFromMirrorPod(pod, master.node.name),
  }));
  for (const name of names ?? ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]) {
    if (manifests.some((restored) => restored.name === name) || exists(manifestPath(master, name))) continue;
    const derived = manifestFromSister(name, master);
    if (!derived) throw noMirrorPod(name, master);
    manifests.push({ name, ...derived });
  }
  manifests.sort((a, b) => Number(a.name === "kube-apiserver") - Number(b.name === "kube-apiserver"));

  const absent = manifests.filter(({ name }) => !exists(manifestPath(master, name)));
  provideFiles(absent.flatMap(({ name, manifest }) => hostFiles(manifest).map((file) => ({ ...file, pod: name }))));
  return manifests.map((restored) => restore(restored, master)).includes(true);
}

interface Restored {
  name: string;
  /** Where it comes from, for the operator. */
  source: string;
  manifest: Manifest;
}

export function manifestPath(master: Pick<Master, "node">, name: string): string {
  return `${master.node.kubelet.staticPodPath}/${name}.yaml`;
}

/** Whether this repair's cluster CA is another than the one the kubelets know. */
export function caIsNew({ facts, cluster }: Pick<Master, "facts" | "cluster">): boolean {
  const now = readText(certPath(certRow("ca"), facts.certificatesDir));
  return now !== undefined && certInfo(now).publicKeyHash !== certInfo(cluster.oldCaPem).publicKeyHash;
}

/**
 * The controller-manager without what would punish nodes that the repair has not reached yet: no taints, no evictions, no pods collected,
 * and Services keep the endpoints they have. `--controllers=*,…,-node-lifecycle-controller`.
 */
export function reduced(manifest: Manifest, kubernetesVersion: string): Manifest {
  if (manifest.metadata.annotations?.[REDUCED] !== undefined) return manifest;
  const minor = minorOf(kubernetesVersion);
  const off = PUNISHERS.filter(({ since }) => (since ?? 0) <= minor).map(({ name, old }) => (minor < 28 ? old : name));
  const before = flags(commandOf(manifest)).get("controllers") ?? "*,bootstrapsigner,tokencleaner";
  const copy = structuredClone(manifest);
  copy.metadata.annotations = { ...copy.metadata.annotations, [REDUCED]: before };
  flags(commandOf(copy)).set("controllers", [before, ...off.map((name) => `-${name}`)].join(","));
  return copy;
}

/** The controller-manager as it was before `reduced`. */
export function full(manifest: Manifest): Manifest {
  const before = manifest.metadata.annotations?.[REDUCED];
  if (before === undefined) return manifest;
  const copy = structuredClone(manifest);
  delete copy.metadata.annotations?.[REDUCED];
  flags(commandOf(copy)).set("controllers", before);
  return copy;
}

/** A manifest from disk, or undefined. */
export function readManifest(path: string): Manifest | undefined {
  const text = readText(path);
  return text === undefined ? undefined : (parse(text) as Manifest);
}

function commandOf(manifest: Manifest): string[] {
  return manifest.spec.containers[0]?.command ?? [];
}

function restore({ name, source, manifest }: Restored, master: Master): boolean {
  const path = manifestPath(master, name);
  const reduce = name === "kube-controller-manager" && caIsNew(master);
  const wanted = reduce ? reduced(manifest, master.facts.kubernetesVersion) : manifest;
  const now = readManifest(path);
  if (!now) {
    const how = reduce ? ", reduced: no taints, no evictions, endpoints stay, until part 3 is closed" : "";
    return writeFile(path, manifestText(wanted), { mode: 0o600, folderMode: 0o700, note: source + how });
  }
  // A full controller-manager that was written during this repair is what part 3 leaves; an older one is not safe yet.
  if (reduce && stat(path)!.modified < master.rescue.made && now.metadata.annotations?.[REDUCED] === undefined) {
    return writeFile(path, manifestText(reduced(now, master.facts.kubernetesVersion)), {
      note: "reduced: no taints, no evictions, endpoints stay, until part 3 is closed",
    });
  }
  const differences = differencesOf(full(now), manifest);
  say(`${path}: kept${differences.length > 0 ? `; other than before the repair: ${differences.join(" ")}` : ""}`);
  return false;
}

/** YAML as kubeadm writes it. */
export function manifestText(manifest: Manifest): string {
  return stringify(manifest, { lineWidth: 0, indentSeq: false });
}

function differencesOf(now: Manifest, before: Manifest): string[] {
  const image = (manifest: Manifest) => manifest.spec.containers[0]?.image;
  return [...diffOf(commandOf(now), commandOf(before)), ...(image(now) === image(before) ? [] : [`image ${image(now)}`])];
}

function diffOf(now: string[], before: string[]): string[] {
  return [
    ...now.filter((flag) => !before.includes(flag)).map((flag) => `+${flag}`),
    ...before.filter((flag) => !now.includes(flag)).map((flag) => `-${flag}`),
  ];
}

/** Files that a pod needs and that no step makes: a stand-in for the audit policy, a stop for all others. */
function provideFiles(files: (HostFile & { pod: string })[]) {
  const missing = files.filter((file) => !file.type.endsWith("OrCreate") && !exists(file.path));
  const audit = missing.filter((file) => file.namedBy === "--audit-policy-file");
  const lost = missing.filter((file) => !audit.some((policy) => policy.path === file.path));
  if (lost.length > 0) {
    throw new Fail(
      `Cannot start ${[...new Set(lost.map((file) => file.pod))].join(", ")}: ${lost.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")} missing`,
      {
        hint: "these files were never made by kubeadm: put them back from a backup or another master (scp), then run this script again",
      },
    );
  }
  for (const { path } of audit) {
    writeFile(path, STAND_IN_AUDIT_POLICY, { mode: 0o600, note: "a STAND-IN for the lost audit policy: it records metadata only" });
  }
}

function noMirrorPod(name: string, { node }: Master): Fail {
  return new Fail(`Cannot find the mirror pod of ${name} on "${node.name}" in etcd's data`, {
    hint: `take ${name}.yaml from another master, change the node's name and addresses in it, put it into ${node.kubelet.staticPodPath}: RUNBOOK 1, "If a mirror pod is gone"`,
  });
}
