/**
 * How a part is taken back on this layout. RUNBOOK.md says it for kubeadm's: etcd as a static pod, all files below
 * /etc/kubernetes/pki. Here it names no file that this node cannot have, and nothing that no step of this plan makes.
 */
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import type { Task } from "../facts/course.ts";

const REPLACED = "The files that it replaced are in the rescue folder, `/root/kube-pki-repair-TIME`.";

const OF_ETCD: Partial<Record<EtcdHome["runs"], string>> = {
  unit: `Etcd is still the unit that it was, on the same data. ${REPLACED}`,
  elsewhere: `Etcd runs on other machines, and this part changes nothing there. ${REPLACED}`,
};

interface LayoutHere {
  tasks: readonly (Task | undefined)[];
  etcdRuns?: EtcdHome["runs"] | undefined;
  certificatesDir: string;
}

/** `undo`: RUNBOOK.md's, of the part of this number. */
export function undoHere(
  { number, undo }: { number: number; undo: string },
  { tasks, etcdRuns, certificatesDir }: LayoutHere,
): string {
  if (number === 1 && etcdRuns && OF_ETCD[etcdRuns]) return OF_ETCD[etcdRuns];
  if (number > 0) return undo;
  const [holds, oldKey] = [tasks.includes("hold"), tasks.includes("token-key")];
  const [held = "", made = ""] = undo.split(/;\s+(?=`rm [^`]*sa-old)/);
  const removal = made.replace("/etc/kubernetes/pki", certificatesDir);
  return [...(holds ? [held] : []), ...(oldKey ? [removal] : [])].join("; ").replace(/[^.]$/, "$&.");
}
