#!/usr/bin/env bun
/**
 * RUNBOOK part 2: certificates, kubeconfigs and static pods of this node; the API answers. Run on
 * each control plane node, side by side if you like, once part 1 has proved etcd. Safe to run
 * again.
 */
import { inOneLine, type LeftOut, leftNames, type Todo } from "../shared/again.ts";
import { adminClient, ownApiReady, sayEndpointReady } from "../shared/api/admin-api.ts";
import { cleanFrontProxy, ensureAdmins, publishClusterInfo } from "../shared/api/cluster-trust.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { dropDeadLeaders } from "../shared/api/leases.ts";
import { proveEtcd, refuseMissingClientPair } from "../shared/etcd/all-members.ts";
import { believedNames } from "../shared/etcd-data/members.ts";
import { caIsNew } from "../shared/facts/ca-copies.ts";
import { routeOf, todosAfterControlPlane } from "../shared/facts/course.ts";
import { whyApiServerExited } from "../shared/facts/ended-container.ts";
import { isControlPlaneName } from "../shared/facts/known-nodes.ts";
import { leadersSeen } from "../shared/facts/leaders.ts";
import type { ControlPlaneNode } from "../shared/facts/node-facts.ts";
import { controlPlaneToRepair } from "../shared/facts/node-to-repair.ts";
import { trustSeen } from "../shared/facts/sa-key.ts";
import { refuseExternalCa } from "../shared/facts/signed-elsewhere.ts";
import { saveOptions, withSavedOptions } from "../shared/facts/typed-options.ts";
import { failOf } from "../shared/fail.ts";
import { begin, type OptionValues } from "../shared/files/operator-files.ts";
import { managerIsReduced } from "../shared/manifests/repair-changes.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import { done, mode, run, say, step, tell } from "../shared/run.ts";
import { beforeServersStop, keepServedCertificate } from "../shared/static-pods/first-screen.ts";
import * as manager from "../shared/static-pods/full-manager.ts";
import * as servers from "../shared/static-pods/issue-and-start.ts";
import { howToReplace } from "../shared/static-pods/lost-nodes.ts";
import { foreseeSaKey, proveOldSaKeys, restartWithSaKey } from "../shared/static-pods/take-up.ts";
import { endGivenUp, refuseNoChoice } from "../shared/static-pods/without-files.ts";
import type { Work } from "../shared/static-pods/work.ts";
import { areEvicted, sayEvictions } from "../shared/workers/away.ts";
import * as seen from "../shared/workers/node-status.ts";
import { withoutServing } from "../shared/workers/node-status.ts";

/**
 * The order is the safety of this part:
 * 2.1 looks, shows what will be written and stopped, and refuses; so far nothing has changed.
 * 2.2 issues the certificates and kubeconfigs that are lost, expired or of another CA.
 * 2.3 puts the manifests back; the controller-manager starts without what evicts pods.
 * 2.4 proves that the API shows the new certificate, and serves the objects from before.
 * 2.5 publishes the CAs; 2.6 proves that this node's kubelet renews its Lease.
 * Workers still trust the old CA: part 3 brings them back, then the manager runs in full.
 * Cut off anywhere, the same line goes on: each step looks at what is there.
 */
async function main() {
  const { values } = begin("02-control-plane", { options: OPTIONS, usage: USAGE }, lockNode);

  const { cp, out, lost, work } = await step("2.1 Check that etcd is the old one", () =>
    checkEtcd(values),
  );
  const issued = await step(
    "2.2 Issue certificates and kubeconfigs",
    () => issue(cp, work),
    "kubeadm init phase certs all; kubeadm init phase kubeconfig all",
  );
  const started = await step(
    "2.3 Put the manifests back",
    () => servers.startServers(cp, work, issued),
    "kubeadm init phase control-plane all",
  );
  const api = await step(
    "2.4 Prove that the API serves the old objects with the new certificates",
    () => proveApi(cp, started),
    "kubectl get --raw /readyz",
  );
  await step(
    "2.5 Publish the CAs in the cluster",
    () => tellCluster(cp, api),
    "kubectl -n kube-public edit configmap cluster-info",
  );
  const away = await step(
    "2.6 Prove that this node's kubelet renews its Lease",
    () => proveKubelet(cp, api, out),
    "kubeadm init phase kubelet-finalize all",
  );
  const replaced = lost.filter((name) => isControlPlaneName(name, cp));
  if (replaced.length > 0) tell(...howToReplace(cp, replaced));
  done(inOneLine(await next(cp, api, { out: { without: out.without, lost }, away })));
}

