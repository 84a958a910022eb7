/**
 * The bundle that travels between control plane nodes: the keys that are the same on all of them, as a plain tar (names as below the certificates
 * folder) with a MANIFEST.json before them. sealed.ts locks it. Everything here is in memory; what is read is judged before it is used.
 */
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { Fail } from "../fail.ts";
import { readBytes } from "../files/files.ts";
import { certInfo, certificatesIn, hashIn, keyMatches, publicKeysIn } from "../pki/certificate.ts";
import { SERVICE_ACCOUNT_KEYS, SHARED_FILES, SHARED_KEYS, type SharedKey } from "../pki/certs.ts";
import { caPairVerdict } from "../pki/examine.ts";
import { day, type Verdict } from "../pki/judge.ts";
import { serviceAccountVerdict } from "../pki/sa-keys.ts";
import { VERSION } from "../run.ts";
import { readTar, type TarFile, writeTar } from "./tar.ts";

const MANIFEST = "MANIFEST.json";

/** Bytes: eight PEM files are about 15,000; more than this was not made by pack. */
export const MAX_BYTES = 1 << 20;

export interface Origin {
  name: string;
  /** The UID of the namespace kube-system: what tells one cluster from another, whatever their CAs. */
  kubeSystemUid: string;
}

export interface BundleManifest {
  tool: string;
  /** ISO time. */
  made: string;
  /** Host name of the control plane node it was packed on. */
  node: string;
  /** Unset where etcd's data could not be read. */
  cluster?: Origin | undefined;
  /** "sha256:…", of the cluster CA's public key. */
  ca: string;
  sha256: Record<string, string>;
}

export interface Bundle {
  /** All of SHARED_FILES. */
  files: Map<string, Uint8Array>;
  /** Unset where somebody packed it by hand, with tar and age. */
  manifest: BundleManifest | undefined;
}

/** The shared keys of this node. Errors: Fail that names all that is incomplete, does not match or has expired. */
export function readBundle(certificatesDir: string, cluster: Origin | undefined): Bundle {
  const files = new Map<string, Uint8Array>();
  for (const name of SHARED_FILES) {
    const bytes = readBytes(`${certificatesDir}/${name}`);
    if (bytes) files.set(name, bytes);
  }
  const wrong = wrongIn(files);
  if (wrong.length > 0) {
    throw new Fail(`Cannot pack the keys in ${certificatesDir}: ${wrong.join("; ")}`, {
      hint: "./bunw scripts/00-assess.ts says which part mends it; pack where all of them are whole, or after that",
    });
  }
  const sha256 = Object.fromEntries([...files].map(([name, bytes]) => [name, sha256Of(bytes)]));
  const node = hostname();
  return {
    files,
    manifest: { tool: `kube-pki-repair ${VERSION}`, made: new Date().toISOString(), node, cluster, ca: caOf(files), sha256 },
  };
}

