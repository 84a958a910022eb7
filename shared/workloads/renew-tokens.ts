/**
 * Tokens of the old service-account key end. Secrets of the type kubernetes.io/service-account-token get new ones,
 * which are signed here with sa.key, as fast as the API server writes. They are the same that the controller-manager
 * would write, but it writes only about ten a second.
 */
import { again, command } from "../again.ts";
import { ApiError, DeafWebhook, pastWebhooks, refusalOfOne } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { podTrust } from "../facts/sa-key.ts";
import { Fail } from "../fail.ts";
import { moveToRescue } from "../files/file-tree.ts";
import { list, readText } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { inParallel } from "../in-parallel.ts";
import { podFlags } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { withoutOldSaKey } from "../manifests/repair-changes.ts";
import { controlPlaneContainers, stopContainers } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { publicKeysIn } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import {
  dropNewSaKeyMark,
  legacyTokenSigner,
  oldSaKeys,
  oldSaPub,
  readJwt,
  serviceAccountKeyId,
  tokenVerifier,
} from "../pki/sa-keys.ts";
import { FEW, listed } from "../plain.ts";
import { formatNumber, Progress, sayNames } from "../progress.ts";
import { mode, say, sayNoUndo } from "../run.ts";
import { shell } from "../shell-line.ts";
import { exchangeManifest, waitForKeys } from "../static-pods/take-up.ts";
import { waitFor } from "../wait-for.ts";
import { byOperator } from "./pod-owners.ts";
import { reportedOwners, staleGroups } from "./stale-pods.ts";
import {
  ACCOUNT_NAME,
  accountUids,
  encoded,
  holdsCa,
  isCurrent,
  isFilled,
  liveAccounts,
  review,
  type SigningTrust,
  TOKEN_SECRETS,
  type TokenSecret,
  tokenOf,
  verifierOf,
  writeTokenSecret,
} from "./token-secrets.ts";

interface Stale {
  secret: TokenSecret;
  accountUid: string;
  tokenVerifies: boolean;
  caIsCurrent: boolean;
}

const INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since";

const WIDTH = 50;

/**
 * How many renewed tokens the API is asked about. Not all: each review marks its Secret as used today, and
 * Kubernetes finds tokens that nobody uses by this mark.
 */
const REVIEWS = 20;

