/**
 * Keys that sign outside of the control plane nodes: such a key is not lost, and no new one takes its place.
 *
 * kubeadm's external CA mode: the key of the cluster CA never was on the control plane nodes, and the
 * controller-manager has no key to sign with (kubeadm's app/phases/controlplane/manifests.go).
 *
 * An external signer (`--service-account-signing-endpoint`, kube-apiserver since 1.32): a plugin behind a socket signs
 * service-account tokens, and says by which keys they are checked. Then no control plane node has sa.key, and the API
 * server takes no flag for its file (controlplane/apiserver/options/validation.go).
 *
 * A certificate that is not kubeadm's: the API server may show one of a company's CA, --tls-cert-file, and
 * --tls-sni-cert-key for other names. These files are trusted where this kit asks that server, and parts 1 to 4 refuse where
 * kubeadm's certificate would not be shown. Reads only.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { exists } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { commandOf, flags, hostPathOf, podFlags } from "../manifests/command.ts";
import { findMirrorPods, type MirrorPod, mirrorPod } from "../manifests/mirror-pods.ts";
import { SIGNER_FLAG } from "../manifests/repair-changes.ts";
import { hasOwnClient } from "../node/kubelet-conf.ts";
import type { Node } from "../node/node.ts";
import type { PodSpec } from "../objects/objects.ts";
import { signedBy } from "../pki/certificate.ts";
import { CERTS, type ClusterFacts, certPath, certRow, keyPath } from "../pki/certs.ts";
import { clusterCa, examine, pkiFindings, wholePki } from "../pki/examine.ts";
import { shell } from "../shell-line.ts";
import type { Cluster } from "./cluster-before.ts";
import type { KnownNode } from "./known-node.ts";
import { controlPlaneNames } from "./known-nodes.ts";
import type { Repair } from "./repair.ts";

interface Place {
  facts: ClusterFacts;
  node: Node;
}

type ControlPlanes = Pick<Cluster, "certificatesDir"> & {
  nodes: readonly Pick<KnownNode, "name" | "controlPlane">[];
};

/** In etcd's data; none where they cannot be read. */
function mirrorsOf(data: EtcdData, { nodes }: Pick<ControlPlanes, "nodes">): MirrorPod[] {
  return attempt(() => controlPlaneNames(nodes).flatMap((name) => findMirrorPods(data, name)), []);
}

/** Whether no controller-manager on a control plane node had a key to sign with, and the CA's key is not here either. */
export function isExternalCa(data: EtcdData, cluster: ControlPlanes): boolean {
  if (exists(keyPath("ca", cluster.certificatesDir))) return false;
  const managers = mirrorsOf(data, cluster).filter(({ name }) => name === "kube-controller-manager");
  return managers.length > 0 && !managers.some(signs);
}

/**
 * It has `--cluster-signing-key-file`, or the flag of one signer, such as
 * `--cluster-signing-kubelet-client-key-file`.
 */
function signs({ pod }: MirrorPod): boolean {
  const command = commandOf(pod);
  const names = command.flatMap(
    (word) => /^--(cluster-signing-(?:[a-z-]+-)?key-file)=/.exec(word)?.[1] ?? [],
  );
  return names.some((name) => flags(command).get(name));
}

/** Undefined where none is missing. */
export function lackingOfExternalCa({
  facts,
  node,
}: Place): { files: string[]; steps: string[] } | undefined {
  if (!facts.externalCa) return undefined;
  const ca = examine(certRow("ca"), facts);
  const [caFile] = ca.paths;
  if (ca.state !== "ok") {
    const copy = shell`scp -p root@NODE:${caFile!} ${caFile!}   # every node has the same`;
    return { files: [caFile!], steps: [copy, "./bunw scripts/00-assess.ts"] };
  }
  const { kubeconfigs } = wholePki(facts);
  const findings = pkiFindings({ certs: CERTS.filter((row) => row.ca === "ca"), kubeconfigs }, facts);
  const files = findings.filter(({ state }) => state !== "ok").map(({ paths }) => paths[0]!);
  if (!hasOwnClient(node, clusterCa(facts.certificatesDir), facts)) files.push(node.kubelet.clientPem);
  const steps = [
    `put the external CA's ca.key into ${facts.certificatesDir} for the time of the repair, then run ./bunw scripts/00-assess.ts again`,
    `or: kubeadm certs generate-csr --config FILE   # then have the CA sign these CSRs: RUNBOOK-MORE "If the cluster's CA is external"`,
  ];
  return files.length > 0 ? { files, steps } : undefined;
}

