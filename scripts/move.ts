#!/usr/bin/env bun
/**
 * RUNBOOK-MORE "Machines that moved": machines of this cluster have other addresses than before.
 * Run it on each control plane node that has moved, before part 1; on the workers; once more there
 * when part 2 is done. Safe to run again: it names what is left, and does that.
 */
import { again, command, inOneLine, type Todo } from "../shared/again.ts";
import { adminApi } from "../shared/api/admin-api.ts";
import { etcdDataOf } from "../shared/etcd-location/etcd-place.ts";
import { isWithoutEtcd } from "../shared/etcd-location/living-etcd.ts";
import { lookPastNat } from "../shared/facts/control-plane-node.ts";
import { isNotKubeadms } from "../shared/facts/no-etcd-data.ts";
import { controlPlaneToRepair } from "../shared/facts/node-to-repair.ts";
import { otherControlPlanes } from "../shared/facts/other-control-planes.ts";
import { saveOptions, withSavedOptions } from "../shared/facts/typed-options.ts";
import { attemptLater, Fail, Refused, UsageError } from "../shared/fail.ts";
import { refuseFixed } from "../shared/files/file-system.ts";
import { replaceFiles } from "../shared/files/file-tree.ts";
import { begin, type OptionValues } from "../shared/files/operator-files.ts";
import * as pairs from "../shared/moved/pairs.ts";
import * as kept from "../shared/moved/tell-cluster.ts";
import * as machine from "../shared/moved/this-machine.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import { type Node, readNode } from "../shared/node/node.ts";
import { asideOf, newRescue } from "../shared/node/rescue-folder.ts";
import { kubeletFlags } from "../shared/node/started-with.ts";
import { refuseUnfitKubelet, stopKubelet } from "../shared/node/systemctl-kubelet.ts";
import {
  endSavedOptions,
  isOver,
  movedHere,
  savedOptionsOf,
  saveForThisNode,
} from "../shared/node/words.ts";
import { type Moved, meansWorkers, thatMoved } from "../shared/pki/addresses.ts";
import { done, run, say, step } from "../shared/run.ts";
import { withoutServing } from "../shared/workers/node-status.ts";

async function main() {
  const { values } = begin("move", { options: OPTIONS, usage: USAGE }, lockNode);
  const self = await readNode();
  const place = await etcdDataOf(values["etcd-data"], { node: self });
  if (isWithoutEtcd(place)) return await onWorker(self, values);
  const { data, cluster, obstacle, cp, home } = await lookPastNat(place, self);
  if (!data || !cluster) throw obstacle ?? new Error("no data, and no obstacle");
  const node = cp?.node.nat ? cp.node : self;
  const machineFacts = { node, data, cluster };
  const moved = await step("M.1 Look at this machine, and who has moved", () =>
    look(machineFacts, values),
  );
  if (isNotKubeadms(home)) machine.refuseBesideEtcd(cluster, moved);
  const changes = await machine.changesHere(node, moved, { isControlPlane: true });
  if (changes.length > 0) await refuseUnfitKubelet({ node, by: "repair", renames: true });
  refuseFixed(changes.map(({ path }) => path));
  if (moved.size === 0 && changes.length === 0) return done(inOneLine(stepsAfter(machineFacts)));
  await step("M.2 Stop the kubelet", () =>
    // a running kubelet would start half-changed pods
    changes.length > 0 ? stopKubelet() : say("unchanged kubelet"),
  );
  await step("M.3 Put the new addresses into this node's files", () =>
    keep(machineFacts, moved, changes),
  );
  if (changes.length > 0) return done(inOneLine(partsFirst(moved, machineFacts)));
  await tell(values, machineFacts);
}

/** Saved first: an interrupted run continues with it. */
function keep({ node }: machine.MachineFacts, moved: Moved, changes: readonly machine.MovedFile[]) {
  const rescue = newRescue();
  const savedMoves = movedHere();
  const newPairs = [...moved].filter(([old]) => !savedMoves.has(old)).map((pair) => pair.join("="));
  saveForThisNode("moved", newPairs, { on: node.name, onDisk: true });
  if (changes.length === 0) say("no file of this node has to change");
  replaceFiles(changes, asideOf(rescue));
}

/**
 * Parts 1 and 2 everywhere, then the workers; then this script here once more. If only the host has
 * another name: parts 1 and 2 here.
 */
function partsFirst(moved: Moved, machineFacts: machine.MachineFacts): Todo[] {
  const others = othersOf(machineFacts).join(", ");
  const onOthers = (todo: Todo): Todo[] =>
    others === "" ? [] : [{ ...todo, on: others, unlessDone: true }];
  const one = { command: command("01-etcd"), called: "part 1" };
  const two = { command: command("02-control-plane"), called: "part 2" };
  if (moved.size === 0) return [one, two, { command: command("05-verify") }];
  const workers = { command: workerLine(moved), on: "each worker" };
  return [
    ...onOthers({ command: again({}), called: "this line" }),
    ...[one, ...onOthers(one), two, ...onOthers(two)],
    ...(meansWorkers(moved, machineFacts.cluster) ? [workers] : []),
    { command: command("03-workers close") },
    { command: command("move") },
  ];
}

