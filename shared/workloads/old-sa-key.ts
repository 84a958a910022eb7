/** The old key of service-account tokens at the API: is it in use, who still holds a token of it, and taking it out. */

import type { KubeApi } from "../api/kube-api.ts";
import { Fail } from "../fail.ts";
import { moveAside } from "../files/file-tree.ts";
import { stat, writeFile } from "../files/files.ts";
import type { Master } from "../master.ts";
import { madeAt, serviceAccountKeyId } from "../pki/certificate.ts";
import { clusterCa } from "../pki/pki.ts";
import { mode, say, waitFor } from "../run.ts";
import { manifestPath, manifestText, readManifest } from "../static-pods/manifest-files.ts";
import { oldSaKeys, oldSaPub, withoutOldSaKey } from "../static-pods/old-sa-key.ts";
import { tokenVerifier } from "./legacy-token.ts";
import { sayNames, TOKEN_SECRETS, type TokenSecret, tokenOf } from "./sa-tokens.ts";
import { staleGroups } from "./stale-pods.ts";
import { liveAccounts } from "./token-accounts.ts";

const PATIENCE = { seconds: 180, hint: "crictl ps -a --name kube-apiserver; crictl logs ID; journalctl -u kubelet -n 50" };

/** Waits until the API server on this master checks tokens by the old keys as well: it publishes them. */
export async function proveOldSaKeys(api: KubeApi, certificatesDir: string) {
  const kids = oldSaKeys(certificatesDir).map(serviceAccountKeyId);
  if (kids.length === 0) return;
  const proved = await waitForKeys(api, "the API server to check tokens by sa-old.pub, too", (published) =>
    kids.every((kid) => published.includes(kid)),
  );
  if (proved) say("old service-account tokens are accepted beside new ones, until part 4 takes sa-old.pub out");
}

/**
 * Since when a pod must run to have nothing of before the repair: neither the old CA, nor, where tokens of the old key are still accepted,
 * one of those.
 */
export function trustSince(master: Master): Date {
  const pki = master.facts.certificatesDir;
  const moments = [madeAt(clusterCa(pki)), ...(oldSaKeys(pki).length > 0 ? [stat(`${pki}/sa.pub`)?.modified ?? new Date()] : [])];
  return new Date(Math.max(...moments.map(Number)));
}

/** Takes the old key out of this master's API server. Errors: Fail, before anything is changed, where somebody still holds a token of it. */
export async function retireOldSaKey(master: Master, api: KubeApi, { force }: { force: boolean }) {
  const pki = master.facts.certificatesDir;
  const kids = oldSaKeys(pki).map(serviceAccountKeyId);
  if (kids.length > 0 && !force) refuseHolders(await holders(master, api));
  const path = manifestPath(master, "kube-apiserver");
  const manifest = readManifest(path);
  if (!manifest) throw new Fail(`There is no "${path}"`, { hint: "part 2 first: ./bunw scripts/02-control-plane.ts" });
  const bare = withoutOldSaKey(manifest, pki);
  if (bare !== manifest) writeFile(path, manifestText(bare), { note: "without sa-old.pub" });
  if (kids.length > 0)
    await waitForKeys(api, "the API server to come back without the old key", (published) => !kids.some((kid) => published.includes(kid)));
  const moved = moveAside(oldSaPub(pki), master.asideDir);
  if (!moved) say("there is no sa-old.pub on this master: nothing to take out");
  else if (!mode.dryRun) say("tokens of the old key: no longer accepted here");
}

/**
 * The keys that the API server publishes are those it checks by. One that has not restarted yet publishes its old ones, one that is just
 * starting does not answer; one whose issuer is no https URL never publishes any.
 */
async function waitForKeys(api: KubeApi, what: string, isSo: (kids: string[]) => boolean): Promise<boolean> {
  const probe = async () => {
    const published = await api.find<{ keys: { kid: string }[] }>("/openid/v1/jwks");
    if (!published) return "unknown";
    return isSo(published.keys.map(({ kid }) => kid)) ? "proved" : undefined;
  };
  const outcome = await waitFor(what, probe, PATIENCE);
  if (outcome === "unknown") say("the API server does not publish its keys (/openid/v1/jwks), so what it checks by is not proved");
  return outcome === "proved";
}

interface Holders {
  secrets: string[];
  pods: string[];
}

async function holders(master: Master, api: KubeApi): Promise<Holders> {
  const byOldKey = tokenVerifier(oldSaKeys(master.facts.certificatesDir).join(""));
  const secrets: TokenSecret[] = [];
  for await (const secret of api.items<TokenSecret>(TOKEN_SECRETS)) if (byOldKey(tokenOf(secret))) secrets.push(secret);
  const groups = await staleGroups(api, clusterCa(master.facts.certificatesDir), trustSince(master));
  const pods = groups.flatMap(({ owners }) => owners.flatMap((owner) => owner.pods));
  return {
    secrets: await liveAccounts(api, secrets),
    pods: pods.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`),
  };
}

function refuseHolders({ secrets, pods }: Holders) {
  if (secrets.length + pods.length === 0) return say("no Secret and no running pod holds a token of the old key");
  sayNames("Secrets with a token of the old key", secrets);
  sayNames("pods that run since before the new key, with a token mounted", pods);
  throw new Fail(`Tokens of the old key are still in use: ${secrets.length} in Secrets, ${pods.length} in pods`, {
    hint: "./bunw scripts/04-sa-tokens.ts renews and restarts; what it only names is yours to restart, or turn it away: retire --force",
  });
}
