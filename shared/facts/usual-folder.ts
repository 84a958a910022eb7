/**
 * kubeadm's usual folder, where the cluster's certificates are in another one (kubespray, certificatesDir of
 * kubeadm-config). kubeadm reads and writes there whenever it has no configuration: `init phase certs all` without
 * --config, `certs renew all` while the API is away. So its shared keys must be those of certificatesDir. Reads only.
 */

import { attempt } from "../fail.ts";
import { isLink } from "../files/file-tree.ts";
import { exists } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { isBelow, realPath } from "../files/root.ts";
import { hostFiles } from "../manifests/command.ts";
import { podsOnDisk } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { wasMovedAside } from "../node/rescue-folder.ts";
import { infoOf, madeAt, orUndefined, privateKeyOf, publicKeyHash, trustedKeys } from "../pki/certificate.ts";
import { CERTIFICATES_DIR, SHARED_KEYS } from "../pki/certs.ts";
import { strangeCa } from "./ca-copies.ts";
import type { PartialFacts } from "./node-facts.ts";

export interface StrangeFolder {
  /** kubeadm's usual folder, and the one with the cluster's keys. */
  path: string;
  certificatesDir: string;
  /** Paths of shared files in it whose keys are not the cluster's. */
  files: string[];
  /** When the first of its certificates was made; unset: none of these files is one. */
  made?: Date;
  /** A path that a static pod or the kubelet reads in it, and that certificatesDir does not have: it stays. */
  neededFor?: string;
}

type KeyFacts = Pick<PartialFacts, "cluster" | "facts" | "rescue" | "certificatesDir">;

/** Returns undefined if the folder is missing, is a link to certificatesDir, or has no key that differs. */
export function strangeFolder(keyFacts: KeyFacts, node: Node): StrangeFolder | undefined {
  const { certificatesDir } = keyFacts;
  const [usual, own] = [realPath(CERTIFICATES_DIR), realPath(certificatesDir)];
  if (isBelow(own, usual) || !exists(CERTIFICATES_DIR)) return undefined;
  const named = namedIn(node);
  const rows = SHARED_KEYS.filter(
    ({ keyFile }) => !(keyFacts.facts?.externalEtcd && keyFile.startsWith("etcd/")),
  );
  const strange = rows.flatMap((row) => {
    const cluster = row.keyFile === "ca.key" ? clusterKeys(keyFacts) : keysIn(certificatesDir, row);
    const paths = [row.publicFile, row.keyFile].map((file) => `${CERTIFICATES_DIR}/${file}`);
    return cluster.size > 0 ? paths.filter((path) => isOther(path, cluster)) : [];
  });
  // a server that is well may read a key of its own there
  const isWhole = strange.some((path) => path.startsWith(`${CERTIFICATES_DIR}/ca.`));
  const files = isWhole ? strange : strange.filter((path) => !named.includes(path));
  if (files.length === 0) return undefined;
  const made = files.flatMap((path) => infoOf(readable(path))?.pem ?? []).map(madeAt);
  const neededFor = named.find((path) => exists(path) && !exists(inDir(path, certificatesDir)));
  return {
    ...{ path: CERTIFICATES_DIR, certificatesDir, files },
    ...(made[0] && { made: made[0] }),
    ...(neededFor !== undefined && { neededFor }),
  };
}

/**
 * Whether a run was cut off between the move of kubeadm's usual folder and the making of the link: only the rescue
 * folder says that it was there.
 */
export function lacksItsLink({ certificatesDir }: Pick<KeyFacts, "certificatesDir">): boolean {
  const isMissing = !exists(CERTIFICATES_DIR) && !isLink(CERTIFICATES_DIR);
  return isMissing && certificatesDir !== CERTIFICATES_DIR && wasMovedAside(CERTIFICATES_DIR);
}

/** A sentence about it, for every screen. */
export function strangeFolderText({ path, certificatesDir, files, made }: StrangeFolder): string {
  const what = files.some((file) => file.startsWith(`${path}/ca.`)) ? "a new CA" : "other shared keys";
  const when = made ? ` at ${made.toISOString().slice(0, 16).replace("T", " ")} UTC` : "";
  return `somebody made ${what}${when} in ${path}: not this cluster's, whose keys are in ${certificatesDir}. kubeadm without a configuration signs with it`;
}

type Row = (typeof SHARED_KEYS)[number];

/** A strange CA in certificatesDir says nothing of the cluster's; etcd's data does. */
function clusterKeys(keyFacts: KeyFacts): ReadonlySet<string> {
  const row = SHARED_KEYS.find(({ keyFile }) => keyFile === "ca.key")!;
  const keysHere = strangeCa(keyFacts) ? new Set<string>() : keysIn(keyFacts.certificatesDir, row);
  return keysHere.size > 0 ? keysHere : trustedKeys(keyFacts.cluster?.oldCaPem);
}

function keysIn(folder: string, { publicFile, keyFile }: Row): ReadonlySet<string> {
  return new Set([publicFile, keyFile].flatMap((file) => [...keysOf(`${folder}/${file}`)]));
}

function keysOf(path: string): ReadonlySet<string> {
  const text = readable(path);
  if (text === undefined || !path.endsWith(".key")) return trustedKeys(text);
  const hash = orUndefined(() => publicKeyHash(privateKeyOf(text)));
  return new Set(hash === undefined ? [] : [hash]);
}

/** A file that cannot be read signs nothing. */
function isOther(path: string, cluster: ReadonlySet<string>): boolean {
  const keys = keysOf(path);
  return keys.size > 0 && keys.isDisjointFrom(cluster);
}

/** Files below kubeadm's usual folder that the kubelet and static pods read. */
function namedIn(node: Node): string[] {
  const pods = [...podsOnDisk({ node }).values()];
  const files = pods.flatMap((pod) => attempt(() => hostFiles(pod), []).map(({ path }) => path));
  return [node.kubelet.clientCaFile, ...files].filter(
    (path) => path !== CERTIFICATES_DIR && isBelow(path, CERTIFICATES_DIR),
  );
}

function inDir(path: string, certificatesDir: string): string {
  return `${certificatesDir}${path.slice(CERTIFICATES_DIR.length)}`;
}
