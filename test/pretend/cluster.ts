/**
 * A made-up cluster as its etcd holds it: one control plane node, m1, two workers, and their PKI. Every test
 * may change the content.
 */

import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parse, stringify } from "yaml";
import { memo } from "../../shared/memo.ts";
import type { Manifest } from "../../shared/objects/objects.ts";
import { CERTS, type ClusterFacts, certRow } from "../../shared/pki/certs.ts";
import { ensureMany } from "../../shared/pki/ensure.ts";
import { issueCa, issueClient, type Pair } from "../../shared/pki/issue.ts";
import { kubeconfigRows, kubeletKubeconfig, localServer } from "../../shared/pki/kubeconfigs.ts";
import { testFacts } from "./facts.ts";
import { onNode } from "./no-node.ts";
import { ownAddress } from "./own-address.ts";
import { quietly } from "./quietly.ts";
import type { WrittenMember } from "./write-wal.ts";

/**
 * A loopback address: a test can serve there as the node's etcd or API server, and the pretend `ip` says that
 * the node has this address.
 */
export const ADDRESS = ownAddress();

export const FACTS: ClusterFacts = testFacts({
  advertiseAddress: ADDRESS,
  controlPlaneEndpoint: `${ADDRESS}:6443`,
});

/** With all that is in it: a test that changed what others stand on would change it for all later ones of its process. */
export function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null) Object.values(Object.freeze(value)).forEach(frozen);
  return value;
}

/** Key in etcd, below /registry/ → the object, or the bytes themselves. */
export type Objects = Record<string, object | string>;

const STATIC_PODS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const FIXTURES = `${import.meta.dir}/../fixtures/mirror-pods`;

/** A static pod's manifest as kubeadm 1.34 writes it for m1. */
export function manifest(name: string, address = ADDRESS): Manifest {
  return structuredClone(parsedManifest(`${name} ${address}`));
}

const parsedManifest = memo((key): Manifest => {
  const [name, address] = key.split(" ") as [string, string];
  const text = readFileSync(`${FIXTURES}/${name}.yaml`, "utf8")
    .replaceAll("10.250.0.11", address)
    .replaceAll("m1.example", "m1");
  return parse(text) as Manifest;
});

/** A mirror pod, as etcd holds it. */
export function mirrorPod(name: string): Manifest {
  const { metadata, spec, ...rest } = manifest(name);
  const annotations = {
    ...metadata.annotations,
    "kubernetes.io/config.mirror": "1",
    "kubernetes.io/config.source": "file",
  };
  return {
    ...rest,
    metadata: { ...metadata, name: `${name}-m1`, uid: `uid-of-${name}`, annotations },
    spec: { ...spec, nodeName: "m1" },
  };
}

function nodeObject(name: string, ip: string, labels: Record<string, string> = {}) {
  const addresses = [
    { type: "InternalIP", address: ip },
    { type: "Hostname", address: name },
  ];
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, uid: `uid-of-${name}`, labels },
    status: { addresses },
  };
}

function configMap(name: string, data: Record<string, string>) {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "kube-system" }, data };
}

/** The content of etcd before the disaster. */
export function clusterObjects(caPem: string): Objects {
  const configuration = {
    apiVersion: "kubeadm.k8s.io/v1beta4",
    kind: "ClusterConfiguration",
    clusterName: "kubernetes",
    kubernetesVersion: FACTS.kubernetesVersion,
    controlPlaneEndpoint: FACTS.controlPlaneEndpoint,
    certificatesDir: FACTS.certificatesDir,
    etcd: { local: { dataDir: "/var/lib/etcd" } },
    networking: {
      dnsDomain: FACTS.dnsDomain,
      podSubnet: "10.244.0.0/16",
      serviceSubnet: FACTS.serviceSubnets[0],
    },
  };
  return {
    "namespaces/default": {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: "default", uid: "uid-of-default" },
    },
    "namespaces/kube-system": {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: {
        name: "kube-system",
        uid: "uid-of-kube-system",
        creationTimestamp: `${new Date().toISOString().slice(0, 19)}Z`,
      },
    },
    "configmaps/kube-system/kubeadm-config": configMap("kubeadm-config", {
      ClusterConfiguration: stringify(configuration),
    }),
    "configmaps/kube-system/kubelet-config": configMap("kubelet-config", {
      kubelet: "serverTLSBootstrap: false\n",
    }),
    "configmaps/kube-system/kube-root-ca.crt": configMap("kube-root-ca.crt", { "ca.crt": caPem }),
    "minions/m1": nodeObject("m1", ADDRESS, { "node-role.kubernetes.io/control-plane": "" }),
    "minions/w1": nodeObject("w1", "127.77.0.21"),
    "minions/w2": nodeObject("w2", "127.77.0.22"),
    ...Object.fromEntries(STATIC_PODS.map((name) => [`pods/kube-system/${name}-m1`, mirrorPod(name)])),
  };
}

