/** Mirror pods that everybody can make who may create a pod. */
import type { Manifest } from "../../shared/objects/objects.ts";
import { mirrorPod, type Objects } from "./cluster.ts";

/**
 * UIDs: the first two as a kubelet gives them to static pods, the last as the API server gives them to all
 * other pods.
 */
export const HASH = "0123456789abcdef0123456789abcdef";
export const OTHER_HASH = "fedcba9876543210fedcba9876543210";
export const UUID = "01234567-89ab-cdef-0123-456789abcdef";

interface Fake {
  /** One of the fixtures, with its flags. Default: a bare container. */
  like?: string;
  /** Default: evil.example/NAME. */
  image?: string;
  hash?: string;
  /** The node to which the pod is bound. Default: m1. */
  node?: string;
  /** The node in the pod's name. Default: m1. */
  suffix?: string;
  change?: (pod: Manifest) => unknown;
}

/** By its key in etcd. */
export function fakeMirror(
  namespace: string,
  name: string,
  { like, image, hash, node = "m1", suffix = "m1", change }: Fake = {},
): Objects {
  const pod = structuredClone(mirrorPod(like ?? "kube-vip"));
  pod.metadata = { ...pod.metadata, name: `${name}-${suffix}`, namespace };
  if (hash) pod.metadata.annotations!["kubernetes.io/config.hash"] = hash;
  pod.spec.nodeName = node;
  const container = like ? pod.spec.containers[0]! : { name };
  pod.spec.containers = [{ ...container, image: image ?? `evil.example/${name}` }];
  if (!like) pod.spec = { containers: pod.spec.containers, nodeName: node };
  change?.(pod);
  return { [`pods/${namespace}/${name}-${suffix}`]: pod };
}
