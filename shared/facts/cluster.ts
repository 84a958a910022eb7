/**
 * What the cluster was, read from etcd's data: names, addresses, ranges, nodes. kubeadm's silent defaults are
 * never used: a script stops where a value is missing.
 *
 * Sources: the ConfigMap kube-system/kubeadm-config (ClusterConfiguration), Node objects, kube-root-ca.crt.
 */

import { command, type LeftOut, leftNames } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless, memberName } from "../etcd-data/members.ts";
import { Fail, Refused } from "../fail.ts";
import { AGGREGATED_TRUST, configMapIn, readObject } from "../objects/stored.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";
import { say } from "../run.ts";
import { type ClusterConfiguration, readConfiguration } from "./cluster-configuration.ts";
import { type KnownNode, readNodes } from "./known-nodes.ts";

export interface Cluster {
  name: string;
  kubernetesVersion: string;
  /**
   * `host:port` of the balancer or of the only control plane node: kubeadm's controlPlaneEndpoint. Undefined
   * where none was set.
   */
  endpoint: string | undefined;
  dnsDomain: string;
  serviceSubnets: string[];
  podSubnet: string | undefined;
  certificatesDir: string;
  configuration: ClusterConfiguration;
  nodes: KnownNode[];
  /**
   * What the cluster trusted before the repair, by kube-root-ca.crt: its CA; others, too, while it is
   * exchanged, in any order.
   */
  oldCaPem: string;
  /**
   * What aggregated API servers trusted before it: the ConfigMap extension-apiserver-authentication, by key.
   */
  aggregated: { "client-ca-file"?: string; "requestheader-client-ca-file"?: string };
  kubeSystemUid: string;
}

/**
 * Reads the cluster out of the data. Errors: Fail where this is not the data of a kubeadm cluster, or where
 * it is encrypted.
 */
export function readCluster(data: EtcdData): Cluster {
  const configuration = readConfiguration(data);
  const networking = configuration.networking ?? {};
  return {
    name: configuration.clusterName ?? "kubernetes",
    kubernetesVersion: need(configuration.kubernetesVersion, "kubernetesVersion"),
    endpoint: configuration.controlPlaneEndpoint || undefined,
    dnsDomain: need(networking.dnsDomain, "networking.dnsDomain"),
    serviceSubnets: need(networking.serviceSubnet, "networking.serviceSubnet").split(","),
    podSubnet: networking.podSubnet || undefined,
    certificatesDir: configuration.certificatesDir ?? CERTIFICATES_DIR,
    configuration,
    nodes: readNodes(data),
    oldCaPem: need(
      configMapIn(data, "kube-system/kube-root-ca.crt")?.["ca.crt"],
      "ca.crt of the ConfigMap kube-root-ca.crt",
    ),
    aggregated: configMapIn(data, AGGREGATED_TRUST) ?? {},
    kubeSystemUid: need(
      readObject<{ metadata: { uid: string } }>(data, "namespaces/kube-system")?.metadata.uid,
      "the namespace kube-system",
    ),
  };
}

interface Known {
  cluster: Cluster;
  data: EtcdData;
  node: { name: string };
  dataFrom: string;
  etcd: { dir: string };
  earlier?: { data: EtcdData };
}

/**
 * Checks the names after --without and --lost: of nodes and, as `memberName`, of etcd's members. Those of a
 * repair that is over count: their Nodes may be deleted since. `mayBeDeleted`: where the repair has no copy
 * of etcd's data, and so no proof that a name never was one, it is said. Errors: Refused where one is this
 * node's own, or etcd never knew it: it is mistyped.
 */
export function refuseUnknownNodes(
  out: LeftOut,
  { cluster, data, node, dataFrom, etcd, earlier }: Known,
  { mayBeDeleted = false } = {},
) {
  const names = leftNames(out);
  const nodesBefore = earlier ? readCluster(earlier.data).nodes : [];
  const members = [...data.members, ...(earlier?.data.members ?? [])].map(memberName);
  const nodesKnown = [...cluster.nodes, ...nodesBefore].map(({ name }) => name);
  const known = new Set([...nodesKnown, ...members, ...(data.formerMembers ?? [])]);
  const strangers = names.filter((name) => !known.has(name));
  const nodes = [...known].join(", ");
  if (strangers.length > 0 && mayBeDeleted && dataFrom === etcd.dir)
    say(
      `${strangers.join(", ")}: no node of this cluster any more. If a name is mistyped: its nodes are ${nodes}`,
    );
  else if (strangers.length > 0)
    throw new Refused(`etcd knew no node "${strangers.join('", "')}"`, {
      hint: `name one of its nodes: ${nodes}`,
    });
  const own = data.members.find(({ id }) => id === data.memberId);
  const here = names.find((name) => name === node.name || (own && name === memberName(own)));
  if (here !== undefined)
    throw new Refused(`"${here}" is this node, and it is not ${out.lost.includes(here) ? "lost" : "away"}`, {
      unchanged: true,
      hint: "name other nodes only, those that do not come back now, or never",
    });
  const id = out.without.find((name) =>
    data.members.some((member) => isNameless(member) && member.id === name),
  );
  if (id !== undefined)
    throw new Refused(`${id} is no node that is away, but a member of etcd that never started`, {
      unchanged: true,
      hint: `take it out in part 2: ${command("02-control-plane", { lost: [id] })}`,
    });
  const both = out.without.find((name) => out.lost.includes(name));
  if (both !== undefined)
    throw new Refused(`"${both}" cannot be away (--without) and lost for good (--lost)`, {
      unchanged: true,
      hint: "name it once",
    });
}

/** For the operator, of a Node by its name. */
export const ONLY_LABELLED =
  "its label says that it is a control plane node, and etcd knows no member of it: it is treated as a worker";

/** Names of the Nodes that only say that they are control plane nodes. */
export function onlyLabelled(nodes: readonly KnownNode[]): string[] {
  return nodes.flatMap(({ name, onlyLabelled }) => (onlyLabelled ? [name] : []));
}

/** Errors: Fail where the value is missing: kubeadm's defaults are never used in its place. */
export function need<T extends string>(value: T | undefined, name: string): T {
  if (value) return value;
  throw new Fail(`Cannot find ${name} in etcd's data`, {
    hint: "see what the data holds: ./bunw scripts/00-assess.ts --json; kubeadm's defaults are never used in its place",
  });
}
