/**
 * Pods in this node's own network: their podIP is the node's address. The kubelet takes it from the Node when it
 * first sees the pod, and never changes it ("immutable once set", pkg/kubelet/kubelet_pods.go). One that was
 * started on a new address may still have read the Node of before: Services then lead to the old address. A second
 * restart, once the Node names the new one, mends that without touching a pod.
 */
import type { KubeApi } from "../api/kube-api.ts";
import { systemctlKubelet } from "../node/systemctl-kubelet.ts";
import { asMoved, type Moved } from "../pki/addresses.ts";
import { mode, say } from "../run.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";

const LOOK = "journalctl -u kubelet -n 50";

interface HostPod {
  metadata: { name: string; namespace: string };
  spec: { hostNetwork?: boolean };
  status?: { podIP?: string; podIPs?: { ip: string }[] };
}

/**
 * Needs a running kubelet; one that does not say its new address is told, and left as it is. A podIP that stays is
 * told as well: not only the kubelet writes a pod's status, a network plugin's account may, and so may who has its
 * token. Errors: as KubeApi.
 */
export async function renewHostPodIps(api: KubeApi, node: string, moved: Moved) {
  if (mode.dryRun) return say(`would see that no pod in ${node}'s own network has an old podIP`);
  if ((await namingOld(api, node, moved)).length === 0) return;
  if (!(await undefinedOnTimeout(nodeRenamed(api, node, moved))))
    return say(`Node ${node} still names an old address: ${LOOK}`);
  const old = await namingOld(api, node, moved);
  if (old.length === 0) return;
  await systemctlKubelet("restart", `: it remembers an old podIP of ${old.join(", ")}`);
  const gone = async () => (await namingOld(api, node, moved)).length === 0;
  const waiting = waitFor(`pods in ${node}'s own network to have its new address`, gone, {
    seconds: 60,
    hint: LOOK,
  });
  if (await undefinedOnTimeout(waiting)) return;
  const still = await namingOld(api, node, moved);
  say(
    `warning: the status of ${still.join(", ")} still names an old podIP: Services may lead there. ${LOOK}; kubectl get endpointslices -A -o wide`,
  );
}

function nodeRenamed(api: KubeApi, name: string, moved: Moved) {
  const isNamed = async () => {
    const node = await api.get<{ status?: { addresses?: unknown } }>(`/api/v1/nodes/${name}`);
    return !namesOld(node.status?.addresses, moved);
  };
  return waitFor(`Node ${name} to name its new address`, isNamed, { seconds: 60, hint: LOOK });
}

async function namingOld(api: KubeApi, node: string, moved: Moved): Promise<string[]> {
  const path = `/api/v1/pods?fieldSelector=spec.nodeName%3D${encodeURIComponent(node)}`;
  const pods = await api.list<HostPod>(path);
  return pods.flatMap(({ metadata, spec, status }) =>
    spec.hostNetwork && namesOld([status?.podIP, status?.podIPs], moved)
      ? [`${metadata.namespace}/${metadata.name}`]
      : [],
  );
}

function namesOld(part: unknown, moved: Moved): boolean {
  const text = JSON.stringify(part) ?? "";
  return asMoved(text, moved) !== text;
}
