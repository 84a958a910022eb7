/**
 * A drill on the living cluster: what the repair of rung 5 would make if /etc/kubernetes were deleted now, beside what is here. Reads only:
 * the repair is made in memory, and forgotten.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { lackingOfExternalCa } from "../facts/external-ca.ts";
import type { LostFile } from "../facts/lost-files.ts";
import { controlPlaneToRepair } from "../facts/node-to-repair.ts";
import { failOf } from "../fail.ts";
import { exists } from "../files/files.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { asIfGone, entriesBelow } from "./as-if-gone.ts";
import { compareFiles, filesOf } from "./compared-files.ts";
import { compareServers } from "./compared-servers.ts";
import type { ComparedFile, Drill, KeptFile, Stop } from "./drill-report.ts";
import { textOf } from "./file-fields.ts";
import { refuseDamaged } from "./healthy-node.ts";
import { backupOf, keptIn } from "./kept-copies.ts";
import { lowPriority } from "./low-priority.ts";
import { predictRestarts } from "./predicted-restarts.ts";
import { loseFiles, rehearseRepair } from "./rehearsed-repair.ts";
import { timeNeeded } from "./time-needed.ts";
import { todosOf } from "./what-to-do-now.ts";

const KUBERNETES = "/etc/kubernetes";

interface DrillOptions {
  etcdData?: string | undefined;
  /** The bundle of `hand-over pack`, and a folder with copies of files that nobody can rebuild. */
  bundle?: string | undefined;
  backup?: string | undefined;
}

/** Errors: Fail where this is no control plane node, Refused where it is not well. */
export async function drill(options: DrillOptions): Promise<Drill> {
  await lowPriority();
  return await repairAndCompare(options);
}

/** The same, as fast as it goes. */
export async function repairAndCompare({ etcdData, bundle, backup: folder }: DrillOptions): Promise<Drill> {
  const { cp, blind } = await look(etcdData);
  await refuseDamaged(cp);
  const here = filesOf(cp);
  const { gone, stops, back, newCa } = await repairInMemory(cp);
  const files = compareFiles(here, back, cp);
  const servers = await compareServers(cp, back);
  const lost = keptIn(folder, gone);
  const backup = backupOf(cp.facts, bundle);
  const others = othersThan(files, lost, cp);
  const seen = { files, servers, lost, ...(backup && { backup }), stops: [...(lost.every(isKept) ? [] : blind), ...stops], others };
  const restarts = await predictRestarts(cp, newCa);
  const todo = todosOf(seen);
  const about = { node: cp.node.name, kubernetes: cp.cluster.kubernetesVersion };
  return { ...about, ...seen, restarts, time: timeNeeded(cp, restarts), apiReads: API_READS, allBack: todo.length === 0, todo };
}

/** With all copies back, nothing keeps a repair from reading the data. */
const isKept = ({ kept }: KeptFile) => kept === "same";

/** refuseDamaged asks whether the API server is ready; all else comes from etcd's data on this node. */
const API_READS = 1;

/** As after the deletion: nothing below /etc/kubernetes says anything. `blind`: why a repair could not begin so, though the node is well. */
async function look(etcdData: string | undefined): Promise<{ cp: ControlPlaneNode; blind: Stop[] }> {
  const seen: ControlPlaneNode[] = [];
  const blind = await failOf(() =>
    asIfGone([KUBERNETES], async () => {
      seen.push(await controlPlaneToRepair(etcdData));
    }),
  );
  const [cp] = seen;
  if (cp && !blind) return { cp, blind: [] };
  return { cp: await controlPlaneToRepair(etcdData), blind: blind ? [{ message: blind.message, hint: blind.hint, byCopies: true }] : [] };
}

/** `newCa`: the certificate of the cluster CA that it made. */
function repairInMemory(cp: ControlPlaneNode) {
  return asIfGone(foldersOf(cp), async () => {
    const external = externalCa(cp);
    const gone = loseFiles(cp);
    const stops = await rehearseRepair(cp);
    const newCa = textOf(certPath(certRow("ca"), cp.facts.certificatesDir));
    return { gone, stops: [...external, ...stops], back: filesOf(cp), newCa };
  });
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
