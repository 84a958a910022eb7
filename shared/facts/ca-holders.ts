/**
 * Who else keeps the cluster's keys, or makes nodes that trust its CA: asked before new keys are made, and
 * told after. Only lines for people come of it: a kubelet can write every annotation of its own Node.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt } from "../fail.ts";
import { readObject } from "../objects/stored.ts";
import { shell } from "../shell-line.ts";

interface Annotated {
  metadata: { annotations?: Record<string, string> };
}

/** A cluster as Cluster API's management cluster knows it. */
interface Managed {
  namespace: string;
  name: string;
}

/**
 * Annotations that Cluster API's controller gives to a Node (api/v1beta1/common_types.go); undefined where it
 * has none.
 */
function managedBy({ metadata }: Annotated): Managed | undefined {
  const [name, namespace] = ["cluster-name", "cluster-namespace"].map(
    (key) => metadata.annotations?.[`cluster.x-k8s.io/${key}`] ?? "",
  );
  return name && namespace && [name, namespace].every((one) => /^[a-z0-9][a-z0-9.-]{0,252}$/.test(one))
    ? { namespace, name }
    : undefined;
}

/** The same of a node in etcd's data. */
export function managedNode(data: EtcdData | undefined, node: string): Managed | undefined {
  const object = data && attempt(() => readObject<Annotated>(data, `minions/${node}`), undefined);
  return object && managedBy(object);
}

/** For a shell of the management cluster: writes the private keys of this cluster into a folder in memory. */
export function fetchLine({ namespace, name }: Managed): string {
  const keys = shell`kubectl -n ${namespace} get secret ${name}-$k`;
  return `(umask 077; mkdir /dev/shm/keys && for k in ca sa etcd proxy; do ${keys} -o jsonpath='{.data.tls\\.key}' | base64 -d >/dev/shm/keys/$k.key; done)`;
}

/**
 * What has to learn a new CA outside of the cluster, a sentence each. `oldHashes`: "sha256:…" of the CA that
 * was replaced.
 */
export function holdersOf({
  managed,
  oldHashes,
  certificatesDir,
}: {
  managed: Managed | undefined;
  oldHashes: Iterable<string>;
  certificatesDir: string;
}): string[] {
  return [
    ...(managed ? [managementCluster(managed, certificatesDir)] : []),
    `what makes new nodes (launch templates, Terraform, kickstart, join lines in a wiki) may name the old CA: search it for ${[...oldHashes].join(" and ")}, kubeadm's --discovery-token-ca-cert-hash`,
  ];
}

function managementCluster({ namespace, name }: Managed, certificatesDir: string): string {
  const secrets = ["ca", "etcd", "proxy", "sa"].map((purpose) => `${name}-${purpose}`).join(", ");
  return `Cluster API's management cluster still has the old keys, and gives them to the next machine that it makes: in its namespace ${namespace}, put tls.crt and tls.key of the Secrets ${secrets} again, from ca, etcd/ca, front-proxy-ca and sa in ${certificatesDir} (of sa, tls.crt is sa.pub)`;
}
