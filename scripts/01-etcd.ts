#!/usr/bin/env bun
/**
 * RUNBOOK part 1: etcd serves the old data with new certificates. Run on each control plane node,
 * the first one first. Safe to run again.
 */
import { inOneLine } from "../shared/again.ts";
import { lookAtPeers, refuseWhereOthersLive } from "../shared/etcd/other-members.ts";
import * as own from "../shared/etcd/own-etcd.ts";
import { hasMoved, updatePeerUrls } from "../shared/etcd/tell-members.ts";
import * as unit from "../shared/etcd/unit-files.ts";
import { hasNewKeys } from "../shared/facts/ca-copies.ts";
import { refuseDoubtfulClock } from "../shared/facts/clock.ts";
import { keepContainerRecords } from "../shared/facts/control-plane-node.ts";
import { todosAfterEtcd } from "../shared/facts/course.ts";
import type { ControlPlaneNode } from "../shared/facts/node-facts.ts";
import { controlPlaneToRepair, refuseUnfitData, sayFacts } from "../shared/facts/node-to-repair.ts";
import { refuseExternalCa } from "../shared/facts/signed-elsewhere.ts";
import { saveOptions, withSavedOptions } from "../shared/facts/typed-options.ts";
import { UsageError } from "../shared/fail.ts";
import { copyLargeTree } from "../shared/files/file-tree.ts";
import { exists, readText } from "../shared/files/files.ts";
import { begin, type OptionValues } from "../shared/files/operator-files.ts";
import { containers, controlPlaneContainers, stopContainers } from "../shared/node/containers.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import { rescuedEtcd, rescuedLog } from "../shared/node/rescue-folder.ts";
import { stopKubelet } from "../shared/node/systemctl-kubelet.ts";
import { oldSaKey } from "../shared/old-sa-key/old-tokens.ts";
import { keysToMake, type NewCas, type PkiAction } from "../shared/pki/actions.ts";
import { refuseUnmakeable } from "../shared/pki/ensure.ts";
import { newSaKeySince } from "../shared/pki/sa-keys.ts";
import { caReaders, holdersOfExpiredCa } from "../shared/renew/ca-readers.ts";
import { done, run, say, step } from "../shared/run.ts";
import * as first from "../shared/salvage/before-part-1.ts";
import { beforeEtcdStops, keepServedCertificate } from "../shared/static-pods/first-screen.ts";
import * as pod from "../shared/static-pods/issue-and-start.ts";
import { leftOf } from "../shared/static-pods/preflight.ts";
import { resumePausedProcesses } from "../shared/static-pods/restarts.ts";
import * as wanted from "../shared/static-pods/work.ts";

/**
 * The order is the safety of this part:
 * 1.1 looks at everything and refuses what cannot end well; so far nothing has changed.
 * 1.2 stops what is left of the old control plane, so that nothing writes to etcd.
 * 1.3 copies etcd's data, and all files that this part replaces, into the rescue folder.
 * 1.4 keeps the shared keys that are proved, and makes those that are lost for good.
 * 1.5 issues etcd's certificates; 1.6 puts its manifest back, and the kubelet starts it.
 * 1.7 proves that the members are those from before, with the same data.
 * Cut off anywhere, the same line goes on: each step looks at what is there.
 */
async function main() {
  const { values } = begin("01-etcd", { options: OPTIONS, usage: USAGE }, lockNode);

  const looked = await step("1.1 Look at this node and at etcd's data", () =>
    look(values, newCasOf(values)),
  );
  const { cp, actions } = looked;
  const [keysByHand, certificatesByHand, startByHand] = pod.kubeadmLines(cp.facts);
  await step("1.2 Stop what is left of the old control plane", () => stopOldControlPlane(looked));
  await step("1.3 Copy etcd's data and what else is left", () => copyWhatIsLeft(looked));
  await step("1.4 Make or keep the shared keys", () => makeSharedKeys(looked), keysByHand);
  await step("1.5 Issue etcd's certificates", () => issueEtcds(looked), certificatesByHand);
  await step(
    "1.6 Put etcd's manifest back and let the kubelet run",
    () => startEtcd(looked),
    startByHand,
  );
  if (hasMoved())
    await step(
      "1.6b Update the peer URLs of etcd's members",
      () => updatePeerUrls(cp),
      "etcdctl member update ID --peer-urls=URL",
    );
  const etcd = await step(
    "1.7 Prove that it is the same etcd",
    () => own.proveOwnEtcd(cp),
    "etcdctl endpoint status; etcdctl member list",
  );
  const keys = { makesKeys: keysToMake(actions).length > 0, newKeys: hasNewKeys(cp) };
  done(inOneLine(todosAfterEtcd({ ...etcd, ...keys, oldKey: replacedKey(cp) })));
}

