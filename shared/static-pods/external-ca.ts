/**
 * kubeadm's external CA mode: the cluster CA's key never lay on the masters, and the controller-manager got no key to sign with (kubeadm's
 * app/phases/controlplane/manifests.go). Such a key is not lost, and no new CA takes its place.
 */
import type { EtcdData } from "../etcd/data.ts";
import { Fail } from "../fail.ts";
import { CERTS, type ClusterFacts } from "../pki/certs.ts";
import { kubeconfigRows } from "../pki/kubeconfigs.ts";
import { examine, examineKubeconfig } from "../pki/pki.ts";
import { attempt } from "../pki/verdicts.ts";
import { findMirrorPods, flags, type MirrorPod } from "./manifests.ts";

/** What has to happen where certificates of the CA are missing. */
export const EXTERNAL_CA_STEPS = [
  "put ca.crt and ca.key of the external CA into /etc/kubernetes/pki for the time of the repair, then ./bunw scripts/00-assess.ts again",
  `or: kubeadm certs generate-csr --config FILE   # and have the CA sign what it makes: RUNBOOK 1, "If the cluster's CA is external"`,
] as const;

/** Whether no controller-manager on these masters had a key to sign with, by the mirror pods in etcd's data. */
export function nobodySigns(data: EtcdData, masters: readonly string[]): boolean {
  const pods = attempt(() => masters.flatMap((name) => findMirrorPods(data, name)));
  const managers = pods instanceof Fail ? [] : pods.filter(({ name }) => name === "kube-controller-manager");
  return managers.length > 0 && !managers.some(signs);
}

/** By `--cluster-signing-key-file`, or by a signer's own, such as `--cluster-signing-kubelet-client-key-file`. */
function signs({ pod }: MirrorPod): boolean {
  const command = pod.spec.containers[0]?.command ?? [];
  const names = command.flatMap((word) => /^--(cluster-signing-(?:[a-z-]+-)?key-file)=/.exec(word)?.[1] ?? []);
  return names.some((name) => flags(command).get(name));
}

/** Files that only the external CA can bring back. */
export function lackingOfExternalCa(facts: ClusterFacts): string[] {
  if (!facts.externalCa) return [];
  const certs = CERTS.filter((row) => row.name === "ca" || row.ca === "ca").map((row) => examine(row, facts));
  const kubeconfigs = kubeconfigRows(facts, { superAdmin: false }).filter((row) => row.name !== "kubelet");
  const findings = [...certs, ...kubeconfigs.map((row) => examineKubeconfig(row, facts))];
  return findings.filter(({ state }) => state !== "ok").map(({ paths }) => paths[0]!);
}

/** Errors: Fail where something has to be signed with a key that never was here. */
export function refuseExternalCa({ facts }: { facts: ClusterFacts }) {
  const lacking = lackingOfExternalCa(facts);
  if (lacking.length > 0)
    throw new Fail(`The cluster's CA is external, its key never was on the masters: it has to sign ${lacking.join(", ")}`, {
      hint: EXTERNAL_CA_STEPS.join("; "),
    });
}
