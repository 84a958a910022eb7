/**
 * The facts of this machine, for a bundle that it makes or opens; and a bundle beside the node on which it is unpacked:
 * its cluster, the files that are here, and those to write.
 */

import { again } from "../again.ts";
import { etcdDataOf, nodeIfAny } from "../etcd-location/etcd-place.ts";
import { type Decision, may, type SourceName } from "../evidence/sources.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import { lookAtControlPlaneNode } from "../facts/control-plane-node.ts";
import { controlPlaneNames } from "../facts/known-nodes.ts";
import * as noData from "../facts/no-etcd-data.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { unreadCertRows } from "../facts/read-by-pods.ts";
import { isExternalSigner } from "../facts/signed-elsewhere.ts";
import { attempt, Fail } from "../fail.ts";
import { copyToRescue } from "../files/file-tree.ts";
import { type FileChange, readBytes, writeTogether } from "../files/files.ts";
import { certificatesDirOn } from "../manifests/on-disk.ts";
import { takeConfigOf } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { lastRestore, mergeSavedOptions, parseSavedOptions, savedOptionLine } from "../node/words.ts";
import { foreignCa } from "../pki/actions.ts";
import { certInfo, day, hashIn, madeAt, publicPem, signingFirst, trustedKeys } from "../pki/certificate.ts";
import { type SharedKey, sharedPath } from "../pki/certs.ts";
import { say } from "../run.ts";
import {
  type Bundle,
  caOf,
  ETCD_CA,
  FRONT_PROXY_CA,
  type KeysElsewhere,
  keysIn,
  modeOf,
  type Origin,
  publicHash,
  sameKey,
  textIn,
} from "./bundle.ts";
import type { LockKind } from "./sealed.ts";

export interface Here extends Pick<PartialFacts, "certificatesDir" | "etcdCa" | "asideDir" | "obstacle"> {
  home?: PartialFacts["home"];
  cluster?: Pick<Cluster, "name" | "oldCaPem" | "kubeSystemUid"> & Partial<Pick<Cluster, "nodes">>;
}

export function keysElsewhere({ data, cluster, home, etcdCa }: PartialFacts): KeysElsewhere {
  return {
    externalSigner: data !== undefined && cluster !== undefined && isExternalSigner(data, cluster),
    externalEtcd: noData.isNotKubeadms(home) && !etcdCa,
    withoutAggregation: unreadCertRows(data, cluster?.nodes && { nodes: cluster.nodes }).includes(
      FRONT_PROXY_CA,
    ),
  };
}

/** The cluster of this machine, which may be no node, and what to do if its data is lost. */
export async function lookForKeys(etcdData: string | undefined) {
  const node = await nodeIfAny();
  const place = await etcdDataOf(etcdData, { node });
  const facts = lookAtControlPlaneNode(place, undefined, certificatesDirOn(node));
  noData.refuseOtherEtcd({ node, place, data: facts.data, cluster: facts.cluster });
  return {
    here: facts,
    stepsWithoutData: () => noData.stepsWhereDataIsLost(node, place),
    ...{ node, place },
  };
}

export function originOf({ cluster }: Here): Origin | undefined {
  if (!cluster) return undefined;
  const { name, kubeSystemUid, nodes = [] } = cluster;
  const controlPlanes = controlPlaneNames(nodes);
  return { name, kubeSystemUid, ...(controlPlanes.length > 0 ? { controlPlanes } : {}) };
}

interface Vouching {
  /** The CA's fingerprint, given by the operator, as pack printed it. */
  confirmed: string | undefined;
  lock: LockKind;
}

const SOURCE_OF: Record<LockKind, SourceName> = {
  passphrase: "a bundle with a passphrase",
  recipients: "a bundle for recipients",
};

/** Proved by the operator's word, or by its lock, if not everybody can make that. */
function isProved({ confirmed, lock }: Vouching, decision: Decision): boolean {
  return confirmed !== undefined || may(SOURCE_OF[lock], decision);
}

/**
 * Refuses a bundle of another cluster, one that is older than the cluster's CA, and one that nothing proves. The
 * bundle's own words about its cluster count only if its lock proves who made it.
 */
