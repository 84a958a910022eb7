/** Where lost keys may still be. */
import type { PartialFacts } from "../facts/control-plane-node.ts";
import { attempt, Fail } from "../fail.ts";
import { registryPrefix } from "../k8s/stored.ts";
import type { Container } from "../node/containers.ts";
import type { Survivor } from "./report.ts";

export function survivors(known: PartialFacts, running: Container[] | Fail): Survivor[] {
  return [
    otherControlPlanes(known),
    { where: "a backup", hope: "worth a try", detail: "of /etc/kubernetes/pki, at any age, as long as the CA was the same" },
    memory(running),
    kubeadmCerts(known),
  ];
}

function otherControlPlanes({ cluster }: PartialFacts): Survivor {
  const where = "another control plane node";
  if (!cluster)
    return { where, hope: "unknown", detail: "if there is one: the same keys lie on every control plane node, in /etc/kubernetes/pki" };
  const others = cluster.nodes.filter((node) => node.controlPlane).length - 1;
  return others > 0
    ? { where, hope: "worth a try", detail: "look there first: the same keys lie on every control plane node, in /etc/kubernetes/pki" }
    : { where, hope: "none", detail: "this cluster has one" };
}

function memory(running: Container[] | Fail): Survivor {
  const where = "memory";
  if (running instanceof Fail)
    return { where, hope: "unknown", detail: "see containers above; until they are seen: stop the kubelet, touch nothing else" };
  const alive = running.filter((c) => c.name === "kube-controller-manager" || c.name === "kube-apiserver").map((c) => c.name);
  if (alive.length === 0) return { where, hope: "no", detail: "no control-plane process is left" };
  return {
    where,
    hope: "worth a try",
    detail: `${alive.join(", ")} still ${alive.length === 1 ? "runs" : "run"} and may hold ca.key or sa.key: stop the kubelet, restart nothing, then ./bunw scripts/00-salvage.ts`,
  };
}

function kubeadmCerts({ data }: PartialFacts): Survivor {
  const where = "kubeadm-certs Secret";
  const found = attempt(() => data?.get(`${registryPrefix(data)}/secrets/kube-system/kubeadm-certs`));
  return found && !(found instanceof Fail)
    ? {
        where,
        hope: "worth a try",
        detail: "it is in etcd's data; ./bunw scripts/00-salvage.ts secret opens it with the key that kubeadm init --upload-certs printed",
      }
    : { where, hope: "no", detail: "not in etcd's data" };
}
