/**
 * Files that static pods read are made fit for them before they start.
 *
 * Key files and kubeconfigs of static pods that do not run as root: each pod must be able to read its own.
 * Where one user reads a file, it is that user's; where several do, root's, for the group that they share. So
 * kubeadm does it (app/util/staticpod, RootlessControlPlane).
 *
 * Files of other places that hold a copy of one of the cluster's CAs, beside others mostly: the flags of the
 * control plane's components name them. With an old copy the API server refuses admin.conf (401), and kubectl
 * logs and exec fail. Mostly a flag names the PKI's own file, and then nothing is to be done. The CA of
 * before goes out of such a file, as it does out of pki/ca.crt: its key is lost, not known to be destroyed,
 * and as long as it is trusted an old kubelet's certificate passes for one of a node that is back. The file
 * is copied aside.
 */

import { caIsNew } from "../facts/ca-copies.ts";
import { filesMadeByParts } from "../facts/lost-files.ts";
import { certificatesBefore } from "../facts/names-before.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { copyToRescue } from "../files/file-tree.ts";
import { type Ownership, setOwner, stat, writeFile } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostFiles, hostPathOf, mainContainer, podFlags } from "../manifests/command.ts";
import type { Manifest, PodSpec } from "../objects/objects.ts";
import {
  certInfo,
  certificatesIn,
  infoOf,
  knowsCa,
  madeAt,
  type TrustedKeys,
  trustedKeys,
} from "../pki/certificate.ts";
import { certRow, keyPath } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import type { WantedManifest } from "./wanted-manifests.ts";

type Pods = readonly Pick<WantedManifest, "name" | "manifest">[];

interface Reader {
  name: string;
  user: PodUser;
}

interface PodUser {
  uid: number;
  /** The first is its own. */
  gids: number[];
}

function readersOf(pods: Pods, certificatesDir: string): Map<string, Reader[]> {
  const made = filesMadeByParts({ certificatesDir });
  const readers = new Map<string, Reader[]>();
  for (const { name, manifest } of pods) {
    const user = userOf(manifest);
    if (!user || user.uid === 0) continue;
    for (const path of new Set(hostFiles(manifest).map((file) => file.path)))
      if (made.has(path)) readers.set(path, [...(readers.get(path) ?? []), { name, user }]);
  }
  return readers;
}

/** Files whose readers have no group in common. */
export function unreadable(pods: Pods, { facts }: ControlPlaneNode): { path: string; readers: string[] }[] {
  return [...readersOf(pods, facts.certificatesDir)].flatMap(([path, readers]) =>
    path.endsWith(".crt") || ownerFor(readers) ? [] : [{ path, readers: readers.map(({ name }) => name) }],
  );
}

/** Gives each file to its readers, where they cannot read it. Errors: as `giveTo`. */
export function fitOwners(pods: Pods, { facts }: ControlPlaneNode) {
  for (const [path, readers] of readersOf(pods, facts.certificatesDir)) {
    const [info, owner] = [stat(path), ownerFor(readers)];
    if (info?.kind !== "file" || !owner || readers.every(({ user }) => canRead(user, info))) continue;
    const names = readers.map(({ name, user }) => `${name} (user ${user.uid})`).join(" and ");
    setOwner(path, owner, `${names} reads it`);
  }
}

function ownerFor(readers: readonly Reader[]): Ownership | undefined {
  const [first, ...others] = readers.map(({ user }) => user) as [PodUser, ...PodUser[]];
  if (others.every(({ uid }) => uid === first.uid))
    return { uid: first.uid, gid: first.gids[0]!, mode: 0o600 };
  const gid = first.gids.find((one) => one !== 0 && others.every(({ gids }) => gids.includes(one)));
  return gid === undefined ? undefined : { uid: 0, gid, mode: 0o640 };
}

function canRead({ uid, gids }: PodUser, info: Ownership): boolean {
  if (info.uid === uid) return (info.mode & 0o400) !== 0;
  return (info.mode & (gids.includes(info.gid) ? 0o040 : 0o004)) !== 0;
}

interface SecurityContext {
  runAsUser?: number;
  runAsGroup?: number;
  runAsNonRoot?: boolean;
  supplementalGroups?: number[];
  fsGroup?: number;
}

/**
 * Root where nothing says otherwise, as in kubeadm's images; undefined where only the image knows: it must
 * not be root.
 */