async function look(machineFacts: machine.MachineFacts, values: Values): Promise<Moved> {
  const { node } = machineFacts;
  const typed = pairs.pairsOf(values.moved);
  const goesOn = movedHere();
  const newPairs =
    goesOn.size > 0
      ? pairs.newlyTypedMoves(typed, goesOn)
      : new Map([...typed, ...(await ownPairs(machineFacts, typed))]);
  if (newPairs.size > 0) {
    pairs.refuseBadMoves(newPairs, machineFacts, goesOn);
    await pairs.refuseAnswering(newPairs, machineFacts);
  }
  const moved = new Map([...goesOn, ...newPairs]);
  for (const [old, newAddress] of moved) say(`${old} → ${newAddress}`);
  if (moved.size > 0) return moved;
  if (await machine.hostRenamed(node))
    say(`this host is called ${node.hostName} now; its node stays ${node.name}`);
  else if (isOver("moved", FINISHED)) say("the move is finished on this node");
  else
    throw new Refused("This machine's address has not changed, and --moved names no other", {
      unchanged: true,
      hint: "name the other machines that have moved: --moved OLD=NEW,…",
    });
  return moved;
}

/** Pairs for this machine's old addresses that it no longer has. */
async function ownPairs(machineFacts: machine.MachineFacts, typedMoves: Moved) {
  const oldAddresses = machine.ownBefore(machineFacts);
  if (oldAddresses.length > 0) machine.refuseCopiedDisk(machineFacts);
  const nodeIp = (await kubeletFlags(machineFacts.node.systemd)).get("node-ip");
  const newAddressOf = async (old: string) =>
    typedMoves.get(old) ?? (await machine.addressNow(machineFacts, { nodeIp, like: old }));
  const all = await Promise.all(
    oldAddresses.map(async (old) => [old, await newAddressOf(old)] as const),
  );
  await machine.refuseAway(new Map(all.filter(([old]) => !typedMoves.has(old))));
  return all;
}

async function tell(values: Values, machineFacts: machine.MachineFacts) {
  const moved = movedHere();
  const cp = await controlPlaneToRepair(values["etcd-data"]);
  const api = await step("M.4 See that the cluster answers", () =>
    attemptLater(() => adminApi(cp)),
  );
  if (api instanceof Fail) {
    say(`not yet: ${api.message}`);
    return done(inOneLine(partsFirst(moved, machineFacts)));
  }
  await step(
    "M.5 Put the new addresses into the cluster's objects",
    () => kept.tellCluster(api, moved),
    "kubectl -n kube-system edit configmap kubeadm-config, kube-proxy",
  );
  const { silent } = await step("M.6 Restart what keeps an old address in memory", async () => {
    await kept.renewHostPodIps(api, cp.node.name, moved);
    const began = new Date(Math.min(...savedOptionsOf("moved").map(({ at }) => Date.parse(at))));
    return await kept.restartOldPods(api, moved, began);
  });
  await step("M.7 See what still names an old address", () =>
    kept.printOldAddressSearches(moved, { inObjects: true }),
  );
  const lastLine = { command: command("move"), called: "this line here" };
  const { without } = withSavedOptions({ without: values.without }, cp);
  const waiting = silent.filter((name) => !without.includes(name));
  saveOptions(cp);
  if (waiting.length > 0) {
    say(`to continue without nodes that do not come back now: ${again({ without: waiting })}`);
    return done(inOneLine([{ command: workerLine(moved), on: waiting.join(", ") }, lastLine]));
  }
  const asking = await withoutServing(cp, thatMoved(cp.cluster.nodes, moved));
  for (const name of asking)
    say(`${name}: its kubelet asks for a certificate with its new address`);
  if (asking.length > 0)
    return done(inOneLine([{ command: command("03-workers close") }, lastLine]));
  await step("M.8 Finish the move on this node", () =>
    // from now on all here is read unchanged
    endSavedOptions(({ option }) => option === "moved", FINISHED),
  );
  done(inOneLine(stepsAfter(machineFacts)));
}

function othersOf({ cluster, node }: machine.MachineFacts): string[] {
  return otherControlPlanes(cluster, { node }).map(({ name }) => name);
}

function stepsAfter(machineFacts: machine.MachineFacts): Todo[] {
  const others = othersOf(machineFacts);
  const onWorkers: Todo = {
    ...{ command: command("move"), called: "this line" },
    ...{ on: others.join(", "), unlessDone: true },
  };
  const verify = { command: command("05-verify"), on: "all nodes" };
  return others.length > 0 ? [onWorkers, verify] : [verify];
}

/** Why a move ends, unless the operator has taken it back. */
const FINISHED = "all is done";

function workerLine(moved: Moved): string {
  return command("move", { moved: [...moved].map((pair) => pair.join("=")) });
}

async function onWorker(node: Node, values: Values) {
  const moved = pairs.pairsOf(values.moved);
  if (moved.size === 0 && !(await machine.hostRenamed(node)))
    throw new UsageError("On a worker this needs the addresses", {
      hint: "type the line that it prints on a control plane node: --moved OLD=NEW,…",
    });
  await machine.moveWorker(node, moved);
  done("the same on the other workers, then ./bunw scripts/05-verify.ts on all nodes");
}

const USAGE = `Usage:
    ./bunw scripts/move.ts [--moved OLD=NEW,…] [--without NODE,…] [--dry-run]
                           [--etcd-data DIR]

Use it if machines of the cluster have new addresses, or a host has a new name: its Node keeps the
old name. A control plane node finds its own old and new address; --moved gives those of other
machines. All parts then read etcd's data as if the machines had always had their new addresses. Run
it on each control plane node that has moved, then parts 1 and 2. Then run the line that it prints
on each worker, then 03-workers close. At the end run it once more on each control plane node that
has moved: it updates the cluster.

Options:
    --moved OLD=NEW,…
                     Old and new addresses of other machines and balancers that moved, of a renamed
                     endpoint, and of this machine if it has several addresses. A new endpoint:
                     https://ADDRESS:6443=https://NAME:6443.
    --without NODES  Nodes that are away for now: at the end nobody waits for them. When such a node
                     boots, its pods with an old address in memory restart.`;

const OPTIONS = {
  moved: { type: "string", list: true },
  without: { type: "string", list: true },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
