/**
 * Folders of this machine that look like etcd's data, for the operator to judge: a tenant may have made one on a local volume. Reads names
 * and times only, and not for long.
 */
import { readdirSync } from "node:fs";
import { attempt } from "../fail.ts";
import { exists, hostPath, list, stat } from "../files/files.ts";
import { isBelow, mountsOf } from "../files/mounts.ts";
import { gone } from "../files/untrusted-file.ts";
import { KUBELET_DIR } from "../node/kubelet-config.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import type { EtcdFolders } from "./etcd-folders.ts";

/** How deep, and how many folders at most. */
const DEPTH = 5;
const MOST = 50_000;

/** The kernel's, programs', containers' and pods' own. */
const NEVER = ["/proc", "/sys", "/dev", "/run", "/usr", "/boot", "/snap", "/nix", "/var/log", "/var/lib/containerd", "/var/lib/containers"];
const RUNTIMES = ["/var/lib/docker", "/var/lib/crio", KUBELET_DIR];

/** File systems of other machines: one that does not answer would hold everything up. */
const REMOTE = /^(nfs|cifs|smb|ceph|9p|fuse|autofs|glusterfs|lustre)/;

/** Folders with `member/snap` in them; copies of a repair are left out. */
export function memberFolders(): string[] {
  const remote = mountsOf(1).flatMap(({ at, type }) => (REMOTE.test(type) ? [at] : []));
  const never = [...NEVER, ...RUNTIMES, ...remote, ...rescueFolders().map(({ dir }) => dir)];
  const found: string[] = [];
  let level = ["/"];
  for (let depth = 0, looked = 0; depth < DEPTH && looked < MOST; depth++) {
    looked += level.length;
    level = level.flatMap(foldersIn).filter((path) => !never.some((folder) => isBelow(path, folder)));
    found.push(
      ...level.filter((path) => path.endsWith("/member") && exists(`${path}/snap`)).map((path) => path.slice(0, -"/member".length)),
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
  const entries = gone(() => readdirSync(hostPath(folder), { withFileTypes: true }), ["EACCES", "EPERM"]) ?? [];
  return entries.flatMap((entry) => (entry.isDirectory() ? [`${folder === "/" ? "" : folder}/${entry.name}`] : []));
}
