/**
 * Part 5 as a whole: this node, its kubelet with the CA that it trusts, and on a control plane node the
 * clock, certificates, kubeconfigs, manifests and their files, and the cluster. Reads only. 05-verify prints it, `report`
 * records it.
 */

import { command } from "../again.ts";
import { ADMIN_CONF, adminClient } from "../api/admin-api.ts";
import { KubeApi } from "../api/kube-api.ts";
import { withCauses } from "../checks/causes.ts";
import { type Answer, type Check, type CheckRow, Checks, check, dated, hasFailed } from "../checks/check.ts";
import { endingsHere, endingsShown, forecast, openFiles } from "../checks/forecast.ts";
import { ASSESS, type CheckId, checkIdOf } from "../checks/kinds.ts";
import { sharedKeyRows } from "../checks/usual-folder-row.ts";
import { inManifest } from "../etcd-location/etcd-candidates.ts";
import { holdsData, isKnown } from "../etcd-location/etcd-folders.ts";
import { etcdDataOf } from "../etcd-location/etcd-place.ts";
import { closeCopies, NoWayToEtcd } from "../etcd-location/living-etcd.ts";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import { stateOfClient } from "../facts/api-accepts.ts";
import { trustedSince } from "../facts/ca-copies.ts";
import { clockTrouble } from "../facts/clock.ts";
import { askControlPlaneNode } from "../facts/control-plane-node.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import { controlPlaneWithoutData, isNotForParts, whyWithoutData } from "../facts/no-etcd-data.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { otherControlPlanes } from "../facts/other-control-planes.ts";
import { casOfApiServer } from "../facts/read-by-pods.ts";
import { keptRepair } from "../facts/repair.ts";
import { tokenKeys } from "../facts/sa-key.ts";
import { IN_ROWS, withSavedOptions } from "../facts/typed-options.ts";
import { attempt, attemptLater, Fail, Refused } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { backupAnswer } from "../hand-over/backup-mark.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { CONTROL_PLANE, type Container, containersIfAny } from "../node/containers.ts";
import { cniKubeconfigs, trustsOldCa } from "../node/credentials.ts";
import { signsInWithoutCertificate } from "../node/kubelet-conf.ts";
import { clientText } from "../node/kubelet-config.ts";
import { kubeletsOtherName, type Node } from "../node/node.ts";
import { rescuedEtcd } from "../node/rescue-folder.ts";
import { endedConf } from "../node/systemctl-kubelet.ts";
import { endSavedOptions, endSavedOptionsOf, savedOptionsOf } from "../node/words.ts";
import { certInfo, day, infoOf, isValidNow, signedBy, trustedKeys } from "../pki/certificate.ts";
import { clusterCa, pkiFindings, wholePki, withAdminElsewhere } from "../pki/examine.ts";
import { kubeconfigRows, ROOTS, readKubeconfig } from "../pki/kubeconfigs.ts";
import { oldSaKeys } from "../pki/sa-keys.ts";
import { listed } from "../plain.ts";
import { Progress } from "../progress.ts";
import { caReaders, kubeletCaReader } from "../renew/ca-readers.ts";
import { olderInPods } from "../renew/pods-with-older-ca.ts";
import { type OldCaHolder, oldCaHolders, readerRows } from "../renew/reader-rows.ts";
import { LOOKS, mode, say, step } from "../run.ts";
import { shell } from "../shell-line.ts";
import { otherStaticPods, SERVERS, wantsSuperAdmin } from "../static-pods/wanted-manifests.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { workersPods } from "../workers/own-pods.ts";
import { heldIn, rescuedFiles } from "../workloads/left-to-do.ts";
import { podChecks, returnedChecks, trustChecks } from "./check-cluster.ts";
import { nodeChecks, nodesWithLeases, type WellAnswers } from "./check-nodes.ts";
import { serverChecks, withoutAdmin } from "./check-servers.ts";

