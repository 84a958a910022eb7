/**
 * The keys with which this node's API server signs and checks tokens: it publishes them, and reads its files
 * only when it starts.
 */
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { controlPlaneContainers, stopContainers } from "../node/containers.ts";
import { publicKeysIn } from "../pki/certificate.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { oldSaKeys, saPubText, serviceAccountKeyId } from "../pki/sa-keys.ts";
import { say } from "../run.ts";
import { waitFor } from "../wait-for.ts";

const LIMIT = {
  seconds: 180,
  hint: "crictl ps -a --name kube-apiserver; crictl logs ID; journalctl -u kubelet -n 50",
};

/** Waits until the API server on this node checks tokens with the old keys, too: then it publishes them. */
export async function proveOldSaKeys(
  api: KubeApi,
  { certificatesDir, externalSigner }: Pick<ClusterFacts, "certificatesDir" | "externalSigner">,
) {
  const kids = externalSigner ? [] : oldSaKeys(certificatesDir).map(serviceAccountKeyId);
  if (kids.length === 0) return;
  const proved = await waitForKeys(api, "the API server to check tokens with sa-old.pub, too", (published) =>
    kids.every((kid) => published.includes(kid)),
  );
  if (proved) say("old and new service-account tokens are accepted, until part 4 takes sa-old.pub out");
}

/**
 * Restarts servers that started before the key on disk was made: they read it only once. Returns when;
 * undefined if there were none.
 */
export async function takeUpSaKey(
  { facts, node }: ControlPlaneNode,
  api: KubeApi,
): Promise<Date | undefined> {
  if (facts.externalSigner) return undefined;
  const own = publicKeysIn(saPubText(facts.certificatesDir) ?? "").map(serviceAccountKeyId);
  const published = await publishedKeys(api);
  if (!published?.length || own.some((kid) => published.includes(kid))) return undefined;
  const since = new Date();
  say("the API server signs tokens with another key than sa.key on disk");
  const holders = (await controlPlaneContainers(node.runtimeEndpoint)).filter(({ name }) =>
    HOLDERS.includes(name),
  );
  await stopContainers(node.runtimeEndpoint, holders);
  await waitForKeys(api, "the API server to check tokens with the current sa.pub", (kids) =>
    own.some((kid) => kids.includes(kid)),
  );
  return since;
}

/** Servers that hold the service-account key. */
const HOLDERS = ["kube-apiserver", "kube-controller-manager"];

/**
 * The API server publishes the keys with which it checks tokens. Before its restart it publishes the old
 * ones, while it starts it does not answer, and it never publishes any if its issuer is no https URL.
 */
export async function waitForKeys(
  api: KubeApi,
  what: string,
  isSo: (kids: string[]) => boolean,
): Promise<boolean> {
  const probe = async () => {
    const published = await publishedKeys(api);
    if (!published) return "unknown";
    return isSo(published) ? "proved" : undefined;
  };
  const outcome = await waitFor(what, probe, LIMIT);
  if (outcome === "unknown")
    say("the API server does not publish its keys (/openid/v1/jwks), so nothing proves which keys it uses");
  return outcome === "proved";
}

async function publishedKeys(api: KubeApi): Promise<string[] | undefined> {
  return (await api.find<{ keys: { kid: string }[] }>("/openid/v1/jwks"))?.keys.map(({ kid }) => kid);
}
