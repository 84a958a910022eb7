/** By which names a ClusterTrustBundle is known as the API server's. */
const SIGNER = "kubernetes.io/kube-apiserver-serving";

/** Of the names that the controller-manager gives: this, and a hash of the content. */
export const API_SERVER_BUNDLES = `${SIGNER.replace("/", ":")}:`;

/** Whether this names the API server's: a bundle's spec, or the source of a pod's volume. */
export function isApiServers({ name = "", signerName }: { name?: string; signerName?: string | undefined }): boolean {
  return signerName === SIGNER || name.startsWith(API_SERVER_BUNDLES);
}
