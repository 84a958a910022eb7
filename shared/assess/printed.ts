/**
 * Prints what 00-assess says: its report as tables for the terminal; or the configuration that kubeadm's phases take
 * with --config: the cluster's own from etcd's data, with this node's names and addresses.
 */
import { stringify } from "yaml";
import { command } from "../again.ts";
import { causesOf, withCauses } from "../checks/causes.ts";
import { type Check, worstFirst } from "../checks/check.ts";
import { SEVERITIES } from "../checks/kinds.ts";
import {
  printChecks,
  printDifferences,
  printLines,
  printTable,
  printVerdict,
  shortName,
} from "../checks/print-checks.ts";
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
import { answer, answerLines, answerToPaste, tell, VERSION } from "../run.ts";
import { manifestOfWorker } from "../workers/own-pods.ts";
import type { Assessment } from "./assessment.ts";

export function printShort({ damage, verdict, next }: Assessment) {
  printVerdict(verdict, next);
  if (damage.some(({ result }) => result !== "ok")) answerLines([""]);
  printChecks(withCauses(damage), { advice: "none" });
}

/** The first line on the screen: whose node this is. */
export function tellNode({ node, role, kubernetes }: Pick<Assessment, "node" | "role" | "kubernetes">) {
  const release = kubernetes ? `   Kubernetes ${kubernetes}` : "";
  tell(`kube-pki-repair ${VERSION}   00-assess   reads only   node ${node} (${ROLES[role]})${release}`, "");
}

/** The verdict and the next commands, then the reasons. `all`: also what is well, and the cluster. */
export function printAssessment(assessment: Assessment, { all = false } = {}) {
  const { damage, damaged, way, course, filesBack = [], well, silent } = assessment;
  const verdict = silent ? `${assessment.verdict}, but ${silent}` : assessment.verdict;
  printVerdict(verdict, assessment.next);
  if (filesBack.length > 0) answerToPaste(["", FILES_BACK, ...filesBack.map((line) => `  ${line}`)]);
  if (damaged && (course || way)) answerToPaste(["", ALL_LINES]);
  if (way) answer(`your way: ${way}`, undefined, 2);
  if (well) answerLines([""]);
  if (well) answer(`well: ${well}`, undefined, 2);
  if (well && !all) notes(damage);
  else damageTable(withCauses(damage), all);
  printDifferences(damage);
  placesOfKeys(assessment);
  if (all) about(assessment);
  else strangeCas(assessment.ca);
}

/** Outside of the list: another way to type the same. */
const ALL_LINES = `all commands of the repair, for all nodes, ready to paste: ${command("plan")}`;
const FILES_BACK = "files that cannot be rebuilt: bring them back before part 1, by any of these";

const ROLES: Record<Assessment["role"], string> = {
  "control plane": "control plane",
  worker: "worker",
  unknown: "worker, or a control plane node that lost everything",
};

function placesOfKeys({ deep, survivors, lost = [] }: Assessment) {
  if (deep) {
    const disk = deep.diskSearched ? "" : " (the disk was not searched)";
    answerLines(["", "lost keys, and where each can still be found"]);
    printTable(deep.keys.map((key) => [key.file, key.places[0]?.where ?? "nowhere", key.detail]));
    if (lost.length > 0) answer(`  no longer to be had: ${lost.join(", ")}${disk}`, undefined, 4);
  } else if (survivors.length > 0) {
    answerLines([""]);
    answer(`where the old keys may still be${lost.length > 0 ? `: ${lost.join(", ")}` : ""}`, undefined, 2);
    printTable(survivors.map((survivor) => [survivor.where, survivor.hope, survivor.detail]));
  }
}

function about({ cluster, ca }: Assessment) {
  if (cluster) {
    answerLines([""]);
    answer(`  cluster, read from etcd: ${cluster}`, undefined, 4);
  }
  printCas(ca);
}

/** Copies of the cluster's own CA are no news. */
function strangeCas(ca: Assessment["ca"]) {
  const strange = ca.copies.filter(({ is }) => is === "another CA");
  if (strange.length > 0) printCas({ ...ca, copies: strange });
}

