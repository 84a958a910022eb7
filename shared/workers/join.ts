/**
 * A worker changes its trust: it gets the new CA and a bootstrap kubeconfig, and the kubelet does the rest (TLS bootstrapping). Unlike
 * `kubeadm join`, this does not touch the kubelet's configuration. If it fails, the files from before come back.
 */
import { dirname } from "node:path";
import { KubeApi } from "../api/kube-api.ts";
import { leaseRenewed } from "../api/leases.ts";
import { etcdDataOf } from "../etcd-home/etcd-place.ts";
import { refuseOtherTime } from "../facts/clock.ts";
import { refuseControlPlane } from "../facts/no-etcd-data.ts";
import { attempt, Fail, failOf } from "../fail.ts";
import { copyTree, moveAside, sameTree } from "../files/file-tree.ts";
import { exists, readText, removeFile, writeTogether } from "../files/files.ts";
import { type Mark, readMark, writeMark } from "../files/mark.ts";
import { refuseUnwritable } from "../files/room.ts";
import { workloadContainers } from "../node/containers.ts";
import { dropClientPems, dropForeignServing, trusted, withOtherCas } from "../node/kubelet-certs.ts";
import { kubeletActive, type Node, readNode } from "../node/node.ts";
import { newRescue, rescueFolders } from "../node/rescue-folder.ts";
import { refuseUnfitKubelet, turnKubelet, unfitKubelet } from "../node/turn-kubelet.ts";
import { certInfo, certificatesIn } from "../pki/certificate.ts";
import { bootstrapKubeconfig, readKubeconfig } from "../pki/kubeconfigs.ts";
import { mode, say, tell } from "../run.ts";
import { waitFor } from "../wait-for.ts";
import { APPROVER_LOG } from "./approver.ts";

/** What is saved before a worker's trust is changed. */
interface SavedTrust {
  /** The rescue folder. */
  dir: string;
  files: { path: string; existed: boolean }[];
  /** Ids of the running containers: they must still run afterwards. */
  containers: string[];
}

/** Looks at this worker. `etcdData`: as typed. Errors: as `readNode` and `refuseUnfitKubelet`, and Fail on a control plane node. */
export async function readWorker(etcdData: string | undefined): Promise<Node> {
  const node = await readNode();
  refuseControlPlane(node, (await etcdDataOf(etcdData, { node })).dir);
  await refuseUnfitKubelet(node);
  return node;
}

/** Everything that the kubelet trusts and uses is of this CA, and it runs: one whose client CA is lost cannot start. */
export async function hasJoined({ kubelet }: Node, hash: string): Promise<boolean> {
  const trusts = [() => readText(kubelet.clientCaFile), () => readKubeconfig(kubelet.kubeconfig)?.caPem];
  const cas = trusts.map((read) => attempt(() => certificatesIn(read() ?? "").find((pem) => certInfo(pem).publicKeyHash === hash)));
  return cas.every((ca) => typeof ca === "string" && trusted(kubelet.clientPem, ca)) && (await kubeletActive());
}

/**
 * Proves that the API server has a certificate of this CA, and its key. It may refuse us: its answer does not matter.
 * Errors: Fail if another server answers, or none, or where its clock and ours differ.
 */