interface HowToVerify {
  etcdData: string | undefined;
  without?: readonly string[];
  /** Ends even if the cluster cannot be read: a helper then needs the checks of this node. */
  mustEnd?: boolean;
  /** Good answers of nodes in earlier rounds: within a minute they are not asked again. */
  well?: WellAnswers;
}

export type VerifiedHere = Awaited<ReturnType<typeof verifyHere>>;

/** `partialFacts` is undefined on a worker. Errors: Fail if the cluster cannot be read, unless it must end. */
export async function verifyHere(
  node: Node,
  { etcdData, without = [], mustEnd = false, well = new Map() }: HowToVerify,
) {
  const progress = process.stderr.isTTY ? new Progress("checked") : undefined;
  using _line = { [Symbol.dispose]: () => progress?.clear() };
  const checks = new Checks((made, at) => progress?.show(made, at));
  const place = await etcdDataOf(etcdData, { node });
  const mend = isKnown(place) ? command("01-etcd") : ASSESS;
  await step("5.1 Check this node's kubelet", () => checks.add(kubeletChecks(node, mend)), LOOKS);
  const partialFacts = isKnown(place) ? await askControlPlaneNode(place, node) : undefined;
  const { cp, obstacle } = partialFacts ?? {};
  // if etcd is not kubeadm's, neither are its certificates, and that is no damage
  const unread =
    partialFacts && isNotForParts(partialFacts.home)
      ? { etcd: partialFacts.home, from: [], unreached: place.unreached }
      : controlPlaneWithoutData(node, place);
  const readers = cp ? await caReaders(cp) : partialFacts ? [] : await kubeletCaReader(node);
  const oldCa = oldCaHolders(readers);
  if (unread) {
    const why = whyWithoutData(unread, place.dir);
    const { unreached, etcd } = unread;
    const warning = `${why}; only this node's kubelet was checked`;
    const isWarning = isNotForParts(etcd) && !(unreached instanceof NoWayToEtcd);
    const mend = etcd.runs === "elsewhere" ? { mend: ASSESS } : {};
    const answer: Answer = { ...(isWarning ? { warning } : { failed: why }), ...mend };
    await checks.add([check("etcd-data", () => answer)]);
  } else if (cp) await verifyControlPlane(checks, cp, { oldCa, well, away: awayFrom(cp, without) });
  else if (obstacle && mustEnd) await checks.add([check("cluster-read", () => Promise.reject(obstacle))]);
  else if (obstacle) throw obstacle;
  await checks.add(readerRows(readers));
  const shown = cp ? await endingsShown(cp) : [];
  const endings = [...endingsHere(node, partialFacts?.certificatesDir, partialFacts?.home), ...shown];
  await checks.add(forecast(endings));
  const others = cp ? otherControlPlanes(cp.cluster, { node, without }).map(({ name }) => name) : [];
  return { checks: withCauses(checks.all) as readonly Check[], endings, partialFacts, oldCa, others };
}

interface Noted {
  oldCa: OldCaHolder[];
  well: WellAnswers;
  away: ReturnType<typeof awayFrom>;
}

function endAnswered(cp: ControlPlaneNode) {
  const places = new Set(cp.endpoint.witnesses.map(({ place }) => place));
  if (places.size < 2) endSavedOptions(({ option }) => option === "endpoint", "all that name a place agree");
  if (inManifest(cp).some(holdsData))
    endSavedOptions(({ option }) => option === "etcd-data", "etcd's manifest names it");
}

function awayFrom(cp: ControlPlaneNode, without: readonly string[]) {
  endAnswered(cp);
  const leftOut = withSavedOptions({ without }, cp, { mayBeDeleted: true, shown: IN_ROWS });
  return savedOptionsOf("without").filter(({ value }) => leftOut.without.includes(value));
}

