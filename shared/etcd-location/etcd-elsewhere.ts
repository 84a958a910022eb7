/** An etcd that kubeadm did not make, as kubeadm's own configuration names it. */

/** ClusterConfiguration's etcd.external (kubeadm v1beta4). */
export interface EtcdElsewhere {
  endpoints?: string[];
  caFile?: string;
  certFile?: string;
  keyFile?: string;
}
