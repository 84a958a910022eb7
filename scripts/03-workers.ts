#!/usr/bin/env bun
/**
 * RUNBOOK part 3: every kubelet trusts the new CA and has a new client certificate, and the
 * controller-manager runs in full again. `open` on the first control plane node, then 03-join on
 * each worker, then `close` on each control plane node. Safe to run again. `open` starts `approve`.
 */
import { command, inOneLine, type LeftOut, leftNames } from "../shared/again.ts";
import { adminApi } from "../shared/api/admin-api.ts";
import { ANY_WORKER, openJoining, TOKEN_GROUP } from "../shared/api/bootstrap-tokens.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { DOES_IT_LEAD } from "../shared/api/leases.ts";
import { saySilentMembers } from "../shared/etcd/identity.ts";
import { caIsNew } from "../shared/facts/ca-copies.ts";
import * as next from "../shared/facts/course.ts";
import { containerEnd } from "../shared/facts/ended-container.ts";
import { refuseNoJoining } from "../shared/facts/joining-worker.ts";
import type { ControlPlaneNode } from "../shared/facts/node-facts.ts";
import { controlPlaneToRepair } from "../shared/facts/node-to-repair.ts";
import { trustSeen } from "../shared/facts/sa-key.ts";
import { nodesToSkip, saveOptions, withSavedOptions } from "../shared/facts/typed-options.ts";
import type { Fail } from "../shared/fail.ts";
import { type OptionValues, parseOptions } from "../shared/files/operator-files.ts";
import { lockNode, lockNodeShared } from "../shared/node/kept-run.ts";
import { trustedKeys, trustsCa } from "../shared/pki/certificate.ts";
import { clusterCa } from "../shared/pki/examine.ts";
import { clusterServer, localServer } from "../shared/pki/kubeconfigs.ts";
import { listed } from "../shared/plain.ts";
import { answer, done, mode, run, say, start, step, tell } from "../shared/run.ts";
import { shell } from "../shared/shell-line.ts";
import { fullControllerManager, whereToClose } from "../shared/static-pods/full-manager.ts";
import { waitFor } from "../shared/wait-for.ts";
import { confirmLeftOut, countReturningWorkers } from "../shared/workers/away.ts";
import * as joins from "../shared/workers/joining.ts";
import * as seen from "../shared/workers/node-status.ts";
import * as own from "../shared/workers/own-pods.ts";
import { approveJoining, refuseNoToken, watchNodesReturn } from "../shared/workers/wait.ts";

/**
 * `open` lets workers join, `approve` answers their requests, `close` ends both:
 * open     proves that the controller-manager is reduced, makes a token for each node, and
 *          prints the lines for the workers; `approve` runs beside it.
 * approve  signs what the nodes from before ask for under their own names, and nothing else.
 * close    waits for every kubelet, deletes the tokens, and lets the manager run in full.
 * Nobody is evicted in between: what evicts is off until each node is back, or given up by name.
 */
async function main() {
  const { values, positionals } = parseOptions({
    options: OPTIONS,
    usage: USAGE,
    allowPositionals: true,
    commands: { open: [], close: [], approve: [] },
  });
  const name = positionals[0] as keyof typeof COMMANDS;
  start(`03-workers ${name}`, values);
  (name === "approve" ? lockNodeShared : lockNode)(); // approve runs beside open and close
  await COMMANDS[name](values);
}

const COMMANDS = { open, close, approve };

