/**
 * Renews Secrets of the type kubernetes.io/service-account-token: with sa.key by itself, as fast as the API server writes; without it by
 * the controller-manager, which does about ten a second.
 */
import { ApiError, type KubeApi } from "../api/kube-api.ts";
import { inParallel } from "../api/many.ts";
import { watch } from "../api/watch.ts";
import { Fail } from "../fail.ts";
import { legacyTokenSigner, tokenVerifier } from "../pki/tokens.ts";
import { count, Progress } from "../progress.ts";
import { say, waitFor } from "../run.ts";
import {
  ACCOUNT_NAME,
  accountUids,
  encoded,
  holdsCa,
  isCurrent,
  nameOf,
  review,
  TOKEN_SECRETS,
  type TokenSecret,
  type TokenTrust,
  tokenOf,
  writeTokenSecret,
} from "./token-secrets.ts";

/** Names of Secrets, `namespace/name`, by what became of them. */
interface Renewed {
  renewed: string[];
  /** The token is good as it is. */
  caOnly: string[];
  /** Immutable ones. */
  stuck: string[];
  /** Those whose ServiceAccount is gone, or is another than the one the token was for. */
  orphans: string[];
}

/** A Secret that is not current and can be mended: what of it is as it should be. */
interface Stale {
  secret: TokenSecret;
  accountUid: string;
  tokenVerifies: boolean;
  caIsCurrent: boolean;
}

/** One of the two ways to new tokens. */
interface Way {
  /** Writes; false where the Secret is gone, or is another of the same name. */
  mend(stale: Stale): Promise<boolean>;
  /** When all are written: returns once the cluster holds and takes what it should. */
  prove(): Promise<void>;
}

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
 * the controller-manager would write; it may do only 20 requests per second. Safe to run again. Page by page: each is written as it was
 * read, while the API server gets the next one ready. Errors: Fail.
 */
export async function renewTokens(api: KubeApi, trust: TokenTrust): Promise<Renewed> {
  const renewed = { renewed: new Set<string>(), caOnly: new Set<string>(), stuck: new Set<string>(), orphans: new Set<string>() };
  const [verifies, uidFor] = [tokenVerifier(trust.saPub), accountUids(api)];
  const way = trust.saKey ? await signing(api, trust, trust.saKey) : byController(api, trust);

  await throughAll(api, async (secret) => {
    const [tokenVerifies, caIsCurrent, name] = [verifies(tokenOf(secret)), holdsCa(secret, trust), nameOf(secret)];
    if (tokenVerifies && caIsCurrent) return;
    if (secret.immutable) return renewed.stuck.add(name);
    const accountUid = await uidFor(secret);
    if (accountUid === undefined) return renewed.orphans.add(name);
    if (!(await way.mend({ secret, accountUid, tokenVerifies, caIsCurrent }))) return;
    (tokenVerifies ? renewed.caOnly : renewed.renewed).add(name);
  });
  await way.prove();
  const [all, caOnly, stuck, orphans] = Object.values(renewed).map((names) => [...names].sort());
  return { renewed: all!, caOnly: caOnly!, stuck: stuck!, orphans: orphans! };
}

/** The API server keeps the moment of a list for some minutes. Where there are more Secrets than that, it begins anew, and passes over what is done. */
async function throughAll(api: KubeApi, action: (secret: TokenSecret) => Promise<unknown>): Promise<void> {
  try {
    await inParallel(api.items<TokenSecret>(TOKEN_SECRETS), WIDTH, action);
  } catch (err) {
    if (!(err instanceof ApiError && err.status === 410)) throw err;
    return await throughAll(api, action);
  }
}

/** Signs with sa.key and writes. What the API then holds is judged here by sa.pub, and a few by the API itself. */
async function signing(api: KubeApi, trust: TokenTrust, saKey: string): Promise<Way> {
  const [sign, verifies, progress] = [await legacyTokenSigner(saKey), tokenVerifier(trust.saPub), new Progress("tokens")];
  const sample: string[] = [];
  let done = 0;
  const mend = async (stale: Stale) => {
    const token = stale.tokenVerifies ? undefined : await sign(claimsOf(stale));
    const written = await writeTokenSecret(api, stale, { ...(token ? { token: encoded(token) } : {}), ...caFor(stale, trust) });
    if (written && !isCurrent(written, trust, verifies)) throw notAsWritten(written);
    if (written && token && !written.metadata.labels?.[INVALID_SINCE] && sample.length < REVIEWS) sample.push(token);
    progress.show(++done);
    return written !== undefined;
  };
  const prove = async () => {
    progress.clear();
    await reviewAll(api, sample);
  };
  return { mend, prove };
}

function claimsOf({ secret: { metadata }, accountUid: serviceAccountUid }: Stale) {
  const { namespace = "", name: secretName, annotations } = metadata;
  return { namespace, secretName, serviceAccountName: annotations?.[ACCOUNT_NAME] ?? "", serviceAccountUid };
}

/** Empties the tokens; the controller-manager then writes new ones, 20 a second. */
function byController(api: KubeApi, trust: TokenTrust): Way {
  const waiting = new Set<string>();
  const mend = async (stale: Stale) => {
    const written = await writeTokenSecret(api, stale, { ...(stale.tokenVerifies ? {} : { token: undefined }), ...caFor(stale, trust) });
    if (written) waiting.add(nameOf(written));
    return written !== undefined;
  };
  return { mend, prove: () => awaitController(api, trust, waiting) };
}

async function awaitController(api: KubeApi, trust: TokenTrust, waiting: Set<string>) {
  const total = waiting.size;
  if (total === 0) return;
  say("sa.key is not on this node: the controller-manager writes the tokens");
  const ending = new AbortController();
  const failure = Promise.withResolvers<never>();
  followRenewal(api, trust, waiting, ending.signal).catch(failure.reject);
  const progress = new Progress("tokens", total);
  const look = () => {
    progress.show(total - waiting.size);
    return waiting.size === 0;
  };
  const patience = {
    seconds: 120 + total / 5,
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

/** An API server looks into a copy of the Secrets that may be a moment old, so "no" is asked again. */
async function reviewAll(api: KubeApi, tokens: string[]) {
  const patience = {
    seconds: 20,
    hint: "sa.key differs between control plane nodes, or an API server has not read sa.pub yet: compare them with sha256sum, then run this script again",
  };
  await inParallel(tokens, WIDTH, (token) => waitFor("the API to accept a new token", () => review(api, token), patience));
  if (tokens.length > 0) say(`${count(tokens.length)} of the new tokens: accepted by the API`);
}

function notAsWritten(secret: TokenSecret): Fail {
  return new Fail(`${nameOf(secret)} does not hold what was written to it`, {
    hint: "sa.key and sa.pub do not belong together (./bunw scripts/00-assess.ts), or a webhook changes Secrets",
  });
}
