/**
 * Token Secrets: which are signed with the current key, to which ServiceAccount they belong (the API refuses a
 * token whose ServiceAccount is gone, even if its signature is good), and how one is written without losing
 * anybody else's change.
 */
import { ApiError } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { type KubeObject, nameOf } from "../api/kube-object.ts";
import { retry } from "../api/many.ts";
import { trustsCa } from "../pki/certificate.ts";
import { tokenVerifier } from "../pki/sa-keys.ts";

export interface TokenSecret extends KubeObject {
  data?: { token?: string; "ca.crt"?: string; namespace?: string };
  immutable?: boolean;
}

export interface TokenTrust {
  /** All current keys. Unset: an external signer's keys decide, and nothing here can judge a token. */
  saPub?: string | undefined;
  /** The keys of sa-old.pub: accepted until part 4 is through. */
  oldSaPub?: string | undefined;
  caPem: string;
}

export interface SigningTrust extends TokenTrust {
  saKey?: string | undefined;
}

/** Judges tokens by the current keys; without them, all are left as they are. */
export function verifierOf({ saPub }: TokenTrust): (token: string) => boolean {
  return saPub === undefined ? () => true : tokenVerifier(saPub);
}

export const TOKEN_SECRETS = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io/service-account-token";

export function tokenSecrets(api: KubeApi): Promise<TokenSecret[]> {
  return api.list<TokenSecret>(TOKEN_SECRETS);
}

/** True even if no controller has filled the Secret yet. */
export function isCurrent(secret: TokenSecret, trust: TokenTrust, verifies = verifierOf(trust)): boolean {
  return !isFilled(secret) || (verifies(tokenOf(secret)) && holdsCa(secret, trust));
}

/** A Secret of this type that is new holds nothing: the controller-manager's token controller fills it. */
export function isFilled(secret: TokenSecret): boolean {
  return tokenOf(secret) !== "";
}

export function holdsCa(secret: TokenSecret, { caPem }: TokenTrust): boolean {
  return trustsCa(caBeside(secret), caPem);
}

/** "": none. */
export function caBeside({ data }: Pick<TokenSecret, "data">): string {
  return decoded(data?.["ca.crt"]);
}

export function tokenOf({ data }: TokenSecret): string {
  return decoded(data?.token);
}

function decoded(base64 = ""): string {
  return Buffer.from(base64, "base64").toString();
}

/**
 * A new token of kube-system's default ServiceAccount; 600 seconds are the fewest that the API takes.
 * Nothing is stored in the cluster.
 */
export async function newToken(api: KubeApi, expirationSeconds = 600): Promise<string> {
  const spec = { expirationSeconds };
  const request = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec };
  const path = "/api/v1/namespaces/kube-system/serviceaccounts/default/token";
  return (await api.create<{ status: { token: string } }>(path, request)).status.token;
}

/** Signing and checking fit together then. Returns the user's name, or "". */
export async function reviewNewToken(api: KubeApi): Promise<string> {
  return (await review(api, await newToken(api))) ?? "";
}

/** Undefined if the API does not accept it. */
export async function review(api: KubeApi, token: string): Promise<string | undefined> {
  const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", spec: { token } };
  const { status } = await api.create<{ status: { authenticated?: boolean; user?: { username: string } } }>(
    "/apis/authentication.k8s.io/v1/tokenreviews",
    body,
  );
  return status.authenticated ? status.user?.username : undefined;
}

export const ACCOUNT_NAME = "kubernetes.io/service-account.name";
export const ACCOUNT_UID = "kubernetes.io/service-account.uid";

/**
 * Returns a function: a Secret → the UID of its ServiceAccount; undefined if that is gone, or another one has
 * its name now. All ServiceAccounts are read when the first Secret asks, never before the Secrets are read: a
 * new Secret with a new account is no orphan.
 */
export function accountUids(api: KubeApi): (secret: TokenSecret) => Promise<string | undefined> {
  let reading: Promise<Map<string, string>> | undefined;
  return async ({ metadata: { namespace, annotations } }) => {
    reading ??= Array.fromAsync(
      api.items("/api/v1/serviceaccounts"),
      (account) => [nameOf(account), account.metadata.uid ?? ""] as const,
    ).then((all) => new Map(all));
    const uid = (await reading).get(`${namespace}/${annotations?.[ACCOUNT_NAME]}`);
    return (annotations?.[ACCOUNT_UID] ?? uid) === uid ? uid : undefined;
  };
}

export async function liveAccounts(api: KubeApi, secrets: readonly TokenSecret[]): Promise<string[]> {
  const uidFor = accountUids(api);
  const live: string[] = [];
  for (const secret of secrets) if ((await uidFor(secret)) !== undefined) live.push(nameOf(secret));
  return live;
}

type Data = Record<string, string>;

/** Somebody else may have just written to it. */
const CONFLICTS = 5;

/**
 * Writes this Secret as it was read, with new data; a PUT is less work for an API server than any PATCH. If
 * somebody else has written to it since, it is read and written again. Undefined if it is gone, or another
 * one has its name now.
 */
export async function writeTokenSecret(
  api: KubeApi,
  { secret, accountUid }: { secret: TokenSecret; accountUid: string },
  data: Data,
): Promise<TokenSecret | undefined> {
  const { namespace, name, uid } = secret.metadata;
  const path = `/api/v1/namespaces/${namespace}/secrets/${name}`;
  let now: TokenSecret | undefined = secret;
  for (let conflicts = 0; now && now.metadata.uid === uid; now = await api.find<TokenSecret>(path)) {
    const body = withData(now, data, accountUid);
    try {
      return await retry(`${nameOf(secret)} to be written`, () => api.replace<TokenSecret>(path, body), {
        failsWhereDeaf: true,
      });
    } catch (err) {
      const again =
        err instanceof ApiError && (err.status === 404 || (err.status === 409 && conflicts++ < CONFLICTS));
      if (!again) throw err;
    }
  }
  return undefined;
}

/**
 * Annotation and namespace are those that the controller-manager writes. Without managedFields, the owners of
 * the fields stay the same.
 */
function withData({ metadata, data, ...rest }: TokenSecret, changes: Data, accountUid: string) {
  const annotations = { ...metadata.annotations, [ACCOUNT_UID]: accountUid };
  return {
    ...rest,
    metadata: { ...metadata, annotations, managedFields: undefined },
    data: { namespace: encoded(metadata.namespace ?? ""), ...data, ...changes },
  };
}

export function encoded(text: string): string {
  return Buffer.from(text).toString("base64");
}