async function open(values: Values) {
  const { cp, api, out: given } = await onControlPlane(values, { words: "03-workers open" });
  const out = await countReturningWorkers(cp, given);
  const silent = caIsNew(cp) ? undefined : await seen.findSilent(cp, api, leftNames(out));
  if (silent) seen.printSilentNodes(silent);
  const workers = silent?.workers ?? own.workersOf(cp, leftNames(out));
  if (workers.length === 0 && (silent || !values["one-token"]))
    return await nobodyJoins({ cp, api, out }, silent);
  const pods = own.workersPods(cp, leftNames(out));
  await step(
    "3.1 Make a bootstrap token for each worker",
    () => makeTokens({ cp, api, out }, values, pods),
    `kubeadm token create --ttl 2h --groups ${TOKEN_GROUP}; kubectl certificate approve CSR`,
  );
  printJoinLine(cp, workers, values["token-file"], out);
  seen.sayWindows(cp, out, silent);
  tell("");
  joins.keepWorkersPods(cp, pods);
  await joins.startApprover({ ...values, ...out });
  tell("", `then ${inOneLine(next.closing())}`);
}

/** With the old CA, a kubelet may still wait: its serving certificate has expired, and it asks. */
async function nobodyJoins({ cp, api, out }: Scene, silent: seen.Silent | undefined) {
  const silentControlPlanes = [...(silent?.unrepaired ?? []), ...(silent?.controlPlanes ?? [])];
  const options = { asking: await seen.withoutServing(cp), without: leftNames(out) };
  const closeOn = silentControlPlanes.length === 0 ? await whereToClose(cp, api, options) : [];
  const end = { silentControlPlanes, closeOn, ...trustSeen(cp) };
  done(inOneLine(next.todosAfterIdleOpen(next.routeOf(cp, out), end)));
}

async function approve(values: Values) {
  const { cp, api, out } = await onControlPlane(values, { refuse: refuseNoToken });
  joins.endBySignal();
  await step(
    joins.APPROVES,
    () => approveJoining(cp, api, out),
    "kubectl get csr; kubectl certificate approve CSR",
  );
  done(inOneLine(next.closing()));
}

async function close(values: Values) {
  const { cp, api, out } = await onControlPlane(values, {
    ...{ words: "03-workers close", mayBeDeleted: true },
  });
  await step(
    "3.6 Wait for the nodes and approve their serving certificates",
    () => watchNodesReturn(cp, api, { out, minutes: Number(values.wait) }),
    "kubectl get nodes; kubectl get csr; kubectl certificate approve CSR",
  );
  await step(
    "3.7 Let the controller-manager run in full again",
    () => fullControllerManager(cp, api, { away: leftNames(out) }),
    "mv kube-controller-manager.yaml out, restore --controllers from its annotations, mv it back",
  );
  await step(
    "3.8 Revoke the token",
    () => joins.endJoining(api),
    "kubeadm token delete ID; kubectl delete clusterrolebinding NAME",
  );
  done(inOneLine(next.todosAfterClose(next.routeOf(cp, out), trustSeen(cp))));
}

type Scene = Awaited<ReturnType<typeof onControlPlane>>;

interface Look {
  words?: string;
  mayBeDeleted?: boolean;
  /** Before the operator's words are kept: a run that is refused changes nothing. */
  refuse?: (api: KubeApi) => Promise<void>;
}

async function onControlPlane(values: Values, { words, mayBeDeleted = false, refuse }: Look) {
  const endpoint = values.endpoint;
  const cp = await controlPlaneToRepair(values["etcd-data"], { given: endpoint, asRan: false });
  const typed = withSavedOptions(values, cp, { mayBeDeleted });
  const api = await adminApi(cp, containerEnd(cp, "kube-apiserver"));
  await seen.refuseDeafLeases(cp, api);
  const out = await confirmLeftOut(cp, api, await nodesToSkip(cp, typed));
  if (words) await saySilentMembers(cp, words, leftNames(out));
  await refuse?.(api);
  saveOptions(cp);
  return { cp, api, out };
}

async function makeTokens(
  { cp, api, out }: Scene,
  { "token-file": file, "one-token": isOne }: Values,
  pods: own.WorkersPods | Fail,
) {
  refuseNoJoining(cp);
  const caPem = clusterCa(cp.facts.certificatesDir);
  await waitForSigner(api, caPem);
  const nodes = isOne ? [ANY_WORKER] : own.workersOf(cp, leftNames(out));
  if (mode.dryRun) return joins.sayTokens(file, nodes);
  const made = { ca: caPem, at: localServer(cp.facts), pods };
  await joins.writeTokenFiles(file, () => openJoining(api, nodes), made);
}