async function verifyControlPlane(checks: Checks, cp: ControlPlaneNode, noted: Noted) {
  const admin = await attemptLater(() => adminClient(cp.facts));
  const names = noted.away.map(({ value }) => value);
  const own = async () => {
    await checks.add(fileChecks(cp));
    if (!(admin instanceof Fail)) return await checks.add(serverChecks(cp, admin, names));
    // a limit of this kit is no damage of the cluster
    const words = `${admin.message}; ${admin.hint}`;
    const needed: CheckId[] = ["kubeconfig-admin"];
    const answer = admin instanceof Refused ? { warning: words } : { failed: words, needed };
    await checks.add([check("admin-conf", () => answer), withoutAdmin(cp)]);
  };
  const whole = async () => {
    // fails if the API does not answer; the rows that were checked before count
    if (!(admin instanceof Fail))
      await checks.add([check("cluster-read", () => wholeCluster(checks, cp, admin, noted))]);
  };
  await step("5.2 Check this control plane node's files and servers", own, LOOKS);
  await step("5.3 Check the cluster's trust, tokens and nodes", whole, LOOKS);
}

async function wholeCluster(
  checks: Checks,
  cp: ControlPlaneNode,
  api: KubeApi,
  { oldCa, well, away }: Noted,
) {
  const pki = cp.facts.certificatesDir;
  const caPem = clusterCa(pki);
  const saPub = cp.facts.externalSigner ? undefined : tokenKeys(cp);
  await checks.add(trustChecks(cp, api, { caPem, saPub, oldSaPub: oldSaKeys(pki).join("") }));
  const names = away.map(({ value }) => value);
  const nodes = await nodesWithLeases(api, trustedSince(cp), names);
  endSavedOptionsOf([...nodes.there.keys()].filter((name) => !nodes.notRenewed.includes(name)));
  endSavedOptions(({ option, value }) => option === "lost" && !nodes.there.has(value), "its Node is deleted");
  await checks.add(await nodeChecks(cp, api, nodes, { caPem, well, away }));
  await checks.add(returnedChecks(cp, api));
  await checks.add(podChecks(cp, api, caPem, new Set(nodes.notRenewed), podsBefore(cp, nodes)));
  const { rows, holders } = await olderInPods(cp, api);
  await checks.add(rows);
  oldCa.push(...holders);
  return `${cp.cluster.nodes.length} nodes`;
}

/** Workers' static pods, from before the repair. */
function podsBefore(
  cp: ControlPlaneNode,
  { there, notRenewed }: Awaited<ReturnType<typeof nodesWithLeases>>,
) {
  const repair = keptRepair(cp);
  const pods = repair && workersPods({ ...cp, data: repair.data }, notRenewed);
  if (!pods || pods instanceof Fail) return [];
  const left = [...pods].filter(([worker]) => there.has(worker));
  return left.flatMap(([worker, own]) => own.map(({ name }) => `${name}-${worker}`));
}

/** The last round: one without a failure, or the one at the end of these seconds. 0: only one round. */
export async function untilGood<T extends Pick<VerifiedHere, "checks"> & Partial<VerifiedHere>>(
  first: T,
  look: () => Promise<T>,
  seconds: number,
): Promise<T> {
  let now = first;
  const failed = () => now.checks.filter(hasFailed).map(({ area, what }) => `${area}: ${what}`);
  // the first of them by name: a cluster may have thousands of nodes
  const named = () => {
    const [names, more] = [failed().slice(0, 3).join(", "), failed().length - 3];
    return more > 0 ? `${names} and ${more} more` : names;
  };
  if (seconds === 0 || failed().length === 0) return now;
  say(`waiting, ${seconds} s at most, for ${named()}`);
  mode.again = true;
  const isGood = async () => {
    try {
      now = await look();
    } finally {
      closeCopies(now.partialFacts?.cp?.etcd.living);
    }
    return failed().length === 0;
  };
  const hint = "end it with Ctrl-C; 05-verify without --wait says what mends it";
  await undefinedOnTimeout(waitFor(named, isGood, { seconds, easing: true, hint }));
  return now;
}

