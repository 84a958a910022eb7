/**
 * What to do by hand where etcd is a systemd unit of this node. Sources: kubespray, playbooks/cluster.yml and docs/operations/nodes.md (facts
 * before --limit), roles/kubernetes/control-plane/tasks/kubeadm-setup.yml, roles/kubernetes/node/tasks/kubelet.yml; kubeadm, certlist.go
 * (with an external etcd its phases make no certificate of etcd) and certs/renewal/manager.go. Read, not tried.
 */
import { dirname } from "node:path";
import { exists } from "../files/files.ts";
import { shell } from "../shell-line.ts";
import type { EtcdHome } from "./etcd-home.ts";

/** A line each, with a comment where that helps; what is in place is left out. */
export function unitSteps({ unit, client }: EtcdHome, nodeName: string): string[] {
  const lost = client.filter((path) => !exists(path));
  return [
    "leave etcd alone while it runs and its files are here; if not, repair it first: systemctl status etcd; journalctl -u etcd -n 50",
    ...(lost.length > 0 ? clientPair(lost, unit?.files ?? []) : []),
    "./bunw scripts/00-salvage.ts   # lost CA keys; or copy ca.*, front-proxy-ca.*, sa.* from another control plane node (scp -p)",
    ...(unit?.by === "kubespray" ? byPlaybook(nodeName) : []),
    `./bunw scripts/00-assess.ts --kubeadm-config > kubeadm.yaml   # ${unit?.by === "kubespray" ? "without the inventory: " : ""}the cluster's own, out of etcd's data`,
    "kubeadm init phase certs all --config kubeadm.yaml   # then: kubeconfig all, control-plane all. Files that flags name and kubeadm does not make come from a backup",
    ...(unit?.by === "kubespray" ? [] : ["systemctl start kubelet   # then 00-assess on this node, and the next one"]),
  ];
}

/** etcd takes every certificate of its CA that is a client's, or says nothing of its use. */
function clientPair(lost: readonly string[], files: readonly string[]): string[] {
  const [ca, cert, key] = files;
  if (!ca || !cert || !key || lost.length !== 3) return [`put back the files by which the API server reaches etcd: ${lost.join(", ")}`];
  const copies = [ca, cert, key].map((from, i) => shell`cp -p ${from} ${lost[i]!}`);
  return [
    `${[shell`mkdir -p ${dirname(lost[0]!)}`, ...copies].join(" && ")}   # the API server's way to etcd: a certificate of the same CA`,
  ];
}

function byPlaybook(nodeName: string): string[] {
  const play = "ansible-playbook -b -i INVENTORY";
  return [
    `${play} playbooks/facts.yml && ${play} cluster.yml --tags control-plane ${shell`--limit ${nodeName}`}   # with kubespray's inventory, on its machine: writes kubeadm-config.yaml and the files that flags name, and stops at "Check apiserver.crt SAN IPs", as that file is lost`,
    "kubeadm init phase certs all --config /etc/kubernetes/kubeadm-config.yaml   # on this node; then: kubeconfig all, control-plane all",
    `${play} cluster.yml --tags kubelet ${shell`--limit ${nodeName}`}   # on its machine again: writes kubelet.env and kubelet-config.yaml, then starts the kubelet`,
  ];
}