/** Errors: Refused where a file is missing that only the external CA can issue. */
export function refuseExternalCa(cp: Place) {
  const lacking = lackingOfExternalCa(cp);
  if (lacking)
    throw new Refused(
      `The cluster's CA is external (its key never was on the control plane nodes). It has to issue ${lacking.files.join(", ")}`,
      { hint: lacking.steps.join("; ") },
    );
}

/**
 * Whether an API server here has the flag, and no controller-manager signs tokens with a key of its own:
 * kubeadm's extraArgs cannot take a flag away, only make it empty. By mirror pods in etcd's data.
 */
export function isExternalSigner(data: EtcdData, cluster: Pick<ControlPlanes, "nodes">): boolean {
  const pods = mirrorsOf(data, cluster);
  const has = (program: string, flag: string) =>
    pods.some(({ name, pod }) => name === program && Boolean(podFlags(pod).get(flag)));
  return (
    has("kube-apiserver", SIGNER_FLAG) && !has("kube-controller-manager", "service-account-private-key-file")
  );
}

export function refuseExternalSigner({ externalSigner }: ClusterFacts) {
  if (!externalSigner) return;
  throw new Fail(
    `The API server's tokens come from an external signer (--${SIGNER_FLAG}): it takes no sa-old.pub beside it`,
    {
      hint: "do nothing on this node. Old tokens stay valid if the signer itself lists their public key (its FetchKeys)",
    },
  );
}

interface NodeFacts extends Pick<Repair, "data"> {
  node: { name: string };
  etcd: EtcdFolders;
  facts: ClusterFacts;
}

/**
 * The files of certificates that it shows, on this node, beside kubeadm's own; `main`: that of
 * --tls-cert-file.
 */
function shownFiles({ data, node, etcd, facts }: NodeFacts): { path: string; main: boolean }[] {
  const stored = () => mirrorPod(data, node.name, "kube-apiserver");
  const pod: { spec: PodSpec } | undefined | Fail = etcd.apiServer ?? attempt(stored);
  if (!pod || pod instanceof Fail) return [];
  const command = commandOf(pod);
  const main = flags(command).get("tls-cert-file");
  const sni = command.flatMap((word) => /^--tls-sni-cert-key=([^,]+),/.exec(word)?.[1] ?? []);
  const all = [
    ...(main ? [{ inside: main, main: true }] : []),
    ...sni.map((inside) => ({ inside, main: false })),
  ];
  const own = certPath("apiserver", facts.certificatesDir);
  const files = all.map(({ inside, main }) => ({ path: hostPathOf(pod, inside) ?? inside, main }));
  return files.filter(({ path }) => path !== own);
}

/** PEM; undefined where there are none. */
export function shownBeside(nodeFacts: NodeFacts): string | undefined {
  const pems = shownFiles(nodeFacts).flatMap(({ path }) => readable(path) || []);
  return pems.length > 0 ? pems.join("\n") : undefined;
}

/**
 * Errors: Refused where the API server shows a certificate of --tls-cert-file that is not of the cluster's
 * CA: its clients trust another CA than the one that parts 1 and 2 write into their kubeconfigs.
 */
export function refuseOwnCertificate(nodeFacts: NodeFacts) {
  const main = shownFiles(nodeFacts).find((one) => one.main);
  const ca = readable(certPath("ca", nodeFacts.facts.certificatesDir)) ?? "";
  if (!main || attempt(() => signedBy(readable(main.path) ?? "", ca)) === true) return;
  const own = certPath("apiserver", nodeFacts.facts.certificatesDir);
  throw new Refused(
    `The API server shows a certificate of its own, --tls-cert-file=${main.path}, and not one of the cluster's CA`,
    {
      unchanged: true,
      hint: `follow RUNBOOK-MORE "If the API server has a certificate of its own". For the time of the repair ${shell`--tls-cert-file=${own}`}, and its key`,
    },
  );
}
