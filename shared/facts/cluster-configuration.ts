/**
 * kubeadm's ClusterConfiguration: YAML in the ConfigMap kube-system/kubeadm-config, which people edit by hand. One that
 * cannot be read is refused with its line, and a corrected copy in root's folder takes its place. Reads only.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import type { ExternalEtcd } from "../etcd-location/etcd-home.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { readText } from "../files/files.ts";
import { movedHere } from "../node/words.ts";
import { configMapIn, registryPrefix } from "../objects/stored.ts";
import { endpointPutIn } from "../pki/addresses.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";
import { say } from "../run.ts";
import { readMapping, type Shape } from "../yaml.ts";

/** The fields of kubeadm's ClusterConfiguration (v1beta3 and v1beta4) that matter here. */
export interface ClusterConfiguration {
  clusterName?: string;
  kubernetesVersion?: string;
  controlPlaneEndpoint?: string;
  certificatesDir?: string;
  networking?: { serviceSubnet?: string; podSubnet?: string; dnsDomain?: string };
  apiServer?: { certSANs?: string[] };
  etcd?: {
    local?: { dataDir?: string; serverCertSANs?: string[]; peerCertSANs?: string[] };
    external?: ExternalEtcd;
  };
  certificateValidityPeriod?: string;
  caCertificateValidityPeriod?: string;
}

const OF = "kube-system/kubeadm-config";

/** Where an operator puts the text while the API does not live: root's alone, and no name that others give. */
const CORRECTED = "/root/corrected-kubeadm-config.yaml";

const PRINTS = `./bunw scripts/00-assess.ts --kubeadm-config >${CORRECTED}`;

/** The kinds of fields that are read, by their paths. */
const SHAPE: Shape = {
  ...{ clusterName: "string", kubernetesVersion: "string", controlPlaneEndpoint: "string" },
  ...{ certificatesDir: "string", networking: "mapping", "networking.serviceSubnet": "string" },
  ...{ "networking.podSubnet": "string", "networking.dnsDomain": "string", apiServer: "mapping" },
  ...{
    "apiServer.certSANs": "list",
    etcd: "mapping",
    "etcd.local": "mapping",
    "etcd.local.dataDir": "string",
  },
  ...{ "etcd.local.serverCertSANs": "list", "etcd.local.peerCertSANs": "list", "etcd.external": "mapping" },
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

/** The text as it is stored. Errors: Refused where there is none. */
export function storedConfiguration(data: EtcdData): string {
  const text = configMapIn(data, OF)?.ClusterConfiguration;
  if (text) return text;
  throw new Refused(`Cannot find the ConfigMap ${OF} in etcd's data`, {
    hint: `see what the data holds: ./bunw scripts/00-assess.ts; --etcd-data DIR names another folder. While the API lives, kubeadm makes it again: kubeadm init phase upload-config kubeadm --config FILE, with the cluster's own names and ranges in it; until it lives, put that FILE to ${CORRECTED}`,
  });
}

function parsedConfiguration(text: string, what: string): ClusterConfiguration {
  const hint = `correct it: kubectl -n kube-system edit configmap kubeadm-config. If the API does not answer: ${PRINTS} prints it, correct it there, then run the same script again, on each control plane node`;
  return readMapping(text, what, { hint, shape: SHAPE });
}

/** kubeadm's certificatesDir, also where the rest of the cluster cannot be read. */
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
