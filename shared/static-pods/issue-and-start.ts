/**
 * Parts 1 and 2 on this node: certificates and kubeconfigs are issued, then static pods start. Part 1 brings etcd
 * back, part 2 the API server, controller-manager and scheduler.
 */
import { dirname, relative } from "node:path";
import { command } from "../again.ts";
import { caIsNew, strangeCa } from "../facts/ca-copies.ts";
import { refuseUndecided, sayEndpoint } from "../facts/endpoint.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { lacksItsLink, strangeFolder, strangeFolderText } from "../facts/usual-folder.ts";
import { attempt, Fail } from "../fail.ts";
import { isLink, moveToRescue } from "../files/file-tree.ts";
import { exists, pointLink, readText, stat } from "../files/files.ts";
import { isBelow } from "../files/root.ts";
import { hostFiles } from "../manifests/command.ts";
import { linksUsualDir, manifestPath, setManifestAside } from "../manifests/on-disk.ts";
import { type Container, containers, controlPlaneContainers, stopContainers } from "../node/containers.ts";
import { ensureControlPlaneKubelet } from "../node/control-plane-kubelet.ts";
import { wasDuringRun } from "../node/kept-run.ts";
import { kubeletActive } from "../node/node.ts";
import { rescuedEtcd } from "../node/rescue-folder.ts";
import { countOfKeys, keysToMake, type PkiAction } from "../pki/actions.ts";
import { madeAt } from "../pki/certificate.ts";
import {
  CERTIFICATES_DIR,
  CERTS,
  type ClusterFacts,
  certPath,
  certRow,
  isEtcds,
  isInternal,
  keyPath,
} from "../pki/certs.ts";
import { apply, ensureMany, refuseUnmakeable } from "../pki/ensure.ts";
import { makeKeysAhead } from "../pki/keys.ts";
import { markNewSaKey } from "../pki/sa-keys.ts";
import { say, sayNoUndo } from "../run.ts";
import { shell } from "../shell-line.ts";
import { told } from "../this-run.ts";
import { fitNamedCas, fitOwners } from "./fit-files.ts";
import { refuseUnfitNode } from "./preflight.ts";
import {
  areReadByServers,
  managerIsPaused,
  reduceInPlace,
  restartKubelet,
  resumePausedProcesses,
  startsOf,
  toRestart,
} from "./restarts.ts";
import { refuseLostFiles, restoreManifests, restoreOthers } from "./restore.ts";
import {
  onlyOnPeers,
  readableStaticPods,
  SERVERS,
  type WantedManifest,
  wantedManifests,
} from "./wanted-manifests.ts";
import { issuedPaths, mustIssue, optionsForEnsure, runningHere, serversWork, type Work } from "./work.ts";

/** Steps 1.4 to 1.6 by hand. */
export function kubeadmLines({ externalEtcd }: Pick<ClusterFacts, "externalEtcd">): string[] {
  const certs = "kubeadm init phase certs";
  return externalEtcd
    ? [`${certs} ca, front-proxy-ca, sa`, "openssl x509 -req", "systemctl restart kubelet"]
    : [
        `${certs} ca, etcd-ca, front-proxy-ca, sa`,
        `${certs} etcd-server, etcd-peer, etcd-healthcheck-client`,
        "kubeadm init phase etcd local; systemctl restart kubelet",
      ];
}

/**
 * A sound CA that is not the cluster's would sign certificates that no node trusts. A younger one may be the
 * new one, made on another control plane node; it is named. Errors: Fail if it is older.
 */
export function refuseForeignCa(cp: ControlPlaneNode) {
  const { certificatesDir } = cp.facts;
  const strange = strangeCa({ ...cp, certificatesDir });
  if (!strange) return;
  const path = certPath("ca", certificatesDir);
  if (!strange.older) {
    const isOurs = wasDuringRun(stat(path)!.modified);
    const rest = isOurs
      ? "A script of this kit has put it there"
      : `If neither part 1 nor hand-over.ts has made it, stop here: ${command("00-salvage --move-aside")} looks for the cluster's own CA`;
    return say(`${path} is newer than the CA that etcd's data names: ${strange.hash}. ${rest}`);
  }
  throw new Fail(`"${path}" is of another CA, ${strange.hash}, made before the one that etcd's data names`, {
    hint:
      `${command("00-salvage --move-aside")} looks for the cluster's own CA. ` +
      `If it is nowhere: mv ca.crt and ca.key away, then ${command("00-assess")}`,
  });
}

/**
 * Whether somebody has begun with a new CA already: only etcd's data still says what the cluster was, and not for
 * long.
 */
export function needsCopy(cp: ControlPlaneNode): boolean {
  return caIsNew(cp) && !exists(rescuedEtcd(cp.rescue));
}