/**
 * Renews each Secret whose token no longer verifies, or whose CA is not the current one; others are not touched, nor
 * those without a token. Works page by page: one page is written while the API server
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
    const [tokenVerifies, caIsCurrent] = [verifies(tokenOf(secret)), holdsCa(secret, trust)];
    const name = nameOf(secret);
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
  const sorted = { renewed: [...renewed].sort(), caOnly: [...caOnly].sort() };
  return { ...sorted, stuck: [...stuck].sort(), orphans: [...orphans].sort(), refused };
}

/** Errors: what stops all of them. */
function whyRefused(err: unknown, { metadata: { namespace = "", name } }: TokenSecret): Fail {
  if (err instanceof DeafWebhook) return err;
  const why = refusalOfOne(err);
  if (!why) throw err;
  return new Fail(`the API refuses to renew it: ${why.message}`, {
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
    const { namespace = "", name: secretName, annotations } = stale.secret.metadata;
    const account = {
      serviceAccountName: annotations?.[ACCOUNT_NAME] ?? "",
      serviceAccountUid: stale.accountUid,
    };
    const token = stale.tokenVerifies ? undefined : await sign?.({ namespace, secretName, ...account });
    if (token && !warned) sayNoUndo("tokens");
    warned ||= token !== undefined;
    const data: Record<string, string> = token ? { token: encoded(token) } : {};
    if (!stale.caIsCurrent) data["ca.crt"] = encoded(trust.caPem);
    const written = await writeTokenSecret(api, stale, data);
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

/** An API server looks into a copy of the Secrets that may be a moment old, so a "no" is asked again. */
async function reviewAll(api: KubeApi, tokens: string[]) {
  const limit = {
    seconds: 20,
    hint: "compare sa.key and sa.pub of all control plane nodes with sha256sum: they differ, or an API server has not read sa.pub yet. Then run the same line again",
  };
  const accepts = (token: string) =>
    waitFor("the API to accept a new token", () => review(api, token), limit);
  await inParallel(tokens, WIDTH, accepts);
  if (tokens.length > 0) say(`${formatNumber(tokens.length)} of the new tokens: accepted by the API`);
}

function notAsWritten(secret: TokenSecret): Fail {
  return new Fail(`${nameOf(secret)} does not have the token that was written to it`, {
    hint: "see whether sa.key and sa.pub belong together (./bunw scripts/00-assess.ts), or a webhook changes Secrets",
  });
}

/** The kubelet of a control plane node may ask only the API server beside it. */
const RESTART =
  "this node's API server restarts: for about ten seconds it does not answer. This node's kubelet may not renew its Lease, the controller-manager and the scheduler may restart once. Pods keep running";

/** Seconds for its answers. Watches do not end by themselves: the kubelet waits 30 s. */
const GRACE = 2;

/**
 * Takes the old key out of this node's API server. Errors: Fail, before anything is changed, if somebody
 * still holds a token of it.
 */
export async function retireOldSaKey(cp: ControlPlaneNode, api: KubeApi, { force }: { force: boolean }) {
  const pki = cp.facts.certificatesDir;
  const kids = oldSaKeys(pki).map(serviceAccountKeyId);
  if (kids.length > 0 && !force) await refuseHolders(cp, api);
  const path = manifestPath(cp, "kube-apiserver");
  const manifest = readManifest(path);
  if (!manifest)
    throw new Fail(`There is no "${path}"`, { hint: "run part 2 first: ./bunw scripts/02-control-plane.ts" });
  const bare = withoutOldSaKey(manifest, pki);
  if (kids.length > 0) sayNoUndo("oldKey", { DIR: `${cp.asideDir}${pki}` });
  if (bare !== manifest) {
    say(RESTART);
    // one that waits for its balancers serves meanwhile
    const drains = podFlags(manifest).all("shutdown-delay-duration").length > 0;
    const { runtimeEndpoint } = cp.node;
    const when = async () => {
      const all = await controlPlaneContainers(runtimeEndpoint);
      const old = all.filter(({ name }) => name === "kube-apiserver" && !drains);
      if (old.length > 0) await stopContainers(runtimeEndpoint, old, GRACE);
    };
    await exchangeManifest(cp, "kube-apiserver", { manifest: bare, note: "without sa-old.pub", when });
  }
  const isGone = (published: string[]) => !kids.some((kid) => published.includes(kid));
  if (kids.length > 0) await waitForKeys(api, "the API server to come back without the old key", isGone);
  const moved = moveToRescue(oldSaPub(pki), cp.asideDir);
  if (!moved) say("there is no sa-old.pub on this node: nothing to take out");
  else if (!mode.dryRun) say("tokens of the old key: no longer accepted here");
  if (!force) dropNewSaKeyMark();
}

/** Errors: Fail that names the holders, if there are any. */
async function refuseHolders(cp: ControlPlaneNode, api: KubeApi) {
  const { secrets, pods, reported, renewed } = await holders(cp, api);
  if (secrets.length + pods.length === 0)
    return say("no Secret and no running pod holds a token of the old key");
  sayNames("Secrets with a token of the old key", secrets);
  sayNames("pods that run since before the new key, and read an old token", pods);
  sayNames(
    "of these, on this node, with a token file of the new key (client-go reads it again each minute)",
    renewed,
  );
  for (const line of byOperator(reported)) say(line);
  const all = [...secrets, ...pods];
  const part4 = `${command("04-sa-tokens")} renews Secrets and restarts pods`;
  const byHand = "restart or end the pods with a line above";
  const ways = [all.length > reported.length && part4, reported.length > 0 && byHand];
  throw new Fail(`Tokens of the old key may still be in use: ${listed(all)}`, {
    hint: `${ways.filter(Boolean).join("; ")}. If they no longer need the API, or read their token file again: ${again({ force: true }, { of: "04-sa-tokens retire" })}; their old tokens then stop working, nothing else changes`,
  });
}

/**
 * Who still holds a token of the old service-account key. A Secret shows its token. A pod does not: a process that runs
 * since before the new key read an old token when it started. The kubelet writes a new token into the pod's volume when
 * the kubelet has restarted, and else at 80 % of the token's life (pkg/kubelet/token/token_manager.go: the cache is in
 * memory). Nothing shows whether the process has read that file again, as client-go does: such a pod counts as a holder.
 * `renewed`: those of `pods` on this node whose token files are all of the current key.
 */
async function holders(cp: ControlPlaneNode, api: KubeApi) {
  const pki = cp.facts.certificatesDir;
  const byOldKey = tokenVerifier(oldSaKeys(pki).join(""));
  const secrets: TokenSecret[] = [];
  await readAll("token Secrets", api.items<TokenSecret>(TOKEN_SECRETS), (secret) => {
    if (byOldKey(tokenOf(secret))) secrets.push(secret);
  });
  const groups = await staleGroups(api, clusterCa(pki), podTrust(cp));
  const pods = groups.flatMap(({ owners }) => owners.flatMap((owner) => owner.pods));
  const currentKids = new Set(publicKeysIn(readText(`${pki}/sa.pub`) ?? "").map(serviceAccountKeyId));
  const isRenewed = (pod: RunningPod) => {
    const kids = pod.spec.nodeName === cp.node.name ? mountedKids(cp.node, pod.metadata.uid ?? "") : [];
    return kids.length > 0 && kids.every((kid) => currentKids.has(kid));
  };
  return {
    secrets: await liveAccounts(api, secrets),
    pods: pods.map(nameOf),
    reported: reportedOwners(groups),
    renewed: pods.filter(isRenewed).map(nameOf),
  };
}

/** Bytes. No token is as long as this. */
const LARGEST = 64 * 1024;

/** The keys of the tokens in this pod's projected volumes: words for the operator, which decide nothing. */
function mountedKids({ kubelet }: Node, uid: string): string[] {
  const volumes = `${kubelet.podsDir}/${uid}/volumes/kubernetes.io~projected`;
  const tokens = list(volumes).map((volume) => smallText(`${volumes}/${volume}/token`, LARGEST) ?? "");
  return tokens.flatMap((token) => readJwt(token)?.kid ?? []);
}
