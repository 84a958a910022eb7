/**
 * The rescue folder of a repair: /root/kube-pki-repair-TIME on each node that is changed. On a control plane
 * node it holds a copy of etcd's data, from which all parts read their facts; on a worker its trust from
 * before a join. Files that a script moves aside come there, and each run that writes leaves its transcript
 * in `runs` (kept-run.ts). No script changes or deletes what was copied or moved there.
 */
import { basename, dirname } from "node:path";
import { attempt } from "../fail.ts";
import { exists, list, readText, stat } from "../files/files.ts";

const PARENT = "/root";
const NAME = /^kube-pki-repair-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)$/;

export interface Rescue {
  dir: string;
  made: Date;
}

let ofThisRun: Rescue | undefined;

/** It is called by this second, or by the next one that has none, and made when the first file is put into it. */
export function newRescue(): Rescue {
  const made = new Date();
  while (exists(folderOf(made))) made.setSeconds(made.getSeconds() + 1);
  return useRescue({ dir: folderOf(made), made });
}

function folderOf(made: Date): string {
  return `${PARENT}/kube-pki-repair-${made.toISOString().slice(0, 19).replace(/[-:]/g, "")}`;
}

export function useRescue(rescue: Rescue): Rescue {
  ofThisRun = rescue;
  return rescue;
}

/** The folder that the run uses; the newest one, or a new one, where it has named none. */
export function rescueOfRun(): Rescue {
  return ofThisRun ?? allRescueFolders()[0] ?? newRescue();
}

export function transcriptFolder(rescue: Rescue): string {
  return `${rescue.dir}/runs`;
}

export function rescuedEtcd(rescue: Rescue): string {
  return `${rescue.dir}/etcd`;
}

/** Holds what a repair has moved aside, each file under its whole old path. */
export function asideOf({ dir }: Rescue): string {
  return `${dir}/aside`;
}

/** The copy of etcd's log in the rescue folder, if the log has a folder of its own (--wal-dir). */
export function rescuedLog(rescue: Rescue): string {
  return `${rescue.dir}/etcd-wal`;
}

/**
 * Types on a node: all its transcripts as a tar of plain files on stdout; an empty one where there are none.
 */
export const PACK_RUNS = "cd /root && find . -path './kube-pki-repair-*/runs/*' -type f | tar -cf - -T -";

/** Newest first. */
export function rescueFolders(): Rescue[] {
  return allRescueFolders().filter(({ dir }) => list(dir).join() !== WORDS_FILE);
}

/** Includes folders that have only saved options: no repair has begun in them. */
export function allRescueFolders(): Rescue[] {
  return list(PARENT)
    .flatMap((name) => {
      const [, year, month, day, hour, minute, second] = NAME.exec(name) ?? [];
      const made = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
      return year === undefined ? [] : [{ dir: `${PARENT}/${name}`, made }];
    })
    .sort((a, b) => b.made.getTime() - a.made.getTime());
}

interface Version {
  text: string;
  until: Date;
}

/** The one that went first comes first. */
export function versionsAside(path: string): Version[] {
  const found = rescueFolders().flatMap((rescue) => {
    const folder = `${asideOf(rescue)}${dirname(path)}`;
    const names = list(folder).filter((name) => name.replace(/\.\d+$/, "") === basename(path));
    return names.flatMap((name) => {
      const text = attempt(() => readText(`${folder}/${name}`), undefined);
      const info = stat(`${folder}/${name}`);
      return text !== undefined && info ? [{ text, until: info.changed }] : [];
    });
  });
  return found.sort((a, b) => a.until.getTime() - b.until.getTime());
}

/** Whether a run has moved it aside, whole or a file below it: the rescue folders keep its path. */
export function wasMovedAside(path: string): boolean {
  return rescueFolders().some((rescue) =>
    list(`${asideOf(rescue)}${dirname(path)}`).includes(basename(path)),
  );
}

export function foldersWithData(): Rescue[] {
  return rescueFolders().filter((rescue) => exists(rescuedEtcd(rescue)));
}

/** In a rescue folder: what the operator has said (words.ts). */
export const WORDS_FILE = "words.json";

/** Mode 0700, its files 0600. */
export const STASH = "/dev/shm/kube-pki-repair-salvage";

/** In a rescue folder, which kubeadm reset does not empty. */
export const SAVED_BELOW = "kubelet";

/** The last one that was saved, for kubeadm join on that machine. */
export const LAST_JOIN_CONFIG = `"$(ls /root/kube-pki-repair-*/${SAVED_BELOW}/join.yaml | tail -n 1)"`;
