/**
 * Prints what 00-assess says: its report as tables for the terminal; or the configuration that kubeadm's phases take
 * with --config: the cluster's own from etcd's data, with this node's names and addresses.
 */
import { stringify } from "yaml";
import { command } from "../again.ts";
import {
  type Check,
  hasFailed,
  printChecks,
  printDifferences,
  printLines,
  printTable,
  worstFirst,
} from "../checks/check.ts";
import { SEVERITIES } from "../checks/kinds.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { etcdDataOf } from "../etcd-location/etcd-place.ts";
import { readConfiguration, storedConfiguration } from "../facts/cluster.ts";
import { askControlPlaneNode } from "../facts/control-plane-node.ts";
import { ownNode } from "../facts/issue-facts.ts";
import { apiEndpoint } from "../facts/known-nodes.ts";
import { attempt, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { type Node, readNode } from "../node/node.ts";
import { configMapIn, readObject } from "../objects/stored.ts";
import { answer, answerLines, VERSION } from "../run.ts";
import type { Assessment } from "./assessment.ts";

export function printShort({ damage, verdict, next }: Assessment) {
  printChecks(damage, { advice: "none" });
  printNext({ verdict, next });
}

function printNext({ verdict, next }: Pick<Assessment, "verdict" | "next">) {
  answerLines(["", `verdict: ${verdict}`]);
  if (next.length > 0) answerLines(["", "next", ...next.map((line) => `  ${line}`)]);
}

export function printAssessment({
  node,
  role,
  kubernetes,
  well,
  cluster,
  ca,
  damage,
  survivors,
  verdict,
  next,
  ...more
}: Assessment) {
  const { deep, lost = [], way, course, filesBack = [], damaged } = more;
  answer(
    `kube-pki-repair ${VERSION}   reads only   node ${node} (${ROLES[role]})${kubernetes ? `   Kubernetes ${kubernetes}` : ""}`,
  );
  if (lost.length > 0)
    answer(
      `${deep ? "no longer to be had" : "lost on this node"}: ${lost.join(", ")}${deep && !deep.diskSearched ? " (the disk was not searched)" : ""}`,
    );
  if (well) answer(`well: ${well}`);
  answerLines(way ? [`your way: ${way}`, ""] : [""]);
  if (well) notes(damage);
  else damageTable(damage);
  printDifferences(damage);
  stillWorks(damage);
  if (cluster) answerLines(["", `  cluster, read from etcd: ${cluster}`]);
  printCas(ca);
  if (deep) {
    answerLines(["", "lost keys, and where each can still be found"]);
    printTable(deep.keys.map((key) => [key.file, key.places[0]?.where ?? "nowhere", key.detail]));
  } else if (survivors.length > 0) {
    answerLines(["", "where the old keys may still be"]);
    printTable(survivors.map((survivor) => [survivor.where, survivor.hope, survivor.detail]));
  }
  if (filesBack.length > 0) answerLines(["", FILES_BACK, ...filesBack.map((line) => `  ${line}`)]);
  printNext({ verdict, next });
  if (damaged && (course || way)) answerLines(["", ALL_LINES]);
}

/** Outside of the list: another way to type the same. */
const ALL_LINES = `all lines of the repair, for all nodes, ready to paste: ${command("plan")}`;
const FILES_BACK = "files that cannot be rebuilt: bring them back before part 1, by any of these";

const ROLES: Record<Assessment["role"], string> = {
  "control plane": "control plane",
  worker: "worker",
  unknown: "worker, or a control plane node that lost everything",
};

function printCas({ hashes, from, copies }: Assessment["ca"]) {
  answerLines([
    "",
    `  the cluster's CA${hashes.length > 0 ? `, by ${from}: ${hashes.join(", ")}` : `: ${NOBODY_NAMES_IT}`}`,
  ]);
  for (const { what, hash, is } of copies)
    answer(`    ${what}: ${is === "the cluster's" || !hash ? is : `${is}, ${hash}`}`);
}

const NOBODY_NAMES_IT = "nothing here names it; 00-assess on a control plane node with etcd's data does";

function notes(damage: readonly Check[]) {
  for (const { what, detail } of damage.filter(({ result }) => result === "warning"))
    answer(`  note   ${what}: ${detail}`);
}

/** So many that say the same have their own lines. */
const NAMED = 3;

/** The worst first. */
function damageTable(damage: readonly Check[]) {
  const shown = worstFirst(damage).filter(({ differs }) => differs === undefined);
  const kinds = Map.groupBy(shown, ({ id, result, state, detail }) =>
    JSON.stringify([id, result, state, detail]),
  );
  printLines(
    [...kinds.values()].flatMap((same) =>
      same.length > NAMED ? [{ ...same[0]!, what: andMore(same) }] : same,
    ),
    [["what", "state", "detail"]],
  );
}

function andMore([first, ...more]: readonly Check[]): string {
  return more.length > 0 ? `${first!.what} and ${more.length} more` : first!.what;
}

/** One line for each kind, and one for all files that running processes have in memory. */
function stillWorks(damage: readonly Check[]) {
  const failed = worstFirst(damage.filter(hasFailed));
  const inMemory = failed.filter(({ severity, area }) => severity === "soon" && area === "files");
  const kinds = Map.groupBy(failed, (one) =>
    inMemory.length > 1 && inMemory.includes(one) ? "" : `${one.severity} ${one.works}`,
  );
  if (kinds.size === 0) return;
  answerLines(["", "how bad it is, and what still works meanwhile"]);
  printTable(
    [...kinds].map(([kind, all]) => [
      SEVERITIES[all[0]!.severity!],
      andMore(all),
      kind === "" ? untilItRestarts(all) : all[0]!.works!,
    ]),
  );
}

function untilItRestarts(all: readonly Check[]): string {
  const [until] = all.flatMap(({ until }) => until ?? []);
  return `what runs now, until it restarts or its certificate expires${until ? `: the first that is still here on ${until}` : ""}. Of each file: --json`;
}

/**
 * YAML documents: ClusterConfiguration, InitConfiguration and, if the cluster has one, KubeletConfiguration.
 * The kubelet's files are not needed: the phase kubelet-start writes them from it. Errors: Fail if etcd's
 * data or the API server's address cannot be read.
 */
export async function kubeadmConfig(etcdData: string | undefined): Promise<string> {
  const found = await readNode({ mayBeGone: true });
  const { cluster, data, obstacle } = await askControlPlaneNode(
    await etcdDataOf(etcdData, { node: found }),
    found,
    { asRan: false },
  );
  // an unreadable one is printed as it is, to be corrected by hand
  if (data && attempt(() => readConfiguration(data)) instanceof Fail) return storedConfiguration(data);
  if (!cluster || !data) throw obstacle!;
  const node = ownNode(found, cluster);
  const address = apiEndpoint(node.name, data);
  if (!address)
    throw new Fail(
      `Cannot find the API server's mirror pod of node "${node.name}" in etcd's data: its address is not known`,
      {
        hint: 'run it on another control plane node, and write this node\'s localAPIEndpoint by hand: RUNBOOK-MORE "If a mirror pod is gone"',
      },
    );
  const { configuration: stored, endpoint: controlPlaneEndpoint } = cluster;
  const configuration = { ...stored, ...(controlPlaneEndpoint && { controlPlaneEndpoint }) };
  const init = {
    apiVersion: (configuration as { apiVersion?: string }).apiVersion,
    kind: "InitConfiguration",
    localAPIEndpoint: { advertiseAddress: address.host, bindPort: address.port },
    nodeRegistration: { name: node.name, criSocket: socketOf(node, data) },
  };
  const kubelet = configMapIn(data, "kube-system/kubelet-config")?.kubelet;
  const documents = [configuration, init].map((one) => stringify(one, { lineWidth: 0 }));
  return [...documents, ...(kubelet ? [kubelet] : [])].join("---\n");
}

/**
 * This node's own socket if it is known. Else the one that kubeadm annotated on the Node, if it is in a
 * folder of root's: others may write that annotation, too.
 */
function socketOf({ name, runtimeEndpoint }: Node, data: EtcdData): string {
  const isHere = (socket: string) => exists(socket.replace(/^unix:\/\//, ""));
  if (isHere(runtimeEndpoint)) return runtimeEndpoint;
  const object = readObject<{ metadata: { annotations?: Record<string, string> } }>(data, `minions/${name}`);
  const annotated = object?.metadata.annotations?.["kubeadm.alpha.kubernetes.io/cri-socket"];
  return annotated !== undefined &&
    /^unix:\/\/(?:\/var)?\/run\/[\w./-]+\.sock$/.test(annotated) &&
    !annotated.includes("..")
    ? annotated
    : runtimeEndpoint;
}
