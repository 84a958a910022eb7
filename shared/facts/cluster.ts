/**
 * The old cluster, read from etcd's data: names, addresses, ranges, nodes. Sources: Node objects,
 * kube-root-ca.crt, and kubeadm's ClusterConfiguration in the ConfigMap kube-system/kubeadm-config, YAML that
 * people edit by hand. kubeadm's silent defaults are never used: a script stops if a value is missing, and
 * refuses an unreadable one with its line. Reads only.
 */

import { isIP } from "node:net";
import { command } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { readText } from "../files/files.ts";
import { movedHere } from "../node/words.ts";
import { AGGREGATED_TRUST, configMapIn, readObject, registryPrefix } from "../objects/stored.ts";
import { endpointPutIn, firstAddress, isEndpoint } from "../pki/addresses.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";
import { say } from "../run.ts";
import { readMapping, type Shape } from "../yaml.ts";
import type { Cluster, ClusterConfiguration } from "./cluster-before.ts";
import type { KnownNode } from "./known-node.ts";
import { readNodes } from "./known-nodes.ts";

const OF = "kube-system/kubeadm-config";

/** Takes its place if it cannot be read, while the API does not live: root's alone, and no name that others give. */
const CORRECTED = "/root/corrected-kubeadm-config.yaml";

/** Path of a field → its kind. */
const SHAPE: Shape = {
  ...{ clusterName: "string", kubernetesVersion: "string", controlPlaneEndpoint: "string" },
  ...{ certificatesDir: "string", networking: "mapping", "networking.serviceSubnet": "string" },
  ...{ "networking.podSubnet": "string", "networking.dnsDomain": "string", apiServer: "mapping" },
  ...{ "apiServer.certSANs": "list", etcd: "mapping", "etcd.local": "mapping" },
  ...{ "etcd.local.dataDir": "string", "etcd.local.serverCertSANs": "list" },
  ...{ "etcd.local.peerCertSANs": "list", "etcd.external": "mapping" },
  ...{ certificateValidityPeriod: "string", caCertificateValidityPeriod: "string" },
};

/** Errors: Refused where there is none, or none that can be read. */
export function readConfiguration(data: EtcdData): ClusterConfiguration {
  const stored = configurationOf(data);
  const putIn = endpointPutIn(movedHere());
  return putIn ? { ...stored, controlPlaneEndpoint: putIn } : stored;
}

function configurationOf(data: EtcdData): ClusterConfiguration {
  const found = attempt(() =>
    parsedConfiguration(storedConfiguration(data), `The ConfigMap ${OF} in etcd's data`),
  );
  if (!(found instanceof Fail)) return found;
  const text = readText(CORRECTED);
  // while a shell writes it, it is empty
  if (!text?.trim()) throw found;
  const corrected = parsedConfiguration(text, CORRECTED);
  if (!isSaid) say(`kubeadm-config is read from ${CORRECTED}: ${found.message}`);
  isSaid = true;
  return corrected;
}

let isSaid = false;

export function storedConfiguration(data: EtcdData): string {
  const text = configMapIn(data, OF)?.ClusterConfiguration;
  if (text) return text;
  throw new Refused(`Cannot find the ConfigMap ${OF} in etcd's data`, {
    hint: `see what the data holds: ./bunw scripts/00-assess.ts; --etcd-data DIR names another folder. kubeadm makes the ConfigMap again from a FILE with the cluster's own names and ranges. If the API answers: kubeadm init phase upload-config kubeadm --config FILE. If the API does not answer: put that FILE to ${CORRECTED}`,
  });
}

function parsedConfiguration(text: string, what: string): ClusterConfiguration {
  const hint = `correct it: kubectl -n kube-system edit configmap kubeadm-config. If the API does not answer: ./bunw scripts/00-assess.ts --kubeadm-config >${CORRECTED} prints it. Correct it there, then run the same script again, on each control plane node`;
  const found: ClusterConfiguration = readMapping(text, what, { hint, shape: SHAPE });
  const { controlPlaneEndpoint: at, networking: { serviceSubnet: ranges } = {} } = found;
  const refuse = (field: string, is: string) => {
    throw new Refused(`${what} has the ${field} "${is}"`, { hint });
  };
  if (at && !isIP(at) && !isEndpoint(at)) refuse("controlPlaneEndpoint", at);
  if (ranges?.split(",").some((range) => attempt(() => firstAddress(range)) instanceof Fail))
    refuse("serviceSubnet", ranges);
  return found;
}

/** Works even if the rest of the cluster's data cannot be read. */
export function certificatesDirIn(data: EtcdData, otherwise = CERTIFICATES_DIR): string {
  return attempt(() => readConfiguration(data).certificatesDir ?? CERTIFICATES_DIR, otherwise);
}

/**
 * Whether the cluster lives and only has no kubeadm-config that can be read: somebody has deleted or mistyped it, or
 * made the cluster without kubeadm. An etcd that came up empty has none either, and no workloads: its API server makes
 * only namespaces, nodes and what it needs itself.
 */
export function lacksOnlyConfiguration(data: EtcdData): boolean {
  const lacks = attempt(() => readConfiguration(data)) instanceof Fail;
  const works = attempt(() =>
    ["deployments/", "daemonsets/"].some((path) =>
      data.list(`${registryPrefix(data)}/${path}`).some(() => true),
    ),
  );
  return lacks && works === true;
}

/** Errors: Fail where this is not the data of a kubeadm cluster, or where it is encrypted. */
export function readCluster(data: EtcdData): Cluster {
  const configuration = readConfiguration(data);
  const networking = configuration.networking ?? {};
  type Namespace = { metadata: { uid: string; creationTimestamp?: string } };
  const kubeSystem = readObject<Namespace>(data, "namespaces/kube-system")?.metadata;
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
    kubeSystemUid: need(kubeSystem?.uid, "the namespace kube-system"),
    createdAt: new Date(kubeSystem?.creationTimestamp ?? 0),
  };
}

export const ONLY_LABELLED =
  "its label says that it is a control plane node, and etcd knows no member of it: it is treated as a worker";

/** Where etcd is on other machines: leases of API servers in etcd prove who is one, for as long as they run. */
export const wasOff = (name: string) =>
  `its label says that it is a control plane node, and no API server of it has written into etcd lately. So it is treated as a worker. If it is a control plane node, and was off: ${command("00-assess", { "control-plane": [name] })}`;

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
