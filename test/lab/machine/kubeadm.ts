/** What an operator does with kubeadm: init, join, and signing the kubelets' serving certificates. */
import { mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { stringify } from "yaml";
import { waitFor } from "../../../shared/wait-for.ts";
import type { Cluster } from "./cluster.ts";
import { apiServerPatch, ENDPOINT, initConfig, joinConfig, PATCHES, VIP } from "./kubeadm-config.ts";
import type { Node } from "./node.ts";
import type { Profile } from "./profile.ts";

const INIT = "/root/kubeadm-init.yaml";
const JOIN = "/root/kubeadm-join.yaml";

const DISCOVERY = "/root/discovery.conf";

type Invitation = { token: string; caCertHash: string; certificateKey?: string };

export async function initFirstControlPlane(cluster: Cluster) {
  const first = cluster.controlPlanes[0]!;
  for (const node of cluster.controlPlanes) await prepareControlPlane(node, cluster.profile);
  for (const node of cluster.nodes) await putFiles(node, cluster.profile.nodeFiles);
  await Promise.all(cluster.nodes.map(async (node) => await prepareNode(node, cluster.profile)));
  await writeFile(first.path(INIT), initConfig(first, cluster.profile));
  await first.must(["kubeadm", "init", "--config", INIT, "--upload-certs"]);
  await writeFile(first.path("/etc/kubernetes/manifests/kube-vip.yaml"), VIP, { mode: 0o600 });
  // One is enough here, and the second would only wait for a worker.
  await cluster.kubectl("-n", "kube-system", "scale", "deployment", "coredns", "--replicas=1");
}

/**
 * What kubeadm expects to find on a control plane node: the files that its flags name, and what must run
 * before the API server.
 */
async function prepareControlPlane(node: Node, profile: Profile) {
  await makeLinks(node, profile.links);
  await putFiles(node, profile.controlPlaneFiles);
  const staticPods = Object.entries(profile.staticPods).map(([file, manifest]) => [
    `/etc/kubernetes/manifests/${file}`,
    manifest,
  ]);
  await putFiles(node, Object.fromEntries(staticPods));
  await mkdir(node.path(PATCHES));
  await writeFile(join(node.path(PATCHES), "kube-apiserver+json.yaml"), apiServerPatch(profile));
}

async function prepareNode(node: Node, { beforeKubeadm }: Profile) {
  const env = { NAME: node.nodeName, IP: node.ip, NUMBER: node.name.replace(/\D/g, "") };
  for (const [name, line] of beforeKubeadm)
    if (name.test(node.name)) await node.must(["bash", "-ec", line], { env });
}

/** Relative ones: an absolute one would lead from here to a folder of this machine. */
async function makeLinks(node: Node, links: Profile["links"]) {
  for (const [path, content] of Object.entries(links)) {
    for (const folder of [content, dirname(path)]) await mkdir(node.path(folder), { recursive: true });
    await symlink(relative(dirname(path), content), node.path(path));
  }
}

async function putFiles(node: Node, files: Record<string, string>) {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(node.path(path)), { recursive: true });
    await writeFile(node.path(path), text, { mode: 0o600 });
  }
}

export async function joinOthers(cluster: Cluster) {
  const [first, ...others] = cluster.controlPlanes as [Node, ...Node[]];
  const command = await first.must(["kubeadm", "token", "create", "--print-join-command"]);
  const invitation = {
    token: wordAfter(command, "--token"),
    caCertHash: wordAfter(command, "--discovery-token-ca-cert-hash"),
  };
  await Promise.all(cluster.workers.map(async (node) => await joinNode(cluster, node, invitation)));
  if (others.length > 0) {
    const upload = await first.must([
      "kubeadm",
      "init",
      "phase",
      "upload-certs",
      "--upload-certs",
      "--config",
      INIT,
    ]);
    const certificateKey = upload.trim().split("\n").at(-1)!;
    // One after the other: etcd takes one new member at a time.
    for (const node of others) await joinNode(cluster, node, { ...invitation, certificateKey });
  }
  const manifests = Object.entries(cluster.profile.workerStaticPods).map(([file, text]) => [
    `/etc/kubernetes/manifests/${file}`,
    text,
  ]);
  for (const node of cluster.workers) await putFiles(node, Object.fromEntries(manifests));
  for (const words of cluster.profile.afterJoin) await cluster.kubectl(...words);
  await forgetConfigs(cluster);
}

