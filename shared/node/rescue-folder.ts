/**
 * The rescue folder of a repair: /root/kube-pki-repair-TIME on each control plane node that is changed. It holds a copy of etcd's data,
 * from which all parts read their facts, and all files that a script has moved aside. No script changes or deletes what is in it.
 */
import { list } from "../files/files.ts";

const PARENT = "/root";
const NAME = /^kube-pki-repair-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)$/;

export interface Rescue {
  dir: string;
  made: Date;
}

/** The name of a new rescue folder. The folder itself is made when the first file is put into it. */
export function newRescue(): Rescue {
  const made = new Date();
  const stamp = made.toISOString().slice(0, 19).replace(/[-:]/g, "");
  return { dir: `${PARENT}/kube-pki-repair-${stamp}`, made };
}

/** The copy of etcd's data in a rescue folder. */
export function rescuedEtcd(rescue: Rescue): string {
  return `${rescue.dir}/etcd`;
}

/** All rescue folders on this node, newest first. */
export function rescueFolders(): Rescue[] {
  const names = list(PARENT).filter((name) => NAME.test(name));
  const folders = names.map((name) => ({ dir: `${PARENT}/${name}`, made: new Date(name.replace(NAME, "$1-$2-$3T$4:$5:$6Z")) }));
  return folders.sort((a, b) => b.made.getTime() - a.made.getTime());
}