export function packTar({ files, manifest }: Bundle): Uint8Array {
  const about: TarFile = { name: MANIFEST, mode: 0o644, bytes: Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`) };
  const keys = SHARED_FILES.map((name) => ({ name, mode: modeOf(name), bytes: files.get(name)! }));
  return writeTar([about, ...keys], new Date(manifest!.made));
}

/**
 * Errors: Fail where it holds anything but the shared keys, or not all of them, or where they do not belong together. A bundle that was
 * packed by hand has no manifest, and may have the paths that `hand-over.ts files` prints, as tar stores them.
 */
export function unpackTar(tar: Uint8Array, certificatesDir: string): Bundle {
  const files = new Map<string, Uint8Array>();
  for (const { name, bytes } of readTar(tar)) {
    const known = name.replace(`${certificatesDir.slice(1)}/`, "");
    if (known !== MANIFEST && !SHARED_FILES.includes(known)) throw refused(whyForeign(name));
    if (files.has(known)) throw refused(`it holds ${known} twice`);
    files.set(known, bytes);
  }
  const manifest = readBundleManifest(files.get(MANIFEST));
  files.delete(MANIFEST);
  for (const [name, hash] of Object.entries(manifest?.sha256 ?? {}))
    if (!files.has(name) || sha256Of(files.get(name)!) !== hash) throw refused(`${name} is not the one that its ${MANIFEST} names`);
  const wrong = wrongIn(files);
  if (wrong.length > 0) throw refused(wrong.join("; "));
  if (manifest && manifest.ca !== caOf(files)) throw refused(`its ${MANIFEST} is about another CA`);
  return { files, manifest };
}

/** A line for each key: name, fingerprint, kind, end. Nothing secret. */
export function describe(files: Bundle["files"]): string[] {
  const width = Math.max(...SHARED_KEYS.map(({ name }) => name.length));
  return SHARED_KEYS.map((key) => {
    const pem = textIn(files, key.publicFile)!;
    const cert = certificatesIn(pem).length > 0 ? certInfo(pem) : undefined;
    return `${key.name.padEnd(width)}  ${hashIn(pem)}  ${cert ? `${cert.algorithm}, until ${day(cert.notAfter)}` : "signs service-account tokens"}`;
  });
}

export function caOf(files: Bundle["files"]): string {
  return hashIn(textIn(files, "ca.crt")!);
}

/** The fingerprint of each shared key, by its name. */
export function fingerprints(files: Bundle["files"]): Record<string, string> {
  return Object.fromEntries(SHARED_KEYS.map(({ name, publicFile }) => [name, hashIn(textIn(files, publicFile)!)]));
}

export function textIn(files: Bundle["files"], name: string): string | undefined {
  const bytes = files.get(name);
  return bytes && Buffer.from(bytes).toString("utf8");
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** sa.pub is 0600 as kubeadm has it. */
export function modeOf(name: string): number {
  return name.endsWith(".crt") ? 0o644 : 0o600;
}

/** Whether a file that is there already stands for the same key, written another way perhaps (PKCS#8, CRLF, old keys beside it). */
export function sameKey(key: SharedKey, file: string, files: Bundle["files"], there: string): boolean {
  if (file === key.keyFile) return keyMatches(textIn(files, key.publicFile)!, there);
  const keys = key.publicFile.endsWith(".pub") ? publicKeysIn(there) : [there];
  return keys.some((one) => keyMatches(one, textIn(files, key.keyFile)!));
}

/** What is wrong with the keys, a sentence for each pair. */
function wrongIn(files: Bundle["files"]): string[] {
  return SHARED_KEYS.flatMap((key) => {
    const [publicText, keyText] = [textIn(files, key.publicFile), textIn(files, key.keyFile)];
    const verdict = key.name === SERVICE_ACCOUNT_KEYS.name ? serviceAccountVerdict(keyText, publicText) : authority(publicText, keyText);
    return verdict ? [`${key.name}: ${verdict[0]} (${verdict[1]})`] : [];
  });
}

/** A certificate is readable by all, so nothing else may stand in its file. */
function authority(cert: string | undefined, key: string | undefined): Verdict {
  if (cert && /PRIVATE KEY/.test(cert)) return ["wrong usage", "a private key stands in the certificate's file"];
  return caPairVerdict(cert, key);
}

function readBundleManifest(bytes: Uint8Array | undefined): BundleManifest | undefined {
  if (!bytes) return undefined;
  try {
    const manifest = JSON.parse(Buffer.from(bytes).toString("utf8")) as BundleManifest;
    const { tool, made, node, ca, cluster, sha256 } = manifest;
    const shown = [tool, made, node, ca, ...(cluster ? [cluster.name, cluster.kubeSystemUid] : [])];
    // what is shown on the terminal must not steer it
    if (
      shown.every((word) => typeof word === "string" && /^[\x20-\x7e]{1,300}$/.test(word)) &&
      SHARED_FILES.every((name) => typeof sha256[name] === "string")
    )
      return manifest;
  } catch (err) {
    throw refused(`its ${MANIFEST} cannot be read`, err);
  }
  throw refused(`its ${MANIFEST} cannot be read`);
}

function whyForeign(name: string): string {
  const shown = JSON.stringify(name);
  if (name.startsWith("/")) return `it names the absolute path ${shown}`;
  if (name.split("/").includes("..")) return `it names ${shown}, which leads out of the folder`;
  return `it holds ${shown}, which is none of the shared keys`;
}

function refused(reason: string, cause?: unknown): Fail {
  return new Fail(`Cannot use this bundle: ${reason}`, {
    hint: "pack a new one on a control plane node whose keys are whole: ./bunw scripts/hand-over.ts pack",
    cause,
  });
}
