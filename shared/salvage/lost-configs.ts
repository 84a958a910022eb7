/** Configuration files that the API server's flags name and that are lost: kubeadm never made them, so only a copy brings them back. */
import { parse } from "yaml";
import type { EtcdData } from "../etcd/data.ts";
import { exists } from "../files/files.ts";
import { hostFiles, manifestFromMirrorPod } from "../static-pods/manifests.ts";
import { findMirrorPods } from "../static-pods/mirror-pods.ts";
import type { ConfigFind, Find } from "./disk/finds.ts";
import { type EncryptionConfiguration, proveEncryption } from "./encryption.ts";

/** What each flag's file holds. */
const KINDS: Record<string, readonly string[]> = {
  "--encryption-provider-config": ["EncryptionConfiguration", "EncryptionConfig"],
  "--audit-policy-file": ["Policy"],
  "--admission-control-config-file": ["AdmissionConfiguration"],
  "--authentication-config": ["AuthenticationConfiguration"],
  "--authorization-config": ["AuthorizationConfiguration"],
  "--egress-selector-config-file": ["EgressSelectorConfiguration"],
  "--tracing-config-file": ["TracingConfiguration"],
};

export interface LostConfig {
  /** On this node. */
  path: string;
  flag: string;
  kinds: readonly string[];
}

/** By the API server's mirror pod in etcd's data. */
export function lostConfigs(data: EtcdData, nodeName: string): LostConfig[] {
  const pod = findMirrorPods(data, nodeName).find(({ name }) => name === "kube-apiserver")?.pod;
  if (!pod) return [];
  return hostFiles(manifestFromMirrorPod(pod, nodeName)).flatMap(({ path, namedBy }) => {
    const kinds = KINDS[namedBy];
    return kinds && !exists(path) ? [{ path, flag: namedBy, kinds }] : [];
  });
}

/** The content that is put back, or why none is, for the operator. */
export type Choice = { text: string; proof: string } | { why: string };

/** The one whole file of its kind; an EncryptionConfiguration has to open what etcd holds. Several that nothing tells apart are left to people. */
export function chooseConfig({ kinds }: LostConfig, finds: readonly Find[], data: EtcdData): Choice {
  const whole = finds.filter((find): find is ConfigFind => find.kind === "config" && kinds.includes(find.configKind) && find.complete);
  const versions = [...new Map(whole.map((find) => [JSON.stringify(parse(find.text)), find.text])).values()];
  if (versions.length === 0) return { why: "not found" };
  if (kinds.includes("EncryptionConfiguration")) return chooseEncryption(versions, data);
  if (versions.length > 1) return { why: `${versions.length} different ones were found, and nothing tells which was in use` };
  return { text: versions[0]!, proof: "the only one of its kind" };
}

function chooseEncryption(versions: string[], data: EtcdData): Choice {
  const proofs = versions.map((text) => ({ text, proof: proveEncryption(parse(text) as EncryptionConfiguration, data) }));
  const opens = proofs.find(({ proof }) => proof === "opens");
  if (opens) return { text: opens.text, proof: "it opens what is encrypted in etcd" };
  const likely = proofs.filter(({ proof }) => proof !== "does not fit");
  if (likely.length === 1) return { text: likely[0]!.text, proof: "its keys have the names that etcd's values name" };
  return { why: `${versions.length} found, ${likely.length === 0 ? "none opens" : "several could open"} what is encrypted in etcd` };
}
