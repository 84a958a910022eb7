/**
 * Folders that may be etcd's data directory. Some are named on this node, and only what root or the control plane wrote
 * counts (evidence/sources.ts): a tenant's pod may be called etcd, run such a program, and make such a folder. Others only
 * look like it: the operator judges them by names and times, and the search is short.
 */
import { readdirSync } from "node:fs";
import { attempt, attemptLater } from "../fail.ts";
import { mountsOf } from "../files/file-system.ts";
import { exists, hostPath, list, stat } from "../files/files.ts";
import { isBelow } from "../files/root.ts";
import { gone, isRoots } from "../files/untrusted-file.ts";
import { mirrorPod } from "../manifests/mirror-pods.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import { KUBELET_DIR } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { foldersWithData, rescueFolders } from "../node/rescue-folder.ts";
import { type EtcdFolders, foldersOfPod, readRescued } from "./etcd-folders.ts";
import { isClusters, readEtcdUnit } from "./etcd-unit.ts";
import { containerOf, processesOf } from "./static-pod-here.ts";

export interface NamedFolders extends EtcdFolders {
  by: string;
  /**
   * Root's files or the runtime start etcd from it. False: only its mirror pod, in the copy of a repair,
   * named it.
   */
  starts: boolean;
}

interface Asked {
  node: Node;
  /** Exited ones, too; empty if no runtime answers. */
  containers: readonly Container[];
  apiServer?: EtcdFolders["apiServer"];
}

/** The sources that name a running etcd's data, or start it. */
const READERS = [inManifest, inUnit, ofProcesses, ofContainer];

/** The folders of data that this node names; those of the rescue folder where nothing else names one. */
export async function namesOf(asked: Asked): Promise<NamedFolders[]> {
  const found: NamedFolders[] = [];
  for (const read of READERS) found.push(...(await attemptLater(() => read(asked), [])));
  return found.length > 0 ? found : attemptLater(() => inRescue(asked), []);
}

/** The manifest from which the kubelet starts etcd. */
export function inManifest({ node }: Pick<Asked, "node">): NamedFolders[] {
  const path = manifestPath({ node }, "etcd");
  const spec = attempt(() => readManifest(path), undefined)?.spec;
  return namedFolders(path, spec && foldersOfPod({ spec }));
}

/** A cluster's etcd that is a unit of this node, running or not. */
function inUnit(): NamedFolders[] {
  const unit = readEtcdUnit();
  return unit && isClusters(unit) ? namedFolders(unit.path, { dir: unit.dataDir, wal: undefined }) : [];
}

/** A data copy from the beginning of this repair has the mirror pod. */
function inRescue({ node, apiServer }: Asked): NamedFolders[] {
  const [rescue] = foldersWithData();
  if (!rescue) return [];
  using data = readRescued(rescue, apiServer);
  const pod = mirrorPod(data, node.name, "etcd");
  return namedFolders(`its mirror pod in ${rescue.dir}`, pod && foldersOfPod(pod), { starts: false });
}

function ofProcesses({ containers }: Asked): NamedFolders[] {
  return processesOf("etcd", containers).flatMap((pod) => namedFolders(pod.by, foldersOfPod(pod)));
}

async function ofContainer({ node, containers }: Asked): Promise<NamedFolders[]> {
  const pod = await containerOf("etcd", { node, all: containers });
  return pod ? namedFolders(pod.by, foldersOfPod(pod)) : [];
}

function namedFolders(
  by: string,
  folders: EtcdFolders | undefined,
  { starts } = { starts: true },
): NamedFolders[] {
  return folders ? [{ by, starts, ...folders }] : [];
}

const DEPTH = 5;
const MOST = 50_000;

/** Folders of the kernel, of programs, containers and pods. */
const NEVER = [
  "/proc",
  "/sys",
  "/dev",
  "/run",
  "/usr",
  "/boot",
  "/snap",
  "/nix",
  "/var/log",
  "/var/lib/containerd",
  "/var/lib/containers",
];
const RUNTIMES = ["/var/lib/docker", "/var/lib/crio", KUBELET_DIR];

/** Network file systems: one that does not answer would block the search. */
const REMOTE = /^(nfs|cifs|smb|ceph|9p|fuse|autofs|glusterfs|lustre)/;

/**
 * They contain `member/snap`. Leaves out copies of a repair, and what is below a folder that root does not own: its
 * owner may make such a folder.
 */
export function memberFolders(): string[] {
  const remote = mountsOf(1).flatMap(({ at, type }) => (REMOTE.test(type) ? [at] : []));
  const excluded = [...NEVER, ...RUNTIMES, ...remote, ...rescueFolders().map(({ dir }) => dir)];
  const found: string[] = [];
  let level = ["/"];
  for (let depth = 0, looked = 0; depth < DEPTH && looked < MOST; depth++) {
    looked += level.length;
    level = level
      .flatMap(foldersIn)
      .filter((path) => !excluded.some((folder) => isBelow(path, folder)) && isRoots(path));
    found.push(
      ...level
        .filter((path) => path.endsWith("/member") && exists(`${path}/snap`))
        .map((path) => path.slice(0, -"/member".length)),
    );
  }
  return found;
}

/** Folders that were written later than this one, each with the time. */
export function writtenLater(place: EtcdFolders) {
  const lastWrite = lastWritten(place);
  const all = memberFolders().map((dir) => ({ dir, written: lastWritten({ dir, wal: undefined }) }));
  return all.filter(({ written }) => written > lastWrite);
}

function lastWritten({ dir, wal = `${dir}/member/wal` }: EtcdFolders): Date {
  const files = [`${dir}/member/snap/db`, ...list(wal).map((name) => `${wal}/${name}`)];
  return new Date(Math.max(0, ...files.map((path) => attempt(() => stat(path)?.modified.getTime() ?? 0, 0))));
}

function foldersIn(folder: string): string[] {
  const entries =
    gone(() => readdirSync(hostPath(folder), { withFileTypes: true }), ["EACCES", "EPERM"]) ?? [];
  return entries.flatMap((entry) =>
    entry.isDirectory() ? [`${folder === "/" ? "" : folder}/${entry.name}`] : [],
  );
}
