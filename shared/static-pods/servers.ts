/**
 * Part 2 on this node: certificates and kubeconfigs of the API server, controller-manager and scheduler, then
 * their static pods.
 */

import { dirname } from "node:path";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { refuseUndecided, sayEndpoint } from "../facts/endpoint.ts";
import { leadsHere } from "../facts/leaders.ts";
import { ensureOptions } from "../facts/node-to-repair.ts";
import { attempt } from "../fail.ts";
import { exists } from "../files/files.ts";
import { refuseUnwritable } from "../files/room.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import {
  type Container,
  containers,
  controlPlaneContainers,
  isServerContainer,
  stopContainers,
} from "../node/containers.ts";
import { ensureControlPlaneKubelet } from "../node/control-plane-kubelet.ts";
import { kubeletActive } from "../node/node.ts";
import { refuseUnfitKubelet } from "../node/systemctl-kubelet.ts";
import { actionsFor, countOfKeys, type PkiAction } from "../pki/actions.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { infoOf, isValidNow } from "../pki/certificate.ts";
import { CERTS } from "../pki/certs.ts";
import { apply } from "../pki/ensure.ts";
import { bothCas } from "../pki/examine.ts";
import { makeKeysAhead } from "../pki/keys.ts";
import { kubeconfigRows } from "../pki/kubeconfigs.ts";
import { isServerOf, servedPem } from "../pki/served.ts";
import { say } from "../run.ts";
import { told } from "../run-events.ts";
import { shell } from "../shell-line.ts";
import { inTime } from "../wait-for.ts";
import { takeAway } from "./exchange.ts";
import { fitNamedCas, fitOwners } from "./fit-files.ts";
import { continueOthers, managerIsPaused, reduceInPlace, restartKubelet } from "./held-manager.ts";
import { restoreManifests, type Starts } from "./restore.ts";
import {
  areReadByServers,
  mountsSuperAdmin,
  onlyOnPeers,
  SERVERS,
  type StaleReader,
  staleReaders,
  wantedManifests,
} from "./wanted-manifests.ts";

/**
 * Before parts 1 and 2 stop anything. Errors: Fail where a folder cannot be written or is full; and as
 * `refuseUnfitKubelet`.
 */
export async function refuseUnfitNode({ rescue, facts, node }: ControlPlaneNode) {
  await refuseUnfitKubelet({ node, by: "repair" });
  const { staticPodPath, kubeconfig, clientPem } = node.kubelet;
  const kubelets = [kubeconfig, clientPem].map((path) => dirname(path));
  refuseUnwritable([
    dirname(rescue.dir),
    "/etc/kubernetes",
    facts.certificatesDir,
    staticPodPath,
    ...kubelets,
  ]);
}

/**
 * Part 1: a kubelet that starts would start the servers with certificates that have expired or are missing.
 * They fail again and again, and take the processors from etcd. So their manifests wait for part 2; but not
 * where an API server still runs, nor without a mirror pod.
 */
export async function holdServers(cp: ControlPlaneNode) {
  const here = SERVERS.filter((name) => exists(manifestPath(cp, name)));
  if (here.length === 0 || !mustIssue(cp)) return;
  if ((await controlPlaneContainers(cp.node.runtimeEndpoint)).some(({ name }) => name === "kube-apiserver"))
    return;
  const wanted = attempt(() => wantedManifests(cp), []);
  const held = here.filter((name) => wanted.some((one) => one.name === name));
  for (const name of held) takeAway(cp, name);
  if (held.length > 0) say(`${held.join(", ")}: wait for their certificates; part 2 brings them back`);
}

/**
 * Files before manifests: where a static pod comes before its kubeconfig, the kubelet makes an empty one.
 * Returns the paths of what was written.
 */
export async function issueForServers(
  cp: ControlPlaneNode,
  options: { superAdmin: boolean | undefined },
): Promise<string[]> {
  // its record begins before the first file: a run that is cut off right after that is known by it
  const actions = actionsFor(credentials(cp, options.superAdmin), cp.facts, ensureOptions(cp));
  const coming = actions.filter(({ todo }) => todo !== "keep");
  if (coming.length > 0) told({ what: "act", line: "certificates and kubeconfigs: being issued" });
  if (areReadByServers(cp, pathsOf(coming))) reduceInPlace(cp);
  const bundles = fitNamedCas(cp);
  const { written } = await apply(actions, cp.facts, ensureOptions(cp));
  await fitOwners(wantedManifests(cp), cp);
  return [...bundles, ...pathsOf(actions.filter(({ finding }) => written.includes(finding.name)))];
}

/** Of each the certificate, sa.key, or the kubeconfig. */
export function pathsOf(actions: readonly PkiAction[]): string[] {
  return actions.map(({ finding }) => finding.paths[0]!);
}

/**
 * Says where the witnesses of the endpoint disagree. Errors: Refused where nothing decides between them, and
 * something is to be issued.
 */
export function refuseWithoutEndpoint(cp: ControlPlaneNode) {
  sayEndpoint(cp);
  if (mustIssue(cp)) refuseUndecided(cp);
}

/** Whether part 2 has anything to issue. */
export function mustIssue(cp: ControlPlaneNode): boolean {
  return !actionsFor(credentials(cp), cp.facts, ensureOptions(cp)).every(({ todo }) => todo === "keep");
}

/** From here on the keys that part 2 needs are being made, while it asks etcd and the runtime. */
export function makeKeys(cp: ControlPlaneNode, superAdmin: boolean | undefined) {
  const { facts } = cp;
  const actions = actionsFor(credentials(cp, superAdmin), facts, ensureOptions(cp));
  makeKeysAhead(facts.keyAlgorithm, countOfKeys(actions));
}

