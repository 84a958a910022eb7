/** This node's API server, for its flags and mounts: as its manifest has it, or as it runs, or ran. Reads only. */
import { Fail } from "../fail.ts";
import { manifestPath, readableManifest, whereIs } from "../manifests/on-disk.ts";
import { type Container, containersIfAny } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import type { PodSpec } from "../objects/objects.ts";
import { containerOf, processesOf } from "./static-pod-here.ts";

const NAME = "kube-apiserver";
/** kubeadm's, where the kubelet's own configuration is lost. */
const MANIFEST = `/etc/kubernetes/manifests/${NAME}.yaml`;

interface Here {
  node: Node | undefined;
  /** Containers, also those that have ended, if they are known already. */
  all?: readonly Container[] | undefined;
}

/** Undefined where nothing of it is left: its manifest is lost, and the runtime has no container of it any more. */
export async function apiServerHere({ node, all }: Here): Promise<{ spec: PodSpec } | undefined> {
  const spec = readableManifest(whereIs(node ? manifestPath({ node }, NAME) : MANIFEST))?.spec;
  if (spec || !node) return spec && { spec };
  const containers = all ?? (await containersIfAny(node));
  try {
    return processesOf(NAME, containers)[0] ?? (await containerOf(NAME, { node, all: containers }));
  } catch (err) {
    if (err instanceof Fail) return undefined;
    throw err;
  }
}