/** The answer of `open`: on stdout, so that it can be piped. */
function printJoinLine(
  { facts }: ControlPlaneNode,
  joining: readonly string[],
  file: string,
  out: LeftOut,
) {
  const ca = [...trustedKeys(clusterCa(facts.certificatesDir))].join(",");
  const each = `On each of these, as root, in the kit's folder, with its own token file in it`;
  tell("", `${each}: ${listed(joining)}`);
  const at = clusterServer(facts);
  answer(command(shell`03-join --server ${at} --ca-hash ${ca} --token-file ${file}`, out));
}

const ROOT_CA = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt";

/**
 * Until a controller-manager with the current CA leads, nobody signs a CSR, or the old CA does.
 * Part 4 waits for the other namespaces: a tenant can keep the CA from its own.
 */
async function waitForSigner(api: KubeApi, caPem: string) {
  const given = async () => {
    const map = await api.find<{ data?: Record<string, string> }>(ROOT_CA);
    return trustsCa(map?.data?.["ca.crt"], caPem);
  };
  const limit = { seconds: 120, hint: DOES_IT_LEAD };
  await waitFor("the controller-manager to give kube-system the current CA", given, limit);
  if (!mode.dryRun) say("kube-root-ca.crt: the current CA in kube-system");
}

const USAGE = `Usage:
    ./bunw scripts/03-workers.ts open [--token-file FILE] [--one-token] [--endpoint HOST:PORT]
                                      [--without NODE,…] [--lost NODE,…] [--dry-run]
    ./bunw scripts/03-workers.ts close [--wait MINUTES] [--without NODE,…] [--lost NODE,…]
                                      [--dry-run]
    ./bunw scripts/03-workers.ts approve [--without NODE,…] [--lost NODE,…] [--dry-run]

open:    Run it on the first control plane node. Makes a bootstrap token for each worker, valid for
         2 hours. Writes each token with the CA to token.d/NODE/token, and prints the line for the
         workers: 03-join. Starts approve as a unit of systemd. A second open revokes the first
         tokens.
close:   Run it on each control plane node. Waits until all nodes are back. Approves serving
         certificates of nodes that etcd knew, lets the controller-manager run in full again, and
         removes everything that open has made.
approve: Run it by hand only if systemd-run fails, on the node where open ran. Approves client
         certificates of workers that etcd knew: each worker's own, once, while that worker does not
         renew its Lease.

Options:
    --token-file FILE  The token and the CA (default: token): each worker's own is written to
                       FILE.d/NODE/FILE. Copy them with scp; mode 0600.
    --one-token        Make one token for all workers, in FILE: with it each worker can ask in
                       another's name.
    --endpoint HOST:PORT
                       The API's address for workers, if the files and objects that record it
                       disagree.
    --without NODES    Nodes that are away for now: no certificate of theirs is approved, and close
                       does not wait for them. After close their pods are evicted. When such a node
                       comes back: open, 03-join on that node, close. With the old CA it needs
                       nothing.
    --lost NODES       Nodes that are lost for good. They count as those of --without, and close
                       prints what deletes their Nodes. A node that renews its Lease is refused.
    --wait MINUTES     The time that close waits for the nodes (default: 15).`;

const OPTIONS = {
  "one-token": { type: "boolean", default: false, of: ["open"] },
  "token-file": { file: { open: "written" }, type: "string", default: "token", of: ["open"] },
  endpoint: { type: "string", of: ["open"] },
  without: { type: "string", list: true },
  lost: { type: "string", list: true },
  wait: { type: "string", default: "15", number: true, of: ["close"] },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
