/** What is left for the operator to do: old keys outside of the cluster, and files that did not come back. */
import { calledByApi } from "../api/called-by-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { trustBundles } from "../api/trust-bundles.ts";
import { showsToday } from "../etcd-home/etcd-folders.ts";
import { holdersOf, managedNode } from "../facts/ca-holders.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { BACKUP } from "../facts/next.ts";
import { replacedCa } from "../facts/repair.ts";
import { saKeyIsNew } from "../facts/sa-key.ts";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { commandOf, flags, hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { heldIn, rescuedEtcd, rescuedFiles, rescueFolders } from "../node/rescue-folder.ts";
import { certInfo } from "../pki/certificate.ts";
import { newSaKeySince } from "../pki/sa-keys.ts";
import { type TrustedKeys, trustedKeys } from "../pki/trusted-keys.ts";
import { listed } from "../plain.ts";
import { STAND_IN_MARK } from "../static-pods/provide-files.ts";
import { waysOn } from "./choice.ts";
import { howToRestart, label, type PodOwner } from "./pod-owners.ts";
import type { Renewed } from "./renew-tokens.ts";
import type { Left } from "./restart-order.ts";
import { lastWritten } from "./stale-pods.ts";
import { tokenSecrets } from "./token-secrets.ts";

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
  /** Namespaces without today's CA. */
  namespaces: readonly string[];
  caPem: string;
}

/** Sentences for the operator, the most urgent first. */
export async function leftToDo({
  cp,
  api,
  renewed,
  reported,
  skipped,
  later,
  workloads,
  secrets,
  namespaces,
  caPem,
}: Done): Promise<string[]> {
  const lines = standIns(cp).map(
    (path) => `${path} is a stand-in for the lost audit policy: put your own policy there, then restart kube-apiserver`,
  );
  if (namespaces.length > 0) lines.push(`kube-root-ca.crt has another CA in: ${listed(namespaces)}: 4.2 says why`);
  for (const [name, why] of secrets) lines.push(`Secret ${name} still has old trust: ${why.message}: ${why.hint}`);
  const still = replacedCa(cp, caPem).size === 0 ? "still has a token of the old key" : "still trusts the old CA";
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

/** Errors: Fail where something could not be renewed. */
export function refuseRest({ workloads, secrets, namespaces }: Pick<Done, "workloads" | "secrets" | "namespaces">) {
  const counts = [`${workloads.length} workloads`, `${secrets.size} token Secrets`];
  if (namespaces.length > 0) counts.push(`${namespaces.length} namespaces`);
  if (workloads.length + secrets.size + namespaces.length === 0) return;
  throw new Fail(`Not all could be renewed. Left for you: ${counts.join(", ")}`, {
    hint: "4.7 names each with its command. Then run this script again: it does only what is left",
  });
}

/** What nobody but people can renew: it is outside of the cluster, or it is theirs. */
export async function peopleToDo({ cp, api, renewed, caPem }: Pick<Done, "cp" | "api" | "renewed" | "caPem">): Promise<string[]> {
  const oldCa = replacedCa(cp, caPem);
  return [
    ...(oldCa.size > 0 ? [OLD_KUBECONFIGS] : unknownBefore(cp)),
    ...(await newKeyToDo(cp, api, renewed)),
    ...(await newCaToDo(cp, api, oldCa)),
  ];
}

async function newCaToDo(cp: ControlPlaneNode, api: KubeApi, oldCa: TrustedKeys): Promise<string[]> {
  if (oldCa.size === 0) return [];
  return [
    ...(await withOldCaBundle(api, oldCa)).map((name) => `${name}: it still holds the old CA as trusted: put the new one there`),
    ...holdersOf({ managed: managedNode(cp.data, cp.node.name), oldHashes: oldCa, certificatesDir: cp.facts.certificatesDir }),
  ];
}

/** Whatever the CA: a new service-account key is published, and tokens of the old one end. */
async function newKeyToDo(cp: ControlPlaneNode, api: KubeApi, renewed: readonly string[]): Promise<string[]> {
  if (!saKeyIsNew(cp)) return renewed.length > 0 ? [copiesEnd(renewed)] : [];
  const since = newSaKeySince(readText(`${cp.facts.certificatesDir}/sa.pub`) ?? "");
  const written = since ? (await tokenSecrets(api)).filter((one) => lastWritten(one, new Date(0)) >= since).map(nameOf) : [];
  const names = [...new Set([...renewed, ...written])].sort();
  return [...(names.length > 0 ? [copiesEnd(names)] : []), publishedKeys(cp)];
}

function copiesEnd(names: readonly string[]): string {
  return `copies of the old tokens of these Secrets no longer work, copy the new ones: ${listed(names)}`;
}

/** Cloud identities and others verify tokens with the keys of the issuer, and keep them; some read them from a copy that people made. */
function publishedKeys(cp: ControlPlaneNode): string {
  const manifest = readManifest(manifestPath(cp, "kube-apiserver"));
  const command = flags(manifest ? commandOf(manifest) : []);
  const named = ["service-account-issuer", "service-account-jwks-uri"].flatMap((flag) =>
    command.all(flag).map((url) => `--${flag}=${url}`),
  );
  return (
    `systems that check tokens with the published keys${named.length > 0 ? ` (${named.join(", ")})` : ""} must fetch these keys again: ` +
    "cloud identities (IRSA, workload identity), Vault, other clusters. If they read a copy (a bucket): kubectl get --raw /openid/v1/jwks, put that there"
  );
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

async function withOldCaBundle(api: KubeApi, oldCa: TrustedKeys): Promise<string[]> {
  const isOld = (pem: string) => !trustedKeys(pem).isDisjointFrom(oldCa);
  const called = (await calledByApi(api)).filter(({ clients }) =>
    clients.some(({ caBundle = "" }) => isOld(Buffer.from(caBundle, "base64").toString())),
  );
  const bundles = (await trustBundles(api)).filter(({ spec }) => isOld(spec.trustBundle));
  return [...called.map(({ name }) => name), ...bundles.map(({ metadata }) => `ClusterTrustBundle ${metadata.name}`)];
}