function newCasOf(values: Values): NewCas | undefined {
  const { "new-cas": all, "new-internal-cas": internal } = values;
  if (!all || !internal) return all ? "all" : internal ? "internal" : undefined;
  throw new UsageError(
    "--new-cas makes all lost shared keys, --new-internal-cas never the cluster's CA: give one",
    { hint: "./bunw scripts/00-assess.ts says which keys are lost" },
  );
}

interface Situation {
  cp: ControlPlaneNode;
  actions: PkiAction[];
  healthy: boolean;
  /** etcd is a unit of this node, and starts again with its new files. */
  unitRestarts: boolean;
}

/** Facts first, refusals second; nothing changes before all of them have passed. */
async function look(values: Values, newCas: NewCas | undefined): Promise<Situation> {
  const { endpoint: given, "etcd-data": etcdData, "lost-on": lostOn } = values;
  const target = await controlPlaneToRepair(etcdData, { given });
  sayFacts(target);
  const leftOut = withSavedOptions(values, target);
  const cp = { ...target, flagsToDrop: leftOut["start-without"] };
  refuseExternalCa(cp);
  refuseUnfitData(cp);
  const actions = wanted.sharedActions(cp, newCas);
  const peers = await lookAtPeers(cp, actions, { typed: lostOn, saved: leftOut["lost-on"] });
  pod.refuseForeignCa(cp);
  const made = keysToMake(actions);
  if (made.length > 0) await refuseDoubtfulClock(cp);
  wanted.refuseOtherFolder(cp);
  await containers(cp.node.runtimeEndpoint);
  await first.refuseWhileMemoryHasKeys(made, cp, lostOn);
  refuseWhereOthersLive(made, peers, lostOn);
  first.refuseWhileLeaderMayHaveKey(made, cp, lostOn);
  await first.sayLostFiles(cp);
  const unitRestarts = cp.facts.externalEtcd ? await unit.lookAtUnit(cp, actions) : false;
  const work = wanted.etcdWork(cp, actions);
  refuseUnmakeable(work.pki, cp.facts);
  const healthy = !unitRestarts && (await isHealthy(cp, work));
  const looked = { cp, actions, healthy, unitRestarts };
  const coming = {
    others: peers.others,
    imagesLater: values["images-later"],
    unitRestarts,
    healthy,
  };
  await beforeEtcdStops(cp, work, { ...coming, steps: () => changeFiles(looked) });
  saveOptions(cp);
  return looked;
}

/** Steps 1.2 to 1.6, for the first screen: which files they change. */
async function changeFiles(looked: Situation) {
  for (const change of [stopOldControlPlane, copyWhatIsLeft, makeSharedKeys, issueEtcds, startEtcd])
    await change(looked);
}

async function makeSharedKeys({ cp, actions }: Situation) {
  await pod.makeSharedKeys(cp, actions);
}

async function issueEtcds(looked: Situation) {
  await (looked.unitRestarts ? unit.makeUnitFiles(looked) : pod.issueEtcdCertificates(looked.cp));
}

/**
 * Whether etcd lives with valid certificates on disk: then nothing is stopped. With a wrong
 * manifest the kubelet soon stops it, and an API server without etcd keeps the kubelet from
 * starting anything. One that kubeadm did not make is never stopped: then, whether all is here.
 */
async function isHealthy(cp: ControlPlaneNode, work: wanted.Work): Promise<boolean> {
  const { externalEtcd } = cp.facts;
  if (!wanted.etcdIsInPlace(cp, work)) return false;
  if (!externalEtcd && !(await own.etcdLives(cp))) return false;
  const holders = holdersOfExpiredCa(await caReaders(cp));
  if (holders.length > 0) {
    const names = holders.join(", ");
    say(`${names}: a CA in memory has expired; processes that hold it trust no new connection`);
    return false;
  }
  if (!pod.needsCopy(cp)) return true;
  const copied = externalEtcd ? "a copy is made" : "etcd is stopped";
  say(`etcd's data names another CA than the one on disk, and has no copy yet: ${copied}`);
  return false;
}

