/** The attacker: his keys, his CAs with the cluster's names, and tokens with the claims that he wants. */
import { createHash, createPublicKey, randomBytes, sign } from "node:crypto";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueClient, type Pair } from "../../../shared/pki/issue.ts";
import { type KeyPair, keyPair } from "../../../shared/pki/keys.ts";
import { testFacts } from "../../pretend/facts.ts";

/** His namespace. He writes this name into everything, so that his things are recognised anywhere. */
export const TEAM = "a-team";

export const ISSUER = `https://issuer.${TEAM}.example`;

export interface Attacker {
  sa: KeyPair;
  /** The ID of his `sa` in tokens. */
  kid: string;
  /** With the names of the cluster's own CAs: "kubernetes", "etcd-ca", "front-proxy-ca". */
  ca: Pair;
  etcdCa: Pair;
  frontProxyCa: Pair;
  /** An administrator's certificate of his CA. */
  admin: Pair;
}

const FACTS = testFacts({ keyAlgorithm: "RSA-2048", nodeName: TEAM });

export async function makeAttacker(): Promise<Attacker> {
  const sa = await keyPair("RSA-2048");
  const [ca, etcdCa, frontProxyCa] = await Promise.all(
    ["ca", "etcd-ca", "front-proxy-ca"].map((name) => issueCa(certRow(name), FACTS)),
  );
  const admin = await issueClient({ cn: `${TEAM}-admin`, o: "system:masters" }, ca!, FACTS);
  return { sa, kid: kidOf(sa.pub), ca: ca!, etcdCa: etcdCa!, frontProxyCa: frontProxyCa!, admin };
}

/** base64url(SHA-256(SubjectPublicKeyInfo)), as the API server and the controller-manager name a key. */
export function kidOf(pub: string): string {
  return createHash("sha256")
    .update(createPublicKey(pub).export({ type: "spki", format: "der" }))
    .digest("base64url");
}

/** What he reads in a token that the cluster gave him. */
interface Genuine {
  kid: string;
  claims: Record<string, unknown>;
}

export function readToken(token: string): Genuine {
  const parts = token.split(".").slice(0, 2);
  const [head, claims] = parts.map((part) => JSON.parse(Buffer.from(part, "base64url").toString()));
  return { kid: head.kid, claims };
}

const NEVER = 9_999_999_999;

/** A token signed with his own key: it is accepted where his sa.key is taken for the cluster's. */
export function signedToken({ sa, kid }: Pick<Attacker, "sa" | "kid">, { claims }: Genuine): string {
  const text = [{ alg: "RS256", kid }, claims].map(encoded).join(".");
  return `${text}.${sign("sha256", Buffer.from(text), sa.key).toString("base64url")}`;
}

/** Name of a file → a token that a reader may believe, or fail on. */
export function forgedTokens(attacker: Attacker, genuine: Genuine): Record<string, string> {
  const claims = { ...genuine.claims, iat: NEVER, exp: NEVER };
  const token = (head: object, payload: object = claims) =>
    `${encoded(head)}.${encoded(payload)}.${randomBytes(256).toString("base64url")}`;
  const { kid } = attacker;
  return {
    newest: signedToken(attacker, { ...genuine, claims }),
    accepted: signedToken(attacker, genuine),
    // names the cluster's own key, with another algorithm
    "another-kind": token({ alg: "ES256", kid: genuine.kid }),
    constructor: token({ alg: "constructor", kid }),
    proto: `${Buffer.from(`{"alg":"__proto__","kid":"${kid}"}`).toString("base64url")}.${encoded(claims)}.x`,
    none: `${encoded({ alg: "none", kid })}.${encoded(claims)}.`,
    "alg-number": token({ alg: 256, kid }),
    "kid-path": token({ alg: "RS256", kid: "../../../etc/kubernetes/pki/sa" }),
    "kid-empty": token({ alg: "RS256", kid: "" }),
    "kid-object": token({ alg: "RS256", kid: { toString: "x" } }),
    "kid-long": token({ alg: "RS256", kid: "A".repeat(20_000) }),
    "iat-text": token({ alg: "RS256", kid }, { ...claims, iat: "9999999999", exp: null }),
    deep: `${Buffer.from(`{"alg":"RS256","kid":"${kid}","x":${"[".repeat(20_000)}`).toString("base64url")}.e30.x`,
    "no-token": `\u001b]0;${TEAM}\u0007\u001b[2J`,
    huge: token({ alg: "RS256", kid }, { ...claims, x: "y".repeat(400_000) }),
  };
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

/**
 * Files with the names of a control plane node's PKI: in a ConfigMap, in volumes, and in the memory of a
 * process.
 */
export function attackerPki({ sa, ca, etcdCa, frontProxyCa, admin }: Attacker): Record<string, string> {
  return {
    "sa.key": sa.key,
    "sa.pub": sa.pub,
    "ca.key": ca.key,
    "ca.crt": ca.cert,
    "etcd-ca.key": etcdCa.key,
    "etcd-ca.crt": etcdCa.cert,
    "front-proxy-ca.key": frontProxyCa.key,
    "front-proxy-ca.crt": frontProxyCa.cert,
    "admin.key": admin.key,
    "admin.crt": admin.cert,
  };
}
