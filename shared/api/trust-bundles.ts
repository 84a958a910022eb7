/**
 * ClusterTrustBundles: CAs by the name of their signer, which pods mount as files (certificates.k8s.io; v1 and on by default in 1.37). For
 * the API server the controller-manager publishes one, with the content of its --root-ca-file, and removes others of this signer
 * (pkg/controller/certificates/clustertrustbundlepublisher). PodCertificates need none of this: in 1.37 no signer of Kubernetes' own
 * issues any (kube-apiserver-client-pod "is currently unimplemented"), so the cluster's CA signs none.
 */
import { trustsCa } from "../pki/trusted-keys.ts";
import { unlessRefused } from "./api-error.ts";
import type { KubeApi } from "./kube-api.ts";
import type { KubeObject } from "./kube-object.ts";
import { isApiServers } from "./trust-bundle-names.ts";

interface TrustBundle extends KubeObject {
  spec: { signerName?: string; trustBundle: string };
}

/** All of the cluster; none where its API servers do not know this kind. */
export async function trustBundles(api: KubeApi): Promise<TrustBundle[]> {
  for (const version of ["v1", "v1beta1", "v1alpha1"]) {
    const path = `/apis/certificates.k8s.io/${version}/clustertrustbundles`;
    const found = await unlessRefused([404], () => api.list<TrustBundle>(path));
    if (found) return found;
  }
  return [];
}

/** Those for the API server, and the names of those that do not have today's CA. */
export async function apiServerBundles(api: KubeApi, caPem: string): Promise<{ all: TrustBundle[]; old: string[] }> {
  const all = (await trustBundles(api)).filter(({ spec }) => isApiServers({ signerName: spec.signerName }));
  return { all, old: all.filter(({ spec }) => !trustsCa(spec.trustBundle, caPem)).map(({ metadata }) => metadata.name) };
}
