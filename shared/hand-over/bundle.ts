/**
 * The bundle that is carried between control plane nodes: their shared keys as a plain tar, after a
 * MANIFEST.json, with names as below the certificates folder. sealed.ts encrypts it. All of it is in memory,
 * and checked before it is used.
 */
import { hostname } from "node:os";
import { refuseFuture } from "../evidence/server-clock.ts";
import { Fail } from "../fail.ts";
import { readBytes } from "../files/files.ts";
import { sha256Of } from "../files/sha256.ts";
import { type SavedOption, savedOptionsHere } from "../node/words.ts";
import { hashIn, privateKeyOf, publicKeyHash, signingFirst, trustedKeys } from "../pki/certificate.ts";
import {
  certRow,
  type PkiPlace,
  SERVICE_ACCOUNT_KEYS,
  SHARED_FILES,
  SHARED_KEYS,
  type SharedKey,
  sharedPath,
} from "../pki/certs.ts";
import { caPairVerdict } from "../pki/examine.ts";
import { serviceAccountVerdict, type Verdict } from "../pki/judge.ts";
import { plainLine } from "../plain.ts";
import { VERSION } from "../run.ts";
import { readTar, type TarFile, writeTar } from "./tar.ts";

const MANIFEST = "MANIFEST.json";

/** Bytes. Eight PEM files are about 15,000; pack makes no file larger than this. */
export const MAX_BYTES = 1 << 20;

export interface Origin {
  name: string;
  /** The UID of the namespace kube-system, which differs in every cluster, whatever its CA. */
  kubeSystemUid: string;
  /** The names of its control plane nodes. Bundles of earlier kits do not have them. */
  controlPlanes?: string[];
}

export interface BundleManifest {
  tool: string;
  made: string;
  node: string;
  /** Unset if etcd's data could not be read. */
  cluster?: Origin | undefined;
  /** "sha256:…", of the cluster CA's public key. */
  ca: string;
  sha256: Record<string, string>;
  /** An external signer has the service-account key: there is no sa to be packed. */
  externalSigner?: true;
  /** kubeadm did not make etcd: its CA is not the control plane nodes' to be packed. */
  externalEtcd?: true;
  /** The API servers have no aggregation layer: nothing reads the front proxy's CA. */
  withoutAggregation?: true;
  /** The operator's words that were saved on that node. */
  words?: SavedOption[];
  /** The kubelet's configuration there, if kubeadm did not write it. */
  kubeletConfig?: { path: string; text: string };
}

export interface Bundle {
  /** All files of SHARED_FILES, except those whose keys are elsewhere. */
  files: Map<string, Uint8Array>;
  /** Unset if the bundle was packed by hand, with tar and age. */
  manifest: BundleManifest | undefined;
}

/** Errors: Fail that names every pair that is incomplete, does not match or has expired. */
export function readBundle(
  place: PkiPlace,
  cluster: Origin | undefined,
  { kubeletConfig, ...elsewhere }: KeysElsewhere & Pick<BundleManifest, "kubeletConfig"> = {},
): Bundle {
  const files = new Map<string, Uint8Array>();
  for (const name of sharedFiles(elsewhere)) {
    const bytes = readBytes(sharedPath(name, place));
    if (bytes) files.set(name, bytes);
  }
  const wrong = wrongIn(files, elsewhere);
  if (wrong.length > 0) {
    throw new Fail(`Cannot pack the keys in ${place.certificatesDir}: ${wrong.join("; ")}`, {
      hint: "./bunw scripts/00-assess.ts says which part repairs this; pack after that, or on a node where all keys are complete",
    });
  }
  const sha256 = Object.fromEntries([...files].map(([name, bytes]) => [name, sha256Of(bytes)]));
  const node = hostname();
  return {
    files,
    manifest: {
      tool: `kube-pki-repair ${VERSION}`,
      made: new Date().toISOString(),
      node,
      cluster,
      ca: caOf(files),
      sha256,
      ...(elsewhere.externalSigner && { externalSigner: true as const }),
      ...(elsewhere.externalEtcd && { externalEtcd: true as const }),
      ...(elsewhere.withoutAggregation && { withoutAggregation: true as const }),
      words: savedOptionsHere(),
      ...(kubeletConfig && { kubeletConfig }),
    },
  };
}