function printCas({ hashes, from, copies }: Assessment["ca"]) {
  const named = hashes.length > 0 ? `, by ${from}: ${hashes.join(", ")}` : `: ${NOBODY_NAMES_IT}`;
  answerLines([""]);
  answer(`  the cluster's CA${named}`, undefined, 4);
  for (const { what, hash, is } of copies)
    answer(`    ${what}: ${is === "the cluster's" || !hash ? is : `${is}, ${hash}`}`, undefined, 6);
}

const NOBODY_NAMES_IT = "nothing here names it; 00-assess on a control plane node with etcd's data does";

function notes(damage: readonly Check[]) {
  for (const { what, detail } of damage.filter(({ result }) => result === "warning"))
    answer(`  note   ${what}: ${detail}`, undefined, 9);
}

/** The worst first: a row for each cause, and below it how bad it is. */
function damageTable(damage: readonly Check[], all: boolean) {
  const shown = worstFirst(damage).filter(({ differs }) => differs === undefined);
  const follow = shown.filter(({ cause }) => cause !== undefined);
  const well = shown.filter(({ result }) => result === "ok");
  const rows = causesOf(shown).flatMap(({ shown: same }) => rowsOf(same));
  if (rows.length > 0 || all) answerLines([""]);
  if (rows.length > 0 || all) printLines([...rows, ...(all ? [...follow, ...well] : [])], HEAD);
  if (!all && follow.length > 0) answer(`  because of that: ${nameList(follow)}`, undefined, 4);
  stillWorks(damage);
  if (!all && well.length > 0) answer(`not damaged: ${well.length} more (--all shows them)`, undefined, 2);
}

const HEAD = [["what", "state", "detail"]];

/** So many that say the same have their own lines. */
const NAMED = 3;

/** Keys and certificates that one date or one deletion has broken are one row; so are many that say the same. */
function rowsOf(same: readonly Check[]): Check[] {
  const [pki, others] = [same.filter(isPki), same.filter((one) => !isPki(one))];
  const isOne = pki.length > NAMED;
  const rest = Map.groupBy(isOne ? others : same, ({ id, detail }) => `${id} ${detail}`);
  const kinds = [...rest.values()].flatMap((alike) =>
    alike.length > NAMED ? [{ ...alike[0]!, what: andMore(alike) }] : alike,
  );
  return [...(isOne ? [{ ...pki[0]!, ...together(pki) }] : []), ...kinds];
}

const isPki = ({ id }: Check) =>
  /^(certificate|kubeconfig)|^service-account-key$|^kubelet-client-certificate$/.test(id);

function together(same: readonly Check[]): Pick<Check, "what" | "detail"> {
  const what =
    same[0]!.state === "expired" ? "certificates and kubeconfigs" : "keys, certificates, kubeconfigs";
  return { what, detail: nameList(same) };
}

const nameList = (checks: readonly Check[]) => checks.map(shortName).join(", ");

function andMore([first, ...more]: readonly Check[]): string {
  return more.length > 0 ? `${shortName(first!)} and ${more.length} more` : shortName(first!);
}

/** One sentence for each kind, and one for all files that running processes have in memory. */
function stillWorks(damage: readonly Check[]) {
  const failed = worstFirst(damage.filter(({ result, cause }) => result === "failed" && cause === undefined));
  const inMemory = failed.filter(({ severity, area }) => severity === "soon" && area === "files");
  const kinds = Map.groupBy(failed, (one) =>
    inMemory.length > 1 && inMemory.includes(one) ? "" : `${one.severity} ${one.works}`,
  );
  if (kinds.size > 0) answerLines([""]);
  for (const [kind, all] of kinds) {
    const works = kind === "" ? untilItRestarts(all) : all[0]!.works!;
    answer(`${SEVERITIES[all[0]!.severity!]}, by ${andMore(all)}. Still works: ${works}`, undefined, 2);
  }
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
  const { found, cluster, data, obstacle } = await askForText(etcdData);
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

async function askForText(etcdData: string | undefined) {
  const found = await readNode({ mayBeGone: true });
  const place = await etcdDataOf(etcdData, { node: found });
  return { found, ...(await askControlPlaneNode(place, found, { asRan: false })) };
}

/** `named`: "w1/nginx-proxy". Errors: Fail where etcd's data cannot be read, or has no such pod. */
export async function workersPod(etcdData: string | undefined, named: string): Promise<string> {
  const { cluster, data, obstacle } = await askForText(etcdData);
  if (!cluster || !data) throw obstacle!;
  return manifestOfWorker({ cluster, data }, named);
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
