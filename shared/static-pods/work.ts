/**
 * The work of parts 1 and 2 on this node: how its PKI is treated, and each manifest that is wanted beside the one on disk:
 * may it stay? The first screen, a dry run and the parts themselves read one list. Reads only.
 */
import { command } from "../again.ts";
import { foldersOfPod, keyOf } from "../etcd-location/etcd-folders.ts";
import { hostOf } from "../etcd-location/reach-etcd.ts";
import { reachedBy } from "../facts/endpoint.ts";
import { readEvidence } from "../facts/evidence.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import { namesBefore } from "../facts/names-before.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, stat } from "../files/files.ts";
import { isOlderRelease, mainContainer, podFlags, printableArgument } from "../manifests/command.ts";
import { mirrorPod } from "../manifests/mirror-pods.ts";
import { manifestPath, readableManifest, whereIs } from "../manifests/on-disk.ts";
import { signedDifferences, withAllControllers } from "../manifests/repair-changes.ts";
import { type Container, containers } from "../node/containers.ts";
import type { ContainerSpec, Manifest } from "../objects/objects.ts";
import {
  type ActionOptions,
  actionForSigned,
  actionsFor,
  type NewCas,
  type PkiAction,
} from "../pki/actions.ts";
import { isFor } from "../pki/addresses.ts";
import { CERTS, type Cert, isEtcds } from "../pki/certs.ts";
import { pkiFindings } from "../pki/examine.ts";
import { kubeconfigRows } from "../pki/kubeconfigs.ts";
import {
  FROM_MIRROR_POD,
  SERVERS,
  type WantedManifest,
  wantedManifests,
  wantsSuperAdmin,
} from "./wanted-manifests.ts";
import { flagsToComeBack, withoutFlags } from "./without-files.ts";

/**
 * The work of a part on this node: each thing that is wanted, beside what is found there. It is looked at once, and
 * holds until it is done: this run alone writes here.
 */
export interface Work {
  /** A CA stands before what it signs. */
  pki: PkiAction[];
  pods: FoundManifest[];
}

/** Only what is not as it should be. */
export function toWrite({ pki, pods }: Work): Work {
  return { pki: pki.filter(({ todo }) => todo !== "keep"), pods: pods.filter(({ trouble }) => trouble) };
}

/**
 * Part 1's, with `keys`, the shared ones; and the servers' manifests, which a kubelet that restarts reads. None of a
 * part's manifests if a mirror pod is gone, or cannot be read: the step that needs it says so.
 */
export function etcdWork(cp: ControlPlaneNode, keys: readonly PkiAction[]): Work {
  const ca = keys.find(({ row }) => row?.name === "etcd-ca")?.todo;
  const leaves = pkiFindings({ certs: CERTS.filter(isEtcds) }, cp.facts);
  const wanted = [["etcd"], undefined].flatMap((names) => attempt(() => wantedManifests(cp, names), []));
  return {
    pki: [...keys, ...leaves.map((finding) => actionForSigned(finding, ca))],
    pods: wanted.map((one) => onDisk(one, cp)),
  };
}

/**
 * Whether the shared keys with a certificate, the certificates that etcd itself serves with, and its manifest are all
 * in place and right.
 */
export function etcdIsInPlace(cp: ControlPlaneNode, work: Work): boolean {
  // an external one has no file of ours: the servers' files tell whether a repair begins
  const { externalEtcd } = cp.facts;
  if (externalEtcd?.toMake) return false;
  if (externalEtcd) return !mustIssue(cp) && SERVERS.every((name) => exists(manifestPath(cp, name)));
  const { pki, pods } = toWrite(work);
  const isNeeded = ({ row }: PkiAction) =>
    row && !("path" in row) && (!row.ca || row.usages.includes("server"));
  if (pki.some(isNeeded) || pods.some(({ name }) => name === "etcd")) return false;
  return readableManifest(manifestPath(cp, "etcd")) !== undefined;
}

/**
 * Errors: Fail if etcd's manifest has another folder than the one with the data: there it would begin as a new,
 * empty cluster.
 */
export function refuseOtherFolder(cp: ControlPlaneNode) {
  for (const { manifest, source } of wantedManifests(cp, ["etcd"])) {
    const wanted = foldersOfPod(manifest);
    if (!wanted || keyOf(wanted.dir) === keyOf(cp.etcd.dir)) continue;
    throw new Fail(
      `etcd's manifest (${source}) has its data in "${wanted.dir}", and the data was found in "${cp.etcd.dir}"`,
      {
        unchanged: true,
        hint: `put the data into the folder of the manifest, as etcd would start there without it: mount its disk there. If "${wanted.dir}" is empty or not there, mv does it, too. Then ${command("00-assess")}`,
      },
    );
  }
}

