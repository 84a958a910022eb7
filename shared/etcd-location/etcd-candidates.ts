/**
 * Folders that may be etcd's data directory. Some are named on this node: each place has its writer
 * (evidence/sources.ts), and only root or the control plane itself counts: a tenant's pod may be called etcd,
 * may run a program of this name, and may lay out a folder that looks like etcd's. Others only look like it:
 * they are for the operator to judge, and only names and times are read, not for long.
 */

import { readdirSync } from "node:fs";
import { attempt, attemptLater } from "../fail.ts";
import { exists, hostPath, list, stat } from "../files/files.ts";
import { isBelow, mountsOf } from "../files/mounts.ts";
import { gone, isRoots } from "../files/untrusted-file.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
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
   * etcd is started from it, by root's files or by the runtime. False: its mirror pod, in the copy of a
   * repair, had it.
   */
  starts: boolean;
}

interface Asked {
  node: Node;
  /** Also those that have ended; none where no runtime answers. */
  containers: readonly Container[];
  apiServer?: EtcdFolders["apiServer"];
}

/** What etcd is started from, or runs with. */
const READERS = [inManifest, inUnit, ofProcesses, ofContainer];

/**
 * All that names it; where nothing of that is left, the copy of a repair, which is slow. A place that cannot
 * be looked at names nothing.
 */
export async function namesOf(asked: Asked): Promise<NamedFolders[]> {
  const found: NamedFolders[] = [];
  for (const read of READERS) found.push(...(await attemptLater(() => read(asked), [])));
  return found.length > 0 ? found : attemptLater(() => inRescue(asked), []);
}

/** The manifest that the kubelet starts etcd from. */
export function inManifest({ node }: Pick<Asked, "node">): NamedFolders[] {
  const path = manifestPath({ node }, "etcd");
  const spec = attempt(() => readManifest(path), undefined)?.spec;
  return named(path, spec && foldersOfPod({ spec }));
}

/** A cluster's etcd that is a unit of this node, also where it does not run. */
function inUnit(): NamedFolders[] {
  const unit = readEtcdUnit();
  return unit && isClusters(unit) ? named(unit.path, { dir: unit.dataDir, wal: undefined }) : [];
}

/** A copy of the data from the beginning of this repair knows the mirror pod. */
function inRescue({ node, apiServer }: Asked): NamedFolders[] {
  const [rescue] = foldersWithData();
  if (!rescue) return [];
  using data = readRescued(rescue, apiServer);
  const pod = findMirrorPods(data, node.name).find(({ name }) => name === "etcd")?.pod;
  return named(`its mirror pod in ${rescue.dir}`, pod && foldersOfPod(pod), { starts: false });
}

function ofProcesses({ containers }: Asked): NamedFolders[] {
  return processesOf("etcd", containers).flatMap((pod) => named(pod.by, foldersOfPod(pod)));
}

async function ofContainer({ node, containers }: Asked): Promise<NamedFolders[]> {
  const pod = await containerOf("etcd", { node, all: containers });
  return pod ? named(pod.by, foldersOfPod(pod)) : [];
}

function named(by: string, folders: EtcdFolders | undefined, { starts } = { starts: true }): NamedFolders[] {
  return folders ? [{ by, starts, ...folders }] : [];
}

/** How deep, and how many folders at most. */
const DEPTH = 5;
const MOST = 50_000;

/** The kernel's, programs', containers' and pods' own. */
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

/** File systems of other machines: one that does not answer would hold everything up. */
const REMOTE = /^(nfs|cifs|smb|ceph|9p|fuse|autofs|glusterfs|lustre)/;

/**
 * Folders with `member/snap` in them; copies of a repair are left out. All that is below a folder of somebody else
 * than root is his, and is not even listed: anybody may lay out such a folder.
 */
export function memberFolders(): string[] {
  const remote = mountsOf(1).flatMap(({ at, type }) => (REMOTE.test(type) ? [at] : []));
  const never = [...NEVER, ...RUNTIMES, ...remote, ...rescueFolders().map(({ dir }) => dir)];
  const found: string[] = [];
  let level = ["/"];
  for (let depth = 0, looked = 0; depth < DEPTH && looked < MOST; depth++) {
    looked += level.length;
    level = level
      .flatMap(foldersIn)
      .filter((path) => !never.some((folder) => isBelow(path, folder)) && isRoots(path));
    found.push(
      ...level
        .filter((path) => path.endsWith("/member") && exists(`${path}/snap`))
        .map((path) => path.slice(0, -"/member".length)),
    );
  }
  return found;
}

/** Those that were written to after this one, each with the time. */
export function writtenLater(place: EtcdFolders): { dir: string; written: Date }[] {
  const here = lastWritten(place);
  const all = memberFolders().map((dir) => ({ dir, written: lastWritten({ dir, wal: undefined }) }));
  return all.filter(({ written }) => written > here);
}

function lastWritten({ dir, wal = `${dir}/member/wal` }: EtcdFolders): Date {
  const files = [`${dir}/member/snap/db`, ...list(wal).map((name) => `${wal}/${name}`)];
  return new Date(Math.max(0, ...files.map((path) => attempt(() => stat(path)?.modified.getTime() ?? 0, 0))));
}

/** Links are not followed. */
function foldersIn(folder: string): string[] {
  const entries =
    gone(() => readdirSync(hostPath(folder), { withFileTypes: true }), ["EACCES", "EPERM"]) ?? [];
  return entries.flatMap((entry) =>
    entry.isDirectory() ? [`${folder === "/" ? "" : folder}/${entry.name}`] : [],
  );
}
