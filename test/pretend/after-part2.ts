/** A control plane node between parts 2 and 3. */
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { reduced } from "../../shared/manifests/repair-changes.ts";
import { FACTS, healthyCp, manifest, otherCa, write } from "./cluster.ts";
import { CRICTL, crictlPs, type NodeOptions, pretendNode } from "./node.ts";
import { knewCa } from "./running.ts";

await healthyCp();
const before = await otherCa();
export const MANAGER = "/etc/kubernetes/manifests/kube-controller-manager.yaml";

/** A control plane node that has been through part 2 with a new CA: its controller-manager is reduced. */
export async function afterPart2(options: NodeOptions = {}) {
  const node = await pretendNode({
    kind: "healthy control plane node",
    etcd: knewCa(before.cert),
    ...options,
  });
  write(
    node.root + MANAGER,
    manifestText(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion)),
  );
  return node;
}

/**
 * What the runtime says while the kubelet starts the controller-manager again: another container from the
 * second question on.
 */
export const RESTARTS = ["kube-controller-manager-id", "kube-controller-manager-id-2"].map((id) => ({
  command: `${CRICTL} ps -a -o json`,
  stdout: crictlPs(["kube-controller-manager"]).replace("kube-controller-manager-id", id),
}));