export async function makeSharedKeys(cp: ControlPlaneNode, actions: readonly PkiAction[]) {
  await linkUsualDir(cp);
  const others = keysToMake(actions).map(({ name }) => name);
  const trusted = others.filter((name) => !isInternal(name));
  if (trusted.length > 0) sayNoUndo("newKeys", { KEYS: trusted.join(", ") });
  await apply(actions, cp.facts, { asideDir: cp.asideDir, onNewSaKey: markNewSaKey });
}

export async function issueEtcdCertificates(cp: ControlPlaneNode) {
  if (cp.facts.externalEtcd) return say("unchanged etcd's certificates: kubeadm did not make this etcd");
  // A repair is known by a certificate of etcd that is younger than its rescue folder: beside a new CA even a
  // sound one is issued again.
  const paths = [certPath, keyPath].map((path) => path(certRow("etcd-server"), cp.facts.certificatesDir));
  const made = attempt(() => madeAt(readText(paths[0]!) ?? ""));
  const isOlder = !(made instanceof Fail) && made < cp.rescue.made;
  if (isOlder && caIsNew(cp) && exists(rescuedEtcd(cp.rescue)))
    for (const path of paths) moveToRescue(path, cp.asideDir);
  await ensureMany({ certs: CERTS.filter(isEtcds) }, cp.facts, optionsForEnsure(cp));
  const etcd = wantedManifests(cp, ["etcd"]);
  fitNamedCas(cp, etcd);
  fitOwners(etcd, cp);
}

/**
 * The kubelet needs a CA and credentials to run at all; with them, and without an API, it runs static pods
 * (measured).
 */
export async function startEtcd(cp: ControlPlaneNode) {
  const { node, facts, asideDir } = cp;
  const credentials = await ensureControlPlaneKubelet(node, facts, asideDir);
  const manifest = restoreManifests(cp, ["etcd"]);
  // part 2 reports a server whose manifest is found nowhere
  const servers = wantedManifests(cp, undefined, { mayLack: true });
  restoreOthers(cp, servers);
  if (!credentials && !manifest && (await kubeletActive())) return say("unchanged kubelet: it runs");
  await holdServers(cp, servers);
  await restartKubelet(cp);
}

/**
 * A kubelet that starts would start the servers with certificates that have expired or are missing. They fail
 * again and again, and take the processors from etcd. So their manifests wait for part 2; but not while an API
 * server still runs, nor without a mirror pod.
 */
async function holdServers(cp: ControlPlaneNode, wanted: readonly WantedManifest[]) {
  const names = SERVERS.filter((name) => exists(manifestPath(cp, name)));
  // looked at now, not at the first screen: part 1 has written shared keys since
  if (names.length === 0 || !mustIssue(cp)) return;
  if ((await controlPlaneContainers(cp.node.runtimeEndpoint)).some(({ name }) => name === "kube-apiserver"))
    return;
  const held = names.filter((name) => wanted.some((one) => one.name === name));
  for (const name of held) setManifestAside(cp, name);
  if (held.length > 0) say(`${held.join(", ")}: wait for their certificates; part 2 brings them back`);
}

/**
 * kubeadm's usual folder is a link again, if it was one and all of /etc/kubernetes is lost, if a path leads through it,
 * or if a run was cut off after it had moved the folder: one made in its place would have none of the certificates. A
 * stranger's folder is moved aside first.
 */
export async function linkUsualDir(cp: ControlPlaneNode) {
  const { facts, node } = cp;
  if (facts.certificatesDir === CERTIFICATES_DIR) return;
  if (moveStrangeFolder(cp)) return await makeLink(cp);
  if (exists(CERTIFICATES_DIR) || isLink(CERTIFICATES_DIR)) return;
  const isLost = ![certPath("apiserver", facts.certificatesDir), manifestPath(cp, "kube-apiserver")].some(
    exists,
  );
  const pods = readableStaticPods(cp).flatMap(({ pod }) => hostFiles(pod));
  const paths = [node.kubelet.clientCaFile, ...pods.map(({ path }) => path)];
  const isNamed = paths.some((path) => isBelow(path, CERTIFICATES_DIR));
  if (isNamed || lacksItsLink(facts) || (isLost && linksUsualDir())) await makeLink(cp);
}

/** A mount cannot be moved: that is said, and part 5 is bad until somebody has. Returns whether it was moved. */
function moveStrangeFolder(cp: ControlPlaneNode): boolean {
  const strange = strangeFolder({ ...cp, certificatesDir: cp.facts.certificatesDir }, cp.node);
  if (!strange) return false;
  say(strangeFolderText(strange));
  if (strange.neededFor) {
    say(`unchanged ${strange.path}: "${strange.neededFor}" is read there`);
    return false;
  }
  const moved = attempt(() => moveToRescue(strange.path, cp.asideDir, "its keys are not the cluster's"));
  if (moved instanceof Fail) say(`unchanged ${strange.path}: ${moved.message}. To mend it: ${moved.hint}`);
  return !(moved instanceof Fail);
}

