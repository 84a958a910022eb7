/** What is left for the operator to do: old keys outside of the cluster, and files that did not come back. */
import type { KubeApi } from "../api/kube-api.ts";
import { trustBundles } from "../api/trust-bundles.ts";
import { showsToday } from "../etcd-home/etcd-folders.ts";
import { holdersOf, managedNode } from "../facts/ca-holders.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { BACKUP } from "../facts/next.ts";
import { replacedCa } from "../facts/repair.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { heldIn, rescuedEtcd, rescuedFiles, rescueFolders } from "../node/rescue-folder.ts";
import { certInfo, certificatesIn } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { STAND_IN_MARK } from "../static-pods/provide-files.ts";
import { waysOn } from "./choice.ts";
import { howToRestart, label, type PodOwner } from "./pod-owners.ts";
import type { Renewed } from "./renew-tokens.ts";
import type { Left } from "./restart-order.ts";
import { calledByApi } from "./webhooks.ts";

interface Done {
  cp: ControlPlaneNode;
  api: KubeApi;
  /** Secrets with a new token, `namespace/name`. */
  renewed: readonly string[];
  /** Stale pods that nothing restarts, and those that this run did not by the operator's choice. */
  reported: readonly PodOwner[];
  skipped: readonly PodOwner[];
  later: readonly PodOwner[];
  /** Stale pods that could not be restarted, and Secrets that could not be renewed. */
  workloads: readonly Left[];
  secrets: Renewed["refused"];
  caPem: string;
}

/** Sentences for the operator, the most urgent first. */
export async function leftToDo({ cp, api, renewed, reported, skipped, later, workloads, secrets, caPem }: Done): Promise<string[]> {
  const lines = standIns(cp).map(
    (path) => `${path} is a stand-in for the lost audit policy: put your own policy there, then restart kube-apiserver`,
  );
  for (const [name, why] of secrets) lines.push(`Secret ${name} still has old trust: ${why.message}: ${why.hint}`);
  const still = replacedCa(cp, caPem) === undefined ? "still has a token of the old key" : "still trusts the old CA";
  for (const { owner, why } of workloads) lines.push(`${label(owner)} ${still}: ${why.message}: ${why.hint}`);
  for (const owner of reported) lines.push(`${label(owner)} ${still} (${owner.reason}): restart it yourself if it talks to the API`);
  for (const owner of skipped) lines.push(`${label(owner)} ${still} (skipped by you): ${howToRestart(owner)}`);
  if (later.length > 0) lines.push(`left for a later run: ${listed(later.map(label))}: ${waysOn({ later, skipped })}`);
  lines.push(...(await peopleToDo({ cp, api, renewed, caPem })));
  lines.push(
    `make a backup now: ${BACKUP}, and an etcd snapshot, and keep both away from this machine. CA in use: ${certInfo(caPem).publicKeyHash}`,
  );
  for (const rescue of rescuedFiles()) lines.push(`${rescue.dir} holds ${heldIn(rescue)}: remove it when you no longer need it`);
  return lines;
}

/** What nobody but people can renew: it is outside of the cluster, or it is theirs. */
export async function peopleToDo({ cp, api, renewed, caPem }: Pick<Done, "cp" | "api" | "renewed" | "caPem">): Promise<string[]> {
  const oldCa = replacedCa(cp, caPem);
  if (!oldCa) return unknownBefore(cp);
  const copies = `copies of the old tokens of these Secrets no longer work, copy the new ones: ${listed(renewed)}`;
  return [
    OLD_KUBECONFIGS,
    ...(renewed.length > 0 ? [copies] : []),
    "systems that check tokens with the published keys (/openid/v1/jwks: cloud identities, Vault) must fetch these keys again",
    ...(await withOldCaBundle(api, oldCa)).map((name) => `${name}: it still holds the old CA as trusted: put the new one there`),
    ...holdersOf({ managed: managedNode(cp.data, cp.node.name), oldHash: oldCa, certificatesDir: cp.facts.certificatesDir }),
  ];
}

const OLD_KUBECONFIGS =
  "kubeconfigs of users, CI and monitoring still have the old CA: give them new ones (kubeadm kubeconfig user, or copies of admin.conf)";

/** Where a rescue folder shows the data of today, nothing here tells whether this repair has replaced the CA. */
function unknownBefore({ etcd }: Pick<ControlPlaneNode, "etcd">): string[] {
  const rescue = rescueFolders().find((one) => showsToday(one, etcd));
  if (!rescue) return [];
  return [
    `${rescuedEtcd(rescue)} is a link to the data of today, no copy from before the repair. If the CA was replaced, ${OLD_KUBECONFIGS}`,
  ];
}

/** Audit policies that this kit wrote in place of lost ones. */
export function standIns(cp: Pick<ControlPlaneNode, "node">): string[] {
  const manifest = readManifest(manifestPath(cp, "kube-apiserver"));
  const policies = manifest ? hostFiles(manifest).filter((file) => file.namedBy === "--audit-policy-file") : [];
  return policies.map((file) => file.path).filter((path) => smallText(path)?.startsWith(STAND_IN_MARK));
}

async function withOldCaBundle(api: KubeApi, oldCa: string): Promise<string[]> {
  const isOld = (pem: string) => certificatesIn(pem).some((one) => certInfo(one).publicKeyHash === oldCa);
  const called = (await calledByApi(api)).filter(({ clients }) =>
    clients.some(({ caBundle = "" }) => isOld(Buffer.from(caBundle, "base64").toString())),
  );
  const bundles = (await trustBundles(api)).filter(({ spec }) => isOld(spec.trustBundle));
  return [...called.map(({ name }) => name), ...bundles.map(({ metadata }) => `ClusterTrustBundle ${metadata.name}`)];
}
