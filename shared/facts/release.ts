/** Releases of Kubernetes that this kit has not been rehearsed with, and what is known of them. */
import { Refused } from "../fail.ts";
import type { Node } from "../node/node.ts";
import { minorOf } from "../pki/certs.ts";

/** Minor versions: the first that is rehearsed, and the first without Docker inside of the kubelet (dockershim). */
const [REHEARSED, WITHOUT_DOCKERSHIM] = [29, 24];

/** For an operator who decides; undefined for a release that is rehearsed. */
export function releaseNote(version: string): string | undefined {
  const minor = minorOf(version);
  if (minor >= REHEARSED) return undefined;
  const known = minor >= WITHOUT_DOCKERSHIM ? "1.24 and later with containerd or CRI-O seem to work" : "nothing is known of it";
  return `Kubernetes ${version}: releases before 1.${REHEARSED} are not rehearsed, but for one all-lost with 1.28.15; ${known}. Try --dry-run first`;
}

/** Errors: Refused where the kubelet itself runs the containers with Docker: they are gone with it, and crictl cannot ask it. */
export function refuseDockershim({
  node,
  cluster,
}: {
  node: Pick<Node, "kubelet" | "runtimeEndpoint">;
  cluster: { kubernetesVersion: string };
}) {
  const { containerRuntime } = node.kubelet;
  const isOld = minorOf(cluster.kubernetesVersion) < WITHOUT_DOCKERSHIM;
  const isDocker = containerRuntime === "docker" || (isOld && containerRuntime !== "remote");
  if (!isDocker && !node.runtimeEndpoint.includes("dockershim.sock")) return;
  throw new Refused(
    `The kubelet runs Docker by its own dockershim (Kubernetes ${cluster.kubernetesVersion}, --container-runtime=${containerRuntime ?? "docker"}): this kit is for a runtime with a CRI socket`,
    {
      hint:
        'nothing was changed. By hand: RUNBOOK names for each step the kubeadm phase that does it ("by hand"). ' +
        "What was etcd's data, and which keys are here, says ./bunw scripts/00-assess.ts on this node",
    },
  );
}