async function stopOldControlPlane({ cp, healthy, unitRestarts }: Situation) {
  const { node, facts } = cp;
  await resumePausedProcesses(await containers(node.runtimeEndpoint));
  if (facts.externalEtcd && !unitRestarts)
    return say("unchanged etcd: kubeadm did not make it, and it runs on");
  if (healthy) return say("unchanged etcd: it serves with the certificates on disk");
  await keepServedCertificate(cp);
  await stopKubelet();
  await stopContainers(node.runtimeEndpoint, await controlPlaneContainers(node.runtimeEndpoint));
  if (unitRestarts) await unit.stopUnit();
}

async function startEtcd({ cp, unitRestarts }: Situation) {
  if (unitRestarts) await unit.startUnit();
  await pod.startEtcd(cp);
}

async function copyWhatIsLeft(looked: Situation) {
  const { cp, healthy, unitRestarts } = looked;
  const { rescue, etcd, data, facts } = cp;
  const copy = rescuedEtcd(rescue);
  await unit.keepUnitFiles(looked);
  if (!unitRestarts) await unit.makeUnitFiles(looked);
  if (exists(copy)) return say(`unchanged ${copy}`);
  if (healthy) return say("etcd is healthy: no copy needed");
  keepContainerRecords(cp);
  // etcd's data last: a folder that has it is complete
  for (const folder of leftOf(cp))
    if (exists(folder)) await copyLargeTree(folder, `${rescue.dir}/before${folder}`);
  if (facts.externalEtcd && !unitRestarts) return await own.copyUnit(cp, copy);
  if (etcd.wal) await copyLargeTree(etcd.wal, rescuedLog(rescue));
  await copyLargeTree(etcd.dir, copy);
  say(`${data.keyCount} keys, revision ${data.revision}`);
}

/** The service-account key that a new one of this node has replaced, in this run or before. */
function replacedKey({ data, node, facts }: ControlPlaneNode) {
  const pki = facts.certificatesDir;
  return newSaKeySince(readText(`${pki}/sa.pub`) ?? "") && oldSaKey(data, node, pki);
}

const USAGE = `Usage:
    ./bunw scripts/01-etcd.ts [--new-cas | --new-internal-cas] [--without NODE,…] [--lost-on NODE,…]
                              [--start-without FLAG,…] [--images-later]
                              [--endpoint HOST:PORT] [--dry-run] [--etcd-data DIR]

Brings etcd back on this control plane node: its old data, with valid certificates. Valid keys and
certificates stay. Run it on each control plane node, the first one first. Between two nodes,
hand-over.ts carries the shared keys. No workload restarts.

Options:
    --new-cas        Make new CAs and a new service-account key, if they are missing. Use it only
                     when 00-assess finds the old ones nowhere: every kubelet and every token must
                     be renewed then (parts 3 and 4).
    --new-internal-cas
                     Make a new etcd CA and front-proxy CA, if they are missing, but never the
                     cluster's CA or the service-account key. Only control plane nodes trust these
                     two CAs, so nothing else must be renewed.
    --without NODES  Nodes that are away for now: no line is printed for them. This and later
                     scripts on this node remember it.
    --lost-on NODES  Make new keys although these control plane nodes may still have the old ones.
                     Give a node's name only after you have searched it, or if it is lost for good,
                     or if another machine answers at its address. Without it, no new key is made
                     beside an etcd that may run. No new CA is made either while a
                     controller-manager may have ca.key in memory. That is the one that led last, on
                     another node, or this node's own if its memory cannot be read: then give this
                     node's name.
    --start-without FLAGS
                     Flags of the API server, without dashes, whose files are lost for good: part 2
                     starts it without them. Each one makes the cluster less strict; the refusal
                     says how.
    --images-later   Continue although an image is not on this node: the kubelet pulls it. It holds
                     for part 2, too.`;

const OPTIONS = {
  "new-cas": { type: "boolean" },
  "new-internal-cas": { type: "boolean" },
  without: { type: "string", list: true },
  "lost-on": { type: "string", list: true },
  "start-without": { type: "string", list: true },
  endpoint: { type: "string" },
  "images-later": { type: "boolean" },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
