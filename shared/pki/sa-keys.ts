/**
 * The service-account keys on this node, and their tokens: sa.key and sa.pub, whether they are new, and the public halves
 * of old keys beside them. Part 1 leaves a mark if it makes a new pair. The tokens
 * of this node's pods show a new pair, too, but only until their kubelet has renewed them, and pods on other
 * nodes keep theirs for longer.
 *
 * `readJwt` reads the parts of any token (RFC 7515) and trusts none of them: it does not check the signature.
 *
 * Tokens in Secrets of the type kubernetes.io/service-account-token are made and checked byte for byte as the
 * controller-manager's token controller writes them. Source: kubernetes pkg/serviceaccount/legacy.go and
 * jwt.go; go-jose writes header and claims as JSON with sorted names.
 */

import { createPublicKey, verify } from "node:crypto";
import { attempt, Fail } from "../fail.ts";
import { type Mark, readMark, readText, removeFile, writeMark } from "../files/files.ts";
import { shell } from "../shell-line.ts";
import { hashIn, orUndefined, privateKeyOf, publicKeysIn, publicPem } from "./certificate.ts";
import { examineServiceAccountKey } from "./examine.ts";
import type { Jwt } from "./jwt.ts";
import { JWS, signingKey } from "./keys.ts";

/**
 * The `kid` of tokens a service-account key signs: base64url(SHA-256(SPKI DER)), kubernetes'
 * pkg/serviceaccount/jwt.go.
 */
export function serviceAccountKeyId(publicPem: string): string {
  return Buffer.from(hashIn(publicPem).slice("sha256:".length), "hex").toString("base64url");
}

/** The current sa.pub on this node, or the public half of its sa.key alone: its tokens are not old. */
export function currentSaPub(certificatesDir: string): string | undefined {
  const { state } = examineServiceAccountKey(certificatesDir);
  return state === "ok" || state === "public key missing" ? saPubText(certificatesDir) : undefined;
}

/** sa.pub; if a cluster has none, the public half of sa.key. Undefined: neither is here. */
export function saPubText(certificatesDir: string): string | undefined {
  const [pub, key] = ["sa.pub", "sa.key"].map((file) => readText(`${certificatesDir}/${file}`));
  return pub ?? (key && attempt(() => publicPem(key), undefined));
}

export const NEW_SA_KEY_MARK = "/etc/kubernetes/.kube-pki-repair-new-sa-key";

/** Called before the key is written: if the run stops between the two, the mark matches no sa.pub, and is ignored. */
export function markNewSaKey(publicPem: string) {
  const mark = { made: new Date().toISOString(), kid: serviceAccountKeyId(publicPem) };
  writeMark(NEW_SA_KEY_MARK, mark, "for part 4: older tokens were signed by another key");
}

/** The mark is useless once no running pod is older than the key. */
export function dropNewSaKeyMark() {
  removeFile(NEW_SA_KEY_MARK);
}

/** When part 1 made this sa.pub; undefined for every other one. */
export function newSaKeySince(saPub: string): Date | undefined {
  const mark = readMark<Mark & { kid: string }>(NEW_SA_KEY_MARK);
  return mark && publicKeysIn(saPub).some((pem) => serviceAccountKeyId(pem) === mark.kid)
    ? new Date(mark.made)
    : undefined;
}

/** The file of old keys: beside sa.pub, so that the API server's own volume mounts it. */
export function oldSaPub(certificatesDir: string): string {
  return `${certificatesDir}/sa-old.pub`;
}

/**
 * The old keys on this node, in PEM, without those that sa.pub holds as well. Errors: Fail if the file
 * holds no key.
 */
export function oldSaKeys(certificatesDir: string): string[] {
  const path = oldSaPub(certificatesDir);
  const text = readText(path);
  if (text === undefined) return [];
  const keys = publicKeysIn(text);
  if (keys.length === 0)
    throw new Fail(`There is no public key in "${path}"`, {
      hint: shell`remove it, as the API server would not start with it: rm ${path}`,
    });
  const currentKids = new Set(
    publicKeysIn(readText(`${certificatesDir}/sa.pub`) ?? "").map(serviceAccountKeyId),
  );
  return keys.filter((pem) => !currentKids.has(serviceAccountKeyId(pem)));
}

