/**
 * The public keys that a text trusts, as a set. A CA's file may hold several certificates in any order: the
 * old CA beside the current one (kubernetes.io, "Manual Rotation of CA Certificates"), or an intermediate CA
 * beside its root. sa.pub and the files of --service-account-key-file may hold several keys. So texts are
 * compared by their keys, never by their letters: one right key among them lets a server or a token through.
 * `has`, `difference` and `isSubsetOf` are those of every Set.
 */

import { attempt } from "../fail.ts";
import { readText } from "../files/files.ts";
import { memo } from "../memo.ts";
import {
  certInfo,
  certificatesIn,
  hashIn,
  infoOf,
  infosIn,
  isValidNow,
  keyMatches,
  publicKeysIn,
  signedBy,
} from "./certificate.ts";

/** Hashes: "sha256:<hex of the SPKI's DER>". */
export type TrustedKeys = ReadonlySet<string>;

/** The keys of all certificates and public keys in these texts. Unreadable ones are left out. */
export function trustedKeys(...texts: readonly (string | undefined)[]): TrustedKeys {
  return new Set(texts.flatMap((text) => (text ? keysOfText(text) : [])));
}

const keysOfText = memo((text): readonly string[] => {
  const certificates = certificatesIn(text).map((pem) => infoOf(pem)?.publicKeyHash);
  const keys = publicKeysIn(text).map((pem) => attempt(() => hashIn(pem)));
  return [...certificates, ...keys].filter((hash) => typeof hash === "string");
});

/**
 * A CA's text with the certificate first whose key is `keyPem`: a file may hold several, and that one signs.
 * So it is the one that `certInfo`, `hashIn` and `issueLeaf` take. As it is if there is no such key, or
 * one certificate only.
 */
export function signingFirst(caPem: string, keyPem: string | undefined): string {
  const all = certificatesIn(caPem);
  const own =
    all.length > 1 && keyPem ? all.find((pem) => attempt(() => keyMatches(pem, keyPem)) === true) : undefined;
  return own === undefined || own === all[0] ? caPem : [own, ...all.filter((pem) => pem !== own)].join("");
}

/**
 * Whether a text has the key of the CA that signs, the first of `caPem`, in a certificate of any time: it is
 * no new CA for those who have the text. Errors: Fail if that CA cannot be read.
 */
export function knowsCa(text: string | undefined, caPem: string): boolean {
  return trustedKeys(text).has(certInfo(caPem).publicKeyHash);
}

/**
 * Whether those who have the text trust what that CA signs: it has the very certificate, or another of its
 * key that is valid now.
 */
export function trustsCa(text: string | undefined, caPem: string): boolean {
  const ca = certInfo(caPem);
  const known = infosIn(text);
  return known.some(
    (one) => one.publicKeyHash === ca.publicKeyHash && (one.pem === ca.pem || isValidNow(one)),
  );
}

/** Whether a certificate file exists, can be read, is signed by this CA and is valid now. */
export function trusted(path: string, caPem: string): boolean {
  return trustedText(readText(path) ?? "", caPem);
}

/** The same for the file's text. */
export function trustedText(pem: string, caPem: string): boolean {
  const info = infoOf(pem);
  return (
    info !== undefined &&
    attempt(() => keyMatches(pem, pem)) === true &&
    signedBy(pem, caPem) &&
    isValidNow(info)
  );
}