export function mustIssue(cp: ControlPlaneNode): boolean {
  return !serverActions(cp).every(({ todo }) => todo === "keep");
}

function serverActions(cp: ControlPlaneNode, superAdmin = false): PkiAction[] {
  const rows = kubeconfigRows(cp.facts, { superAdmin: superAdmin || wantsSuperAdmin(cp) });
  const kubeconfigs = rows.filter((row) => row.name !== "kubelet");
  return actionsFor({ certs: CERTS, kubeconfigs, serviceAccountKey: true }, cp.facts, optionsForEnsure(cp));
}

/** Part 2's. Errors: as `wantedManifests`. */
export function serversWork(cp: ControlPlaneNode, superAdmin = false): Work {
  return { pki: serverActions(cp, superAdmin), pods: wantedManifests(cp).map((one) => onDisk(one, cp)) };
}

export function issuedPaths(work: Work): string[] {
  return toWrite(work).pki.map(({ finding }) => finding.paths[0]!);
}

export async function runningHere({ node }: ControlPlaneNode): Promise<Container[]> {
  return (await containers(node.runtimeEndpoint)).filter((one) => one.running);
}

/** All control plane nodes have these keys in common. */
export function sharedActions(cp: ControlPlaneNode, newCas?: NewCas): PkiAction[] {
  const shared = { certs: CERTS.filter((row) => row.shared), serviceAccountKey: true };
  return actionsFor(shared, cp.facts, optionsForEnsure(cp, newCas));
}

/**
 * How this node's PKI is treated. The evidence for a key is read only where the key is not sound, names from
 * before only where one is issued.
 */
export function optionsForEnsure(
  cp: ControlPlaneNode,
  newCas?: NewCas,
): ActionOptions & { asideDir: string; alsoFor: (row: Cert) => string[] } {
  const { data, node, facts, asideDir } = cp;
  const { certificatesDir, etcdCa } = facts;
  const evidence = () => readEvidence({ data, node, certificatesDir, etcdCa });
  return {
    asideDir,
    newCas,
    evidence,
    others: believedPeers(cp.cluster, cp).map(({ name }) => name),
    alsoFor: (row) => [
      ...namesBefore(row, cp),
      ...(row.name === "apiserver" ? reachedBy(cp) : []),
      ...etcdHosts(row, cp),
    ],
  };
}

/** Hosts of this node's etcd, where its URLs lead to another network than the API server's, or are names. */
function etcdHosts({ name, names }: Cert, { data, node, facts }: ControlPlaneNode): string[] {
  const [urls, nameSet] = [URLS[name], names?.(facts)];
  if (!urls || !nameSet) return [];
  const own = data.members.find(({ id }) => id === data.memberId)?.[urls.field] ?? [];
  const pod = mirrorPod(data, node.name, "etcd");
  const words = podFlags(pod);
  const all = [...own, ...urls.flags.flatMap((flag) => words.get(flag)?.split(",") ?? [])];
  const hosts = new Set(all.map(hostOf).filter((host) => !["", "0.0.0.0", "::"].includes(host)));
  return [...hosts].filter((host) => !isFor(nameSet, host));
}

const URLS: Partial<Record<string, { field: "clientURLs" | "peerURLs"; flags: readonly string[] }>> = {
  "etcd-server": { field: "clientURLs", flags: ["listen-client-urls", "advertise-client-urls"] },
  "etcd-peer": { field: "peerURLs", flags: ["listen-peer-urls", "initial-advertise-peer-urls"] },
};

/** A list: its differences from the mirror pod. */
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
  const differences = now ? differencesOf(withAllControllers(now), withAllControllers(one.manifest)) : [];
  const isOlder = () =>
    one.source === FROM_MIRROR_POD && stat(at)!.modified < cp.rescue.made && !isNewerEtcd(now!, one, cp);
  const isStale = differences.length > 0 && (isOlder() || lacksFlagsAlone(now!, one));
  const trouble: Trouble | undefined = !now ? "missing or cut off" : isStale ? differences : undefined;
  const kept = trouble ? undefined : now;
  return { ...one, path, at, kept, next: kept ?? one.manifest, differences, trouble };
}

function lacksFlagsAlone(now: Manifest, { before, manifest }: WantedManifest): boolean {
  const back = before ? flagsToComeBack(now, manifest) : [];
  return back.length > 0 && differencesOf(withAllControllers(now), withoutFlags(manifest, back)).length === 0;
}

/**
 * Half a kubeadm upgrade: etcd started with the manifest on disk, and no API server wrote its mirror pod since. No older
 * etcd opens what a newer etcd has written. So the image of the mirror pod comes back only where its container runs.
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

function wordsOf({ name = "", command = [], args = [], image }: Partial<ContainerSpec> = {}): string[] {
  return [...[...command, ...args].map((word) => printableArgument(word, name)), `image=${image}`];
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
