/**
 * Renews Secrets of the type kubernetes.io/service-account-token: with sa.key by itself, as fast as the API server writes; without it by
 * the controller-manager, which does about ten a second.
 */

import { insist } from "../api/insist.ts";
import { ApiError, inParallel, type KubeApi } from "../api/kube-api.ts";
import { watch } from "../api/watch.ts";
import { Fail } from "../fail.ts";
import { count, Progress } from "../progress.ts";
import { say, waitFor } from "../run.ts";
import { legacyTokenSigner, tokenVerifier } from "./legacy-token.ts";
import { holdsCa, isCurrent, nameOf, review, TOKEN_SECRETS, type TokenSecret, type TokenTrust, tokenOf } from "./sa-tokens.ts";

/** Names of Secrets, `namespace/name`, by what became of them. */
export interface Renewed {
  renewed: string[];
  /** The token is good as it is. */
  caOnly: string[];
  /** Immutable ones. */
  stuck: string[];
  /** Those whose ServiceAccount is gone, or is another than the one the token was for. */
  orphans: string[];
}

/** What is kept of a Secret that is not current; the Secrets themselves may be many megabytes. */
interface Stale {
  namespace: string;
  name: string;
  uid: string;
  account: string;
  accountUid: string | undefined;
  immutable: boolean;
  /** What of it is as it should be. */
  tokenVerifies: boolean;
  caIsCurrent: boolean;
  /** With a label that makes the API refuse it, however well it is signed. */
  invalidated: boolean;
  hasNamespace: boolean;
}

const ACCOUNT_NAME = "kubernetes.io/service-account.name";
const ACCOUNT_UID = "kubernetes.io/service-account.uid";
const INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since";

/** Requests at the same time. */
const WIDTH = 50;

/**
 * How many renewed tokens the API is asked about. Not all: each review marks its Secret as used today, and by that mark Kubernetes tells the
 * tokens that nobody uses.
 */
const REVIEWS = 20;

/**
 * Gives each Secret whose token no longer verifies, or whose CA is not today's, new ones; others are not touched. The tokens are those that
 * the controller-manager would write; it may do only 20 requests per second. Safe to run again.
 */
export async function renewTokens(api: KubeApi, trust: TokenTrust): Promise<Renewed> {
  const stale = await findStale(api, trust);
  const uids = stale.length > 0 ? await accountUids(api) : new Map<string, string>();
  const stuck = stale.filter((secret) => secret.immutable);
  const orphans = stale.filter((secret) => !secret.immutable && !accountFits(secret, uids));
  const renewable = stale.filter((secret) => !secret.immutable && accountFits(secret, uids));

  if (trust.saKey) await mintAll(api, renewable, trust.saKey, trust, uids);
  else await leaveToController(api, renewable, trust);
  const [caOnly, renewed] = [renewable.filter((secret) => secret.tokenVerifies), renewable.filter((secret) => !secret.tokenVerifies)];
  return { renewed: renewed.map(label), caOnly: caOnly.map(label), stuck: stuck.map(label), orphans: orphans.map(label) };
}

async function findStale(api: KubeApi, trust: TokenTrust): Promise<Stale[]> {
  const verifies = tokenVerifier(trust.saPub);
  const stale: Stale[] = [];
  for await (const secret of api.items<TokenSecret>(TOKEN_SECRETS)) {
    const [tokenVerifies, caIsCurrent] = [verifies(tokenOf(secret)), holdsCa(secret, trust)];
    if (!tokenVerifies || !caIsCurrent) stale.push({ ...remember(secret), tokenVerifies, caIsCurrent });
  }
  return stale;
}

type Remembered = Omit<Stale, "tokenVerifies" | "caIsCurrent">;

function remember({ metadata, data, immutable }: TokenSecret): Remembered {
  const { namespace = "", name, uid = "", annotations, labels } = metadata;
  return {
    namespace,
    name,
    uid,
    account: annotations?.[ACCOUNT_NAME] ?? "",
    accountUid: annotations?.[ACCOUNT_UID],
    immutable: immutable ?? false,
    invalidated: labels?.[INVALID_SINCE] !== undefined,
    hasNamespace: data?.namespace !== undefined,
  };
}

/** Names of those whose ServiceAccount is there; the API refuses the others, whatever key signed them. */
export async function liveAccounts(api: KubeApi, secrets: readonly TokenSecret[]): Promise<string[]> {
  if (secrets.length === 0) return [];
  const uids = await accountUids(api);
  return secrets
    .map(remember)
    .filter((secret) => accountFits(secret, uids))
    .map(label);
}

/** `namespace/name` → UID of every ServiceAccount. */
async function accountUids(api: KubeApi): Promise<Map<string, string>> {
  const uids = new Map<string, string>();
  for await (const account of api.items("/api/v1/serviceaccounts")) uids.set(nameOf(account), account.metadata.uid ?? "");
  return uids;
}

