/** The old service-account key is taken out of the API server, if nobody holds a token of it any more. */
import { again } from "../again.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { podTrust } from "../facts/sa-key.ts";
import { Fail } from "../fail.ts";
import { moveToRescue } from "../files/file-tree.ts";
import { list, readText } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { forGood } from "../for-good.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { withoutOldSaKey } from "../manifests/repair-changes.ts";
import type { Node } from "../node/node.ts";
import { publicKeysIn } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import {
  dropNewSaKeyMark,
  oldSaKeys,
  oldSaPub,
  readJwt,
  serviceAccountKeyId,
  tokenVerifier,
} from "../pki/sa-keys.ts";
import { sayNames } from "../progress.ts";
import { mode, say } from "../run.ts";
import { exchangeManifest } from "../static-pods/exchange.ts";
import { waitForKeys } from "../static-pods/token-keys-in-use.ts";
import { staleGroups } from "./stale-pods.ts";
import { liveAccounts, TOKEN_SECRETS, type TokenSecret, tokenOf } from "./token-secrets.ts";

/** Measured: 33 seconds. The kubelet of a control plane node may ask only the API server beside it. */
const RESTART =
  "this node's API server restarts: for about half a minute it does not answer, and this node's kubelet may not renew its Lease. Pods keep running";

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
  if (kids.length > 0) forGood("oldKey", { DIR: `${cp.asideDir}${pki}` });
  if (bare !== manifest) {
    say(RESTART);
    await exchangeManifest(cp, "kube-apiserver", { manifest: bare, note: "without sa-old.pub" });
  }
  if (kids.length > 0)
    await waitForKeys(
      api,
      "the API server to come back without the old key",
      (published) => !kids.some((kid) => published.includes(kid)),
    );
  const moved = moveToRescue(oldSaPub(pki), cp.asideDir);
  if (!moved) say("there is no sa-old.pub on this node: nothing to take out");
  else if (!mode.dryRun) say("tokens of the old key: no longer accepted here");
  if (!force) dropNewSaKeyMark();
}

/*
 * Who still holds a token of the old service-account key. A Secret shows its token. Of a pod only this is known: a process of it that runs
 * since before the new key read an old token when it started. The kubelet writes a new token into the pod's volume when it has restarted,
 * and else at 80 % of the token's life (kubernetes pkg/kubelet/token/token_manager.go: the cache is in memory). Whether the process has read
 * that file again, as client-go does, shows nowhere: such a pod counts as a holder, and this node's files say what they hold.
 */

interface Holders {
  secrets: string[];
  pods: string[];
  /** Those of `pods` on this node whose token files are all of today's key. */
  renewed: string[];
}

/** Errors: Fail that names the holders, if there are any. */
async function refuseHolders(cp: ControlPlaneNode, api: KubeApi) {
  const { secrets, pods, renewed } = await holders(cp, api);
  if (secrets.length + pods.length === 0)
    return say("no Secret and no running pod holds a token of the old key");
  sayNames("Secrets with a token of the old key", secrets);
  sayNames("pods that run since before the new key, so they read an old token when they started", pods);
  sayNames("of these, on this node, with a token file of the new key by now", renewed);
  if (renewed.length > 0)
    say(
      "a program that reads its token file again, as client-go does every minute, no longer uses the old token",
    );
  throw new Fail(
    `Tokens of the old key may still be in use: ${secrets.length} in Secrets, ${pods.length} in pods`,
    {
      hint: `./bunw scripts/04-sa-tokens.ts renews Secrets and restarts pods. Restart the pods that it only names yourself. If they no longer need the API, or read their token file again: ${again({ force: true }, { of: "04-sa-tokens retire" })}; their old tokens then stop working, nothing else changes`,
    },
  );
}

async function holders(cp: ControlPlaneNode, api: KubeApi): Promise<Holders> {
  const pki = cp.facts.certificatesDir;
  const byOldKey = tokenVerifier(oldSaKeys(pki).join(""));
  const secrets: TokenSecret[] = [];
  await readAll("token Secrets", api.items<TokenSecret>(TOKEN_SECRETS), (secret) => {
    if (byOldKey(tokenOf(secret))) secrets.push(secret);
  });
  const groups = await staleGroups(api, clusterCa(pki), podTrust(cp));
  const pods = groups.flatMap(({ owners }) => owners.flatMap((owner) => owner.pods));
  const today = new Set(publicKeysIn(readText(`${pki}/sa.pub`) ?? "").map(serviceAccountKeyId));
  const isRenewed = (pod: RunningPod) => {
    const kids = pod.spec.nodeName === cp.node.name ? mountedKids(cp.node, pod.metadata.uid ?? "") : [];
    return kids.length > 0 && kids.every((kid) => today.has(kid));
  };
  return {
    secrets: await liveAccounts(api, secrets),
    pods: pods.map(nameOf),
    renewed: pods.filter(isRenewed).map(nameOf),
  };
}

/** Bytes. No token is as long as this. */
const LARGEST = 64 * 1024;

/** The keys of the tokens in this pod's projected volumes. Said to the operator, it decides nothing. */
function mountedKids({ kubelet }: Node, uid: string): string[] {
  const volumes = `${kubelet.podsDir}/${uid}/volumes/kubernetes.io~projected`;
  return list(volumes).flatMap((volume) => {
    return readJwt(smallText(`${volumes}/${volume}/token`, LARGEST) ?? "")?.kid ?? [];
  });
}