export function checkOrigin({ files, manifest }: Bundle, here: Here, vouching: Vouching) {
  const { confirmed, lock } = vouching;
  const hint =
    "pack one on a control plane node of this cluster that has the right keys: ./bunw scripts/hand-over.ts pack";
  const ca = caOf(files);
  if (confirmed && confirmed !== ca) throw new Fail(`The bundle's CA is ${ca}, not ${confirmed}`, { hint });
  const restored = lastRestore();
  // the operator named it when etcd's data was restored
  const isOurs = isProved(vouching, "keys") || restored?.caHash === ca;
  if (!here.cluster) {
    if (!isOurs) throw unprovedBundle(ca, `etcd's data cannot be read (${here.obstacle?.message})`, lock);
    return say(`warning: not compared with etcd's data: ${here.obstacle?.message}`);
  }

  const { name, kubeSystemUid, oldCaPem } = here.cluster;
  const bundleCluster = manifest?.cluster;
  if (bundleCluster && bundleCluster.kubeSystemUid !== kubeSystemUid) {
    throw new Fail(
      `The bundle is foreign: it is from the cluster "${bundleCluster.name}" (UID of kube-system: ${bundleCluster.kubeSystemUid}), this node is in "${name}" (${kubeSystemUid})`,
      { hint },
    );
  }
  const hashes = [...trustedKeys(oldCaPem)].join(", ");
  if (trustedKeys(oldCaPem).has(ca)) {
    const isOwn = restored === undefined || restored.value === "a member's disk";
    if (!isOurs && !isOwn)
      throw unprovedBundle(ca, "and so does etcd's data, which restore.ts has made of a snapshot", lock);
    return say("its CA is the one that etcd's data names");
  }
  const own = signingFirst(textIn(files, "ca.crt")!, textIn(files, "ca.key"));
  if (foreignCa(own, oldCaPem)) {
    const [made, knownMade] = [madeAt(own), madeAt(oldCaPem)];
    throw new Fail(
      `The bundle is stale: its CA ${ca} was made on ${day(made)}; since ${day(knownMade)} the cluster has another CA, ${hashes}`,
      { hint },
    );
  }
  if (!isOurs || (!bundleCluster && !confirmed))
    throw unprovedBundle(ca, `etcd's data names ${hashes}`, lock);
  say(`its CA is newer than the one that etcd's data names (${hashes}), as after part 1 with --new-cas`);
}

/** Milliseconds. A bundle is a backup, too: later, its words belong to another repair. */
const WORDS_LAST = 24 * 3600_000;

/**
 * A lock that everybody can make proves nobody's words. `own`: this node's name, which is neither away nor
 * lost.
 */
export function saveOptionsOfBundle({ manifest }: Bundle, vouching: Vouching, own: string | undefined) {
  const words = parseSavedOptions(manifest?.words).filter(({ value }) => value !== own);
  if (words.length === 0) return;
  const isOld = !(Date.now() - Date.parse(manifest!.made) < WORDS_LAST);
  if (isProved(vouching, "words") && !isOld) return mergeSavedOptions(words);
  const why = isOld ? "as the bundle is old" : "as nothing proves who said it";
  say(`did not take words, ${why}: ${words.map(savedOptionLine).join("; ")}`);
}

/** The kubelet's lost configuration, by the same proofs. */
export function takeKubeletConfig({ manifest }: Bundle, vouching: Vouching, node: Node | undefined) {
  if (typeof manifest?.kubeletConfig?.text !== "string" || !node) return;
  if (isProved(vouching, "files"))
    takeConfigOf({ ...manifest.kubeletConfig, from: manifest.node }, node.kubelet);
}

function unprovedBundle(ca: string, hashes: string, lock: LockKind): Fail {
  const maker = lock === "recipients" ? ". Everybody who knows a recipient can lock such a file" : "";
  return new Fail(`Nothing proves that the bundle is from this cluster: its CA is ${ca}, ${hashes}`, {
    unchanged: true,
    hint: `give the fingerprint that pack printed, or that 00-assess prints on another control plane node: --ca-hash sha256:HASH. Take no fingerprint from where the bundle lay${maker}`,
  });
}

/**
 * Writes all missing files, or none; keeps equal files. Returns the paths written. Errors: Fail if other
 * keys are there.
 */