/** `mend`: the command that gives this kubelet new files. */
function* kubeletChecks(node: Node, mend: string): Generator<CheckRow> {
  const { clientPem, clientCaFile, kubeconfig, bootstrapKubeconfig } = node.kubelet;
  yield check("kubelet-client-certificate", () => clientCertificate(node, mend), clientPem);
  yield check("stopped-process", async () => stopped(await containersIfAny(node)));
  yield check("kubelet-conf", () => kubeletConf(node, mend), kubeconfig);
  yield check(
    "bootstrap-kubelet-conf",
    () =>
      readText(bootstrapKubeconfig) === undefined
        ? "not there, as it should be"
        : { warning: "still there: it holds a token" },
    bootstrapKubeconfig,
  );
  if (node.hostName.toLowerCase() !== node.name)
    yield check("kubelet-name", async () => {
      const other = await kubeletsOtherName(node);
      return other ? { warning: other.message } : `${node.name}, on the host ${node.hostName}`;
    });
  for (const path of cniKubeconfigs()) {
    const look = async () =>
      (await trustsOldCa(path, readText(clientCaFile) ?? ""))
        ? { failed: "trusts the old CA: the network plugin's agent here has to restart" }
        : "reaches the API, as far as its CA shows";
    yield check("cni-kubeconfig", look, path);
  }
}

/** Only names those of other namespaces: the pod's owner may have stopped it. */
function stopped(all: readonly Container[]): Answer {
  const found = stoppedProcesses(knownHere(all));
  if (found.length === 0) return "none is stopped";
  const says = `stopped by a signal: ${listed(found.map(({ comm, pid, of }) => `${comm} (pid ${pid}) of ${of}`))}`;
  const mend = shell`kill -CONT ${found.map(({ pid }) => String(pid))}`;
  return found.some(({ inKubeSystem }) => inKubeSystem)
    ? { failed: says, mend }
    : { warning: `${says}. ${mend}` };
}

async function clientCertificate(node: Node, mend: string): Promise<Answer> {
  const { name, kubelet } = node;
  const { clientCaFile } = kubelet;
  const ca = readText(clientCaFile) ?? "";
  const signsInBy = ca && signsInWithoutCertificate(node, ca);
  if (signsInBy) return `none: it signs in by ${signsInBy}`;
  const cas = [ca, casOfApiServer(node, "clients")].join("\n");
  const state = await stateOfClient(node, cas, name);
  if (state) {
    const failed = `it has to be of system:node:${name}, signed by ${clientCaFile}`;
    const cert = attempt(() => certInfo(clientText(kubelet)), undefined);
    return dated({ state, failed, mend }, cert?.notAfter);
  }
  const { cn, notAfter } = certInfo(clientText(kubelet));
  return dated(`${cn}, until ${day(notAfter)}`, notAfter);
}

async function kubeletConf({ name, systemd, kubelet }: Node, mend: string): Promise<Answer> {
  const { kubeconfig, clientCaFile } = kubelet;
  const conf = readKubeconfig(kubeconfig);
  if (!conf) return { state: "missing", failed: "", mend };
  const ended = await endedConf(systemd);
  if (ended?.isExpired) return { failed: ended.fail.message, mend: ended.fail.hint };
  if (trustedKeys(conf.caPem).isDisjointFrom(trustedKeys(readText(clientCaFile))))
    return { failed: `trusts another CA than ${clientCaFile}`, needed: ["certificate-ca"], mend };
  // as the kubelet itself: beside its certificate, what else the file's user signs in by does not count
  const own = clientText(kubelet);
  if (!own && conf.signsInBy && !conf.token)
    return `${conf.server}, not asked: it signs in by ${conf.signsInBy}`;
  const asIts = own ? { ...conf, token: undefined, clientCertPem: own, clientKeyPem: own } : conf;
  await KubeApi.from(asIts).get(`/api/v1/nodes/${name}`);
  return ended ? { warning: `${ended.fail.message}. ${ended.fail.hint}` } : `${conf.server} answers it`;
}