/** What part 2 issues. */
export function credentials(cp: ControlPlaneNode, superAdmin = false) {
  const rows = kubeconfigRows(cp.facts, { superAdmin: superAdmin || mountsSuperAdmin(cp) });
  return { certs: CERTS, kubeconfigs: rows.filter((row) => row.name !== "kubelet"), serviceAccountKey: true };
}

/**
 * Pods with new certificates or kubeconfigs start again, as they read them once. Returns when anything was
 * started, or undefined.
 */
export async function startServers(
  cp: ControlPlaneNode,
  issued: readonly string[],
): Promise<Date | undefined> {
  const began = new Date();
  const { node, facts, asideDir } = cp;
  const all = await containers(node.runtimeEndpoint);
  const running = all.filter((c) => c.running);
  await continueOthers(all);
  const watched = exists(node.kubelet.staticPodPath) && (await kubeletActive());
  const tried = SERVERS.some((name) => exists(manifestPath(cp, name)));
  const restored = restoreManifests(cp, undefined, startsOf(cp, { running, issued }));
  for (const { name, peer } of onlyOnPeers(cp))
    say(
      `${name}: ${peer} has this static pod; whether this node had it is not known. If it had: copy its manifest from there`,
    );
  const { stale, kept } = await toRestart(cp, { running, issued });
  const isManager = ({ name }: Container) => name === "kube-controller-manager";
  // it ends below, with its kubelet: a manifest that changes under a pod that runs waits for ten seconds and more
  const inFull = stale.some(isManager) && reduceInPlace(cp);
  const ends = stale.filter((one) => !(inFull && isManager(one)));
  if (ends.length > 0) await stopContainers(node.runtimeEndpoint, ends);
  sayReadBefore(kept);
  const credentials = await ensureControlPlaneKubelet(node, facts, asideDir);
  // A kubelet whose folder of manifests was there all the time has seen them come; any other one looks again
  // only after 20 s. One that tried to start them without their certificates holds them back for up to five
  // minutes, and forgets that when it starts anew.
  const restart =
    !watched ||
    credentials ||
    inFull ||
    managerIsPaused(all) ||
    (tried && (areReadByServers(cp, issued) || restored));
  if (restart) await restartKubelet(cp);
  return restored || restart || stale.length > 0 ? began : undefined;
}

/** Of kubeadm's servers those that do not run, that have read what is issued now, or what is not on disk any more. */
export function startsOf(
  cp: ControlPlaneNode,
  { running, issued }: { running: readonly Container[]; issued: readonly string[] },
): Starts {
  const stale = staleReaders(cp, running, issued).map(({ container }) => container);
  const goOn = running.filter((one) => isServerContainer(one) && !stale.includes(one));
  return (name) => !goOn.some((one) => one.name === name);
}

/** The same before anything is issued. Errors: as `containers`. */
export async function startsNow(cp: ControlPlaneNode, superAdmin: boolean | undefined): Promise<Starts> {
  const running = (await containers(cp.node.runtimeEndpoint)).filter((one) => one.running);
  const actions = actionsFor(credentials(cp, superAdmin), cp.facts, ensureOptions(cp));
  return startsOf(cp, { running, issued: pathsOf(actions.filter(({ todo }) => todo !== "keep")) });
}

/**
 * `stale`: containers that have read what is not on disk any more, and do not work with it. `kept`: those
 * that work all the same. `issued`: paths of what part 2 has written, or will write.
 */
export async function toRestart(
  cp: ControlPlaneNode,
  { running, issued }: { running: readonly Container[]; issued: readonly string[] },
): Promise<{ stale: Container[]; kept: StaleReader[] }> {
  const restart = new Set<Container>();
  const readers = staleReaders(cp, running, issued);
  for (const { container, isOurs } of readers) {
    const server = isServer(container) ? SERVERS.find((name) => name === container.name) : undefined;
    if (isOurs || (server && !(await worksHere(cp, server)))) restart.add(container);
  }
  return { stale: [...restart], kept: readers.filter(({ container }) => !restart.has(container)) };
}

/**
 * With what it has read, which may have expired: a leader leads, and an API server shows a certificate that
 * is good. Who only waits is not missed, and a server that is only slow shows nothing at the first question.
 */
async function worksHere(cp: ControlPlaneNode, server: (typeof SERVERS)[number]): Promise<boolean> {
  if (server !== "kube-apiserver") return leadsHere(cp, server);
  const { advertiseAddress: host, bindPort, certificatesDir } = cp.facts;
  const shows = () => servedPem(host, bindPort);
  const pem = await inTime(`${endpointUrl(host, bindPort)} to show its certificate`, shows, {
    seconds: 30,
    hint: shell`crictl ps -a --name ${server}; crictl logs ID`,
  });
  const info = infoOf(pem);
  return (
    pem !== undefined &&
    info !== undefined &&
    isValidNow(info) &&
    isServerOf(pem, host, bothCas(certificatesDir, cp.cluster.oldCaPem))
  );
}

/** What somebody else has changed since is no part of a repair, and what works goes on. */
function sayReadBefore(kept: readonly StaleReader[]) {
  for (const { container, file } of kept) {
    const restart = shell`crictl stop ${container.id}`;
    say(
      `unchanged ${container.name}: it runs since before ${file} was changed, not by this kit. To let it read that: ${restart}`,
    );
  }
}

function isServer(container: Container): boolean {
  return isServerContainer(container) && container.name !== "etcd";
}
