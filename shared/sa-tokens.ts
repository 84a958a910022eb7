/** Service-account tokens and the CA copies beside them: Secrets of the old kind, and the ConfigMap kube-root-ca.crt of every namespace. */
import { createPublicKey, verify } from "node:crypto";
import { publicKeysIn } from "./certificate.ts";
import { inParallel, type KubeApi, type KubeObject } from "./kube-api.ts";
import { say, waitFor } from "./run.ts";

export interface TokenSecret extends KubeObject {
  data?: { token?: string; "ca.crt"?: string };
  immutable?: boolean;
}

const TOKEN_SECRETS = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io/service-account-token";

/** JWS algorithms of Kubernetes' tokens (RFC 7518 §3.1): the hash, and for ECDSA the raw r‖s form of the signature. */
const ALGORITHMS: Record<string, { hash: string; ieee: boolean }> = {
  RS256: { hash: "sha256", ieee: false },
  ES256: { hash: "sha256", ieee: true },
  ES384: { hash: "sha384", ieee: true },
  ES512: { hash: "sha512", ieee: true },
};

/** Whether a token's signature is by one of the keys in sa.pub. Its times are not judged. */
export function tokenVerifies(token: string, saPub: string): boolean {
  const [header = "", payload = "", signature = ""] = token.split(".");
  const algorithm = ALGORITHMS[algorithmIn(header)];
  if (!algorithm) return false;
  const signed = Buffer.from(`${header}.${payload}`);
  return publicKeysIn(saPub).some((pem) => {
    const key = { key: createPublicKey(pem), ...(algorithm.ieee ? { dsaEncoding: "ieee-p1363" as const } : {}) };
    return verify(algorithm.hash, signed, key, Buffer.from(signature, "base64url"));
  });
}

/** "RS256" of a token's header; "" where it is none: people write other things into such Secrets. */
function algorithmIn(header: string): string {
  try {
    const value = JSON.parse(Buffer.from(header, "base64url").toString()) as { alg?: string } | null;
    return value?.alg ?? "";
  } catch (err) {
    if (err instanceof SyntaxError) return "";
    throw err;
  }
}

export function tokenSecrets(api: KubeApi): Promise<TokenSecret[]> {
  return api.list<TokenSecret>(TOKEN_SECRETS);
}

/** Whether a Secret's token is by today's key and its CA is today's. */
export function isCurrent(secret: TokenSecret, trust: { saPub: string; caPem: string }): boolean {
  const token = Buffer.from(secret.data?.token ?? "", "base64").toString();
  const ca = Buffer.from(secret.data?.["ca.crt"] ?? "", "base64").toString();
  return token !== "" && tokenVerifies(token, trust.saPub) && ca.trim() === trust.caPem.trim();
}

/**
 * Empties the token of each Secret whose token no longer verifies; the controller-manager then writes a new one. Others are not touched.
 * Returns the names of those renewed, `namespace/name`, and of those that cannot be (immutable).
 */
export async function renewTokens(api: KubeApi, trust: { saPub: string; caPem: string }): Promise<{ renewed: string[]; stuck: string[] }> {
  const stale = (await tokenSecrets(api)).filter(
    (secret) => !tokenVerifies(Buffer.from(secret.data?.token ?? "", "base64").toString(), trust.saPub),
  );
  const stuck = stale.filter((secret) => secret.immutable);
  const renewable = stale.filter((secret) => !secret.immutable);
  await inParallel(renewable, 50, ({ metadata }) =>
    api.patch(`/api/v1/namespaces/${metadata.namespace}/secrets/${metadata.name}`, { data: { token: null } }),
  );
  await waitFor(
    "all token Secrets to have a token of today's key",
    async () => (await tokenSecrets(api)).every((secret) => secret.immutable || isCurrent(secret, trust)),
    {
      seconds: 120 + renewable.length / 10,
      hint: "does the controller-manager lead (kubectl -n kube-system get lease)? crictl logs of it",
    },
  );
  return { renewed: renewable.map(nameOf), stuck: stuck.map(nameOf) };
}

/** Namespaces whose kube-root-ca.crt is not today's CA, as pods see it. */
export async function namespacesWithOldCa(api: KubeApi, caPem: string): Promise<string[]> {
  const namespaces = await api.list<KubeObject & { status?: { phase?: string } }>("/api/v1/namespaces");
  const maps = await api.list<KubeObject & { data?: Record<string, string> }>(
    "/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt",
  );
  const current = new Set(maps.filter((map) => map.data?.["ca.crt"]?.trim() === caPem.trim()).map((map) => map.metadata.namespace));
  return namespaces
    .filter(({ metadata, status }) => status?.phase === "Active" && !current.has(metadata.name))
    .map(({ metadata }) => metadata.name);
}

/** Asks the API for a token and then what it thinks of it: signing and checking fit together. Returns the user's name. */
export async function reviewNewToken(api: KubeApi): Promise<string> {
  const request = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 600 } };
  const { status } = await api.create<{ status: { token: string } }>(
    "/api/v1/namespaces/kube-system/serviceaccounts/default/token",
    request,
  );
  return (await review(api, status.token)) ?? "";
}

/** The user that a token stands for, or undefined where the API does not accept it. */
export async function review(api: KubeApi, token: string): Promise<string | undefined> {
  const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", spec: { token } };
  const { status } = await api.create<{ status: { authenticated?: boolean; user?: { username: string } } }>(
    "/apis/authentication.k8s.io/v1/tokenreviews",
    body,
  );
  return status.authenticated ? status.user?.username : undefined;
}

export function sayNames(what: string, names: readonly string[]) {
  if (names.length > 0) say(`${what}: ${names.slice(0, 10).join(", ")}${names.length > 10 ? ` and ${names.length - 10} more` : ""}`);
}

function nameOf({ metadata }: KubeObject) {
  return `${metadata.namespace}/${metadata.name}`;
}
