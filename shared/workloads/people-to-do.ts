/** What nobody but people can renew after a repair: old keys outside of the cluster, and copies of theirs. */
import { calledByApi } from "../api/called-by-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { showsToday } from "../etcd-location/etcd-folders.ts";
import { caEndedAt, holdersOf, managedNode } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { lastWritten } from "../facts/pod-trust.ts";
import { replacedCa } from "../facts/repair.ts";
import { saKeyIsNew } from "../facts/sa-key.ts";
import { readText } from "../files/files.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { rescuedEtcd, rescueFolders } from "../node/rescue-folder.ts";
import { newSaKeySince } from "../pki/sa-keys.ts";
import { type TrustedKeys, trustedKeys } from "../pki/trusted-keys.ts";
import { listed } from "../plain.ts";
import { trustBundles } from "./root-ca.ts";
import { tokenSecrets } from "./token-secrets.ts";

export interface Repaired {
  cp: ControlPlaneNode;
  api: KubeApi;
  /** Secrets with a new token, `namespace/name`. */
  renewed: readonly string[];
  caPem: string;
}

/** What nobody but people can renew: it is outside of the cluster, or it is theirs. */
export async function peopleToDo({ cp, api, renewed, caPem }: Repaired): Promise<string[]> {
  const oldCa = replacedCa(cp, caPem);
  return [
    ...(oldCa.size > 0 ? [OLD_KUBECONFIGS] : caEndedAt(cp) ? [ENDED_KUBECONFIGS] : unknownBefore(cp)),
    ...(await newKeyToDo(cp, api, renewed)),
    ...(await newCaToDo(cp, api, oldCa)),
  ];
}

async function newCaToDo(cp: ControlPlaneNode, api: KubeApi, oldCa: TrustedKeys): Promise<string[]> {
  if (oldCa.size === 0) return [];
  return [
    ...(await withOldCaBundle(api, oldCa)).map(
      (name) => `${name}: it still holds the old CA as trusted: put the new one there`,
    ),
    ...holdersOf({
      managed: managedNode(cp.data, cp.node.name),
      oldHashes: oldCa,
      certificatesDir: cp.facts.certificatesDir,
    }),
  ];
}

/** Whatever the CA: a new service-account key is published, and tokens of the old one end. */
async function newKeyToDo(cp: ControlPlaneNode, api: KubeApi, renewed: readonly string[]): Promise<string[]> {
  if (!saKeyIsNew(cp)) return renewed.length > 0 ? [copiesEnd(renewed)] : [];
  const since = newSaKeySince(readText(`${cp.facts.certificatesDir}/sa.pub`) ?? "");
  const written = since
    ? (await tokenSecrets(api)).filter((one) => lastWritten(one, new Date(0)) >= since).map(nameOf)
    : [];
  const names = [...new Set([...renewed, ...written])].sort();
  return [...(names.length > 0 ? [copiesEnd(names)] : []), publishedKeys(cp)];
}

function copiesEnd(names: readonly string[]): string {
  return `copies of the old tokens of these Secrets no longer work, copy the new ones: ${listed(names)}`;
}

/**
 * Cloud identities and others verify tokens with the keys of the issuer, and keep them; some read them from a
 * copy that people made.
 */
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

const ENDED_KUBECONFIGS =
  "kubeconfigs of users, CI and monitoring have the CA's certificate that has expired: put the current ca.crt there, their certificates and tokens stay";

/**
 * Where a rescue folder shows the data of today, nothing here tells whether this repair has replaced the CA.
 */
function unknownBefore({ etcd }: Pick<ControlPlaneNode, "etcd">): string[] {
  const rescue = rescueFolders().find((one) => showsToday(one, etcd));
  if (!rescue) return [];
  return [
    `${rescuedEtcd(rescue)} is a link to the current data, no copy that was made before the repair. If the CA was replaced, ${OLD_KUBECONFIGS}`,
  ];
}

async function withOldCaBundle(api: KubeApi, oldCa: TrustedKeys): Promise<string[]> {
  const isOld = (pem: string) => !trustedKeys(pem).isDisjointFrom(oldCa);
  const called = (await calledByApi(api)).filter(({ clients }) =>
    clients.some(({ caBundle = "" }) => isOld(Buffer.from(caBundle, "base64").toString())),
  );
  const bundles = (await trustBundles(api)).filter(({ spec }) => isOld(spec.trustBundle));
  return [
    ...called.map(({ name }) => name),
    ...bundles.map(({ metadata }) => `ClusterTrustBundle ${metadata.name}`),
  ];
}