async function makeLink({ facts }: ControlPlaneNode) {
  const target = relative(dirname(CERTIFICATES_DIR), facts.certificatesDir);
  await pointLink(CERTIFICATES_DIR, target, facts.certificatesDir);
}

/**
 * Part 2, before it asks etcd. Says where the witnesses of the endpoint disagree. Errors: as `containers`,
 * `refuseUnmakeable`, `refuseLostFiles` and `refuseUnfitNode`; Refused if nothing decides between the witnesses, and something is to be
 * issued.
 */
export async function lookAtServers(
  cp: ControlPlaneNode,
  { superAdmin, isBeforePart1 = false }: { superAdmin?: boolean | undefined; isBeforePart1?: boolean } = {},
): Promise<Work> {
  const running = await runningHere(cp);
  const work = serversWork(cp, superAdmin);
  const issued = issuedPaths(work);
  // a dry run before part 1 cannot know the keys that part 1 brings or makes
  if (!isBeforePart1) refuseUnmakeable(work.pki, cp.facts);
  refuseLostFiles(cp, work.pods, startsOf(cp, { running, issued }));
  sayEndpoint(cp);
  if (issued.length > 0) refuseUndecided(cp);
  await refuseUnfitNode(cp);
  // they are made while part 2 asks etcd and the runtime
  makeKeysAhead(cp.facts.keyAlgorithm, countOfKeys(work.pki));
  return work;
}

/**
 * Files before manifests: if a static pod comes before its kubeconfig, the kubelet makes an empty one. Returns the
 * paths of what was written.
 */
export async function issueForServers(cp: ControlPlaneNode, work: Work): Promise<string[]> {
  const coming = issuedPaths(work);
  // its record begins before the first file: a run that is cut off right after that is known by it
  if (coming.length > 0) told({ what: "act", line: "certificates and kubeconfigs: being issued" });
  if (areReadByServers(cp, coming)) reduceInPlace(cp);
  const bundles = fitNamedCas(cp, work.pods);
  const { written } = await apply(work.pki, cp.facts, optionsForEnsure(cp));
  fitOwners(work.pods, cp);
  const done = work.pki.filter(({ finding }) => written.includes(finding.name));
  return [...bundles, ...done.map(({ finding }) => finding.paths[0]!)];
}

/**
 * Pods with new certificates or kubeconfigs start again, as they read them once. Returns when anything was
 * started, or undefined.
 */
export async function startServers(
  cp: ControlPlaneNode,
  { pods }: Work,
  issued: readonly string[],
): Promise<Date | undefined> {
  const began = new Date();
  const { node, facts, asideDir } = cp;
  const all = await containers(node.runtimeEndpoint);
  const running = all.filter((one) => one.running);
  await resumePausedProcesses(all);
  const watched = exists(node.kubelet.staticPodPath) && (await kubeletActive());
  const tried = SERVERS.some((name) => exists(manifestPath(cp, name)));
  const restored = restoreManifests(cp, undefined, {
    wanted: pods,
    starts: startsOf(cp, { running, issued }),
  });
  for (const { name, peer } of onlyOnPeers(cp))
    say(
      `${name}: ${peer} has this static pod; whether this node had it is not known. If it had: copy its manifest from there`,
    );
  const { stale, inFull } = await endStale(cp, { running, issued });
  const credentials = await ensureControlPlaneKubelet(node, facts, asideDir);
  // A kubelet whose folder of manifests was there all the time has seen them come; any other one looks again
  // only after 20 s. One that tried to start them without their certificates holds them back for up to five
  // minutes, and forgets that when it starts again.
  const isNew = restored || areReadByServers(cp, issued);
  const restart = !watched || credentials || inFull || managerIsPaused(all) || (tried && isNew);
  if (restart) await restartKubelet(cp);
  return restored || restart || stale ? began : undefined;
}

/**
 * Looks after the manifests are back: one that has come may be of a pod that reads other files. Returns whether there
 * was a stale container, and whether a controller-manager in full was among them.
 */
async function endStale(
  cp: ControlPlaneNode,
  containers: { running: Container[]; issued: readonly string[] },
) {
  const { stale, kept } = await toRestart(cp, containers);
  const isManager = ({ name }: Container) => name === "kube-controller-manager";
  // it ends with its kubelet: a manifest that changes under a pod that runs waits for ten seconds and more
  const inFull = stale.some(isManager) && reduceInPlace(cp);
  const ends = stale.filter((one) => !(inFull && isManager(one)));
  if (ends.length > 0) await stopContainers(cp.node.runtimeEndpoint, ends);
  // what somebody else has changed since is no part of a repair, and what works keeps running
  for (const { container, file } of kept)
    say(
      `unchanged ${container.name}: it runs since before ${file} was changed by others. To let it read the new one: ${shell`crictl stop ${container.id}`}`,
    );
  return { stale: stale.length > 0, inFull };
}
