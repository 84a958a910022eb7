/**
 * Which of several generations is the one that is wanted. Keys and kubeconfigs prove it themselves; a manifest does not, so without a mirror
 * pod to compare it with an operator has to look. Age and place decide nothing: older copies may lie anywhere.
 */
import { isDeepStrictEqual } from "node:util";
import { type Manifest, manifestFromMirrorPod } from "../../manifests/from-mirror-pod.ts";
import { endOf, shareCertificate, signedBy } from "../../pki/certificate.ts";
import type { CertificateFind, Find, KubeconfigFind, ManifestFind, PrivateKeyFind } from "./finds.ts";
import { orUndefined } from "./pem-block.ts";

/** The private keys of these public ones ("sha256:…", as CertInfo's publicKeyHash), by that name. */
export function matchingKeys(finds: readonly Find[], wanted: Iterable<string>): Map<string, PrivateKeyFind> {
  const hashes = new Set(wanted);
  const keys = finds.filter((find) => find.kind === "private key" && hashes.has(find.publicKeyHash)) as PrivateKeyFind[];
  return new Map(keys.map((key) => [key.publicKeyHash, key]));
}

/** The certificates of a key, the one that ends last first: there are several where one was renewed with its old key. */
export function certificatesOf(key: PrivateKeyFind, finds: readonly Find[]): CertificateFind[] {
  const certs = finds.filter((find) => find.kind === "certificate" && find.info.publicKeyHash === key.publicKeyHash) as CertificateFind[];
  return certs.sort((a, b) => b.info.notAfter.getTime() - a.info.notAfter.getTime());
}

/** The kubeconfigs of the cluster with this CA, by user: each user's that is valid longest. Those of other clusters or older CAs are left out. */
export function kubeconfigsOf(finds: readonly Find[], caPem: string): Map<string, KubeconfigFind> {
  const ours = finds.filter((find) => find.kind === "kubeconfig" && isOf(find, caPem)) as KubeconfigFind[];
  const end = ({ certPem }: KubeconfigFind) => (certPem ? endOf(certPem).getTime() : 0);
  return new Map(ours.sort((a, b) => end(a) - end(b)).map((find) => [find.user, find]));
}

export interface Versions {
  /** Each meaning once, in the order of their places. */
  versions: ManifestFind[];
  /** The one that means what the mirror pod's manifest does. Undefined where none does, or no mirror pod is known: an operator picks. */
  chosen?: ManifestFind;
}

/** All versions of a static pod's manifest. `known` is what `manifestFromMirrorPod` made of the mirror pod. */
export function manifestVersions(finds: readonly Find[], name: string, known?: Manifest): Versions {
  const all = finds.filter((find) => find.kind === "manifest" && find.name === name) as ManifestFind[];
  const wholeFirst = all.sort((a, b) => Number(b.complete) - Number(a.complete) || a.offset - b.offset);
  const versions = wholeFirst.filter((find, i) => !wholeFirst.slice(0, i).some((other) => sameMeaning(other.manifest, find.manifest)));
  const chosen = known && versions.find((find) => find.complete && sameMeaning(find.manifest, known));
  return { versions, ...(chosen && { chosen }) };
}

/** Whether two manifests make the same pod: what is the default may be left out, and the order of fields is of no matter. */
export function sameMeaning(one: Manifest, other: Manifest): boolean {
  return isDeepStrictEqual(meaning(one), meaning(other));
}

/** Through the form of a mirror pod, so that both have the same defaults taken off. Admission adds the priority of a class. */
function meaning(manifest: Manifest): Manifest {
  const { metadata, spec } = manifest;
  const annotations = { ...metadata.annotations, "kubernetes.io/config.mirror": "x" };
  const pod = { ...manifest, metadata: { namespace: "default", ...metadata, name: `${metadata.name}-x`, annotations }, spec };
  const plain = orUndefined(() => manifestFromMirrorPod(pod, "x")) ?? manifest;
  const { priority: _, ...rest } = plain.spec as Manifest["spec"] & { priority?: number };
  return { ...plain, spec: rest as Manifest["spec"] };
}

/** By the signature of its certificate, or, where that is a file of its own, by the authority it trusts. */
function isOf({ caPem, certPem }: KubeconfigFind, ca: string): boolean {
  const proved = certPem ? orUndefined(() => signedBy(certPem, ca)) : caPem && orUndefined(() => shareCertificate(caPem, ca));
  return proved === true;
}