export function packTar({ files, manifest }: Bundle): Uint8Array {
  const about: TarFile = {
    name: MANIFEST,
    mode: 0o644,
    bytes: Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`),
  };
  const keys = sharedFiles(manifest!).map((name) => ({ name, mode: modeOf(name), bytes: files.get(name)! }));
  return writeTar([about, ...keys], new Date(manifest!.made));
}

/**
 * Errors: Fail if it holds anything except the shared keys, or not all of them, or if they do not
 * belong together. A bundle that was packed by hand has no manifest, and may have the paths that
 * `hand-over.ts files` prints, as tar stores them.
 */
export function unpackTar(tar: Uint8Array, place: PkiPlace): Bundle {
  const files = new Map<string, Uint8Array>();
  for (const { name, bytes } of readTar(tar)) {
    const label = SHARED_FILES.find((file) => `/${name}` === sharedPath(file, place)) ?? name;
    if (label !== MANIFEST && !SHARED_FILES.includes(label))
      throw refused(`it holds ${JSON.stringify(name)}, which is not one of the shared keys`);
    if (files.has(label)) throw refused(`it holds ${label} twice`);
    files.set(label, bytes);
  }
  const manifest = readBundleManifest(files.get(MANIFEST));
  files.delete(MANIFEST);
  for (const [name, hash] of Object.entries(manifest?.sha256 ?? {}))
    if (!files.has(name) || sha256Of(files.get(name)!) !== hash)
      throw refused(`${name} differs from what its ${MANIFEST} says`);
  if (manifest) refuseFuture("this bundle was packed", new Date(manifest.made));
  const wrong = wrongIn(files, manifest);
  if (wrong.length > 0) throw refused(wrong.join("; "));
  if (manifest && manifest.ca !== caOf(files)) throw refused(`its ${MANIFEST} names another CA`);
  return { files, manifest };
}

export function keysIn(files: Bundle["files"]): SharedKey[] {
  return SHARED_KEYS.filter(({ keyFile, publicFile }) => files.has(keyFile) || files.has(publicFile));
}

/** Shared keys that no control plane node has, or has to have. */
export interface KeysElsewhere {
  externalSigner?: boolean;
  externalEtcd?: boolean;
  withoutAggregation?: boolean;
}

export function sharedFiles(cluster: KeysElsewhere): string[] {
  return SHARED_KEYS.filter((key) => !isElsewhere(key, cluster)).flatMap(({ keyFile, publicFile }) => [
    keyFile,
    publicFile,
  ]);
}

export function sharedPaths(place: PkiPlace, cluster: KeysElsewhere): string[] {
  return sharedFiles(cluster).map((name) => sharedPath(name, place));
}

function isElsewhere({ name }: SharedKey, cluster: KeysElsewhere): boolean {
  if (name === SERVICE_ACCOUNT_KEYS.name) return cluster.externalSigner === true;
  if (name === FRONT_PROXY_CA) return cluster.withoutAggregation === true;
  return cluster.externalEtcd === true && name === ETCD_CA;
}

export const ETCD_CA = certRow("etcd-ca").file;
export const FRONT_PROXY_CA = certRow("front-proxy-ca").file;

export function caOf(files: Bundle["files"]): string {
  return publicHash(files, SHARED_KEYS.find(({ publicFile }) => publicFile === "ca.crt")!);
}

/** The hash of a shared key; a CA's file may hold other certificates, too. */
export function publicHash(files: Bundle["files"], { publicFile, keyFile }: SharedKey): string {
  return hashIn(signingFirst(textIn(files, publicFile)!, textIn(files, keyFile)));
}

export function textIn(files: Bundle["files"], name: string): string | undefined {
  const bytes = files.get(name);
  return bytes && Buffer.from(bytes).toString("utf8");
}

/** sa.pub gets 0600, as kubeadm does it. */
export function modeOf(name: string): number {
  return name.endsWith(".crt") ? 0o644 : 0o600;
}

/** Whether an existing file holds the same key, perhaps in another format (PKCS#8, CRLF, with old keys). */
export function sameKey(key: SharedKey, file: string, files: Bundle["files"], there: string): boolean {
  if (file === key.keyFile)
    return trustedKeys(textIn(files, key.publicFile)).has(publicKeyHash(privateKeyOf(there)));
  return trustedKeys(there).has(publicHash(files, key));
}

/** The faults of the keys, a phrase for each pair. */
function wrongIn(files: Bundle["files"], cluster: KeysElsewhere = {}): string[] {
  return SHARED_KEYS.flatMap((key) => {
    if (isElsewhere(key, cluster) && !keysIn(files).includes(key)) return [];
    const [publicText, keyText] = [textIn(files, key.publicFile), textIn(files, key.keyFile)];
    const verdict =
      key.name === SERVICE_ACCOUNT_KEYS.name
        ? serviceAccountVerdict(keyText, publicText)
        : caVerdict(publicText, keyText);
    return verdict ? [`${key.name}: ${verdict[0]} (${verdict[1]})`] : [];
  });
}

/** Everybody can read a certificate's file, so it may hold nothing else. */
function caVerdict(cert: string | undefined, key: string | undefined): Verdict {
  if (cert && /PRIVATE KEY/.test(cert)) return ["wrong usage", "the certificate's file holds a private key"];
  return caPairVerdict(cert, key);
}

function readBundleManifest(bytes: Uint8Array | undefined): BundleManifest | undefined {
  if (!bytes) return undefined;
  try {
    const manifest = JSON.parse(Buffer.from(bytes).toString("utf8")) as BundleManifest;
    const { tool, made, node, ca, cluster, sha256 } = manifest;
    const shown = [
      tool,
      made,
      node,
      ca,
      ...(cluster ? [cluster.name, cluster.kubeSystemUid, ...(cluster.controlPlanes ?? [])] : []),
    ];
    // printed text must not control the terminal
    const isPlain = (word: unknown) => typeof word === "string" && word !== "" && plainLine(word) === word;
    if (shown.every(isPlain) && sharedFiles(manifest).every((name) => typeof sha256[name] === "string"))
      return manifest;
  } catch (err) {
    throw refused(`its ${MANIFEST} cannot be read`, err);
  }
  throw refused(`its ${MANIFEST} cannot be read`);
}

function refused(reason: string, cause?: unknown): Fail {
  return new Fail(`Cannot use this bundle: ${reason}`, {
    hint: "pack a new one on a control plane node whose keys are complete: ./bunw scripts/hand-over.ts pack",
    cause,
  });
}
