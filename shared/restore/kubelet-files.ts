/**
 * The kubelet's files on a new machine, as `kubeadm init phase kubelet-start` writes them, from the cluster's
 * own configuration. Sources: kubeadm's phases/kubelet (config.go, flags.go): --hostname-override if the node
 * has another name than its host; the runtime's socket in instance-config.yaml and config.yaml since 1.34
 * (gate NodeLocalCRISocket), as a flag before.
 */
import { Fail } from "../fail.ts";
import { exists, writeFile } from "../files/files.ts";
import { KUBELET_CONFIG, KUBELET_DIR } from "../node/kubelet-config.ts";
import type { KubeletFlags } from "../node/started-with.ts";
import { configMapIn } from "../objects/stored.ts";
import { minorOf } from "../pki/certs.ts";
import { say } from "../run.ts";
import type { Content } from "./content.ts";

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
