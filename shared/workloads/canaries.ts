/** Test pods: can a new pod start on every node? */
import type { KubeApi } from "../api/kube-api.ts";
import type { KubeObject } from "../api/kube-object.ts";
import { inParallel } from "../api/many.ts";
import { Fail } from "../fail.ts";
import { Progress } from "../progress.ts";
import { say } from "../run.ts";
import { shell, shellWord } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import { DeafWebhook, pastWebhooks } from "./webhooks.ts";

/** Test pods at the same time. */
const CANARIES = 50;

const PODS = "/api/v1/namespaces/kube-system/pods";

const LABEL = "kube-pki-repair";

/**
 * Starts a test pod on every node and removes it again: this proves that new sandboxes, the network plugin and new token volumes work
 * there. The pod runs `--version` of kube-proxy's image, which is on every node.
 */
export async function canaries(api: KubeApi, nodes: readonly string[]) {
  const proxy = await api.find<KubeObject & { spec: { template: { spec: { containers: { image: string }[] } } } }>(
    "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy",
  );
  const image = proxy?.spec.template.spec.containers[0]?.image;
  if (!image) return say("there is no kube-proxy, so no image that every node surely has: no test pods");
  const progress = new Progress("test pods", nodes.length);
  let done = 0;
  try {
    await inParallel(nodes, CANARIES, async (node) => {
      await canary(api, node, image);
      progress.show(++done);
    });
  } catch (err) {
    if (err instanceof DeafWebhook) return say(`no test pods: ${err.message}`);
    throw err;
  } finally {
    progress.clear();
  }
  say(`test pods: started and ended on ${nodes.length} of ${nodes.length} nodes`);
}

/** Whether a run that was cut off has left test pods: it may not have seen how they end. */
export async function hasLeftCanaries(api: KubeApi): Promise<boolean> {
  return (await api.list(`${PODS}?labelSelector=${encodeURIComponent(`${LABEL}=canary`)}`)).length > 0;
}

async function canary(api: KubeApi, node: string, image: string) {
  const name = `kube-pki-repair-canary-${node}`;
  await removePod(api, `${PODS}/${name}`);
  const container = { name: "canary", image, imagePullPolicy: "IfNotPresent", command: ["kube-proxy", "--version"] };
  const spec = { nodeName: node, restartPolicy: "Never", tolerations: [{ operator: "Exists" }], containers: [container] };
  const pod = { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "kube-system", labels: { [LABEL]: "canary" } }, spec };
  await pastWebhooks(api, () => api.create(PODS, pod));
  const ended = async () => {
    const { status } = await api.get<KubeObject & { status: { phase: string } }>(`${PODS}/${name}`);
    return status.phase === "Succeeded" || status.phase === "Failed" ? status.phase : undefined;
  };
  const hint = `sandboxes or the network plugin do not work on ${node}: kubectl -n kube-system describe pod ${shellWord(name)}`;
  const phase = await waitFor(`a test pod on ${node}`, ended, { seconds: 120, hint });
  if (phase === "Failed") throw new Fail(`The test pod on ${node} failed`, { hint: shell`kubectl -n kube-system logs ${name}` });
  await removePod(api, `${PODS}/${name}`);
}

async function removePod(api: KubeApi, path: string) {
  if (!(await api.find(path))) return;
  await api.delete(path, { gracePeriodSeconds: 0 });
  await waitFor("the test pod to be gone", async () => !(await api.find(path)), { seconds: 60, hint: "kubectl -n kube-system get pods" });
}
