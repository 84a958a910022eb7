/**
 * What it costs not to restart a workload: does its program read its token and its CA again? client-go reads the token file again every minute
 * (transport/token_source.go, in every release with a v0 version), and the CA file only when it starts; since 0.36 it reads that again, too,
 * where the program uses the in-cluster configuration (transport/ca_rotation.go, feature ClientsAllowCARotation, on by default). Which client-go
 * it is says the program's own build information, read from the processes of this node; a pod elsewhere is judged by the same image here. A
 * program may lie about itself (source "another process": it decides nothing), so this is only said.
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync } from "node:fs";
import { hostPath, list } from "../files/files.ts";
import { mountAt } from "../files/mounts.ts";
import { gone, hostText } from "../files/untrusted-file.ts";
import { type GoBuild, readGoBuild } from "../node/go-build.ts";
import { strangers } from "../plain.ts";
import type { PodOwner } from "./pod-owners.ts";

/** `client`: the version of client-go, "v0.34.4"; unset where it has none, or does not say which. */
interface Program {
  go: boolean;
  client?: string | undefined;
}

/** Workloads that cost the same, in words; the dearest first. `caIsNew`: not only the service-account key. */
export function costsOf(
  owners: readonly PodOwner[],
  { caIsNew }: { caIsNew: boolean },
): { words: string; unknown: boolean; of: PodOwner[] }[] {
  const programs = programsHere(owners);
  const costs = Map.groupBy(owners, (owner) => costOf(programsOf(owner, programs), caIsNew));
  const rank = (words: string) => ORDER.findIndex((word) => words.startsWith(word));
  const sorted = [...costs].sort(([a], [b]) => rank(a) - rank(b));
  return sorted.map(([words, of]) => ({ words, unknown: words.startsWith("unknown"), of }));
}

/** What the lines begin with, the dearest first. */
const ORDER = ["new connections", "unknown", "well"];

/** Until it restarts; a workload of several programs costs what the dearest of them does. */
function costOf(programs: readonly Program[], caIsNew: boolean): string {
  const versions = programs.flatMap(({ client }) => (client ? [client] : []));
  if (programs.length === 0) return "unknown, its program does not run on this node";
  if (versions.length === 0) return `unknown, ${programs.some(({ go }) => go) ? "a Go program that names no client-go" : "no Go program"}`;
  const oldest = versions.toSorted((a, b) => minorIn(a) - minorIn(b))[0]!;
  const of = `client-go ${strangers(oldest)}`;
  if (!caIsNew) return `well after a minute or two, ${of} reads its token again`;
  if (minorIn(oldest) >= ROTATES) return `well after some minutes with the in-cluster configuration, ${of} reads token and CA again`;
  return `new connections to the API fail, ${of} reads its CA only once (its token every minute)`;
}

/** client-go 0.36: features/known_features.go. */
const ROTATES = 36;

/** "v0.34.4" → 34; versions of before are the oldest. */
function minorIn(version: string): number {
  return Number(/^v0\.(\d+)\./.exec(version)?.[1] ?? 0);
}

function programsOf({ pods }: PodOwner, programs: Map<string, Program>): Program[] {
  const images = pods.flatMap(({ status }) => (status?.containerStatuses ?? []).map(({ imageID }) => imageID ?? ""));
  return [...new Set(images)].flatMap((image) => programs.get(image) ?? []);
}

/** By image: the program of its containers on this node that says most of itself. */
function programsHere(owners: readonly PodOwner[]): Map<string, Program> {
  const images = new Map<string, string>();
  for (const { status } of owners.flatMap(({ pods }) => pods))
    for (const { containerID, imageID } of status?.containerStatuses ?? [])
      images.set(/[0-9a-f]{64}$/.exec(containerID ?? "")?.[0] ?? "", imageID ?? "");
  images.delete("");
  const found = new Map<string, Program>();
  for (const pid of list("/proc").filter((name) => /^\d+$/.test(name))) {
    const image = images.get(/[0-9a-f]{64}/.exec(hostText(`/proc/${pid}/cgroup`) ?? "")?.[0] ?? "");
    if (!image || found.get(image)?.client) continue;
    const build = buildOf(pid);
    if (build !== "unread")
      found.set(image, { go: build !== undefined || found.get(image)?.go === true, client: build && clientIn(build) });
  }
  return found;
}

/** A build of Kubernetes itself names client-go without a version: it is its own of the same release. */
function clientIn({ modules }: GoBuild): string | undefined {
  const version = modules.get("k8s.io/client-go");
  if (version === undefined) return undefined;
  if (/^v\d+\.[1-9]/.test(version)) return version;
  return /^v1(\.\d+\.\d+)/.exec(modules.get("k8s.io/kubernetes") ?? "")?.[1]?.replace(/^/, "v0");
}

/** What its kernel alone serves: a read of another (FUSE, NFS) may never come back. */
const LOCAL = ["overlay", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "squashfs", "erofs"];

/** A hardened kernel may refuse even root. */
const REFUSED = ["EACCES", "EPERM"];

/** "unread": it has ended, or its file may not be touched. */
function buildOf(pid: string): GoBuild | "unread" | undefined {
  const exe = `${hostPath("/proc")}/${pid}/exe`;
  const path = gone(() => readlinkSync(exe), ["EINVAL", ...REFUSED]);
  if (path === undefined || !LOCAL.includes(mountAt(Number(pid), path)?.type ?? "")) return "unread";
  const file = gone(() => openSync(exe, constants.O_RDONLY | constants.O_NONBLOCK), ["ENXIO", ...REFUSED]);
  if (file === undefined) return "unread";
  try {
    if (!fstatSync(file).isFile()) return "unread";
    return readGoBuild((offset, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, gone(() => readSync(file, bytes, 0, length, offset)) ?? 0);
    });
  } finally {
    closeSync(file);
  }
}