export async function proveServer(server: string, ca: string) {
  await refuseOtherTime(server, ca);
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

/** In the rescue folder of a join that has not ended: neither well, nor by a roll back. */
const UNFINISHED = "join-unfinished";

interface UnfinishedMark extends Mark {
  files: SavedTrust["files"];
}

/** Copies the kubelet's trust into a rescue folder, or takes the copy of a join that was cut off, and notes which containers run. */
export async function saveTrust(node: Node): Promise<SavedTrust> {
  const containers = (await workloadContainers(node.runtimeEndpoint)).map((container) => container.id);
  const saved = unfinished(node) ?? copyTrust(node);
  say(`${containers.length} containers run here and keep running`);
  return { ...saved, containers };
}

type Copied = Pick<SavedTrust, "dir" | "files">;

/**
 * What a join that was cut off has saved: the files from before. Its bootstrap kubeconfig is the first file that it writes and the last that
 * a roll back removes: without it, those in place are not half of each.
 */
function unfinished({ kubelet }: Node): Copied | undefined {
  if (!exists(kubelet.bootstrapKubeconfig)) return undefined;
  for (const { dir } of rescueFolders()) {
    const mark = readMark<UnfinishedMark>(`${dir}/${UNFINISHED}`);
    if (!mark) continue;
    say(`${dir}: a join was cut off here; what it saved comes back if this one fails`);
    return { dir, files: mark.files };
  }
  return undefined;
}

function copyTrust({ kubelet }: Node): Copied {
  const { kubeconfig, bootstrapKubeconfig, clientCaFile, clientPem } = kubelet;
  const paths = [kubeconfig, clientCaFile, dirname(clientPem), bootstrapKubeconfig];
  refuseUnwritable(paths.map(dirname));
  const { dir } = newRescue();
  const files = paths.map((path) => ({ path, existed: exists(path) }));
  for (const { path, existed } of files) if (existed) copyTree(path, `${dir}/before${path}`);
  writeMark<UnfinishedMark>(`${dir}/${UNFINISHED}`, { made: new Date().toISOString(), files }, "until this join has ended");
  return { dir, files };
}

/** Writes the new trust and lets the kubelet bootstrap with it. What needs room comes first: a full disk changes nothing. */
export async function swapTrust(node: Node, trust: { server: string; ca: string; token: string }, saved: SavedTrust) {
  const { kubelet } = node;
  const aside = `${saved.dir}/aside`;
  await turnKubelet("stop", " (containers run on without it)");
  writeTogether([
    { path: kubelet.bootstrapKubeconfig, content: bootstrapKubeconfig(trust), mode: 0o600, note: "used once, removed below" },
    { path: kubelet.clientCaFile, content: withOtherCas(node, trust.ca), mode: 0o644 },
  ]);
  if (exists(kubelet.kubeconfig)) moveAside(kubelet.kubeconfig, aside);
  dropClientPems(node, aside);
  dropForeignServing(node, trust.ca, aside);
  await turnKubelet("start");
}

/**
 * Proves that the kubelet renews its Lease with a certificate of the CA, and that no container has ended.
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
}

/** This worker has joined: also where the run that brought it so far was cut off. */
export function endJoin({ kubelet }: Node) {
  for (const { dir } of rescueFolders().filter(({ dir }) => exists(`${dir}/${UNFINISHED}`))) {
    if (exists(kubelet.bootstrapKubeconfig)) removeFile(kubelet.bootstrapKubeconfig);
    removeFile(`${dir}/${UNFINISHED}`);
  }
}

/** Puts the files from before back, as they were, and restarts the kubelet. Errors: Fail where one does not come back. */
export async function rollBack(saved: SavedTrust) {
  if (mode.dryRun) return;
  tell("\n== Roll back: this worker's files from before come back");
  const troubles = [await failOf(() => turnKubelet("stop"))];
  for (const file of saved.files) troubles.push(await failOf(() => bringBack(file, saved.dir)));
  // as before: without kubelet.conf it did not start either
  const unfit = await unfitKubelet();
  if (unfit) say(`kubelet: stays stopped. ${unfit.message}; ${unfit.hint}`);
  else troubles.push(await failOf(() => turnKubelet("start")));
  const [trouble] = troubles.filter((one) => one !== undefined);
  if (!trouble) return void removeFile(`${saved.dir}/${UNFINISHED}`);
  throw new Fail(`Not all files from before are back: ${trouble.message}`, {
    hint: `repair the cause (${trouble.hint}); then run this script again, or bring them back by hand: cp -a ${saved.dir}/before/. / ; systemctl start kubelet`,
    cause: trouble,
  });
}

/** What is as it was is left alone: on a full disk nothing is moved away that could not come back. */
function bringBack({ path, existed }: SavedTrust["files"][number], dir: string) {
  const before = `${dir}/before${path}`;
  if (existed && sameTree(before, path)) return;
  moveAside(path, `${dir}/failed`);
  if (existed) copyTree(before, path);
}
