/**
 * Renews Secrets of the type kubernetes.io/service-account-token. The new tokens are signed here with sa.key,
 * as fast as the API server writes. They are the same that the controller-manager would write, but it writes
 * only about ten a second.
 */

import { ApiError, refusalOfOne } from "../api/api-error.ts";
import { DeafWebhook, pastWebhooks } from "../api/called-by-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { inParallel } from "../api/many.ts";
import { Fail } from "../fail.ts";
import { forGood } from "../for-good.ts";
import { legacyTokenSigner } from "../pki/sa-keys.ts";
import { FEW } from "../plain.ts";
import { count, Progress } from "../progress.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import {
  ACCOUNT_NAME,
  accountUids,
  encoded,
  holdsCa,
  isCurrent,
  isFilled,
  review,
  type SigningTrust,
  TOKEN_SECRETS,
  type TokenSecret,
  tokenOf,
  verifierOf,
  writeTokenSecret,
} from "./token-secrets.ts";

/** A Secret that is not current and can be renewed: what is wrong with it. */
interface Stale {
  secret: TokenSecret;
  accountUid: string;
  tokenVerifies: boolean;
  caIsCurrent: boolean;
}

const INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since";

/** Requests at the same time. */
const WIDTH = 50;

/**
 * How many renewed tokens the API is asked about. Not all: each review marks its Secret as used today, and
 * Kubernetes finds tokens that nobody uses by this mark.
 */
const REVIEWS = 20;

/**
 * Renews each Secret whose token no longer verifies, or whose CA is not today's; others are not touched, nor
 * those without a token. Safe to run again. Works page by page: one page is written while the API server
 * prepares the next. Returns the names of Secrets, `namespace/name`, by what became of them; `refused`: the
 * API does not take it, with why. Errors: Fail.
 */
export async function renewTokens(api: KubeApi, trust: SigningTrust) {
  const renewed = new Set<string>();
  // the token was good, only the CA beside it is new
  const caOnly = new Set<string>();
  // immutable ones; and those whose ServiceAccount is gone, or another one has its name now
  const [stuck, orphans] = [new Set<string>(), new Set<string>()];
  const refused = new Map<string, Fail>();
  const deaf: DeafWebhook[] = [];
  const [verifies, uidFor, writer] = [verifierOf(trust), accountUids(api), await tokenWriter(api, trust)];
  await throughAll(api, async (secret) => {
    const [tokenVerifies, caIsCurrent, name] = [
      verifies(tokenOf(secret)),
      holdsCa(secret, trust),
      nameOf(secret),
    ];
    if (!isFilled(secret) || (tokenVerifies && caIsCurrent)) return;
    if (secret.immutable) return stuck.add(name);
    const accountUid = await uidFor(secret);
    if (accountUid === undefined) return orphans.add(name);
    if (deaf.length >= FEW && renewed.size + caOnly.size === 0) return refused.set(name, deaf[0]!);
    try {
      if (await pastWebhooks(api, () => writer.write({ secret, accountUid, tokenVerifies, caIsCurrent })))
        (tokenVerifies ? caOnly : renewed).add(name);
    } catch (err) {
      if (err instanceof DeafWebhook) deaf.push(err);
      refused.set(name, whyRefused(err, secret));
    }
  });
  await writer.prove();
  const sorted = (names: Set<string>) => [...names].sort();
  return {
    renewed: sorted(renewed),
    caOnly: sorted(caOnly),
    stuck: sorted(stuck),
    orphans: sorted(orphans),
    refused,
  };
}

/** Errors: what stops all of them. */
function whyRefused(err: unknown, { metadata: { namespace = "", name } }: TokenSecret): Fail {
  if (err instanceof DeafWebhook) return err;
  const why = refusalOfOne(err);
  if (!why) throw err;
  return new Fail(`the API refuses it: ${why.message}`, {
    hint: `${shell`see who, or which policy, has made it so: kubectl -n ${namespace} describe secret ${name}`}. If nobody needs it: ${shell`kubectl -n ${namespace} delete secret ${name}`}; then run the same line again`,
  });
}

export type Renewed = Awaited<ReturnType<typeof renewTokens>>;

/**
 * The API server keeps a list for some minutes. If the work takes longer, it begins again; what is done is
 * then current, and skipped.
 */
async function throughAll(api: KubeApi, action: (secret: TokenSecret) => Promise<unknown>): Promise<void> {
  try {
    await inParallel(api.items<TokenSecret>(TOKEN_SECRETS), WIDTH, action);
  } catch (err) {
    if (!(err instanceof ApiError && err.status === 410)) throw err;
    return await throughAll(api, action);
  }
}

/**
 * `write`: false if the Secret is gone, or another one has its name now. sa.pub judges each new token;
 * `prove` has the API judge a few.
 */
async function tokenWriter(api: KubeApi, trust: SigningTrust) {
  const sign = trust.saKey === undefined ? undefined : await legacyTokenSigner(trust.saKey);
  const [verifies, progress] = [verifierOf(trust), new Progress("tokens")];
  const sample: string[] = [];
  let [done, warned] = [0, false];
  const write = async (stale: Stale) => {
    const token = stale.tokenVerifies ? undefined : await sign?.(claimsOf(stale));
    if (token && !warned) forGood("tokens");
    warned ||= token !== undefined;
    const ca = stale.caIsCurrent ? {} : { "ca.crt": encoded(trust.caPem) };
    const written = await writeTokenSecret(api, stale, {
      ...(token ? { token: encoded(token) } : {}),
      ...ca,
    });
    if (written && !isCurrent(written, trust, verifies)) throw notAsWritten(written);
    if (written && token && !written.metadata.labels?.[INVALID_SINCE] && sample.length < REVIEWS)
      sample.push(token);
    progress.show(++done);
    return written !== undefined;
  };
  const prove = async () => {
    progress.clear();
    await reviewAll(api, sample);
  };
  return { write, prove };
}

function claimsOf({ secret: { metadata }, accountUid: serviceAccountUid }: Stale) {
  const { namespace = "", name: secretName, annotations } = metadata;
  return { namespace, secretName, serviceAccountName: annotations?.[ACCOUNT_NAME] ?? "", serviceAccountUid };
}

/** An API server looks into a copy of the Secrets that may be a moment old, so a "no" is asked again. */
async function reviewAll(api: KubeApi, tokens: string[]) {
  const limit = {
    seconds: 20,
    hint: "compare sa.key and sa.pub of all control plane nodes with sha256sum: they differ, or an API server has not read sa.pub yet. Then run the same line again",
  };
  await inParallel(tokens, WIDTH, (token) =>
    waitFor("the API to accept a new token", () => review(api, token), limit),
  );
  if (tokens.length > 0) say(`${count(tokens.length)} of the new tokens: accepted by the API`);
}

function notAsWritten(secret: TokenSecret): Fail {
  return new Fail(`${nameOf(secret)} does not hold what was written to it`, {
    hint: "see whether sa.key and sa.pub belong together (./bunw scripts/00-assess.ts), or a webhook changes Secrets",
  });
}