/** Facts first, refusals second; then etcd itself. */
async function checkEtcd(values: Values) {
  const { "etcd-data": etcdData, "start-without": flagsToDrop, endpoint } = values;
  refuseNoChoice(flagsToDrop);
  const target = await controlPlaneToRepair(etcdData, { given: endpoint });
  refuseExternalCa(target);
  const leftOut = withSavedOptions(values, target);
  const cp = { ...target, flagsToDrop: leftOut["start-without"] };
  const isBeforePart1 = (await failOf(() => refuseMissingClientPair(cp.facts))) !== undefined;
  if (!mode.dryRun) refuseMissingClientPair(cp.facts);
  const work = await servers.lookAtServers(cp, {
    superAdmin: values["super-admin"],
    isBeforePart1,
  });
  // only a word of this very line takes a member out of etcd
  const saved = leftOut.lost.filter((name) => !values.lost.includes(name));
  const out = { without: [...leftOut.without, ...saved], lost: values.lost };
  const { takeOut, ...etcd } = await proveEtcd(cp, out, values["lost-on"]);
  const steps = async () => {
    await servers.startServers(cp, work, await issue(cp, work));
    await foreseeSaKey(cp);
  };
  await beforeServersStop(cp, work, { ...values, ...etcd, steps });
  await takeOut();
  saveOptions(cp);
  return { cp, out, lost: etcd.lost, work };
}

/** Copies a lost certificate that a living API server still shows, which ends with the new one. */
async function issue(cp: ControlPlaneNode, work: Work): Promise<string[]> {
  await keepServedCertificate(cp);
  return await servers.issueForServers(cp, work);
}

async function proveApi(cp: ControlPlaneNode, started: Date | undefined): Promise<KubeApi> {
  const { facts } = cp;
  const local = await adminClient(facts);
  await ownApiReady(local, cp, { changed: started !== undefined, ended: whyApiServerExited(cp) });
  if (mode.dryRun) return local;
  say(`${local.server}: ready`);
  endGivenUp(cp);
  await ensureAdmins(cp, local);
  await seen.proveNodes(cp, local);
  const began = (await restartWithSaKey(cp, local)) ?? started;
  await proveOldSaKeys(local, facts);
  if (began)
    await dropDeadLeaders(local, {
      hostName: cp.node.hostName,
      since: began,
      leadersBefore: leadersSeen(cp),
    });
  return local;
}

async function tellCluster(cp: ControlPlaneNode, api: KubeApi) {
  if (mode.dryRun)
    return say("would publish the CA in cluster-info, drop dead CAs for aggregated API servers");
  if (!caIsNew(cp)) say("the cluster knows this CA already: kubelets and pods trust it");
  await publishClusterInfo(cp, api);
  await cleanFrontProxy(cp, api);
}

/** Returns the nodes that are away. */
async function proveKubelet(cp: ControlPlaneNode, api: KubeApi, out: LeftOut): Promise<string[]> {
  await seen.proveOwnKubelet(cp, api);
  const away = mode.dryRun ? [] : await letManagerRun(cp, api, out);
  if (mode.dryRun) return away;
  await sayEndpointReady(cp.facts);
  return away;
}

/**
 * The controller-manager, which part 2 has started reduced, becomes a normal one if every known
 * node renews its Lease, is named as away, or was evicted before. Else it stays reduced, and evicts
 * nothing.
 */
