import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { ENDPOINT } from "../machine/kubeadm-config.ts";
import { kubectl } from "../machine/machine.ts";
import { askGateway, GATEWAY_PACKAGES } from "../scene/etcd-gateway.ts";
import { note, type Scenario, type Scene, sayAndWait } from "../scene/scene.ts";
import { oneWiped } from "./several-control-planes.ts";

/** etcd's manifest stays, so this etcd member also learns that the three mirror pods are deleted. */
const DELETED = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/**
 * One of three control plane nodes loses its manifests and nobody notices: its kubelet deletes their mirror
 * pods, and etcd forgets them. Then the rest of /etc/kubernetes is deleted.
 */
export const mirrorPodsGone: Scenario = {
  ...oneWiped,
  name: "mirror-pods-gone",
  title: "As one-wiped, but the node lost three manifests before, and etcd has forgotten their mirror pods",
  packages: GATEWAY_PACKAGES,
  lines: [
    {
      title: "The third control plane node's kubelet asks the balancer, as before Kubernetes 1.33",
      run: askBalancer,
    },
    { title: "Three manifests are deleted on the third control plane node", run: deleteManifests },
    { title: "etcd forgets their mirror pods", run: forget },
    ...oneWiped.lines,
  ],
};

/**
 * A kubelet that asks its own API server can delete nothing once that is gone (kubeadm's
 * ControlPlaneKubeletLocalMode).
 */
async function askBalancer(scene: Scene) {
  const node = scene.lab.controlPlanes[2]!;
  const path = node.path("/etc/kubernetes/kubelet.conf");
  writeFileSync(path, readFileSync(path, "utf8").replace(/server: .*/, `server: https://${ENDPOINT}`));
  await node.run(["systemctl", "restart", "kubelet"]);
}

async function deleteManifests(scene: Scene) {
  const node = scene.lab.controlPlanes[2]!;
  for (const name of DELETED) rmSync(node.path(`/etc/kubernetes/manifests/${name}.yaml`));
  const names = DELETED.map((name) => `${name}-${node.nodeName}`);
  const gone = async () => {
    const { stdout, exitCode } = await kubectl(scene.lab, ["-n", "kube-system", "get", "pods", "-o", "name"]);
    return exitCode === 0 && names.every((name) => !stdout.includes(`pod/${name}\n`));
  };
  await sayAndWait(scene, "the kubelet to delete its mirror pods", gone, {
    seconds: 120,
    hint: "journalctl -u kubelet on the third control plane node",
  });
  note(scene, `the mirror pods ${names.join(", ")} are gone`);
}

/** What the API server does every five minutes: a compaction up to today's revision. */
async function forget(scene: Scene) {
  const node = scene.lab.controlPlanes[2]!;
  const { header } = (await askGateway(node, "kv/range", { key: "AA==", limit: "1" })) as {
    header: { revision: string };
  };
  await askGateway(node, "kv/compaction", { revision: header.revision, physical: true });
  note(scene, `etcd is compacted up to revision ${header.revision}`);
}
