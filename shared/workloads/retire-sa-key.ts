/** The old key of service-account tokens at the API: is it in use, who still holds a token of it, and taking it out. */
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { trustSince } from "../facts/sa-key.ts";
import { Fail } from "../fail.ts";
import { moveAside } from "../files/file-tree.ts";
import { readText } from "../files/files.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { withoutOldSaKey } from "../manifests/sa-old-flag.ts";
import { controlPlaneContainers, stopContainers } from "../node/containers.ts";
import { publicKeysIn } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { oldSaKeys, oldSaPub, serviceAccountKeyId } from "../pki/sa-keys.ts";
import { tokenVerifier } from "../pki/tokens.ts";
import { mode, say, waitFor } from "../run.ts";
import { exchangeManifest } from "../static-pods/exchange.ts";
import { staleGroups } from "./stale-pods.ts";
import { liveAccounts, sayNames, TOKEN_SECRETS, type TokenSecret, tokenOf } from "./token-secrets.ts";

const PATIENCE = { seconds: 180, hint: "crictl ps -a --name kube-apiserver; crictl logs ID; journalctl -u kubelet -n 50" };

/** Waits until the API server on this control plane node checks tokens by the old keys as well: it publishes them. */
export async function proveOldSaKeys(api: KubeApi, certificatesDir: string) {
  const kids = oldSaKeys(certificatesDir).map(serviceAccountKeyId);
  if (kids.length === 0) return;
  const proved = await waitForKeys(api, "the API server to check tokens by sa-old.pub, too", (published) =>
    kids.every((kid) => published.includes(kid)),
  );
  if (proved) say("old service-account tokens are accepted beside new ones, until part 4 takes sa-old.pub out");
}

/**
 * Servers read sa.key and sa.pub once: those that run since before the key on disk was made start again. Returns when, or undefined where none
 * had to.
 */
export async function takeUpSaKey({ facts, node }: ControlPlaneNode, api: KubeApi): Promise<Date | undefined> {
  const own = publicKeysIn(readText(`${facts.certificatesDir}/sa.pub`) ?? "").map(serviceAccountKeyId);
  const published = await publishedKeys(api);
  if (!published?.length || own.some((kid) => published.includes(kid))) return undefined;
  const since = new Date();
  say("the API server signs tokens with another key than sa.key on disk");
  const holders = (await controlPlaneContainers(node.runtimeEndpoint)).filter(({ name }) => HOLDERS.includes(name));
  await stopContainers(node.runtimeEndpoint, holders);
  await waitForKeys(api, "the API server to check tokens by today's sa.pub", (kids) => own.some((kid) => kids.includes(kid)));
  return since;
}

/** Which servers hold the service-account key. */
const HOLDERS = ["kube-apiserver", "kube-controller-manager"];

/** Takes the old key out of this control plane node's API server. Errors: Fail, before anything is changed, where somebody still holds a token of it. */
export async function retireOldSaKey(cp: ControlPlaneNode, api: KubeApi, { force }: { force: boolean }) {
  const pki = cp.facts.certificatesDir;
  const kids = oldSaKeys(pki).map(serviceAccountKeyId);
  if (kids.length > 0 && !force) refuseHolders(await holders(cp, api));
  const path = manifestPath(cp, "kube-apiserver");
  const manifest = readManifest(path);
  if (!manifest) throw new Fail(`There is no "${path}"`, { hint: "part 2 first: ./bunw scripts/02-control-plane.ts" });
  const bare = withoutOldSaKey(manifest, pki);
  if (bare !== manifest) await exchangeManifest(cp, "kube-apiserver", { manifest: bare, note: "without sa-old.pub" });
  if (kids.length > 0)
    await waitForKeys(api, "the API server to come back without the old key", (published) => !kids.some((kid) => published.includes(kid)));
  const moved = moveAside(oldSaPub(pki), cp.asideDir);
  if (!moved) say("there is no sa-old.pub on this control plane node: nothing to take out");
  else if (!mode.dryRun) say("tokens of the old key: no longer accepted here");
}

/**
 * The keys that the API server publishes are those it checks by. One that has not restarted yet publishes its old ones, one that is just
 * starting does not answer; one whose issuer is no https URL never publishes any.
 */
async function waitForKeys(api: KubeApi, what: string, isSo: (kids: string[]) => boolean): Promise<boolean> {
  const probe = async () => {
    const published = await publishedKeys(api);
    if (!published) return "unknown";
    return isSo(published) ? "proved" : undefined;
  };
  const outcome = await waitFor(what, probe, PATIENCE);
  if (outcome === "unknown") say("the API server does not publish its keys (/openid/v1/jwks), so what it checks by is not proved");
  return outcome === "proved";
}

async function publishedKeys(api: KubeApi): Promise<string[] | undefined> {
  return (await api.find<{ keys: { kid: string }[] }>("/openid/v1/jwks"))?.keys.map(({ kid }) => kid);
}

interface Holders {
  secrets: string[];
  pods: string[];
}

async function holders(cp: ControlPlaneNode, api: KubeApi): Promise<Holders> {
  const byOldKey = tokenVerifier(oldSaKeys(cp.facts.certificatesDir).join(""));
  const secrets: TokenSecret[] = [];
  for await (const secret of api.items<TokenSecret>(TOKEN_SECRETS)) if (byOldKey(tokenOf(secret))) secrets.push(secret);
  const groups = await staleGroups(api, clusterCa(cp.facts.certificatesDir), trustSince(cp));
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
