/**
 * Workers' own static pods, such as a balancer in front of the API: their mirror pods in etcd's data still have the
 * manifests where /etc/kubernetes is lost there. A worker's kubelet has written them, so they decide nothing, and go back
 * to that same worker by the operator's word alone.
 */
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt, Fail } from "../fail.ts";
import { manifestAsItRan, manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { type MirrorPod, mirrorPodsOf } from "../manifests/mirror-pods.ts";
import { manifestText } from "../manifests/on-disk.ts";
import { listed } from "../plain.ts";

/**
 * Names of the workers that may join: also of those that seem to be alive, as a token for them costs nothing.
 */
export function workersOf(
  { cluster }: Pick<ControlPlaneNode, "cluster">,
  without: readonly string[],
): string[] {
  return cluster.nodes.flatMap(({ name, controlPlane }) =>
    controlPlane || without.includes(name) ? [] : name,
  );
}

/** Worker → its own static pods. */
export type WorkersPods = ReadonlyMap<string, readonly MirrorPod[]>;

/** Their mirror pods in etcd's data. */
export function workersPods(
  { cluster, data }: Pick<ControlPlaneNode, "cluster" | "data">,
  without: readonly string[],
): WorkersPods | Fail {
  return attempt(() => mirrorPodsOf(data, workersOf({ cluster }, without)));
}

/** The manifest as its container ran it. Errors: Fail where it cannot be made. */
export function workersManifest({ pod }: Pick<MirrorPod, "pod">, worker: string): string {
  return manifestText(manifestAsItRan(manifestFromMirrorPod(pod, worker), pod).manifest);
}

/** `named`: "w1/nginx-proxy". Errors: Fail where etcd's data has no such pod, or cannot be read. */
export function manifestOfWorker(place: Pick<ControlPlaneNode, "cluster" | "data">, named: string): string {
  const [worker = "", name = ""] = named.split("/");
  const all = workersPods(place, []);
  if (all instanceof Fail) throw all;
  const pod = all.get(worker)?.find((one) => one.name === name);
  if (pod) return workersManifest(pod, worker);
  const pods = [...all].flatMap(([node, own]) => own.map((one) => `${node}/${one.name}`));
  throw new Fail(`etcd's data has no static pod "${named}" of a worker`, {
    hint: `name one of these, NODE/POD: ${listed(pods) || "it has none of any worker"}`,
  });
}
