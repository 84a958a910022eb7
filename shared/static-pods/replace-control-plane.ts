/** A new machine takes the place of a control plane node that is lost for good. */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { type HostFile, hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { oldSaPub } from "../pki/sa-keys.ts";
import { isMade } from "./restore.ts";
import { otherStaticPods } from "./wanted-manifests.ts";

/**
 * An empty machine is joined by kubeadm, after the cluster is repaired. kubeadm uses shared keys that are in their places, and admin.conf
 * for discovery. So nobody has to make and type a bootstrap token or a certificate key (kubeadm's cmd/join.go, discovery/file;
 * SharedCertificateExists in phases/certs).
 */
export function howToReplace(cp: ControlPlaneNode, without: readonly string[]): string {
  const files = ["/etc/kubernetes/admin.conf", ...lostFiles(cp)].join(" ");
  const others = otherStaticPods(cp).map(({ name, namespace }) => manifestPath(cp, name, namespace));
  const carry = without.map((name) => `  tar -cPf - $(./bunw scripts/hand-over.ts files) ${files} | ssh root@${name} tar -xpPf -`);
  return `
After part 3, before part 4:
  kubectl --kubeconfig /etc/kubernetes/admin.conf delete node ${without.join(" ")}
When part 5 is green: prepare an empty machine with the same kubeadm (${cp.cluster.kubernetesVersion}) in the place of ${without.join(", ")}. Copy the shared keys to it, from this folder:
${carry.join("\n")}
On the new machine:
  kubeadm join --control-plane --discovery-file /etc/kubernetes/admin.conf${
    cp.node.kubelet.serverTlsBootstrap
      ? "\nThen approve the CSR for its serving certificate (kubectl get csr, kubectl certificate approve NAME)"
      : ""
  }${others.length > 0 ? `\nkubeadm makes only its own static pods. Copy the others from here: ${others.join(", ")}` : ""}`;
}

/** Files that the API server here needs and that kubeadm does not make on a new node. */
function lostFiles({ node, facts }: ControlPlaneNode): string[] {
  const manifest = readManifest(manifestPath({ node }, "kube-apiserver"));
  const isMeant = ({ type, namedBy, path }: HostFile) =>
    type === "File" && namedBy.startsWith("--") && !isMade(path) && path !== oldSaPub(facts.certificatesDir);
  return [...new Set(manifest ? hostFiles(manifest).flatMap((file) => (isMeant(file) ? [file.path] : [])) : [])];
}
