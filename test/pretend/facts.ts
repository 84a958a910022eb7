import type { ClusterFacts } from "../../shared/pki/certs.ts";

/** The facts of a control plane node of a made-up cluster, with the changes of a test. */
export function testFacts(different: Partial<ClusterFacts> = {}): ClusterFacts {
  return {
    nodeName: "m1",
    advertiseAddress: "10.250.99.1",
    bindPort: 6443,
    controlPlaneEndpoint: "api.example:6443",
    serviceSubnets: ["10.97.0.0/16"],
    dnsDomain: "cluster.local",
    certSANs: [],
    etcdServerCertSANs: [],
    etcdPeerCertSANs: [],
    kubernetesVersion: "v1.34.4",
    clusterName: "kubernetes",
    keyAlgorithm: "ECDSA-P256",
    certificateValidityHours: 8760,
    caValidityHours: 87600,
    certificatesDir: "/etc/kubernetes/pki",
    ...different,
  };
}
