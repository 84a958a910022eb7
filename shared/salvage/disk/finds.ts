/** The kinds of finds in free blocks. */

import { createPublicKey } from "node:crypto";
import { type CertInfo, certInfo, orUndefined, publicKeyHash } from "../../pki/certificate.ts";
import { LABELS, provenKey } from "./pem-block.ts";

/** Offsets are bytes from the beginning of the disk. */
interface Place {
  offset: number;
  /** The place of the second piece of a key or a certificate in two pieces. */
  joined?: number;
}

/** `publicKeyHash` is "sha256:<hex of the SPKI's DER>", as in CertInfo. */
interface KeyFind<Kind> extends Place {
  kind: Kind;
  pem: string;
  publicKeyHash: string;
}

/** Proved: its public half verifies what it signs. */
export type PrivateKeyFind = KeyFind<"private key">;
type PublicKeyFind = KeyFind<"public key">;

export interface CertificateFind extends Place {
  kind: "certificate";
  pem: string;
  info: CertInfo;
}

/** An EncryptionConfiguration, whole. Nothing proves it but what it opens. */
export interface ConfigFind extends Place {
  kind: "config";
  text: string;
}

/**
 * The beginning of a file that is not whole: overwritten, or its second piece was not found. `what` is its
 * PEM label.
 */
export interface CutFind extends Place {
  kind: "cut";
  what: string;
}

export type Find = PrivateKeyFind | PublicKeyFind | CertificateFind | ConfigFind | CutFind;
export type PemFind = PrivateKeyFind | PublicKeyFind | CertificateFind;

/** The find in a whole block of PEM; undefined if it is not what its label says. */
export function pemFind(
  label: string,
  pem: string,
  place: { offset: number; joined?: number },
): PemFind | undefined {
  const kind = LABELS[label]!;
  if (kind === "certificate") {
    const info = orUndefined(() => certInfo(pem));
    return info && { kind, pem, info, ...place };
  }
  const key = kind === "private key" ? provenKey(pem)?.publicKey : orUndefined(() => createPublicKey(pem));
  return key && { kind, pem, publicKeyHash: publicKeyHash(key), ...place };
}
