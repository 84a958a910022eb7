/**
 * The content of a snapshot, or of a lost member's data, in numbers, before anything is written. From it come the
 * kubelet's files on a new machine, as `kubeadm init phase kubelet-start` writes them. Sources: kubeadm's
 * phases/kubelet (config.go, flags.go): --hostname-override if the node has another name than its host; the
 * runtime's socket in instance-config.yaml and config.yaml since 1.34 (gate NodeLocalCRISocket), as a flag before.
 */
import { again } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless } from "../etcd-data/members.ts";
import { hostOf } from "../etcd-location/reach-etcd.ts";
import { duration, minute } from "../evidence/server-clock.ts";
import { onlyLabelled, readCluster } from "../facts/cluster.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { controlPlaneNames } from "../facts/known-nodes.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { exists, writeFile } from "../files/files.ts";
import { isOlderRelease } from "../manifests/command.ts";
import { KUBELET_CONFIG, KUBELET_DIR } from "../node/kubelet-config.ts";
import type { KubeletFlags } from "../node/started-with.ts";
import type { Pod, StoredObject } from "../objects/objects.ts";
import { configMapIn, readObject, registryPrefix } from "../objects/stored.ts";
import { trustedKeys } from "../pki/certificate.ts";
import { minorOf } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import { say } from "../run.ts";

export interface Content {
  data: EtcdData;
  cluster: Cluster;
  /** The control plane node that this machine becomes. */
  node: KnownNode;
}

/**
 * `lost`: the other control plane nodes, as far as the operator has named them. Errors: as `readCluster` and
 * `withNames`; Refused if the cluster's etcd is external, or has no such node.
 */
export function contentFor(stored: EtcdData, as: string, lost: readonly string[]): Content {
  const data = withNames(stored, [as, ...lost]);
  const cluster = readCluster(data);
  refuseExternal(data);
  const node = cluster.nodes.find(({ name }) => name === as);
  const controlPlanes = controlPlaneNames(cluster.nodes);
  if (node?.controlPlane) return { data, cluster, node };
  throw new Refused(`"${as}" is not one of the control plane nodes in the data`, {
    unchanged: true,
    hint: `choose which of ${controlPlanes.join(", ")} this machine becomes: ${again({ as: controlPlanes[0] ?? "NODE" })}`,
  });
}

/** Errors: Refused if kubeadm does not run this cluster's etcd, as far as its data can be read. */
export function refuseExternal(data: EtcdData) {
  if (!attempt(() => readCluster(data).configuration.etcd?.external, undefined)) return;
  throw new Refused("This cluster's etcd is external: kubeadm does not run it", {
    unchanged: true,
    hint: 'restore etcd where it runs, by its own means (etcdutl snapshot restore on each of its hosts): RUNBOOK-MORE "If etcd is external"',
  });
}

/**
 * A snapshot of etcd 3.5 has no names of members that have joined. The operator names their Nodes (`names`):
 * an address belongs to whoever claims it, and anybody can set a label. Errors: Refused if a member has no
 * name and nobody was named for it, or if there is no such Node.
 */
export function withNames(data: EtcdData, names: readonly string[]): EtcdData {
  const unnamed = data.members.filter(isNameless);
  if (unnamed.length === 0) return data;
  const nodes = readCluster(data).nodes.filter(({ controlPlane }) => !controlPlane);
  const strange = names.find(
    (name) => !data.members.some((one) => one.name === name) && !isAmong(nodes, name),
  );
  if (strange !== undefined)
    throw new Refused(`The data has no Node "${strange}"`, {
      unchanged: true,
      hint: `name one of its nodes: ${listed(nodes.map(({ name }) => name))}`,
    });
  const nodesGiven = [...new Set(names)].filter((name) => isAmong(nodes, name));
  if (nodesGiven.length >= unnamed.length)
    return Object.create(data, { formerMembers: { value: nodesGiven } });
  const places = unnamed.map(({ peerURLs }) => peerURLs.map(hostOf).join(", ")).join("; ");
  throw new Refused(
    `${unnamed.length} of ${data.members.length} members have no name in this data, as in a snapshot of etcd 3.5: at ${places}`,
    {
      unchanged: true,
      hint: `name the control plane nodes that they were, ${unnamed.length - nodesGiven.length} more: ${again({ lost: unnamed.slice(nodesGiven.length).map((_, i) => `NODE${i + 1}`) })}. Nodes with the label, which a worker can have, too: ${listed(onlyLabelled(nodes)) || "none"}`,
    },
  );
}

const isAmong = (nodes: readonly KnownNode[], wanted: string) => nodes.some(({ name }) => name === wanted);

/**
 * `confirmed`: the CA's fingerprint, which the operator stored apart from the backup. Errors: Refused if the
 * data names another CA.
 */
export function refuseOtherCa({ oldCaPem }: Pick<Cluster, "oldCaPem">, confirmed: string | undefined) {
  const named = trustedKeys(oldCaPem);
  if (confirmed === undefined || named.has(confirmed)) return;
  throw new Refused(`The CA that the data names is ${[...named].join(", ")}, not ${confirmed}`, {
    hint: "take another snapshot: this one is of another cluster, or not made by its administrators. Nothing was changed",
  });
}

/**
 * The newest Lease of a control plane node's kubelet, which no other kubelet writes: a file's own time is that of its
 * last copy.
 */
