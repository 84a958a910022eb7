/** A cluster that makes its CAs for so long that those it has, of ten years, are in the second half of a life. */
import type { Objects } from "./cluster.ts";

/** Of a CA's certificate that is made there. */
export const LONG_LIFE = 300_000;

export function longLives(objects: Objects) {
  const map = objects["configmaps/kube-system/kubeadm-config"] as { data: { ClusterConfiguration: string } };
  map.data.ClusterConfiguration += `caCertificateValidityPeriod: ${LONG_LIFE}h0m0s\n`;
}
