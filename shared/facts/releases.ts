/** Releases of Kubernetes that this kit repairs, and what it says of older ones. */
import { Refused } from "../fail.ts";
import { minorOf } from "../pki/certs.ts";

/** Minor versions: the first that is rehearsed, and the first without Docker inside of the kubelet. */
const [REHEARSED, WITHOUT_DOCKERSHIM] = [29, 24];

/** Undefined for a release that is rehearsed. */
export function releaseNote(version: string): string | undefined {
  const minor = minorOf(version);
  if (minor >= REHEARSED) return undefined;
  const tried =
    minor >= WITHOUT_DOCKERSHIM
      ? "1.24 and later with containerd or CRI-O seem to work"
      : "nothing is known of it";
  return `Kubernetes ${version}: releases before 1.${REHEARSED} are not rehearsed, but for one all-lost with 1.28.15; ${tried}. Try --dry-run first`;
}

interface OldRuntime {
  /** `containerRuntime`: the kubelet's --container-runtime. */
  node: { kubelet: { containerRuntime?: string | undefined }; runtimeEndpoint: string };
  cluster: { kubernetesVersion: string };
}

/**
 * Errors: Refused where the kubelet itself runs the containers with Docker: they are gone with it, and crictl
 * cannot ask it.
 */
export function refuseDockershim({ node, cluster }: OldRuntime) {
  const { containerRuntime } = node.kubelet;
  const isOld = minorOf(cluster.kubernetesVersion) < WITHOUT_DOCKERSHIM;
  const isDocker = containerRuntime === "docker" || (isOld && containerRuntime !== "remote");
  if (!isDocker && !node.runtimeEndpoint.includes("dockershim.sock")) return;
  throw new Refused(
    `The kubelet runs Docker by its own dockershim (Kubernetes ${cluster.kubernetesVersion}, --container-runtime=${containerRuntime ?? "docker"}): this kit is for a runtime with a CRI socket`,
    {
      unchanged: true,
      hint:
        "see what of etcd and which keys are here: ./bunw scripts/00-assess.ts. " +
        'By hand: RUNBOOK names for each step the kubeadm phase that does it ("by hand")',
    },
  );
}
