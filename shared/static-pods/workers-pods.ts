/**
 * Static pods that workers have of their own, such as a balancer in front of the API (kubespray, KubeKey,
 * sealos): where /etc/kubernetes is lost there, too, only their mirror pods in etcd's data still have the
 * manifests, until those kubelets are back and delete them. A worker's kubelet has written them, so they
 * decide nothing: they are kept as text, and go back to that same worker by the operator's hand.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { attempt, Fail } from "../fail.ts";
import { writeFile } from "../files/files.ts";
import { asItRan } from "../manifests/as-it-ran.ts";
import { manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { mirrorPodsOf } from "../manifests/mirror-pods.ts";
import { manifestText } from "../manifests/on-disk.ts";
import { listed } from "../plain.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";

/**
 * Keeps each different manifest once, in the rescue folder, and says whose it is and how it goes back. Says
 * nothing where no worker has any.
 */
export function keepWorkersPods({ cluster, data, rescue }: ControlPlaneNode, without: readonly string[]) {
  const names = cluster.nodes.flatMap(({ name, controlPlane }) =>
    controlPlane || without.includes(name) ? [] : [name],
  );
  const pods = attempt(() => mirrorPodsOf(data, names));
  if (pods instanceof Fail) return say(`static pods of workers: ${pods.message}`);
  const texts = [...pods].flatMap(([worker, all]) =>
    all.flatMap(({ name, pod }) =>
      attempt(
        () => [
          { name, worker, text: manifestText(asItRan(manifestFromMirrorPod(pod, worker), pod).manifest) },
        ],
        [],
      ),
    ),
  );
  for (const [name, all] of Map.groupBy(texts, (one) => one.name)) {
    for (const [i, [text, same]] of [...Map.groupBy(all, (one) => one.text)].entries()) {
      const file = `${rescue.dir}/workers/${name}${i > 0 ? `-${i + 1}` : ""}.yaml`;
      const whose = listed(same.map(({ worker }) => worker));
      writeFile(file, text, {
        mode: 0o600,
        folderMode: 0o700,
        note: `a static pod of ${whose}, as their kubelets reported it`,
      });
      say(
        `if 00-assess names ${name} as lost on ${whose}: read that file, then ${shell`scp -p ${file} root@NODE:/etc/kubernetes/manifests/${name}.yaml`}`,
      );
    }
  }
}
