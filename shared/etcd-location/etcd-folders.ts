/** The folders of an etcd on this host: where its data is, and its log, where that has a folder of its own. */
import { statSync } from "node:fs";
import { type EtcdData, readEtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, hostPath } from "../files/files.ts";
import { tryFile } from "../files/try-file.ts";
import { hostFiles, mainContainer } from "../manifests/command.ts";
import { type Rescue, rescuedEtcd, rescuedLog } from "../node/rescue-folder.ts";
import type { PodSpec } from "../objects/objects.ts";
import { withOpened } from "./opened-data.ts";

export interface EtcdFolders {
  /** etcd's --data-dir. */
  dir: string;
  /** etcd's --wal-dir; undefined: the log is in member/wal. */
  wal: string | undefined;
  /** This node's API server, as its manifest or the runtime has it: it says how to open what is encrypted in the data. */
  apiServer?: { spec: PodSpec } | undefined;
}

/** Where a static pod of etcd has its data: its own container's flags or variables, through its mounts, on this host. */
export function foldersOfPod({ spec }: { spec: PodSpec }): EtcdFolders | undefined {
  const own = mainContainer({ spec });
  const files = own ? hostFiles({ spec: { ...spec, initContainers: [], containers: [own] } }) : [];
  const at = (...names: string[]) => files.find(({ namedBy }) => names.includes(namedBy))?.path;
  const dir = at("--data-dir", "env ETCD_DATA_DIR");
  return dir === undefined ? undefined : { dir, wal: at("--wal-dir", "env ETCD_WAL_DIR") };
}

/** What is encrypted in it is opened where the configuration for that is here. Errors: as `readEtcdData`. */
export function readFolders({ dir, wal, apiServer }: EtcdFolders): EtcdData {
  return withOpened(readEtcdData(hostPath(dir), wal && hostPath(wal)), apiServer);
}

/** The copy from the beginning of a repair. Errors: as `readEtcdData`. */
export function readRescued(rescue: Rescue, apiServer: EtcdFolders["apiServer"]): EtcdData {
  const wal = rescuedLog(rescue);
  return readFolders({ dir: rescuedEtcd(rescue), wal: exists(wal) ? wal : undefined, apiServer });
}

/** Parts of etcd's data that may be on a disk of their own, by a link; "" is all of it. */
const PARTS = ["", "/member", "/member/snap", "/member/snap/db", "/member/wal"];

/** Whether a rescue folder holds, instead of a copy, a link to the data of today: what was before is not known by it. */
export function showsToday(rescue: Rescue, { dir, wal }: EtcdFolders): boolean {
  const same = (a: string, b: string) => exists(a) && keyOf(a) === keyOf(b);
  return (
    PARTS.some((part) => same(`${rescuedEtcd(rescue)}${part}`, `${dir}${part}`)) || (wal !== undefined && same(rescuedLog(rescue), wal))
  );
}

/** Whether a member's data is there. A folder that nobody but root may look into may have some. */
export function holdsData({ dir }: EtcdFolders): boolean {
  const there = attempt(() => exists(`${dir}/member/snap`));
  return there instanceof Fail || there;
}

/** The same folder under two names, by a link or a mount, has one key. */
export function keyOf(dir: string): string {
  const info = attempt(() => tryFile("look at", dir, () => statSync(hostPath(dir))));
  return info instanceof Fail || !info ? dir.replace(/\/+$/, "") : `${info.dev}:${info.ino}`;
}
