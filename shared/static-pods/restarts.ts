/**
 * Who starts again on this node, and how. A static pod reads its certificates and kubeconfigs once, when it
 * starts.
 *
 * The controller-manager is held until nodes are back. Part 0 has paused it, and the line of an older kit has
 * paused others of its name beside it. One that a repair starts begins reduced, whatever the CA: a node that the
 * repair has not reached yet is silent, and a kubelet that has just started reports its pods as unready for a
 * moment. In full it would evict the pods of the one, and take those of the other out of their Services.
 * full-manager.ts lets it run in full again.
 */

import { $ } from "zx/core";
import { isByKit } from "../etcd-location/etcd-home.ts";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import { leadsHere } from "../facts/leaders.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { stat, writeFile } from "../files/files.ts";
import { hostFiles } from "../manifests/command.ts";
import { isKubeadms, manifestPath, manifestText, readableManifest } from "../manifests/on-disk.ts";
import { isReduced, REDUCED_NOTE, reduced } from "../manifests/repair-changes.ts";
import {
  type Container,
  controlPlaneContainers,
  isServerContainer,
  isStaticUid,
  nameSuffix,
  stopContainers,
} from "../node/containers.ts";
import { wasDuringRun } from "../node/kept-run.ts";
import { refuseUnfitKubelet, systemctlKubelet } from "../node/systemctl-kubelet.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { infoOf, isValidNow } from "../pki/certificate.ts";
import { certPath, certsOf, SHARED_FILES, sharedPath } from "../pki/certs.ts";
import { bothCas } from "../pki/examine.ts";
import { KUBECONFIGS } from "../pki/kubeconfigs.ts";
import { isServerOf, servedPem } from "../pki/served.ts";
import { act, mode, say } from "../run.ts";
import { COMM, shell } from "../shell-line.ts";
import { inTime } from "../wait-for.ts";
import { firstServedCertificate } from "./first-questions.ts";
import { readableStaticPods, SERVERS, type StaticPod } from "./wanted-manifests.ts";

/**
 * A container of a static pod that started before a certificate or kubeconfig of its was changed: it reads
 * these files only once.
 */
interface StaleReader {
  container: Container;
  file: string;
  /** A run of this kit has changed it, and so the pod starts again. A change of somebody else is theirs. */
  isOurs: boolean;
}

/** `written`: what this run writes, or is about to. */
export function staleReaders(
  cp: ControlPlaneNode,
  running: readonly Container[],
  written: readonly string[] = [],
): StaleReader[] {
  return readersHere(cp).flatMap(({ name, namespace, files, reads }) => {
    const ours = written.find(reads);
    const changes = files.map((file) => ({ file, time: stat(file)?.modified ?? new Date(0) }));
    const isIts = ({ podUid, ...one }: Container) =>
      one.namespace === namespace && isStaticUid(podUid) && one.pod === `${name}${nameSuffix(cp.node.name)}`;
    return running.filter(isIts).flatMap((container): StaleReader[] => {
      const later = changes.filter(({ time }) => time > container.created);
      const own = ours ?? later.find(({ time }) => time >= mode.began || wasDuringRun(time))?.file;
      const file = own ?? later[0]?.file;
      return file === undefined ? [] : [{ container, file, isOurs: own !== undefined }];
    });
  });
}

/** Whether one of kubeadm's servers reads one of these files, which part 2 writes. */
export function areReadByServers(cp: ControlPlaneNode, written: readonly string[]): boolean {
  return readersHere(cp).some(({ name, reads }) => isKubeadms(name) && written.some(reads));
}

interface Reader extends Pick<StaticPod, "name" | "namespace"> {
  files: string[];
  /** These files, and for kubeadm's servers the shared keys with their public halves: each server reads one of them, or a copy. */
  reads: (path: string) => boolean;
}

function readersHere(cp: ControlPlaneNode): Reader[] {
  const pods = readableStaticPods(cp);
  const pki = cp.facts.certificatesDir;
  const signed = certsOf(cp.facts).filter(({ ca }) => ca);
  const ofOne = [...signed.map((row) => certPath(row, pki)), ...KUBECONFIGS.map(({ path }) => path)];
  // it reads a renewed certificate itself, but not another CA, nor what is in a folder that was made again
  const etcds = cp.facts.etcdCa
    ? [cp.facts.externalEtcd!.ca, cp.facts.externalEtcd!.key].filter(isByKit)
    : [];
  const own = signed.flatMap((row) => (row.file.startsWith("etcd/") ? [] : certPath(row, pki)));
  const apiServers = [...own, ...etcds];
  const shared = SHARED_FILES.map((file) => sharedPath(file, cp.facts)).filter(
    (path) => !etcds.includes(path),
  );
  const servers = SERVERS.map((server): Reader => {
    const config = KUBECONFIGS.flatMap(({ readBy, path }) => (readBy === server ? path : []));
    const named = pods.flatMap(({ name, pod }) => (name === server ? hostFiles(pod) : []));
    const files = [
      ...(server === "kube-apiserver" ? apiServers : config),
      ...named.flatMap(({ path }) => (ofOne.includes(path) ? path : [])),
    ];
    const reads = (path: string) => files.includes(path) || shared.includes(path);
    return { name: server, namespace: "kube-system", files, reads };
  });
  const others = pods.flatMap((pod): Reader[] => {
    const files = mountedBy(pod, cp);
    return isKubeadms(pod.name) ? [] : [{ ...pod, files, reads: (path) => files.includes(path) }];
  });
  return [...servers, ...others];
}