/** What somebody did to nodes since they joined. */
export async function changeNodes({ nodes, profile }: Cluster) {
  const own = "sed -i 's/serverTLSBootstrap: true/serverTLSBootstrap: false/' /var/lib/kubelet/config.yaml";
  const signed = profile.selfSigned.map((name): [RegExp, string] => [
    new RegExp(`^${name}$`),
    `${own}; rm -f /var/lib/kubelet/pki/kubelet-server-*; systemctl restart kubelet`,
  ]);
  await Promise.all(
    nodes.map(async (node) => {
      for (const [name, line] of [...signed, ...profile.nodeLines])
        if (name.test(node.name)) await node.must(["sh", "-ec", line]);
    }),
  );
}

/** An operator who needs the repair has none of these files any more. */
async function forgetConfigs(cluster: Cluster) {
  for (const node of cluster.nodes) {
    for (const path of [INIT, JOIN, DISCOVERY, PATCHES])
      await rm(node.path(path), { recursive: true, force: true });
  }
}

async function joinNode({ controlPlanes, profile }: Cluster, node: Node, invitation: Invitation) {
  const discoveryFile = profile.anonymousDiscovery ? undefined : DISCOVERY;
  if (discoveryFile) {
    const ca = await readFile(controlPlanes[0]!.path(`${profile.certificatesDir}/ca.crt`));
    await writeFile(node.path(discoveryFile), discoveryConf(ca, invitation.token), { mode: 0o600 });
  }
  await writeFile(
    node.path(JOIN),
    joinConfig(node, profile, { ...invitation, ...(discoveryFile && { discoveryFile }) }),
    { mode: 0o600 },
  );
  await node.must(["kubeadm", "join", "--config", JOIN]);
}

/** As kubeadm's guide has it for file-based discovery. */
function discoveryConf(ca: Buffer, token: string): string {
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "lab",
        cluster: { server: `https://${ENDPOINT}`, "certificate-authority-data": ca.toString("base64") },
      },
    ],
    users: [{ name: "joining", user: { token } }],
    contexts: [{ name: "joining", context: { cluster: "lab", user: "joining" } }],
    "current-context": "joining",
  });
}

function wordAfter(text: string, flag: string) {
  const words = text.trim().split(/\s+/);
  return words[words.indexOf(flag) + 1]!;
}

type SigningRequest = {
  metadata: { name: string };
  spec: { signerName: string; username: string };
  status: { conditions?: unknown[]; certificate?: string };
};

/** With serverTLSBootstrap nobody signs a kubelet's serving certificate until an operator says so. */
export async function approveServingCertificates(cluster: Cluster) {
  const wanted = new Set(cluster.nodes.map((node) => `system:node:${node.nodeName}`));
  await waitFor(
    "the serving certificates of all kubelets",
    async () => await approveNewRequests(cluster, wanted),
    {
      seconds: 90,
      hint: "./bunw test/lab/enter.ts cp1 kubectl get csr",
    },
  );
}

/** Approves what is new; true once every kubelet in `wanted` has its certificate. */
async function approveNewRequests(cluster: Cluster, wanted: Set<string>) {
  const list = JSON.parse(await cluster.kubectl("get", "csr", "-o", "json")) as { items: SigningRequest[] };
  const serving = list.items.filter((csr) => csr.spec.signerName === "kubernetes.io/kubelet-serving");
  const pending = serving.filter((csr) => !csr.status.conditions);
  if (pending.length > 0)
    await cluster.kubectl("certificate", "approve", ...pending.map((csr) => csr.metadata.name));
  for (const csr of serving) if (csr.status.certificate) wanted.delete(csr.spec.username);
  return wanted.size === 0;
}
