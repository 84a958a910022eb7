/** The cluster as it was before the damage. cluster.ts reads it from etcd's data. */
import type { EtcdElsewhere } from "../etcd-location/etcd-elsewhere.ts";
import type { KnownNode } from "./known-node.ts";

/** The fields of kubeadm's ClusterConfiguration (v1beta3 and v1beta4) that this kit reads. */
export interface ClusterConfiguration {
  clusterName?: string;
  kubernetesVersion?: string;
  controlPlaneEndpoint?: string;
  certificatesDir?: string;
  networking?: { serviceSubnet?: string; podSubnet?: string; dnsDomain?: string };
  apiServer?: { certSANs?: string[] };
  etcd?: {
    local?: { dataDir?: string; serverCertSANs?: string[]; peerCertSANs?: string[] };
    external?: EtcdElsewhere;
  };
  certificateValidityPeriod?: string;
  caCertificateValidityPeriod?: string;
}

export interface Cluster {
  name: string;
  kubernetesVersion: string;
  /** `host:port` of the balancer or of the only control plane node: kubeadm's controlPlaneEndpoint. */
  endpoint: string | undefined;
  dnsDomain: string;
  serviceSubnets: string[];
  podSubnet: string | undefined;
  certificatesDir: string;
  configuration: ClusterConfiguration;
  nodes: KnownNode[];
  /**
   * Trusted by the cluster before the repair, by kube-root-ca.crt: its CA; others, too, while it is
   * exchanged, in any order.
   */
  oldCaPem: string;
  /** Trusted by aggregated API servers before it: the ConfigMap extension-apiserver-authentication, by key. */
  aggregated: { "client-ca-file"?: string; "requestheader-client-ca-file"?: string };
  kubeSystemUid: string;
  /** When its first API server made the namespace kube-system. */
  createdAt: Date;
}
