/**
 * kubeadm's external CA mode: the key of the cluster CA never was on the control plane nodes, and the controller-manager has no key to sign
 * with (kubeadm's app/phases/controlplane/manifests.go). Such a key is not lost, and no new CA takes its place.
 */

import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Refused } from "../fail.ts";
import { exists } from "../files/files.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { findMirrorPods, type MirrorPod } from "../manifests/mirror-pods.ts";
import { hasOwnClient } from "../node/control-plane-kubelet.ts";
import type { Node } from "../node/node.ts";
import { CERTS, type ClusterFacts, certRow, keyPath } from "../pki/certs.ts";
import { clusterCa, examine, pkiFindings, wholePki } from "../pki/examine.ts";
import { shell } from "../shell-line.ts";

interface Place {
  facts: ClusterFacts;
  node: Node;
}

/** What `Cluster` says of the control plane nodes. */
interface ControlPlanes {
  nodes: readonly { name: string; controlPlane: boolean }[];
  certificatesDir: string;
}

/** Whether no controller-manager on these control plane nodes had a key to sign with, by the mirror pods in etcd's data. */
function nobodySigns(data: EtcdData, controlPlanes: readonly string[]): boolean {
  const pods = attempt(() => controlPlanes.flatMap((name) => findMirrorPods(data, name)), []);
  const managers = pods.filter(({ name }) => name === "kube-controller-manager");
  return managers.length > 0 && !managers.some(signs);
}

/** The same, and the key of the CA is not on this node either. */
export function isExternalCa(data: EtcdData, { nodes, certificatesDir }: ControlPlanes): boolean {
  const controlPlanes = nodes.flatMap(({ controlPlane, name }) => (controlPlane ? [name] : []));
  return !exists(keyPath(certRow("ca"), certificatesDir)) && nobodySigns(data, controlPlanes);
}

/** By `--cluster-signing-key-file`, or by the flag of one signer, such as `--cluster-signing-kubelet-client-key-file`. */
function signs({ pod }: MirrorPod): boolean {
  const command = commandOf(pod);
  const names = command.flatMap((word) => /^--(cluster-signing-(?:[a-z-]+-)?key-file)=/.exec(word)?.[1] ?? []);
  return names.some((name) => flags(command).get(name));
}

/** Which files the external CA has to issue before the repair can begin, and how; undefined where none is missing. */
export function lackingOfExternalCa({ facts, node }: Place): { files: string[]; steps: string[] } | undefined {
  if (!facts.externalCa) return undefined;
  const ca = examine(certRow("ca"), facts);
  const [caFile] = ca.paths;
  if (ca.state !== "ok")
    return {
      files: [caFile!],
      steps: [shell`scp -p root@NODE:${caFile!} ${caFile!}   # every node has the same`, "./bunw scripts/00-assess.ts"],
    };
  const { kubeconfigs } = wholePki(facts);
  const findings = pkiFindings({ certs: CERTS.filter((row) => row.ca === "ca"), kubeconfigs }, facts);
  const files = findings.filter(({ state }) => state !== "ok").map(({ paths }) => paths[0]!);
  if (!hasOwnClient(node, clusterCa(facts.certificatesDir))) files.push(node.kubelet.clientPem);
  return files.length > 0 ? { files, steps: sign(facts.certificatesDir) } : undefined;
}

const sign = (certificatesDir: string) => [
  `put the external CA's ca.key into ${certificatesDir} for the time of the repair, then run ./bunw scripts/00-assess.ts again`,
  `or: kubeadm certs generate-csr --config FILE   # then have the CA sign these CSRs: RUNBOOK 1, "If the cluster's CA is external"`,
];

/** Errors: Fail where a file is missing that only the external CA can issue. */
export function refuseExternalCa(cp: Place) {
  const lacking = lackingOfExternalCa(cp);
  if (lacking)
    throw new Refused(
      `The cluster's CA is external (its key never was on the control plane nodes). It has to issue ${lacking.files.join(", ")}`,
      {
        hint: lacking.steps.join("; "),
      },
    );
}