/**
 * The other control plane nodes of these objects, as etcd's members: kubeadm makes them so. Without a vote,
 * so that etcd answers where a test serves that of m1 alone.
 */
export function otherMembers(objects: Objects): WrittenMember[] {
  const nodes = Object.entries(objects).flatMap(([key, object]) =>
    key.startsWith("minions/") ? (object as StoredNode) : [],
  );
  const others = nodes.filter(
    ({ metadata }) => metadata?.labels?.[CONTROL_PLANE] !== undefined && metadata.name !== "m1",
  );
  return others.map(({ metadata, status }, i) => {
    const at = status?.addresses?.find(({ type }) => type === "InternalIP")?.address ?? `127.77.99.${i}`;
    return {
      id: `d${i}b2c3d4e5f60718`,
      name: metadata.name,
      peerURLs: [`https://${at}:2380`],
      isLearner: true,
    };
  });
}

const CONTROL_PLANE = "node-role.kubernetes.io/control-plane";

interface StoredNode {
  metadata: { name: string; labels?: Record<string, string> };
  status?: { addresses?: { type: string; address: string }[] };
}

export const KUBELET_CONFIG = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: /etc/kubernetes/manifests
`;

/**
 * A complete /etc/kubernetes and /var/lib/kubelet of m1, in a folder to copy, and the cluster CA's pair. Made
 * once per process.
 */
let healthy: Promise<{ root: string; ca: Pair }> | undefined;

export function healthyCp() {
  healthy ??= makeControlPlane();
  return healthy;
}

/** Such a control plane node with other keys, of another time or with other facts: of another cluster. */
export async function makeControlPlane({
  now,
  facts: different,
}: {
  now?: Date;
  facts?: Partial<ClusterFacts>;
} = {}) {
  const facts = { ...FACTS, ...different };
  const root = mkdtempSync(join(tmpdir(), "pretend-control-plane-"));
  process.on("exit", () => rmSync(root, { recursive: true, force: true }));
  const kubeconfigs = kubeconfigRows(facts, { superAdmin: false }).filter((row) => row.name !== "kubelet");
  const wanted = { certs: CERTS, kubeconfigs, serviceAccountKey: true };
  await onNode(root, () =>
    quietly(() => ensureMany(wanted, facts, { asideDir: "/unused", newCas: "all", now })),
  );
  const pki = `${root}/etc/kubernetes/pki`;
  const ca = { cert: readFileSync(`${pki}/ca.crt`, "utf8"), key: readFileSync(`${pki}/ca.key`, "utf8") };
  for (const name of STATIC_PODS)
    write(
      `${root}/etc/kubernetes/manifests/${name}.yaml`,
      stringify(manifest(name, facts.advertiseAddress), { lineWidth: 0 }),
    );
  write(
    `${root}/etc/kubernetes/audit/policy.yaml`,
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n",
  );
  await writeKubelet(root, facts.nodeName, { ca, server: localServer(facts) });
  return { root, ca };
}

/** A kubelet's folder and kubelet.conf, with a certificate of this CA. */
export async function writeKubelet(root: string, name: string, { ca, server }: { ca: Pair; server: string }) {
  const { cert, key } = await issueClient({ cn: `system:node:${name}`, o: "system:nodes" }, ca, FACTS);
  const dated = "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem";
  write(`${root}${dated}`, cert + key);
  symlinkSync(dated, `${root}/var/lib/kubelet/pki/kubelet-client-current.pem`);
  write(`${root}/var/lib/kubelet/config.yaml`, KUBELET_CONFIG, 0o644);
  write(
    `${root}/var/lib/kubelet/kubeadm-flags.env`,
    'KUBELET_KUBEADM_ARGS="--pod-infra-container-image=registry.k8s.io/pause:3.10"\n',
    0o644,
  );
  write(`${root}/etc/kubernetes/kubelet.conf`, kubeletKubeconfig({ server, ca: ca.cert }));
}

export function write(path: string, content: string | Uint8Array, mode = 0o600) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content, { mode });
  chmodSync(path, mode);
}

/** A CA of no cluster. */
export function otherCa(cn = "kubernetes"): Promise<Pair> {
  return issueCa({ ...certRow("ca"), cn }, FACTS);
}

/**
 * Changes the content of etcd: the controller-manager on this host led last, by its Lease as client-go writes
 * it.
 */
export const led = (host: string) => (objects: Objects) => {
  objects["leases/kube-system/kube-controller-manager"] = {
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { name: "kube-controller-manager", namespace: "kube-system" },
    spec: { holderIdentity: `${host}_1b2c`, renewTime: "2026-01-01T00:00:00.000000Z" },
  };
};

/** Content of etcd: when this node's kubelet renewed its Lease last. */
export function heardUntil(name: string, time: Date): Objects {
  return {
    [`leases/kube-node-lease/${name}`]: {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name, namespace: "kube-node-lease" },
      spec: { holderIdentity: name, renewTime: time.toISOString() },
    },
  };
}
