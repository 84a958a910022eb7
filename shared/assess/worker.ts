/**
 * The kubelet of any node, and its credentials. Also the whole verdict for a worker, or for a control plane
 * node that lost everything else.
 */
import { dirname } from "node:path";
import { command, inLines, type Todo } from "../again.ts";
import { type Check, dated, hasFailed } from "../checks/check.ts";
import type { CheckId } from "../checks/kinds.ts";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import { stateOfClient } from "../facts/api-accepts.ts";
import type { ClusterCa } from "../facts/ca-copies.ts";
import { HOLD } from "../facts/course.ts";
import type { LostFile } from "../facts/lost-file.ts";
import { lostOfKubelet } from "../facts/lost-files.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { casOfApiServer } from "../facts/read-by-pods.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { lostPods } from "../manifests/on-disk.ts";
import { type Container, isServerContainer } from "../node/containers.ts";
import { cniKubeconfigs, stateOfPem, trustsOldCa } from "../node/credentials.ts";
import { hasOwnClient, stateOfConf } from "../node/kubelet-conf.ts";
import { clientText } from "../node/kubelet-config.ts";
import { kubeletActive, kubeletState, kubeletStopped, type Node } from "../node/node.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import { certInfo, day, infoOf, madeAt } from "../pki/certificate.ts";
import { acceptedCas, caText } from "../pki/examine.ts";
import { kubeletCaReader } from "../renew/ca-readers.ts";
import { readerRows } from "../renew/reader-rows.ts";
import { holders } from "../salvage/memory/processes.ts";
import { shell } from "../shell-line.ts";
import { lastWay } from "../static-pods/without-files.ts";
import { type Assessment, bad, type Judged, openRows, row, withForecast } from "./assessment.ts";
import { listedContainers } from "./look-here.ts";
import { lostFileRows, modeRows, otherSecrets } from "./rows.ts";
import { NO_NEW_POD, OLD_CA_HELD } from "./verdict.ts";

/**
 * The kubelet's row, and a second one if the containers cannot be listed. `held`: part 0 stops this kubelet,
 * as the node is damaged.
 */
export async function kubeletRow(
  node: Node,
  running: Container[] | Fail,
  { held = false } = {},
): Promise<Check[]> {
  const runs = await kubeletActive();
  const state = runs ? "active" : await kubeletState();
  const loops = ENDS.includes(state) ? `systemd starts it, and it exits again (${state}): ${LOG}; ` : "";
  const stopped = (detail: string) =>
    held && state === "inactive"
      ? { warning: `${HELD}; ${detail}` }
      : { state: "stopped", failed: `${loops}${detail}` };
  const { words: certificate, notAfter } = clientCertificate(node);
  const kubelet = (detail: string) =>
    row("kubelet", "kubelet", dated(runs ? detail : stopped(detail), notAfter));
  if (running instanceof Fail)
    return [
      kubelet(certificate),
      row("containers", "containers", { warning: `${running.message}; ${running.hint}` }),
    ];
  if (running.length === 0) return [atOnce(kubelet(`no container runs; ${certificate}`))];
  const controlPlane = running.filter(isServerContainer);
  const counts = `${controlPlane.length} control-plane and ${running.length - controlPlane.length} other containers running`;
  return [kubelet(`${counts}; ${certificate}`)];
}

const HELD = "stopped, as part 0 says: part 1 starts it";
const ENDS = ["activating", "failed"];
const LOG = "journalctl -u kubelet -n 50";

/** After a reboot no container keeps running. */
function atOnce(kubelet: Check): Check {
  return hasFailed(kubelet) ? nothingRuns(kubelet) : kubelet;
}

export function nothingRuns(kubelet: Check): Check {
  return { ...kubelet, severity: "outage", works: "nothing on this node" };
}

/** As `SearchInput`. If the runtime does not answer, a controller-manager may run. */
export async function holdCommands(running: Container[] | Fail): Promise<Todo[]> {
  const pods = knownHere(listedContainers(running));
  const managers = holders(pods).own.filter(({ name }) => name === MANAGER).length;
  const paused = stoppedProcesses(pods).filter(({ isManager }) => isManager).length;
  const isListed =
    running instanceof Fail || running.some((one) => isServerContainer(one) && one.name === MANAGER);
  const [stop, pause] = HOLD as [Todo, Todo];
  const todo = (await kubeletStopped()) ? [] : [stop];
  if (managers > paused || (isListed && paused === 0)) todo.push(pause);
  return todo;
}

const MANAGER = "kube-controller-manager";