export function takenAt({ data, cluster }: Pick<Content, "data" | "cluster">): Date | undefined {
  const times = controlPlaneNames(cluster.nodes)
    .map((name) => attempt(() => readObject<StoredObject>(data, `leases/kube-node-lease/${name}`), undefined))
    .map((lease) => Date.parse((lease?.spec as { renewTime?: string } | undefined)?.renewTime ?? ""))
    .filter((time) => !Number.isNaN(time));
  return times.length > 0 ? new Date(Math.max(...times)) : undefined;
}

/** `until`: the time of the content if its Leases do not show it. */
export function sayContent(content: Content, until: Date) {
  const { data, cluster } = content;
  const newest = takenAt(content);
  const age = Date.now() - (newest ?? until).getTime();
  const source = newest
    ? "the newest Lease of a control plane node"
    : "the file's own time: no Lease shows it";
  say(`as of ${minute(newest ?? until)}, ${duration(age)} ago, by ${source}`);
  const count = (place: string) => data.keys(`${registryPrefix(data)}/${place}/`).length;
  const release = `${cluster.name}, Kubernetes ${cluster.kubernetesVersion}`;
  say(`${release}: ${count("minions")} node(s), ${count("pods")} pod(s)`);
  say(`${data.keyCount} keys, revision ${data.revision}`);
  say(
    `its CA: ${[...trustedKeys(cluster.oldCaPem)].join(", ")}. Compare it with the fingerprint that you have saved: whoever makes a snapshot chooses what it says`,
  );
  say("objects created since then are lost, and objects deleted since then come back");
  say("pods start on the nodes of that time: a volume for one node only (ReadWriteOnce) has to be free");
  for (const warning of data.warnings) say(`warning: ${warning}`);
}

export function refuseOlderImage({ data, node }: Content) {
  const pod = attempt(() => readObject<Pod>(data, `pods/kube-system/etcd-${node.name}`));
  const image = pod instanceof Fail ? undefined : pod?.spec.containers[0]?.image;
  if (!isOlderRelease(image, data.storageVersion)) return;
  throw new Refused(
    `The data is of etcd ${data.storageVersion}, and the manifest of ${node.name} names "${image}"`,
    {
      unchanged: true,
      hint: "take --as a control plane node that was upgraded already, or another snapshot: etcd refuses data of a newer release",
    },
  );
}

const FLAGS_FILE = `${KUBELET_DIR}/kubeadm-flags.env`;
const INSTANCE = `${KUBELET_DIR}/instance-config.yaml`;

/** Sockets of container runtimes, in kubeadm's order (constants.go). */
const SOCKETS = ["/run/containerd/containerd.sock", "/var/run/crio/crio.sock", "/var/run/cri-dockerd.sock"];

interface Machine {
  hostName: string;
  flags: KubeletFlags;
}

/** Errors: Fail if the kubelet's own flags give this machine another name than the node's. */
export function refuseOtherName({ node: { name } }: Content, { hostName, flags }: Machine) {
  const called = flags.get("hostname-override") ?? hostName;
  if (called.toLowerCase() === name || (!exists(FLAGS_FILE) && !flags.has("hostname-override"))) return;
  throw new Fail(`The kubelet here calls itself "${called}", and this machine becomes "${name}"`, {
    hint: `put --hostname-override=${name} into KUBELET_KUBEADM_ARGS of ${FLAGS_FILE}, or move that file away; then run the same line again`,
  });
}

/** Writes those that are missing. Errors: Fail if the cluster does not store the kubelet's configuration. */
export function writeKubeletFiles({ data, cluster, node }: Content, { hostName }: Machine) {
  if (exists(KUBELET_CONFIG)) return say(`unchanged ${KUBELET_CONFIG}`);
  const kubelet = configMapIn(data, "kube-system/kubelet-config")?.kubelet;
  if (kubelet === undefined)
    throw new Fail("The cluster stores no configuration of its kubelets (ConfigMap kubelet-config)", {
      hint: `bring ${KUBELET_CONFIG} of one of its nodes here; then run the same line again: what is written stays`,
    });
  const inFile = minorOf(cluster.kubernetesVersion) >= 34;
  const socket = `unix://${SOCKETS.find(exists) ?? SOCKETS[0]}`;
  const line = `containerRuntimeEndpoint: ${JSON.stringify(socket)}\n`;
  const flags = [
    ...(inFile ? [] : [`--container-runtime-endpoint=${socket}`]),
    ...(hostName.toLowerCase() === node.name ? [] : [`--hostname-override=${node.name}`]),
  ];
  if (inFile) writeFile(INSTANCE, line, { mode: 0o600, folderMode: 0o700 });
  if (!exists(FLAGS_FILE))
    writeFile(FLAGS_FILE, `KUBELET_KUBEADM_ARGS="${flags.join(" ")}"\n`, { mode: 0o644, folderMode: 0o700 });
  const own = kubelet.replace(/^containerRuntimeEndpoint:.*\n?/m, "").trimEnd();
  // last: if it exists, all of them do
  writeFile(KUBELET_CONFIG, `${own}\n${inFile ? line : ""}`, {
    ...{ mode: 0o644, folderMode: 0o700 },
    note: "from the cluster's own configuration",
  });
}