export function userOf({ spec }: { spec: PodSpec }): PodUser | undefined {
  const pod = (spec.securityContext ?? {}) as SecurityContext;
  const own = (mainContainer({ spec })?.securityContext ?? {}) as SecurityContext;
  const uid = own.runAsUser ?? pod.runAsUser;
  if (uid === undefined && (own.runAsNonRoot ?? pod.runAsNonRoot)) return undefined;
  const gids = [own.runAsGroup ?? pod.runAsGroup ?? 0, ...(pod.supplementalGroups ?? [])];
  if (pod.fsGroup !== undefined) gids.push(pod.fsGroup);
  return { uid: uid ?? 0, gids };
}

type Ca = "ca" | "etcd-ca" | "front-proxy-ca";

const SIGNING_CERT = "cluster-signing-cert-file";

// biome-ignore format: a table
const FLAGS: Record<string, Record<string, Ca>> = {
  etcd:                      { "trusted-ca-file": "etcd-ca", "peer-trusted-ca-file": "etcd-ca" },
  "kube-apiserver":          { "client-ca-file": "ca", "kubelet-certificate-authority": "ca", "etcd-cafile": "etcd-ca", "requestheader-client-ca-file": "front-proxy-ca" },
  "kube-controller-manager": { "client-ca-file": "ca", "root-ca-file": "ca", [SIGNING_CERT]: "ca", "requestheader-client-ca-file": "front-proxy-ca" },
  "kube-scheduler":          { "client-ca-file": "ca", "requestheader-client-ca-file": "front-proxy-ca" },
};

/** The current CA takes the place of the old one in each such file; other CAs stay. Returns the paths written. */
export function fitNamedCas(cp: ControlPlaneNode, pods: Pods): string[] {
  const made = filesMadeByParts(cp.facts);
  const written = new Set<string>();
  for (const { name, manifest } of pods)
    for (const [flag, ca] of Object.entries(FLAGS[name] ?? {})) {
      const path = pathOf(manifest, flag);
      if (path === undefined || made.has(path) || written.has(path)) continue;
      const content = flag === SIGNING_CERT ? signingCert(path, manifest, cp) : fitted(path, ca, cp);
      if (content === undefined) continue;
      copyToRescue(path, cp.asideDir);
      const note = `${name} --${flag}: the current CA in place of the old one; other CAs stay`;
      writeFile(path, content, { note });
      written.add(path);
    }
  return [...written];
}

function pathOf(manifest: Manifest, flag: string): string | undefined {
  const inside = podFlags(manifest).get(flag);
  return inside && hostPathOf(manifest, inside);
}

/** One certificate only, that of the key beside it (pkg/controller/certificates/signer/ca_provider.go). */
function signingCert(path: string, manifest: Manifest, cp: ControlPlaneNode): string | undefined {
  const { certificatesDir } = cp.facts;
  if (pathOf(manifest, "cluster-signing-key-file") !== keyPath("ca", certificatesDir)) return undefined;
  return fitted(path, "ca", cp) && certInfo(caText("ca", certificatesDir)!).pem;
}

/** Undefined if the file is not there, has no old CA, or has the current one already. */
function fitted(path: string, ca: Ca, cp: ControlPlaneNode): string | undefined {
  const [text, current] = [smallText(path), caText(ca, cp.facts.certificatesDir)];
  if (text === undefined || !current || knowsCa(text, current)) return undefined;
  const all = certificatesIn(text);
  const isOld = isReplaced(ca, current, cp);
  const others = all.filter((pem) => !isOld(pem));
  if (others.length === all.length) return undefined;
  return [current, ...others].map((pem) => `${pem.trim()}\n`).join("");
}

/**
 * Whether this is a CA that was replaced: etcd's data says so; it does not know etcd's own CA, so what the repair has
 * kept says it, and the CA's name.
 */
function isReplaced(ca: Ca, current: string, cp: ControlPlaneNode): (pem: string) => boolean {
  const isIn = (keys: TrustedKeys) => (pem: string) => !trustedKeys(pem).isDisjointFrom(keys);
  if (ca === "ca") return isIn(caIsNew(cp) ? trustedKeys(cp.cluster.oldCaPem) : new Set());
  const paths =
    ca === "front-proxy-ca"
      ? [cp.cluster.aggregated["requestheader-client-ca-file"] ?? ""]
      : certificatesBefore(certRow(ca), cp);
  const isMade = madeAt(current) >= cp.rescue.made;
  const { subject } = certInfo(current);
  return (pem) => infoOf(pem)?.subject === subject && (isMade || isIn(trustedKeys(...paths))(pem));
}