function clientCertificate(node: Node): { words: string; notAfter?: Date } {
  const pem = clientText(node.kubelet);
  if (!pem) return { words: "no client certificate" };
  const info = attempt(() => certInfo(pem));
  if (info instanceof Fail) return { words: "a client certificate that cannot be read" };
  const { notAfter } = info;
  return {
    words: `client certificate ${notAfter < new Date() ? "expired on" : "until"} ${day(notAfter)}`,
    notAfter,
  };
}

/** Judged by the CAs that this kubelet trusts, and an API server, as there is no etcd data here. */
export async function clientPemRow(node: Node): Promise<Check> {
  const { kubelet } = node;
  const [id, what] = ["kubelet-client-certificate", kubelet.clientPem] as const;
  const detail = "the kubelet's client certificate";
  const ca = attempt(() => readText(kubelet.clientCaFile));
  if (ca === undefined && attempt(() => clientText(kubelet)))
    return row(id, what, { warning: `${detail}; no CA is here to check it with` });
  const own = ca === undefined || ca instanceof Fail ? undefined : ca;
  const state = await stateOfClient(node, own && [own, casOfApiServer(node, "clients")].join("\n"));
  const end = attempt(() => infoOf(clientText(kubelet)), undefined)?.notAfter;
  return row(id, what, dated(state ? { state, failed: detail } : detail, end));
}

/** Wrong files that the kubelet trusts and uses. They cannot be judged without a CA here. */
export function kubeletTrustRows(node: Node, { facts }: PartialFacts): Check[] {
  const ca = facts && attempt(() => caText("ca", facts.certificatesDir));
  if (!ca || ca instanceof Fail || attempt(() => certInfo(ca)) instanceof Fail) return [];
  const { kubeconfig, clientPem, serverPem, serverTlsBootstrap } = node.kubelet;
  const rows: Check[] = [];
  const conf = stateOfConf(node, ca);
  const confFile = kubeconfig.replace("/etc/kubernetes/", "");
  if (conf) rows.push(bad("kubelet-conf", confFile, conf, "part 1 writes a new one"));
  const clientCas = acceptedCas(ca, "clients", facts);
  const client = stateOfPem(() => clientText(node.kubelet), clientCas, node.name);
  if (client && !hasOwnClient(node, ca, facts))
    rows.push(ofPem("kubelet-client-certificate", clientPem, client, CLIENT, clientText(node.kubelet)));
  // without a serving certificate, the kubelet waits for an approval that not every cluster needs
  const serving =
    serverTlsBootstrap && exists(serverPem)
      ? stateOfPem(() => readText(serverPem), acceptedCas(ca, "kubelets", facts))
      : undefined;
  if (serving)
    rows.push(ofPem("kubelet-serving-certificate", serverPem, serving, SERVING, readText(serverPem)));
  return rows;
}

function ofPem(id: CheckId, path: string, state: string, failed: string, pem: string | undefined): Check {
  return row(id, path, dated({ state, failed }, infoOf(pem)?.notAfter));
}

const CLIENT = "the kubelet's client certificate; part 1 issues a new one";
const SERVING = "the kubelet's serving certificate; the kubelet asks for a new one, part 3 approves it";

/** Kubeconfigs of the network plugin with the old CA: no part that issues certificates mends them. */
export async function cniRows({ kubelet }: Node): Promise<Check[]> {
  const ca = attempt(() => readText(kubelet.clientCaFile));
  if (!ca || ca instanceof Fail) return [];
  const rows: Check[] = [];
  for (const what of cniKubeconfigs())
    if (await trustsOldCa(what, ca)) rows.push(bad("cni-kubeconfig", what, "old CA", NO_NEW_NETWORK));
  return rows;
}

const NO_NEW_NETWORK =
  "no new pod starts on this node, and none stops, until the network plugin's agent here has restarted";

/** Such as a balancer in front of the API. */
const lostPod = ({ kubelet: { staticPodPath } }: Node) =>
  `it ran here, by the kubelet's records, and its manifest in ${staticPodPath} is lost. Its mirror pod has it: ${command("03-workers open")} keeps it on a control plane node`;

/** Where the whole folder is lost, the kubelet ends the pods of it within 20 s, and removes their records. */
function folderRow({ kubelet: { staticPodPath, kubeconfig, clientCaFile } }: Node): Check[] {
  if ([staticPodPath, kubeconfig, clientCaFile].some(exists)) return [];
  const open = command("03-workers open");
  const warning = `missing: the kubelet has stopped each static pod of this node, such as a balancer, and keeps no record of it. ${open} names it, and keeps it`;
  return [row("manifest", staticPodPath, { warning, mend: open })];
}

