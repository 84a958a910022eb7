/**
 * What on this node names etcd's data directory. Each place has its writer (evidence/sources.ts), and only root or the control plane itself
 * counts: a tenant's pod may be called etcd, may run a program of this name, and may lay out a folder that looks like etcd's.
 */

import { attempt, attemptLater } from "../fail.ts";
import { exists } from "../files/files.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { rescuedEtcd, rescueFolders } from "../node/rescue-folder.ts";
import { type EtcdFolders, foldersOfPod, readRescued } from "./etcd-folders.ts";
import { isClusters, readEtcdUnit } from "./etcd-unit.ts";
import { containerOf, processesOf } from "./static-pod-here.ts";

export interface NamedFolders extends EtcdFolders {
  by: string;
  /** etcd is started from it, by root's files or by the runtime. False: its mirror pod, in the copy of a repair, had it. */
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

/** All that names it; where nothing of that is left, the copy of a repair, which is slow. A place that cannot be looked at names nothing. */
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
  const rescue = rescueFolders().find((one) => exists(rescuedEtcd(one)));
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
