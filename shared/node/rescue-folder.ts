/**
 * The rescue folder of a repair: /root/kube-pki-repair-TIME on each control plane node that is changed. It holds the copy of etcd's data from which all
 * parts read their facts, and whatever a script has moved aside. Nothing in it is ever changed again, and no script deletes it.
 */
import { list } from "../files/files.ts";

const PARENT = "/root";
const NAME = /^kube-pki-repair-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)$/;

export interface Rescue {
  dir: string;
  made: Date;
}

/** The name of a new rescue folder; it is made when something is put into it. */
export function newRescue(): Rescue {
  const made = new Date();
  const stamp = made.toISOString().slice(0, 19).replace(/[-:]/g, "");
  return { dir: `${PARENT}/kube-pki-repair-${stamp}`, made };
}

/** Where the copy of etcd's data lies in a rescue folder. */
export function rescuedEtcd(rescue: Rescue): string {
  return `${rescue.dir}/etcd`;
}

/** All that are here, newest first. */
export function rescueFolders(): Rescue[] {
  return list(PARENT)
    .flatMap((name) => {
      const made = stampOf(name);
      return made ? [{ dir: `${PARENT}/${name}`, made }] : [];
    })
    .sort((a, b) => b.made.getTime() - a.made.getTime());
}

function stampOf(name: string): Date | undefined {
  const match = NAME.exec(name);
  return match ? new Date(`${match[1]}-${match[2]}-${match[3]}T${match[4]}:${match[5]}:${match[6]}Z`) : undefined;
}