export function unpackHere(
  { files }: Bundle,
  here: Here,
  options: { moveToRescue?: boolean | undefined } = {},
): string[] {
  const all = keysIn(files);
  // on a node without etcd, or beside one whose certificates another CA has signed
  const isOut = here.home && noData.isNotKubeadms(here.home) && !here.etcdCa;
  const keys = isOut ? all.filter(({ name }) => name !== ETCD_CA) : all;
  if (keys.length < all.length) say("etcd/ca: left in the bundle: etcd here needs none of it");
  return placeKeys(keys, files, here, { ...options, source: "the bundle" });
}

interface PlaceOptions {
  moveToRescue?: boolean | undefined;
  source: string;
  /**
   * Other files to write with them. They come first, and a public half before its key: as long as a key is
   * missing, the next run looks again.
   */
  more?: readonly FileChange[];
}

/** The same for some keys, from any source. `files` has both halves of each. */
export function placeKeys(
  keys: readonly SharedKey[],
  files: Bundle["files"],
  here: Here,
  options: PlaceOptions,
): string[] {
  const conflicts: Conflict[] = [];
  const wanted: FileChange[] = [];
  for (const key of keys) {
    for (const file of [key.publicFile, key.keyFile]) {
      const path = sharedPath(file, here);
      const content = files.get(file)!;
      const standing = standingOf(key, file, files, readBytes(path));
      if (standing === "the same key") say(`unchanged ${path} (the same key in another format)`);
      else wanted.push({ path, content, mode: modeOf(file) });
      if (typeof standing === "object") conflicts.push({ file, path, ...standing });
    }
  }
  for (const { file, here: one, there } of conflicts)
    say(`${file}: the one on this node is ${one}; ${options.source} has ${there}`);
  if (conflicts.length > 0 && !options.moveToRescue) throw otherKeys(conflicts, here, options.source);
  for (const { path } of conflicts) copyToRescue(path, here.asideDir);
  return writeTogether([...(options.more ?? []), ...wanted]);
}

/** A file of this node with another key than the source's: both keys. */
interface Conflict {
  file: string;
  path: string;
  here: string;
  there: string;
}

function standingOf(
  key: SharedKey,
  file: string,
  files: Bundle["files"],
  there: Uint8Array | undefined,
): "missing" | "equal" | "the same key" | Pick<Conflict, "here" | "there"> {
  if (!there) return "missing";
  if (Buffer.from(there).equals(files.get(file)!)) return "equal";
  const wanted = publicHash(files, key);
  const text = Buffer.from(there).toString("utf8");
  const isSame = attempt(() => sameKey(key, file, files, text));
  const hash = attempt(() => hashIn(file === key.keyFile ? publicPem(text) : text));
  if (isSame instanceof Fail || hash instanceof Fail) return { here: "unreadable", there: wanted };
  if (!isSame && file === key.keyFile)
    return {
      here: `${key.publicFile.endsWith(".crt") ? "of another CA" : "another"} (${hash})`,
      there: wanted,
    };
  if (!isSame) return { here: hash, there: wanted };
  const end = file.endsWith(".crt") ? certInfo(text).notAfter : undefined;
  return end && end < new Date()
    ? { here: `a certificate that expired on ${day(end)}`, there: wanted }
    : "the same key";
}

function otherKeys(conflicts: Conflict[], here: Here, source: string): Fail {
  const ca = conflicts.find(({ file }) => file === "ca.crt");
  const trusted = here.cluster && trustedKeys(here.cluster.oldCaPem);
  const theOne = trusted?.has(ca?.here ?? "")
    ? "the one here"
    : trusted?.has(ca?.there ?? "")
      ? `${source}'s`
      : [...(trusted ?? [])].join(", ");
  const theCluster = `by etcd's data, the cluster's CA is ${theOne}`;
  const fingerprints =
    ca &&
    `; the CA here is ${ca.here}, ${source}'s ${ca.there}; ${trusted ? theCluster : `etcd's data cannot be read: ${here.obstacle?.message}`}`;
  return new Fail(
    `This node has other keys than ${source}: ${conflicts.map(({ file }) => file).join(", ")}${fingerprints ?? ""}`,
    {
      hint: `pack the keys on this node for the other control plane nodes, if those here are right. If ${source} is right, move the keys here to the rescue folder: ${again({ "move-aside": true })}`,
    },
  );
}