async function letManagerRun(cp: ControlPlaneNode, api: KubeApi, out: LeftOut): Promise<string[]> {
  const silent = await seen.findSilent(cp, api, leftNames(out));
  const away = seen.missedOf(silent);
  if (!caIsNew(cp)) seen.printSilentNodes(silent);
  if (!managerIsReduced(cp)) return away;
  const { controlPlanes, workers, named } = silent;
  const isFull = away.length === 0 || (await wereAwayBefore(cp, api, silent));
  const leader = isFull ? undefined : await manager.unreducedLeader(cp, api);
  if (leader) say(`the controller-manager on ${leader} leads in full: it handles them as usual`);
  const evicts = isFull || leader !== undefined;
  const lonely = caIsNew(cp) && !evicts ? [] : [...controlPlanes, ...workers, ...named];
  await sayEvictions(cp, api, { nodes: lonely, isFull: evicts });
  if (isFull)
    await manager.fullControllerManager(cp, api, {
      away: named,
      restarted: believedNames(cp.data),
    });
  else seen.sayReduced(cp, silent, leader);
  return away;
}

/**
 * Only workers are missing, under the old CA, and this node's controller-manager could evict
 * nothing more from them. A normal one elsewhere proves nothing: its node's part 2 may be about to
 * end it.
 */
async function wereAwayBefore(cp: ControlPlaneNode, api: KubeApi, silent: seen.Silent) {
  const areWorkers = silent.workers.length === seen.missedOf(silent).length;
  return !caIsNew(cp) && areWorkers && (await areEvicted(cp, api, silent.workers));
}

/** With the old CA, part 3 is only for a node that waits for it, part 4 only for a new sa.key. */
async function next(
  cp: ControlPlaneNode,
  api: KubeApi,
  { out, away }: { out: LeftOut; away: string[] },
): Promise<Todo[]> {
  const trust = trustSeen(cp);
  const own = cp.cluster.nodes.filter(({ name }) => name === cp.node.name);
  const reduced = mode.dryRun ? [] : await manager.reducedManagers(cp, api, leftNames(out));
  const part3 =
    trust.caIsNew ||
    away.length > 0 ||
    (!mode.dryRun && (await withoutServing(cp, own)).length > 0);
  return todosAfterControlPlane(routeOf(cp, out), { part3, reduced, ...trust });
}

const USAGE = `Usage:
    ./bunw scripts/02-control-plane.ts [--super-admin] [--without NODE,…] [--lost NODE,…]
                                       [--lost-on NODE,…] [--start-without FLAG,…] [--images-later]
                                       [--endpoint HOST:PORT] [--dry-run] [--etcd-data DIR]

Brings the API server, controller-manager and scheduler of this control plane node back as they
were: same flags, same images, same hand edits. Run it on each control plane node, side by side if
you like, once part 1 has proved etcd. No workload restarts.

Options:
    --super-admin    Write super-admin.conf, too (group system:masters), although no static pod
                     mounts it. kubeadm makes it on the first control plane node only.
    --without NODES  Nodes that are away for now. Nobody waits for them, so the controller-manager
                     runs in full, and evicts their pods; they stay in the cluster, and in etcd.
    --lost NODES     Control plane nodes that are lost for good. They are removed from etcd's
                     members, and the commands that put new ones in are printed. A member that never
                     started has no node's name: give its id, as step 2.1 prints it. A node that
                     lives is refused.
    --lost-on NODES  Nodes of --lost at whose address another machine answers: you have looked at
                     it. Without this option, the script stops and asks you to look.
    --start-without FLAGS
                     Flags of the API server, without dashes, whose files are lost for good: it
                     starts without them. Each one makes the cluster less strict; the refusal says
                     how.
    --images-later   Continue although an image is not on this node: the kubelet pulls it.`;

const OPTIONS = {
  "super-admin": { type: "boolean" },
  without: { type: "string", list: true },
  lost: { type: "string", list: true },
  "lost-on": { type: "string", list: true },
  "start-without": { type: "string", list: true },
  endpoint: { type: "string" },
  "images-later": { type: "boolean" },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