export async function assessWorker(node: Node, running: Container[] | Fail, ca: ClusterCa): Promise<Judged> {
  const { clientCaFile, kubeconfig } = node.kubelet;
  const strangers = ca.copies.filter(({ is }) => is === "another CA").map(({ what }) => what);
  const judge = (path: string, isThere: boolean, detail = "") => {
    const state = isThere ? strangers.includes(path) && "other CA" : "missing";
    return state ? { state, failed: detail } : detail;
  };
  const files = lostOfKubelet(node);
  const pods = lostPods(node).map((pod) => bad("manifest", `static pod ${pod}`, "missing", lostPod(node)));
  const damage = [
    row(
      "kubelet-ca",
      clientCaFile,
      judge(clientCaFile, Boolean(readText(clientCaFile)), "the CA that this kubelet trusts"),
    ),
    row("kubelet-conf", kubeconfig, judge(kubeconfig, exists(kubeconfig))),
    ...strangers
      .filter((path) => path !== clientCaFile && path !== kubeconfig)
      .map((path) => row("kubelet-ca", path, judge(path, true))),
    await clientPemRow(node),
    ...lostFileRows(files),
    ...(pods.length > 0 ? pods : folderRow(node)),
    ...(await kubeletRow(node, running)),
    ...modeRows(otherSecrets(node)),
  ];
  const held = openRows(readerRows(await kubeletCaReader(node, listedContainers(running))));
  const network = await cniRows(node);
  // a control plane node that lost everything has no kubelet.conf either
  const verdict = exists(kubeconfig)
    ? workerVerdict(damage, network.length > 0, held.some(hasFailed), hasJoined(node, ca))
    : eitherVerdict(node);
  return {
    cluster: undefined,
    damage: [...withForecast([...damage, ...held], node), ...network],
    ...filesFirst(files, verdict),
  };
}

type Verdict = Pick<Assessment, "role" | "verdict" | "next">;

function workerVerdict(
  damage: readonly Check[],
  noNewPod: boolean,
  hasOldCa: boolean,
  joined: boolean,
): Verdict {
  const well = joined ? JOINED : NOTHING_DAMAGED;
  const verdict = damage.some(hasFailed)
    ? joinsAgain(damage)
    : hasOldCa
      ? OLD_CA_HELD
      : noNewPod
        ? NO_NEW_POD
        : well;
  return { role: "worker", ...verdict };
}

const JOIN = `parts 1 and 2 on the control plane nodes, then the line that ${command("03-workers open")} prints there`;

function joinsAgain(damage: readonly Check[]) {
  const isExpired = damage.some(
    ({ id, state }) => id === "kubelet-client-certificate" && state === "expired",
  );
  const why = isExpired ? "the kubelet's client certificate has expired: " : "";
  return { verdict: `${why}this worker has to join again. Its containers run on`, next: [JOIN] };
}

const NOTHING_DAMAGED = {
  verdict:
    "nothing is damaged here. If the control plane nodes have a new CA now, this worker has to join again nevertheless",
  next: [],
};

/** A worker that waits for its join has its certificate from before the repair began here. */
function hasJoined({ kubelet }: Node, { hashes, copies }: ClusterCa): boolean {
  const isOne = hashes.length > 0 && copies.every((copy) => copy.is === "the cluster's");
  const got = infoOf(clientText(kubelet)) && madeAt(clientText(kubelet));
  return isOne && got !== undefined && rescueFolders().some(({ made }) => got >= made);
}

const JOINED = {
  verdict: "nothing is damaged here: this worker has joined in this repair, with the CA that its pods have",
  next: [],
};

/** A control plane node that joins as a worker would be lost. */
function eitherVerdict({ name, nameFrom }: Node): Verdict {
  return {
    role: "unknown",
    verdict:
      `this is a worker, or a control plane node that lost everything: nothing here shows which. Its name is "${name}" (from ${nameFrom}). ` +
      `${command("00-assess --all")} on a control plane node names all of them, in its line "cluster"`,
    next: [`if ${name} is not among them: ${JOIN}`, `if ${name} is among them${NO_WORKER}`],
  };
}

/** Leaves out the command: on a worker nobody types a command that leaves a control plane node out. */
const NO_WORKER = ', do not join it: RUNBOOK-MORE "If a member has no data"';

/** The kubelet does not start again without these files, so they come back first. */
function filesFirst(files: readonly LostFile[], verdict: Verdict): Verdict {
  const copies = files.flatMap((file) => [
    { command: shell`scp -rp root@NODE:${file.path} ${dirname(file.path)}/`, note: MOSTLY },
    ...lastWay(file),
  ]);
  return { ...verdict, next: [...inLines(copies), ...verdict.next] };
}

const MOSTLY = "NODE: mostly another worker has the same, or a backup";
