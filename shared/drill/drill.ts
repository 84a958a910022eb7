/**
 * A drill on the living cluster: what the repair of rung 5 would make if /etc/kubernetes were deleted now, beside what is here. Reads only:
 * the repair is made in memory, and forgotten.
 */
import { type ControlPlaneNode, controlPlaneToRepair } from "../facts/control-plane-node.ts";
import { lackingOfExternalCa } from "../facts/external-ca.ts";
import type { LostFile } from "../facts/lost-files.ts";
import { exists } from "../files/files.ts";
import { asIfGone, entriesBelow } from "./as-if-gone.ts";
import { compareFiles, filesOf } from "./compared-files.ts";
import { compareServers } from "./compared-servers.ts";
import type { ComparedFile, Drill, Stop } from "./drill-report.ts";
import { refuseDamaged } from "./healthy-node.ts";
import { lowPriority } from "./low-priority.ts";
import { loseFiles, rehearseRepair } from "./rehearsed-repair.ts";
import { todosOf } from "./what-to-do-now.ts";

const KUBERNETES = "/etc/kubernetes";

/** `etcdData`: the operator's --etcd-data. Errors: Fail where this is no control plane node, Refused where it is not well. */
export async function drill(etcdData: string | undefined): Promise<Drill> {
  await lowPriority();
  // as after the deletion: nothing below /etc/kubernetes says anything
  const cp = await asIfGone([KUBERNETES], () => controlPlaneToRepair(etcdData));
  await refuseDamaged(cp);
  const here = filesOf(cp);
  const { lost, stops, back } = await asIfGone(foldersOf(cp), async () => {
    const lost = loseFiles(cp);
    const stops = await rehearseRepair(cp);
    return { lost, stops: [...externalCa(cp), ...stops], back: filesOf(cp) };
  });
  const files = compareFiles(here, back, cp);
  const servers = await compareServers(cp, back);
  const seen = { files, servers, lost, stops, others: othersThan(files, lost, cp) };
  const todo = todosOf(seen);
  return { node: cp.node.name, kubernetes: cp.cluster.kubernetesVersion, ...seen, allBack: todo.length === 0, todo };
}

/** What an accident takes: kubeadm's folders may be elsewhere. */
function foldersOf({ facts, node }: ControlPlaneNode): string[] {
  return [...new Set([KUBERNETES, facts.certificatesDir, node.kubelet.staticPodPath])];
}

function externalCa(cp: ControlPlaneNode): Stop[] {
  const lacking = lackingOfExternalCa(cp);
  const message = `the cluster's CA is external: its key never was on this node. It has to issue ${lacking?.files.join(", ")}`;
  return lacking ? [{ message, hint: lacking.steps.join("; ") }] : [];
}

/** Files on the disk that the repair does not make, and that nothing names which it starts. */
function othersThan(files: readonly ComparedFile[], lost: readonly LostFile[], cp: ControlPlaneNode): string[] {
  const known = new Set([...files.map(({ path }) => path), ...lost.map(({ path }) => path)]);
  const isLost = (path: string) => lost.some((file) => path.startsWith(`${file.path}/`));
  return foldersOf(cp)
    .filter((folder, i, all) => !all.some((other, j) => i !== j && folder.startsWith(`${other}/`)) && exists(folder))
    .flatMap((folder) => entriesBelow(folder).filter(({ kind }) => kind === "file" || kind === "link"))
    .map(({ path }) => path)
    .filter((path) => !known.has(path) && !isLost(path) && !path.includes("/.kube-pki-repair-"));
}
