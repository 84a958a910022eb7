/**
 * A worker changes its trust: it gets the new CA and a bootstrap kubeconfig, and the kubelet does the rest (TLS bootstrapping). Unlike
 * `kubeadm join`, this does not touch the kubelet's configuration. If it fails, the files from before come back.
 */
import { dirname } from "node:path";
import { KubeApi } from "../api/kube-api.ts";
import { leaseRenewed } from "../api/leases.ts";
import { attempt, Fail } from "../fail.ts";
import { copyTree, moveAside } from "../files/file-tree.ts";
import { exists, readText, removeFile, writeFile } from "../files/files.ts";
import { workloadContainers } from "../node/containers.ts";
import { dropClientPems, dropForeignServing, trusted } from "../node/kubelet-certs.ts";
import { kubeletActive, type Node, turnKubelet } from "../node/node.ts";
import { newRescue } from "../node/rescue-folder.ts";
import { certInfo, certificatesIn } from "../pki/certificate.ts";
import { bootstrapKubeconfig, readKubeconfig } from "../pki/kubeconfigs.ts";
import { mode, say, tell, waitFor } from "../run.ts";
import { APPROVER_LOG } from "./approver.ts";

/** Everything that the kubelet trusts and uses is of this CA, and it runs: one whose client CA is lost cannot start. */
export async function hasJoined({ kubelet }: Node, hash: string): Promise<boolean> {
  const trusts = [() => readText(kubelet.clientCaFile), () => readKubeconfig(kubelet.kubeconfig)?.caPem];
  const cas = trusts.map((read) => attempt(() => certificatesIn(read() ?? "").find((pem) => certInfo(pem).publicKeyHash === hash)));
  return cas.every((ca) => typeof ca === "string" && trusted(kubelet.clientPem, ca)) && (await kubeletActive());
}

/**
 * Proves that the API server has a certificate of this CA, and its key. It may refuse us: its answer does not matter.
 * Errors: Fail if another server answers, or none.
 */
export async function proveServer(server: string, ca: string) {
  try {
    await new KubeApi({ server, ca }).reach("/version");
  } catch (cause) {
    throw new Fail(`Cannot reach "${server}" with that CA: ${(cause as Error).message}`, {
      hint: "is the address right and reachable from here (curl -k SERVER/version)? If the certificate is of another CA: run part 2 on the control plane node that answers there",
      cause,
    });
  }
  say(`${server}: has a certificate of the CA ${certInfo(ca).publicKeyHash}`);
}

type SavedTrust = Awaited<ReturnType<typeof saveTrust>>;

/** Copies the kubelet's trust into a rescue folder, and notes which containers run, by their ids: they must still run afterwards. */
export async function saveTrust(node: Node) {
  const { kubeconfig, bootstrapKubeconfig, clientCaFile, clientPem } = node.kubelet;
  const { dir } = newRescue();
  const paths = [kubeconfig, bootstrapKubeconfig, clientCaFile, dirname(clientPem)];
  const files = paths.map((path) => ({ path, existed: exists(path) }));
  for (const { path, existed } of files) if (existed) copyTree(path, `${dir}/before${path}`);
  const containers = (await workloadContainers(node.runtimeEndpoint)).map((container) => container.id);
  say(`${containers.length} containers run here and keep running`);
  return { dir, files, containers };
}

/** Writes the new trust and lets the kubelet bootstrap with it. */
export async function swapTrust(node: Node, trust: { server: string; ca: string; token: string }, saved: SavedTrust) {
  const { kubelet } = node;
  const aside = `${saved.dir}/aside`;
  await turnKubelet("stop", " (containers run on without it)");
  writeFile(kubelet.clientCaFile, trust.ca, { mode: 0o644 });
  if (exists(kubelet.kubeconfig)) moveAside(kubelet.kubeconfig, aside);
  dropClientPems(node, aside);
  dropForeignServing(node, trust.ca, aside);
  writeFile(kubelet.bootstrapKubeconfig, bootstrapKubeconfig(trust), { mode: 0o600, note: "used once, removed below" });
  await turnKubelet("start");
}

/**
 * Proves that the kubelet renews its Lease with a certificate of the CA, and that no container has ended. Removes the bootstrap kubeconfig.
 */
export async function proveKubelet(node: Node, { server, ca, saved }: { server: string; ca: string; saved: SavedTrust }) {
  const { kubelet } = node;
  const since = new Date();
  const hint = `journalctl -u kubelet -n 50; on the first control plane node: ${APPROVER_LOG} (shows what it refused, and why; if it no longer runs: open again), kubectl get csr. Does a controller-manager run there (crictl ps)?`;
  await waitFor("the kubelet to get its certificate", () => trusted(kubelet.clientPem, ca) && exists(kubelet.kubeconfig), {
    seconds: 120,
    hint,
  });
  if (mode.dryRun) return;
  say(`${kubelet.clientPem}: ${certInfo(readText(kubelet.clientPem)!).subject}`);
  const self = KubeApi.from(readKubeconfig(kubelet.kubeconfig)!, server);
  await waitFor(`the Lease of ${node.name} to be renewed`, () => leaseRenewed(self, node.name, since), { seconds: 60, hint });
  say(`${node.name}: renewed its Lease with it`);
  const running = new Set((await workloadContainers(node.runtimeEndpoint)).map((container) => container.id));
  const ended = saved.containers.filter((id) => !running.has(id));
  say(
    ended.length === 0
      ? `all ${saved.containers.length} containers still run`
      : `warning: ${ended.length} containers have ended since: ${ended.map((id) => id.slice(0, 13))}`,
  );
  removeFile(kubelet.bootstrapKubeconfig);
}

/** Puts the files from before back, as they were, and restarts the kubelet. */
export async function rollBack(saved: SavedTrust) {
  if (mode.dryRun) return;
  tell("\n== Roll back: this worker's files from before come back");
  await turnKubelet("stop");
  for (const { path, existed } of saved.files) {
    moveAside(path, `${saved.dir}/failed`);
    if (existed) copyTree(`${saved.dir}/before${path}`, path);
  }
  await turnKubelet("start");
}
