/**
 * A static pod that runs takes up something new: another manifest, or the keys of tokens.
 *
 * Written over the old manifest, the new pod would wait for ten seconds and more: the kubelet starts no static pod beside
 * another of the same name, and tries again only after its back-off (pkg/kubelet/pod_workers.go, allowPodStart). So the
 * old manifest is removed first. The new one waits beside its place under a name with a dot, which the kubelet ignores
 * (pkg/kubelet/config/file.go). An API server reads the files of keys only when it starts, and publishes what it has read.
 */
import { adminClient } from "../api/admin-api.ts";
import { orStarting } from "../api/api-error.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attemptLater } from "../fail.ts";
import { exists, removeFile, renameFile, stat, writeFile } from "../files/files.ts";
import { manifestPath, manifestText } from "../manifests/on-disk.ts";
import { waitingPath } from "../manifests/waiting-path.ts";
import { type Container, controlPlaneContainers, stopContainers } from "../node/containers.ts";
import type { Manifest } from "../objects/objects.ts";
import { publicKeysIn } from "../pki/certificate.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { oldSaKeys, saPubText, serviceAccountKeyId } from "../pki/sa-keys.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { noteUnfinished } from "../this-run.ts";
import { inTime, waitFor } from "../wait-for.ts";
import { millisecondsLeftToAsk } from "./first-questions.ts";

type Place = Pick<ControlPlaneNode, "node">;

interface Api {
  find<T>(path: string): Promise<T | undefined>;
}

/**
 * Exchanges the manifest of a static pod of the control plane. `when`: waits for what the new one needs, while
 * the old one ends. Does not wait for the new pod: the kubelet starts it within a second or two. Errors: Fail
 * if the old pod does not end. The new manifest then stays where it waits, and the next call continues from
 * there.
 */
export async function exchangeManifest(
  cp: Place,
  name: string,
  next: { manifest: Manifest; note: string; when?: () => Promise<void> },
) {
  const path = manifestPath(cp, name);
  const waiting = waitingPath(path);
  const old = await startedNow(cp, name);
  writeFile(waiting, manifestText(next.manifest), { mode: stat(path)?.mode ?? 0o600, note: next.note });
  noteUnfinished(
    path,
    `${path} is moved aside: its new content waits in ${waiting}: without it this node runs no ${name}. Run this script again`,
  );
  removeFile(path);
  const hint = shell`crictl ps --name ${name}; journalctl -u kubelet -n 50; then run the same line again`;
  const ends = () => waitFor(`the old ${name} to end`, isForgotten(old, cp.node), { seconds: 90, hint });
  await Promise.all([old.length > 0 && ends(), next.when?.()]);
  renameFile(waiting, path);
  noteUnfinished(path, undefined);
}

/**
 * A kubelet that has just started may not have begun with this pod yet: if the manifest goes then, and another one
 * comes at once, it starts neither. So the pod of the one in place is awaited; one that cannot run holds nothing up.
 */
async function startedNow({ node }: Place, name: string): Promise<Container[]> {
  const look = async () =>
    (await controlPlaneContainers(node.runtimeEndpoint)).filter((container) => container.name === name);
  const isThere = async () => {
    const found = await look();
    return found.length > 0 && found;
  };
  if (!exists(manifestPath({ node }, name))) return await look();
  const hint = shell`crictl ps -a --name ${name}; journalctl -u kubelet -n 50`;
  return (await inTime(`the kubelet to start ${name}`, isThere, { seconds: 30, hint })) ?? [];
}

/**
 * Milliseconds. The kubelet removes a pod's folder when the pod's containers have ended. It frees the pod's
 * name at the next tick of its main loop, once a second (pkg/kubelet/kubelet.go, syncTicker). Nothing outside
 * of the kubelet shows that.
 */
const TICK = 1_400;

function isForgotten(pods: readonly Container[], { kubelet }: Place["node"]): () => boolean {
  let end: number | undefined;
  return () => {
    if (pods.some(({ podUid }) => exists(`${kubelet.podsDir}/${podUid}`))) return false;
    end ??= Date.now();
    return Date.now() - end >= TICK;
  };
}

const LIMIT = {
  seconds: 180,
  hint: "crictl ps -a --name kube-apiserver; crictl logs ID; journalctl -u kubelet -n 50",
};

/** Waits until the API server on this node checks tokens with the old keys, too: then it publishes them. */
export async function proveOldSaKeys(
  api: Api,
  { certificatesDir, externalSigner }: Pick<ClusterFacts, "certificatesDir" | "externalSigner">,
) {
  const kids = externalSigner ? [] : oldSaKeys(certificatesDir).map(serviceAccountKeyId);
  if (kids.length === 0) return;
  const proved = await waitForKeys(api, "the API server to check tokens with sa-old.pub, too", (published) =>
    kids.every((kid) => published.includes(kid)),
  );
  if (proved) say("old and new service-account tokens are accepted, until part 4 takes sa-old.pub out");
}

/** They read it only once. Returns when; undefined if there were none. In a dry run they are only said to stop. */
export async function restartWithSaKey(
  { facts, node }: ControlPlaneNode,
  api: Api,
): Promise<Date | undefined> {
  if (facts.externalSigner) return undefined;
  const own = publicKeysIn(saPubText(facts.certificatesDir) ?? "").map(serviceAccountKeyId);
  const published = await orStarting(() => publishedKeys(api));
  if (!published?.length || own.some((kid) => published.includes(kid))) return undefined;
  const since = new Date();
  say("the API server signs tokens with another key than sa.key on disk");
  const holders = await saKeyHolders(node);
  await stopContainers(node.runtimeEndpoint, holders);
  await waitForKeys(api, "the API server to check tokens with the current sa.pub", (kids) =>
    own.some((kid) => kids.includes(kid)),
  );
  return since;
}

/**
 * The same, for the first screen, before the API is proved: an API server that the steps leave alone is asked now. One that
 * does not answer is asked when it does.
 */
export async function foreseeSaKey(cp: ControlPlaneNode) {
  if (cp.facts.externalSigner) return;
  const isLeft = (await saKeyHolders(cp.node)).some(({ name }) => name === "kube-apiserver");
  const left = isLeft ? await millisecondsLeftToAsk(cp) : 0;
  if (left > 0)
    await attemptLater(
      async () => restartWithSaKey(cp, (await adminClient(cp.facts)).within(left)),
      undefined,
    );
}

async function saKeyHolders(node: ControlPlaneNode["node"]): Promise<Container[]> {
  const all = await controlPlaneContainers(node.runtimeEndpoint);
  return all.filter(({ name }) => HOLDERS.includes(name));
}

const HOLDERS = ["kube-apiserver", "kube-controller-manager"];

/**
 * The API server publishes the keys with which it checks tokens: before its restart the old ones, while it starts
 * none, and never any if its issuer is no https URL.
 */
export async function waitForKeys(
  api: Api,
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

async function publishedKeys(api: Api): Promise<string[] | undefined> {
  return (await api.find<{ keys: { kid: string }[] }>("/openid/v1/jwks"))?.keys.map(({ kid }) => kid);
}