function* fileChecks(cp: ControlPlaneNode): Generator<CheckRow> {
  const { facts } = cp;
  // checks of dates depend on it
  yield check("clock", async () => {
    const found = await clockTrouble(cp);
    if (found instanceof Fail) return { failed: `${found.message}; ${found.hint}` };
    return found.length > 0 ? { warning: found.join("; ") } : "nothing says that it is wrong";
  });
  const kubeconfigs = kubeconfigRows(facts, { superAdmin: wantsSuperAdmin(cp) });
  const findings = pkiFindings({ ...wholePki(facts), kubeconfigs }, facts);
  for (const { name, state, detail, differs, cert } of withAdminElsewhere(findings, facts))
    yield check(checkIdOf(name), () => {
      if (name === "kubelet") return "see the kubelet's checks";
      return dated(state === "ok" ? (differs ?? detail) : { state, failed: detail }, cert?.notAfter);
    });
  const idOf = (path: string) =>
    findings.filter(({ paths }) => paths.includes(path)).map((one) => checkIdOf(one.name))[0];
  for (const name of facts.externalEtcd ? SERVERS : CONTROL_PLANE)
    yield check("manifest", () => manifest(manifestPath(cp, name), idOf), name);
  for (const { name, namespace } of otherStaticPods(cp))
    yield check("manifest", () => manifest(manifestPath(cp, name, namespace), idOf), name);
  yield* openFiles(cp);
  for (const rescue of rescuedFiles()) {
    const inUse = cp.dataFrom === rescuedEtcd(rescue) ? "; the scripts still use this folder" : "";
    const warning = `holds ${heldIn(rescue)}${inUse}: remove it when nothing is missing any more`;
    yield check("rescue-folder", () => ({ warning }), rescue.dir);
  }
  yield* sharedKeyRows({ ...cp, certificatesDir: facts.certificatesDir }, cp.node);
  yield* rootsKubeconfig(facts);
  const others = believedPeers(cp.cluster, cp).map(({ name }) => name);
  if (!facts.externalCa) yield check("backup", () => backupAnswer(facts.certificatesDir, others));
}

/** `idOf`: the check of a file; undefined: it has none. */
function manifest(path: string, idOf: (path: string) => CheckId | undefined): Answer {
  const pod = readManifest(path);
  if (!pod) return { state: "missing", failed: "" };
  // a volume without a type is mounted empty if its path is missing
  const missing = hostFiles(pod).filter(
    ({ type, path }) => type !== "" && !type.endsWith("OrCreate") && !exists(path),
  );
  if (missing.length === 0) return "there, with all files it names";
  const ids = missing.map((file) => idOf(file.path));
  // a file that no other check has seen is this row's own finding
  const needed = ids.includes(undefined) ? [] : (ids as CheckId[]);
  return { failed: `needs ${missing.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")}`, needed };
}

/**
 * kubeadm says to copy admin.conf there after `init`. A copy with another server belongs to another cluster.
 */
function* rootsKubeconfig({ certificatesDir }: ControlPlaneNode["facts"]): Generator<CheckRow> {
  const [own, admin] = [ROOTS, ADMIN_CONF].map((path) => attempt(() => readKubeconfig(path), undefined));
  const info = infoOf(own?.clientCertPem);
  if (!own?.clientCertPem || !info || own.server !== admin?.server) return;
  const look = (): Answer => {
    if (!isValidNow(info)) return { warning: `its certificate has expired (${day(info.notAfter)})` };
    const isOurs = signedBy(own.clientCertPem!, clusterCa(certificatesDir));
    return isOurs ? "as admin.conf" : { warning: "its certificate is signed by another CA" };
  };
  yield check("roots-kubeconfig", look, ROOTS);
}
