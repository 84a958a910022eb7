/**
 * Kubernetes that kubeadm has not set up, by the folder where each keeps its state: what it is, and who renews its certificates. Sources:
 * docs.k3s.io/cli/certificate, docs.rke2.io/security/certificates, docs.k0sproject.io (troubleshooting/certificate-authorities, backup),
 * github.com/canonical/microk8s (refresh-certs), docs.siderolabs.com/talos (security/ca-rotation).
 */
import { Refused } from "../fail.ts";
import { exists } from "../files/files.ts";

// biome-ignore format: a table
const OTHERS = [
  { name: "k3s",      folder: "/var/lib/rancher/k3s",  hint: "it renews certificates that end soon when it starts: systemctl restart k3s (k3s-agent on agents); k3s certificate check. CAs: k3s certificate rotate-ca, https://docs.k3s.io/cli/certificate" },
  { name: "RKE2",     folder: "/var/lib/rancher/rke2", hint: "it renews certificates that end soon when it starts: systemctl restart rke2-server (rke2-agent on agents); rke2 certificate check. CAs: rke2 certificate rotate-ca, https://docs.rke2.io/security/certificates" },
  { name: "MicroK8s", folder: "/var/snap/microk8s",    hint: "microk8s refresh-certs -c says until when they are valid, microk8s refresh-certs --cert server.crt renews one; its files are in /var/snap/microk8s/current/certs" },
  { name: "k0s",      folder: "/var/lib/k0s",          hint: "its keys are in /var/lib/k0s/pki, and in what k0s backup has made: k0s restore. New CAs: https://docs.k0sproject.io/stable/troubleshooting/certificate-authorities" },
  { name: "Talos",    folder: "/system/state",         hint: "its keys are in the machine configuration: talosctl on your own machine, https://docs.siderolabs.com/talos (security, CA rotation)" },
] as const;

/** Says what this node is, where kubeadm has not set it up. */
export class OtherDistribution extends Refused {}

/** For a node without kubeadm's own files; undefined where nothing tells. */
export function otherDistribution(): OtherDistribution | undefined {
  const other = OTHERS.find(({ folder }) => exists(folder));
  return other && new OtherDistribution(`This is a node of ${other.name} ("${other.folder}"), and kubeadm has not set it up`, other);
}
