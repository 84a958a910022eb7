import type { KubeApi, KubeObject } from "../api/kube-api.ts";
import { tokenVerifier } from "../pki/tokens.ts";
import { say } from "../run.ts";

export interface TokenSecret extends KubeObject {
  data?: { token?: string; "ca.crt"?: string; namespace?: string };
  immutable?: boolean;
}

/** What tokens are judged by, and what new ones are signed with; without saKey the controller-manager has to write them. */
export interface TokenTrust {
  saPub: string;
  caPem: string;
  saKey?: string | undefined;
}

export const TOKEN_SECRETS = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io/service-account-token";
export function tokenSecrets(api: KubeApi): Promise<TokenSecret[]> {
  return api.list<TokenSecret>(TOKEN_SECRETS);
}

/** Whether a Secret's token is by today's key and its CA is today's. */
export function isCurrent(secret: TokenSecret, trust: TokenTrust, verifies = tokenVerifier(trust.saPub)): boolean {
  return verifies(tokenOf(secret)) && holdsCa(secret, trust);
}

export function holdsCa({ data }: TokenSecret, { caPem }: TokenTrust): boolean {
  return decoded(data?.["ca.crt"]).trim() === caPem.trim();
}

export function tokenOf({ data }: TokenSecret): string {
  return decoded(data?.token);
}

function decoded(base64 = ""): string {
  return Buffer.from(base64, "base64").toString();
}

/** Namespaces whose kube-root-ca.crt is not today's CA, as pods see it. */
export async function namespacesWithOldCa(api: KubeApi, caPem: string): Promise<string[]> {
  const old = new Set<string>();
  for await (const { metadata, status } of api.items<KubeObject & { status?: { phase?: string } }>("/api/v1/namespaces")) {
    if (status?.phase === "Active") old.add(metadata.name);
  }
  const maps = "/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt";
  for await (const { metadata, data } of api.items<KubeObject & { data?: Record<string, string> }>(maps)) {
    if (data?.["ca.crt"]?.trim() === caPem.trim()) old.delete(metadata.namespace ?? "");
  }
  return [...old];
}

/** A fresh token of kube-system's default ServiceAccount, for ten minutes. Nothing is stored by it. */
export async function newToken(api: KubeApi): Promise<string> {
  const request = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 600 } };
  const path = "/api/v1/namespaces/kube-system/serviceaccounts/default/token";
  return (await api.create<{ status: { token: string } }>(path, request)).status.token;
}

/** Asks the API for a token and then what it thinks of it: signing and checking fit together. Returns the user's name. */
export async function reviewNewToken(api: KubeApi): Promise<string> {
  return (await review(api, await newToken(api))) ?? "";
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

export function nameOf({ metadata }: KubeObject) {
  return `${metadata.namespace}/${metadata.name}`;
}
