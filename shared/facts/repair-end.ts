/**
 * Whether a repair is over, by etcd's data of today. The rescue folder has the facts of its own day. What has changed since (a manifest, a
 * node, a release) is only in today's data.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { asPod } from "../k8s/pod-shape.ts";
import { readObjects, registryPrefix } from "../k8s/stored.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { isKubeadms } from "../manifests/on-disk.ts";
import { isReduced } from "../manifests/reduced-controllers.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import { madeAt } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { foreignCa } from "../pki/lost-keys.ts";
import { knowsCa } from "../pki/trusted-keys.ts";
import { readCluster } from "./cluster.ts";
import { type RunningPod, type TrustTimes, waitsForRestart } from "./pod-trust.ts";

/**
 * True where the nodes have all the static pods that they had in `before`, the copy from the repair's beginning at `began`, and, under a
 * new CA, parts 3 and 4 are finished. Unreadable (encrypted) data counts as not finished.
 */
export function hasEnded(before: EtcdData, live: EtcdData, began: Date): boolean {
  if (live.revision === before.revision) return false;
  const clusters = attempt(() => [before, live].map((data) => readCluster(data)));
  if (clusters instanceof Fail) return false;
  const [old, now] = clusters.map(({ oldCaPem }) => oldCaPem) as [string, string];
  const here = attempt(() => clusterCa(clusters[1]!.certificatesDir));
  const isKnown = here instanceof Fail ? here : attempt(() => knowsCa(now, here));
  if (isKnown === false && !foreignCa(here as string, now)) return false;
  // A control plane node that is lost for good has no Node any more.
  const { nodes } = clusters[1]!;
  const controlPlanes = nodes.flatMap(({ controlPlane, name }) => (controlPlane ? [name] : []));
  if (controlPlanes.some((name) => staticPods(before, name).some((pod) => !staticPods(live, name).includes(pod)))) return false;
  const ca = isKnown === true ? (here as string) : now;
  if (knowsCa(old, ca)) return true;
  const since = new Date(Math.max(began.getTime(), madeAt(ca).getTime()));
  const isThrough = () =>
    !controlPlanes.some((name) => runsReduced(live, name)) && !waits(live, new Set(nodes.map(({ name }) => name)), since);
  return attempt(isThrough) === true;
}

/** Which of kubeadm's static pods a node has; by their keys alone where pods are encrypted. */
function staticPods(data: EtcdData, cp: string): string[] {
  const pods = attempt(() => findMirrorPods(data, cp));
  if (!(pods instanceof Fail)) return pods.flatMap(({ name, from }) => (from === "live" && isKubeadms(name) ? [name] : []));
  const key = (name: string) => `${registryPrefix(data)}/pods/kube-system/${name}-${cp.toLowerCase()}`;
  return CONTROL_PLANE.filter((name) => data.get(key(name)));
}

function runsReduced(data: EtcdData, cp: string): boolean {
  return findMirrorPods(data, cp).some(({ name, from, pod }) => name === "kube-controller-manager" && from === "live" && isReduced(pod));
}

/**
 * Whether a pod of kube-system waits for part 4, which restarts none before every namespace has the new CA. Pods of other namespaces do not
 * count: everybody who may create a pod there could hold up the end of the repair for ever. Part 4 asks the API for those.
 */
function waits(data: EtcdData, nodes: ReadonlySet<string>, since: Date): boolean {
  // Token Secrets are not read: they are often encrypted, and part 4 restarts the pods that mount one as well.
  const times: TrustTimes = { rootCa: () => since, tokenSecret: () => undefined };
  return readObjects<unknown>(data, "pods/kube-system/").some((object) => {
    const pod = asPod(
      object,
      (why) => new Fail(`Cannot read a pod of kube-system in etcd: ${why}`, { hint: "the repair counts as not finished" }),
    );
    return nodes.has(pod.spec.nodeName ?? "") && waitsForRestart(pod as RunningPod, times);
  });
}
