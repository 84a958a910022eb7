/**
 * What on this node names etcd's data directory. Each place has its writer (trust/sources.ts), and only root or the control plane itself
 * counts: a tenant's pod may be called etcd, may run a program of this name, and may lay out a folder that looks like etcd's.
 */

import { attempt, Fail } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import { podLogsDir } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { rescuedEtcd, rescueFolders } from "../node/rescue-folder.ts";
import { isStaticPodOf, podRecords } from "../trust/pod-records.ts";
import { type EtcdFolders, foldersOfPod, readRescued } from "./etcd-folders.ts";
import { isClusters, readEtcdUnit } from "./etcd-unit.ts";
import { containerOf, processesOf } from "./static-pod-here.ts";

export interface NamedFolders extends EtcdFolders {
  by: string;
  /**
   * etcd is started from it, by root's files or by the runtime. False: it was written down, by etcd in the words of its container (its path
   * there may be another folder here), or in the mirror pod.
   */
  starts: boolean;
}

interface Asked {
  node: Node;
  /** Also those that have ended; none where no runtime answers. */
  containers: readonly Container[];
  apiServer?: EtcdFolders["apiServer"];
}

/** What etcd is started from, or runs with; and where nothing of that is left, what was written down of it. The last one is slow. */
const READERS = [[inManifest, inUnit, ofProcesses, ofContainer], [inLog], [inRescue]];

/** All that names it. A place that cannot be looked at names nothing. */
export async function namesOf(asked: Asked): Promise<NamedFolders[]> {
  const found: NamedFolders[] = [];
  for (const group of READERS) {
    if (found.length > 0) break;
    for (const read of group) found.push(...(await unlessFail(() => read(asked))));
  }
  return found;
}

async function unlessFail(read: () => NamedFolders[] | Promise<NamedFolders[]>): Promise<NamedFolders[]> {
  try {
    return await read();
  } catch (err) {
    if (err instanceof Fail) return [];
    throw err;
  }
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
  return written(`its mirror pod in ${rescue.dir}`, pod && foldersOfPod(pod));
}

function ofProcesses({ containers }: Asked): NamedFolders[] {
  return processesOf("etcd", containers).flatMap((pod) => named(pod.by, foldersOfPod(pod)));
}

async function ofContainer({ node, containers }: Asked): Promise<NamedFolders[]> {
  const pod = await containerOf("etcd", { node, all: containers });
  return pod ? named(pod.by, foldersOfPod(pod)) : [];
}

/** What etcd itself wrote when it started (embed/etcd.go), in the log that its kubelet keeps. kubeadm mounts the folder under its own path. */
function inLog({ node }: Asked): NamedFolders[] {
  const records = podRecords().filter((record) => isStaticPodOf(record, "etcd", node));
  return records.flatMap(({ namespace, name, uid }) => {
    const folder = `${podLogsDir()}/${namespace}_${name}_${uid}/etcd`;
    const starts = list(folder)
      .filter((file) => /^\d+\.log$/.test(file))
      .sort(byNumber)
      .flatMap((file) => startsIn(readText(`${folder}/${file}`) ?? ""));
    return written(`etcd's log in ${folder}`, starts.at(-1));
  });
}

const byNumber = (a: string, b: string) => Number.parseInt(a, 10) - Number.parseInt(b, 10);

/** `TIME STREAM TAG TEXT`, a line each (CRI). A long line is cut into pieces with the tag P: a piece may hold a stranger's words. */
function startsIn(log: string): EtcdFolders[] {
  let isPiece = false;
  return log.split("\n").flatMap((line) => {
    const [, tag, text = ""] = /^\S+ std(?:err|out) ([PF]) (.*)$/.exec(line) ?? [];
    const isWhole = tag === "F" && !isPiece;
    isPiece = tag === "P";
    return isWhole && text.includes(STARTS) ? (startOf(text) ?? []) : [];
  });
}

const STARTS = "starting an etcd server";

function startOf(json: string): EtcdFolders | undefined {
  const entry = parsed(json);
  const dir = entry["data-dir"];
  if (entry.msg !== STARTS || typeof dir !== "string" || !dir.startsWith("/")) return undefined;
  const wal = entry["wal-dir-dedicated"];
  return { dir, wal: typeof wal === "string" && wal.startsWith("/") ? wal : undefined };
}

function parsed(json: string): Record<string, unknown> {
  try {
    return JSON.parse(json) as Record<string, unknown>;
  } catch (err) {
    if (err instanceof SyntaxError) return {}; // cut off
    throw err;
  }
}

function named(by: string, folders: EtcdFolders | undefined): NamedFolders[] {
  return folders ? [{ by, starts: true, ...folders }] : [];
}

function written(by: string, folders: EtcdFolders | undefined): NamedFolders[] {
  return named(by, folders).map((one) => ({ ...one, starts: false }));
}