function accountFits({ namespace, account, accountUid }: Remembered, uids: Map<string, string>): boolean {
  const uid = uids.get(`${namespace}/${account}`);
  return uid !== undefined && (accountUid === undefined || accountUid === uid);
}

/** Signs with sa.key and writes. What the API then holds is judged here by sa.pub, and a few by the API itself. */
async function mintAll(api: KubeApi, secrets: Stale[], saKey: string, trust: TokenTrust, uids: Map<string, string>) {
  const [sign, verifies] = [await legacyTokenSigner(saKey), tokenVerifier(trust.saPub)];
  const progress = new Progress("tokens", secrets.length);
  const sample: string[] = [];
  let done = 0;
  await inParallel(secrets, WIDTH, async (secret) => {
    const uid = uids.get(`${secret.namespace}/${secret.account}`)!;
    const claims = { ...secret, secretName: secret.name, serviceAccountName: secret.account, serviceAccountUid: uid };
    const token = secret.tokenVerifies ? undefined : await sign(claims);
    const written = await write(api, secret, { ...(token ? { token: encoded(token) } : {}), ...caFor(secret, trust) }, uid);
    if (written && !isCurrent(written, trust, verifies)) throw notAsWritten(secret);
    if (written && token && !secret.invalidated && sample.length < REVIEWS) sample.push(token);
    progress.show(++done);
  });
  progress.clear();
  await reviewAll(api, sample);
}

/** Empties the tokens; the controller-manager then writes new ones, 20 a second. */
async function leaveToController(api: KubeApi, secrets: Stale[], trust: TokenTrust) {
  if (secrets.length === 0) return;
  say("sa.key is not on this node: the controller-manager writes the tokens");
  await inParallel(secrets, WIDTH, (secret) =>
    write(api, secret, { ...(secret.tokenVerifies ? {} : { token: null }), ...caFor(secret, trust) }, secret.accountUid),
  );
  const waiting = new Set(secrets.map(label));
  const ending = new AbortController();
  const failure = Promise.withResolvers<never>();
  followRenewal(api, trust, waiting, ending.signal).catch(failure.reject);
  const progress = new Progress("tokens", secrets.length);
  const look = () => {
    progress.show(secrets.length - waiting.size);
    return waiting.size === 0;
  };
  const patience = {
    seconds: 120 + secrets.length / 5,
    hint: "does the controller-manager lead (kubectl -n kube-system get lease)? crictl logs of it",
  };
  try {
    await Promise.race([waitFor("all token Secrets to have a token of today's key", look, patience), failure.promise]);
  } finally {
    ending.abort();
    progress.clear();
  }
}

/** Takes those that have become current, or are gone, out of `waiting`. */
async function followRenewal(api: KubeApi, trust: TokenTrust, waiting: Set<string>, signal: AbortSignal) {
  const verifies = tokenVerifier(trust.saPub);
  for await (const { type, object } of watch<TokenSecret>(api, TOKEN_SECRETS, signal)) {
    if (signal.aborted) return;
    if (type === "DELETED" || isCurrent(object, trust, verifies)) waiting.delete(nameOf(object));
  }
}

function caFor({ caIsCurrent }: Stale, { caPem }: TokenTrust): Record<string, string> {
  return caIsCurrent ? {} : { "ca.crt": encoded(caPem) };
}

/** One patch, for exactly this Secret: undefined where it is gone, or is another of the same name. Annotations as the controller's. */
async function write(api: KubeApi, secret: Stale, data: Record<string, string | null>, accountUid: string | undefined) {
  const { namespace, name, uid, hasNamespace } = secret;
  const annotations = secret.accountUid === undefined && accountUid ? { annotations: { [ACCOUNT_UID]: accountUid } } : {};
  const patch = { metadata: { uid, ...annotations }, data: { ...data, ...(hasNamespace ? {} : { namespace: encoded(namespace) }) } };
  try {
    const path = `/api/v1/namespaces/${namespace}/secrets/${name}`;
    return await insist(`${label(secret)} to be written`, () => api.patch<TokenSecret>(path, patch));
  } catch (err) {
    if (err instanceof ApiError && (err.status === 404 || err.status === 409)) return undefined;
    throw err;
  }
}

/** An API server looks into a copy of the Secrets that may be a moment old, so "no" is asked again. */
async function reviewAll(api: KubeApi, tokens: string[]) {
  const patience = {
    seconds: 20,
    hint: "sa.key differs between masters, or an API server has not read sa.pub yet: compare them with sha256sum, then run this script again",
  };
  await inParallel(tokens, WIDTH, (token) => waitFor("the API to accept a new token", () => review(api, token), patience));
  if (tokens.length > 0) say(`${count(tokens.length)} of the new tokens: accepted by the API`);
}

function notAsWritten(secret: Stale): Fail {
  return new Fail(`${label(secret)} does not hold what was written to it`, {
    hint: "sa.key and sa.pub do not belong together (./bunw scripts/00-assess.ts), or a webhook changes Secrets",
  });
}

function label({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

function encoded(text: string): string {
  return Buffer.from(text).toString("base64");
}