function mountedBy({ pod }: StaticPod, { facts }: ControlPlaneNode): string[] {
  const certs = certsOf(facts).map((row) => certPath(row, facts.certificatesDir));
  const mounts = hostFiles(pod).map(({ path }) => path);
  return [...certs, ...KUBECONFIGS.map(({ path }) => path)].filter((file) =>
    mounts.some((path) => file === path || file.startsWith(`${path}/`)),
  );
}

interface NodeContainers {
  running: readonly Container[];
  issued: readonly string[];
}

/**
 * Whether part 2 starts one of kubeadm's servers: it does not run, or it has read what is issued now, or what is not
 * on disk any more.
 */
export function startsOf(
  cp: ControlPlaneNode,
  { running, issued }: NodeContainers,
): (name: string) => boolean {
  const stale = staleReaders(cp, running, issued).map(({ container }) => container);
  const unchanged = running.filter((one) => isServerContainer(one) && !stale.includes(one));
  return (name) => !unchanged.some((one) => one.name === name);
}

/**
 * `stale`: containers that have read what is not on disk any more, and do not work with it. `kept`: those
 * that work all the same.
 */
export async function toRestart(
  cp: ControlPlaneNode,
  { running, issued }: NodeContainers,
): Promise<{ stale: Container[]; kept: StaleReader[] }> {
  const restart = new Set<Container>();
  const readers = staleReaders(cp, running, issued);
  for (const { container, isOurs } of readers) {
    const isServer = isServerContainer(container) && container.name !== "etcd";
    const server = isServer ? SERVERS.find((name) => name === container.name) : undefined;
    if (isOurs || (server && !(await worksStill(cp, container, server)))) restart.add(container);
  }
  return { stale: [...restart], kept: readers.filter(({ container }) => !restart.has(container)) };
}

/** The node of a run → container's id → whether it works: asked once, for what the first screen names and for what is stopped. */
const judged = new WeakMap<ControlPlaneNode, Map<string, boolean>>();

async function worksStill(cp: ControlPlaneNode, { id }: Container, server: (typeof SERVERS)[number]) {
  const answers = judged.get(cp) ?? new Map<string, boolean>();
  judged.set(cp, answers);
  const works = answers.get(id) ?? (await worksHere(cp, server));
  answers.set(id, works);
  return works;
}

/**
 * Whether it works with what it has read, which may have expired: a leader leads, and an API server shows a valid
 * certificate. A server that only waits is not missed, and one that is only slow shows nothing at the first question.
 */
async function worksHere(cp: ControlPlaneNode, server: (typeof SERVERS)[number]): Promise<boolean> {
  if (server !== "kube-apiserver") return leadsHere(cp, server);
  const { advertiseAddress: host, bindPort, certificatesDir } = cp.facts;
  const shows = () => (mode.dryRun ? firstServedCertificate(cp) : servedPem(host, bindPort));
  const hint = shell`crictl ps -a --name ${server}; crictl logs ID`;
  const what = `${endpointUrl(host, bindPort)} to show its certificate`;
  const pem = await inTime(what, shows, { seconds: 30, hint });
  const info = infoOf(pem);
  const cas = bothCas(certificatesDir, cp.cluster.oldCaPem);
  return pem !== undefined && info !== undefined && isValidNow(info) && isServerOf(pem, host, cas);
}

const MANAGER = "kube-controller-manager";

/**
 * Restarts the kubelet of a control plane node. Its controller-manager ends before: part 0 may have paused
 * it, and nothing else wakes it.
 */
export async function restartKubelet(cp: ControlPlaneNode) {
  await refuseUnfitKubelet();
  reduceInPlace(cp);
  if (readableManifest(manifestPath(cp, MANAGER))) {
    const all = await controlPlaneContainers(cp.node.runtimeEndpoint);
    const managers = all.filter(({ name }) => name === MANAGER);
    if (managers.length > 0) await stopContainers(cp.node.runtimeEndpoint, managers);
  }
  await systemctlKubelet("restart");
}

/**
 * Reduces the manifest that the kubelet has: before the credentials come with which one in full could lead, and
 * before its process ends, as the kubelet starts it again at once. Returns whether it was in full.
 */
export function reduceInPlace(cp: ControlPlaneNode): boolean {
  const path = manifestPath(cp, MANAGER);
  const manifest = readableManifest(path);
  if (!manifest || isReduced(manifest)) return false;
  const mode = stat(path)?.mode ?? 0o600;
  const text = manifestText(reduced(manifest, cp.facts.kubernetesVersion));
  return writeFile(path, text, { mode, note: REDUCED_NOTE });
}

/** Nothing but a restart wakes it. */
export function managerIsPaused(all: readonly Container[]): boolean {
  return stoppedProcesses(knownHere(all)).some(({ isManager }) => isManager);
}

/**
 * Continues the processes that have the controller-manager's name and are not this node's own: an older kit paused
 * all of that name, and nothing else continues them. Somebody else has stopped those with other names: the screen
 * names them.
 */
export async function resumePausedProcesses(all: readonly Container[]) {
  for (const { pid, comm, of, isManager } of stoppedProcesses(knownHere(all))) {
    const [what, line] = [`${comm} (pid ${pid}) of ${of}`, shell`kill -CONT ${String(pid)}`];
    const pausesAll = `${what}; the line of an older kit pauses all of this name`;
    if (comm === MANAGER.slice(0, COMM) && !isManager)
      // the program: a shell has a kill of its own
      await act("continue", pausesAll, () => $({ quiet: true })`env kill -CONT ${pid}`);
    else if (!isManager) say(`${what} is stopped, and not by this kit. To continue it: ${line}`);
  }
}
