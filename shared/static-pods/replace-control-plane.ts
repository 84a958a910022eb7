/**
 * A machine takes the place of a control plane node that is lost for good: a new one, or the same one, empty.
 */
import { command } from "../again.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { madeFiles } from "../facts/lost-files.ts";
import { commandOf, flags, type HostFile, hostFiles } from "../manifests/command.ts";
import { isKubeadms, manifestPath, readManifest } from "../manifests/on-disk.ts";
import { LAST_JOIN_CONFIG } from "../node/join-config.ts";
import { asMoved } from "../pki/addresses.ts";
import { shell } from "../shell-line.ts";
import {
  addressThen,
  KUBECTL,
  keepLostNode,
  type LostNode,
  putBackCommands,
  putManifest,
} from "./lost-nodes.ts";
import { otherStaticPods } from "./wanted-manifests.ts";

/**
 * An empty machine is joined by kubeadm, after the cluster is repaired. kubeadm uses shared keys that are in
 * their places, and admin.conf for discovery. So nobody has to make and type a bootstrap token or a
 * certificate key (kubeadm's cmd/join.go, discovery/file; SharedCertificateExists in phases/certs).
 */
export function howToReplace(cp: ControlPlaneNode, without: readonly string[]): string {
  const names = without.join(", ");
  const files = ["/etc/kubernetes/admin.conf", ...lostFiles(cp)];
  const lost = without.flatMap((name) => keepLostNode(name, cp) ?? []);
  return [
    "",
    "After part 3, before part 4:",
    `  ${KUBECTL} ${shell`delete node ${without}`}`,
    `When part 5 is green, an empty machine with the same kubeadm (${cp.cluster.kubernetesVersion}) takes the place of ${names}.`,
    ...emptySameMachine(cp, lost),
    "Copy the shared keys to it, from this folder:",
    ...without.map(
      (name) =>
        shell`  tar -cPf - $(./bunw scripts/hand-over.ts files) ${files} | ssh root@${name} tar -xpPf -`,
    ),
    "On a new machine:",
    "  kubeadm join --control-plane --discovery-file /etc/kubernetes/admin.conf",
    ...(lost.length > 0
      ? ["On the same machine, with what was saved there:", `  kubeadm join --config ${LAST_JOIN_CONFIG}`]
      : []),
    ...(cp.node.kubelet.serverTlsBootstrap
      ? ["Then, from this folder, approve its serving certificate:", `  ${command("03-workers close")}`]
      : []),
    ...afterJoin(cp, lost),
  ].join("\n");
}

/** A join writes its kubelet's flags anew, and its Node begins with kubeadm's defaults. */
function emptySameMachine({ cluster }: ControlPlaneNode, lost: readonly LostNode[]): string[] {
  if (lost.length === 0) return [];
  const save = (node: LostNode) =>
    `  ${command("join-again")} ${shell`--address ${addressOf(node, cluster)} --kubernetes ${cluster.kubernetesVersion}`}`;
  return [
    "Is it the same machine? There, in the kit's folder, save its kubelet's flags. Only then empty it:",
    ...lost.map(save),
    "  kubeadm reset --force",
  ];
}

/** What a join does not bring, and the comparison that shows what is still missing. */
function afterJoin(cp: ControlPlaneNode, lost: readonly LostNode[]): string[] {
  // what names the lost machine's address is 05-verify's, which knows the new one's
  const own = lost.flatMap((node) =>
    node.pods.flatMap((pod) =>
      isKubeadms(pod.name) || namesAddress(node, pod) ? [] : [`  ${putManifest(pod.file, node.name, cp)}`],
    ),
  );
  const back = [...own, ...lost.flatMap((node) => putBackCommands(node).map((line) => `  ${line}`))];
  const others =
    own.length > 0 ? [] : otherStaticPods(cp).map(({ name, namespace }) => manifestPath(cp, name, namespace));
  return [
    ...(others.length > 0
      ? [`kubeadm makes only its own static pods. Copy the others from here: ${others.join(", ")}`]
      : []),
    ...(back.length > 0 ? ["After the join, here: what kubeadm does not bring back:", ...back] : []),
    ...lost.map(
      ({ name, folder }) => `Then ${command("05-verify")} here compares ${name} with what it was (${folder})`,
    ),
  ];
}

function namesAddress(node: LostNode, { manifest }: LostNode["pods"][number]): boolean {
  const then = addressThen(node);
  const text = JSON.stringify(manifest);
  return then !== undefined && asMoved(text, new Map([[then, "0.0.0.0"]])) !== text;
}

/** Where its API server listened. */
function addressOf({ name, pods }: LostNode, cluster: ControlPlaneNode["cluster"]): string {
  const manifest = pods.find((pod) => pod.name === "kube-apiserver")?.manifest;
  const command = flags(manifest ? commandOf(manifest) : []);
  const place = cluster.nodes.find((node) => node.name === name)?.places[0] ?? `ADDRESS-OF-${name}`;
  return `${command.get("advertise-address") ?? place}:${command.get("secure-port") ?? 6443}`;
}

/** Files that the API server here needs and that kubeadm does not make on a new node. */
function lostFiles({ node, facts }: ControlPlaneNode): string[] {
  const manifest = readManifest(manifestPath({ node }, "kube-apiserver"));
  const made = madeFiles(facts.certificatesDir);
  const isMeant = ({ type, namedBy, path }: HostFile) =>
    type === "File" && namedBy.startsWith("--") && !made.has(path);
  return [
    ...new Set(manifest ? hostFiles(manifest).flatMap((file) => (isMeant(file) ? [file.path] : [])) : []),
  ];
}
