/** Mirror pods without a proof: they are named, and kept in the rescue folder for a person to check. */

import { keepUnproved, ofNamespace, type Unproved } from "../evidence/sources.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { attempt, Fail } from "../fail.ts";
import { manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { findStaticPods, type UnprovedPod } from "../manifests/mirror-pods.ts";
import { isKubeadms, manifestText, podsOnDisk } from "../manifests/on-disk.ts";
import { say } from "../run.ts";
import { yamlText } from "../yaml.ts";
import { isMeant } from "./wanted-manifests.ts";

/** How many are kept and named. There may be thousands: everybody who may create a pod can make them. */
const LIMIT = 20;

/**
 * Those that `names` means, kube-system's first, and how many more there are. A manifest on disk is root's
 * own and needs no mirror pod.
 */
export function unprovedPods(
  place: Pick<ControlPlaneNode, "data" | "node">,
  names?: readonly string[],
): { pods: UnprovedPod[]; more: number } {
  const onDisk = podsOnDisk(place);
  const found = findStaticPods(place.data, place.node.name).unproved.filter(
    ({ name, namespace }) =>
      isMeant(name, names) && (isKubeadms(name) || !onDisk.has(`${namespace}/${name}`)),
  );
  return { pods: found.slice(0, LIMIT), more: Math.max(0, found.length - LIMIT) };
}

/** Keeps them in the rescue folder, and prints for each the command that would use it. */
export function layAsideUnproved(cp: ControlPlaneNode, names?: readonly string[]) {
  const { pods, more } = unprovedPods(cp, names);
  keepUnproved(
    pods.map((pod) => asUnproved(pod, cp)),
    cp.rescue.dir,
  );
  if (more > 0)
    say(
      `${more} more such mirror pods: NOT put to use, and not saved; see them with kubectl get pods -A when the API answers`,
    );
}

function asUnproved(one: UnprovedPod, { node }: ControlPlaneNode): Unproved {
  const { namespace, name, pod, why, alike } = one;
  const manifest = attempt(() => manifestText(manifestFromMirrorPod(pod, node.name)));
  const isUsable = !(manifest instanceof Fail) && !isKubeadms(name);
  return {
    what: `the static pod ${namespace}/${name}`,
    from: `the mirror pod ${namespace}/${pod.metadata.name} in etcd's data`,
    source: ofNamespace(namespace),
    why,
    content: manifest instanceof Fail ? yamlText(pod) : manifest,
    file: `${namespace}_${name}.yaml`,
    place: isUsable ? `${node.kubelet.staticPodPath}/${alike ? `${namespace}-` : ""}${name}.yaml` : undefined,
  };
}
