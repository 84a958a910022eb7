/** Finds lost configuration files that the API server's flags name. kubeadm never made them, so only a copy brings them back. */
import { parse } from "yaml";
import type { EtcdData } from "../etcd-data/data.ts";
import { exists } from "../files/files.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import type { ConfigFind } from "./disk/finds.ts";
import type { TextFind } from "./disk-search.ts";
import { encryptionProver } from "./encryption-proof.ts";

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

/** What was found for a lost file: the content that is proved, or all complete texts of its kind, which prove nothing. */
interface Choice {
  proved?: { text: string; proof: string };
  unproved: ConfigFind[];
}

/** Everybody can lay out such a file. Only an EncryptionConfiguration can be proved: it opens what etcd holds; nobody else has its keys. */
export function chooseConfig({ kinds }: LostConfig, finds: readonly TextFind[], data: EtcdData | undefined): Choice {
  const whole = finds.filter((find): find is ConfigFind => find.kind === "config" && kinds.includes(find.configKind) && find.complete);
  const versions = [...new Map(whole.map((find) => [find.text.trim(), find])).values()];
  const isProvable = data !== undefined && versions.length > 0 && kinds.includes("EncryptionConfiguration");
  const opensEtcd = isProvable ? encryptionProver(data) : undefined;
  const opens = opensEtcd && versions.find(({ text }) => opensEtcd(parsed(text)));
  return opens ? { proved: { text: opens.text, proof: "it opens what is encrypted in etcd" }, unproved: [] } : { unproved: versions };
}

/** Never fails: `judge` has parsed the text before. */
function parsed(text: string): unknown {
  return parse(text, { logLevel: "silent", maxAliasCount: 100 });
}