/** The service account of a token, and the Secret that holds it. */
interface LegacyClaims {
  namespace: string;
  secretName: string;
  serviceAccountName: string;
  serviceAccountUid: string;
}

/** Signs tokens with sa.key. WebCrypto does it beside the main thread, on all cores. */
export async function legacyTokenSigner(saKeyPem: string) {
  const { key, alg, name, hash } = await signingKey(privateKeyOf(saKeyPem));
  const header = encode({ alg, kid: serviceAccountKeyId(publicPem(saKeyPem)) });
  return async (claims: LegacyClaims) => {
    const signed = `${header}.${encode(payloadOf(claims))}`;
    const signature = await crypto.subtle.sign({ name, hash }, key, Buffer.from(signed));
    return `${signed}.${Buffer.from(signature).toString("base64url")}`;
  };
}

/** A token that does not expire and has no audience. The order of the names matters. */
function payloadOf({ namespace, secretName, serviceAccountName, serviceAccountUid }: LegacyClaims) {
  return {
    iss: "kubernetes/serviceaccount",
    "kubernetes.io/serviceaccount/namespace": namespace,
    "kubernetes.io/serviceaccount/secret.name": secretName,
    "kubernetes.io/serviceaccount/service-account.name": serviceAccountName,
    "kubernetes.io/serviceaccount/service-account.uid": serviceAccountUid,
    sub: `system:serviceaccount:${namespace}:${serviceAccountName}`,
  };
}

/** Does not judge a token's times. False for text that is no token. */
export function tokenVerifier(saPub: string): (token: string) => boolean {
  const keys = publicKeysIn(saPub).map((pem) => createPublicKey(pem));
  return (token) => {
    const { head, signed, signature } = partsOf(token);
    const way = JWS.get(String(head.alg));
    if (!way) return false;
    const [type, form] = way.crv ? ["ec", { dsaEncoding: "ieee-p1363" as const }] : ["rsa", {}];
    return keys.some(
      (key) =>
        key.asymmetricKeyType === type && verify(way.hash, Buffer.from(signed), { key, ...form }, signature),
    );
  };
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

/** A service-account token, or undefined if the text is none. */
export function readJwt(text: string): Jwt | undefined {
  const trimmed = text.trim();
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(trimmed)) return undefined;
  const { head, payload, signed, signature } = partsOf(trimmed);
  const claims = json(payload);
  if (
    typeof head.alg !== "string" ||
    typeof claims.sub !== "string" ||
    !claims.sub.startsWith("system:serviceaccount:")
  )
    return undefined;
  return {
    alg: head.alg,
    kid: typeof head.kid === "string" ? head.kid : "",
    subject: claims.sub,
    issuedAt: typeof claims.iat === "number" && Number.isFinite(claims.iat) ? claims.iat : 0,
    signed,
    signature,
    text: trimmed,
  };
}

function partsOf(token: string) {
  const [header = "", payload = "", signature = ""] = token.split(".");
  return {
    head: json(header),
    payload,
    signed: `${header}.${payload}`,
    signature: Buffer.from(signature, "base64url"),
  };
}

/** An unsigned number, as keys and signatures write it: big-endian. */
export function numberOf(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString("hex") || "0"}`);
}

/** The same back, for a JWK (RFC 7518 §2, Base64urlUInt); of at least `length` bytes. */
export function base64url(number: bigint, length = 1): string {
  const hex = number.toString(16);
  return Buffer.from(hex.padStart(Math.max(length * 2, hex.length + (hex.length % 2)), "0"), "hex").toString(
    "base64url",
  );
}

function json(part: string): Record<string, unknown> {
  const value = orUndefined(() => JSON.parse(Buffer.from(part, "base64url").toString()) as unknown);
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
