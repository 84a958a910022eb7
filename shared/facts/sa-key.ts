/**
 * Whether the service-account key is new, and which pods started late enough to use nothing from before the
 * repair.
 */

import { attempt } from "../fail.ts";
import { readText, stat } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostPathOf, podFlags } from "../manifests/command.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { readObject } from "../objects/stored.ts";
import { madeAt, publicKeysIn, publicPem, trustsCa } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { newSaKeySince, oldSaKeys, oldSaPub, serviceAccountKeyId } from "../pki/sa-keys.ts";
import { caEndedAt, caInUseSince, caIsNew } from "./ca-copies.ts";
import { readCluster } from "./cluster.ts";
import type { TrustSeen } from "./course.ts";
import { readEvidence } from "./evidence.ts";
import type { ControlPlaneNode } from "./node-facts.ts";
import {
  type CutOff,
  LATER,
  lastWritten,
  NOT_YET,
  type PodTrust,
  type TrustHolder,
  wasInUse,
} from "./pod-trust.ts";
import { keptRepair, replacedCa, stalePods } from "./repair.ts";

/**
 * Whether sa.key is new, as far as this node knows: part 1 has marked it, or the old public key is kept
 * beside it, or all tokens in this node's pods that are older than sa.pub were signed by another key. A key
 * that was put back is not new.
 */
export function saKeyIsNew({ facts, node }: Pick<ControlPlaneNode, "facts" | "node">): boolean {
  const pki = facts.certificatesDir;
  if (facts.externalSigner) return false;
  if (oldSaKeys(pki).length > 0) return true;
  const [pub, since] = [readText(`${pki}/sa.pub`), stat(`${pki}/sa.pub`)?.modified];
  if (!pub || !since) return false;
  if (newSaKeySince(pub)) return true;
  const own = new Set(publicKeysIn(pub).map(serviceAccountKeyId));
  const { tokens } = readEvidence({ data: undefined, node, certificatesDir: pki });
  const older = tokens.filter(({ issuedAt }) => issuedAt > 0 && issuedAt * 1000 < since.getTime());
  return older.length > 0 && older.every(({ kid }) => !own.has(kid));
}

/**
 * The public keys, in PEM, by which this node's API server checks tokens, without those of sa-old.pub, which
 * go when part 4 is through: sa.pub, and each file of --service-account-key-file. A key that was changed by
 * hand may stay for its old tokens. Undefined: none is here.
 */
export function tokenKeys(cp: Pick<ControlPlaneNode, "facts" | "node" | "data">): string | undefined {
  const pki = cp.facts.certificatesDir;
  const mirrors = attempt(() => findMirrorPods(cp.data, cp.node.name), []);
  const mirror = mirrors.find(({ name }) => name === "kube-apiserver")?.pod;
  const manifest = readManifest(manifestPath(cp, "kube-apiserver")) ?? mirror;
  const named = manifest ? podFlags(manifest).all("service-account-key-file") : [];
  const paths = named
    .flatMap((inside) => hostPathOf(manifest!, inside) ?? [])
    .filter((path) => path !== oldSaPub(pki));
  const texts = [`${pki}/sa.pub`, ...paths].flatMap((path) => smallText(path) ?? []);
  // the API server takes a private key there, too (client-go's keyutil.PublicKeysFromFile)
  const halves = texts.flatMap((text) => [...publicKeysIn(text), ...attempt(() => [publicPem(text)], [])]);
  return [...new Set(halves)].join("") || undefined;
}

/**
 * Which of the two that kubelets and pods trust is new, or has expired: so much of the rest has something to
 * do.
 */
export function trustSeen(cp: ControlPlaneNode): TrustSeen {
  const caEnded = caEndedAt(cp) !== undefined && !podsAreThrough(cp, clusterCa(cp.facts.certificatesDir));
  return { caIsNew: caIsNew(cp), caEnded, saKeyIsNew: saKeyIsNew(cp) };
}

/**
 * Whether part 4 has nothing left of the CA, whose old certificate has expired: by etcd's current data each pod that it
 * would restart has started since what it mounts is current. What cannot be read proves nothing.
 */
function podsAreThrough({ data, dataFrom, etcd, cluster }: ControlPlaneNode, caPem: string): boolean {
  if (dataFrom !== etcd.dir) return false;
  const since = (holder: TrustHolder | undefined, text: string | undefined) =>
    holder && trustsCa(text, caPem) ? lastWritten(holder, new Date(0)) : NOT_YET;
  const read = (path: string) => readObject<TrustHolder>(data, path);
  const cutOff: CutOff = {
    rootCa: (namespace) => {
      const map = read(`configmaps/${namespace}/kube-root-ca.crt`);
      return since(map, map?.data?.["ca.crt"]);
    },
    token: (name) => {
      const secret = read(`secrets/${name}`);
      const text = Buffer.from(secret?.data?.["ca.crt"] ?? "", "base64").toString();
      return secret?.type === "kubernetes.io/service-account-token" ? since(secret, text) : undefined;
    },
  };
  const nodes = new Set(cluster.nodes.map(({ name }) => name));
  return attempt(() => !stalePods(data, nodes, cutOff, "pods/"), false);
}

/** A living etcd's data, copied here, may know a CA that part 1 has just made on another control plane node. */
function knownBefore(cp: ControlPlaneNode) {
  const repair = keptRepair(cp);
  if (!repair) return undefined;
  const { oldCaPem, createdAt } = readCluster(repair.data);
  return { oldCaPem, end: new Date(Math.max(createdAt.getTime(), repair.rescue.made.getTime() - LATER)) };
}

export function podTrust(cp: ControlPlaneNode): PodTrust {
  const pki = cp.facts.certificatesDir;
  const [ca, pub] = [clusterCa(pki), readText(`${pki}/sa.pub`) ?? ""];
  const isNew = replacedCa(cp, ca).size > 0 || caEndedAt(cp) !== undefined;
  const caInUse = isNew ? undefined : caInUseSince(pki, knownBefore(cp));
  const made = wasInUse({ caInUse }, madeAt(ca)) ? [] : [madeAt(ca)];
  const saKey = saKeyIsNew(cp) ? [newSaKeySince(pub) ?? stat(`${pki}/sa.pub`)?.modified ?? new Date()] : [];
  return { since: new Date(Math.max(0, ...[...made, ...saKey].map(Number))), caInUse };
}
