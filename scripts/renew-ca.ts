#!/usr/bin/env bun
/**
 * RUNBOOK-MORE "A CA that expires": renews the cluster's CAs with their own keys, on a running
 * cluster. Run it on each control plane node, one after the other, then on each worker, at any time
 * before the old end. No workload restarts, no certificate is issued again, no node joins. Safe to
 * run again: it names what is left, and does that.
 */
import { again, command, inOneLine, NOBODY, type Todo } from "../shared/again.ts";
import { adminApi, adminClient, ownApiReady } from "../shared/api/admin-api.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { proveEtcd } from "../shared/etcd/all-members.ts";
import { isWithoutEtcd } from "../shared/etcd-location/living-etcd.ts";
import { refuseDoubtfulClock } from "../shared/facts/clock.ts";
import { placeHere } from "../shared/facts/control-plane-node.ts";
import { whyApiServerExited } from "../shared/facts/ended-container.ts";
import { caExpiryIfKubeletsAreSilent } from "../shared/facts/leaders.ts";
import type { ControlPlaneNode } from "../shared/facts/node-facts.ts";
import { controlPlaneToRepair } from "../shared/facts/node-to-repair.ts";
import { otherControlPlanes } from "../shared/facts/other-control-planes.ts";
import { Refused, UsageError } from "../shared/fail.ts";

import { begin, type OptionValues } from "../shared/files/operator-files.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import { asideOf, newRescue } from "../shared/node/rescue-folder.ts";
import { mendKubeletConf, refuseUnfitKubelet } from "../shared/node/systemctl-kubelet.ts";
import { day } from "../shared/pki/certificate.ts";
import { caReaders, holdExpired, kubeletCaReader } from "../shared/renew/ca-readers.ts";
import * as renewal from "../shared/renew/renewal.ts";
import * as here from "../shared/renew/renewals-here.ts";
import { asKubelet, renewalOfWorker } from "../shared/renew/renewals-here.ts";
import * as restart from "../shared/renew/restart.ts";
import { answerJson, done, mode, run, say, step } from "../shared/run.ts";
import { readWorker } from "../shared/workers/join.ts";

async function main() {
  const { values } = begin("renew-ca", { options: OPTIONS, usage: USAGE }, lockNode);
  const only = chosen(values);
  const placeRead = await placeHere(values["etcd-data"]);
  if (isWithoutEtcd(placeRead.place)) return await onWorker(values, placeRead.place);
  const cp = await controlPlaneToRepair(values["etcd-data"], { placeRead });
  const own = here.casToRenew(cp, only, values.only);
  await onControlPlane(cp, values, own);
}

function chosen({ only }: Values): renewal.CaName[] {
  const unknown = only.filter((name) => !renewal.CA_NAMES.some((one) => one === name));
  if (unknown.length > 0)
    throw new UsageError(`No CA is called "${unknown.join('", "')}"`, {
      hint: `use one of these names: ${renewal.CA_NAMES.join(", ")}`,
    });
  return renewal.CA_NAMES.filter((name) => only.length === 0 || only.includes(name));
}

async function onControlPlane(cp: ControlPlaneNode, values: Values, only: renewal.CaName[]) {
  const { node, facts, asideDir } = cp;
  const hasEnded = here.haveExpired(cp, only);
  const isLate = hasEnded || holdExpired(await caReaders(cp));
  if (isLate && !hasEnded) refuseSilent(cp);
  const { api, renewals } = await step("R.1 Look at this node and its CAs", () =>
    look(cp, values, only, { isLate, hasEnded }),
  );
  await step("R.2 Put the certificates in place", async () => {
    const written = here.place(renewals, here.caFiles(node, facts.certificatesDir), asideDir);
    if (written.length === 0) say("all files have the renewed CAs already");
    await mendKubeletConf();
  });
  if (hasEnded)
    return finish(
      values,
      renewals,
      "./bunw scripts/00-assess.ts, then parts 0 to 5 with these CAs",
    );
  const answers = await step(
    `R.3 Restart what has read another one, ${isLate ? "all at once" : "one after the other"}`,
    () => restartAll(cp, api, isLate, values),
    "crictl stop ID of etcd, kube-apiserver, …; systemctl restart kubelet",
  );
  if (!answers) return finish(values, renewals, inOneLine(untilEtcdAnswers(cp)));
  const ca = renewals.find(({ name }) => name === "ca");
  const leader = await step("R.4 Update the cluster's objects", () => ca && tell(cp, api, ca));
  if (!values.undo) sayLeft(renewals);
  finish(values, renewals, inOneLine(next(cp, renewals, leader)));
}

/** The last line; with `--json` the answer, too. */
function finish({ json }: Values, renewals: readonly renewal.Renewal[], left: string) {
  if (json)
    answerJson({ isDryRun: mode.dryRun, renewals: renewals.map(renewal.asData), next: left });
  done(left);
}

/** Errors: Refused if a controller-manager that starts in full would evict workers' pods. */
function refuseSilent(cp: ControlPlaneNode) {
  const endedAt = caExpiryIfKubeletsAreSilent(cp);
  if (!endedAt) return;
  const end = day(endedAt);
  throw new Refused(
    `The CA that the kubelets trust has expired (${end}): they do not renew their Leases since`,
    {
      unchanged: true,
      hint: "./bunw scripts/00-assess.ts, then parts 0 to 5: nothing is evicted",
    },
  );
}

/**
 * Facts first, refusals second. The cluster has to be healthy: only one part of it is down at a
 * time.
 */
async function look(
  cp: ControlPlaneNode,
  values: Values,
  only: renewal.CaName[],
  { isLate, hasEnded }: { isLate: boolean; hasEnded: boolean },
) {
  if (!isLate) here.refuseUnsound(cp);
  // if a CA on disk has expired, parts 1 and 2 restart the kubelet, and write its files before
  await refuseUnfitKubelet({ node: cp.node, by: hasEnded ? "repair" : undefined });
  const api = isLate ? await adminClient(cp.facts) : await adminApi(cp);
  if (isLate) say("a CA has expired, on disk or in the memory of processes here");
  else await proveEtcd(cp, NOBODY, []);
  await refuseDoubtfulClock(cp);
  const renewals = await here.renewalsHere(cp, isLate ? undefined : api, { ...values, only });
  for (const one of renewals) say(`${one.path}: ${here.inWords(one)}`);
  return { api, renewals };
}

/** Returns whether etcd answers. */
async function restartAll(cp: ControlPlaneNode, api: KubeApi, isLate: boolean, values: Values) {
  const look = () => caReaders(cp);
  if (isLate) return await restart.restartTogether(cp, await look());
  await restart.restartReaders(cp, api, { look, isBehind: restart.holdsAnother(values) });
  return true;
}

async function tell(cp: ControlPlaneNode, api: KubeApi, ca: renewal.Renewal) {
  await ownApiReady(api, cp, { changed: true, ended: whyApiServerExited(cp) });
  return await restart.publish(cp, api, ca.next);
}

/** A worker: its kubelet's two files, and one restart of the kubelet. */
async function onWorker(values: Values, place: { isHosted?: true }) {
  const { "etcd-data": etcdData, from, undo } = values;
  const node = await readWorker(etcdData, undefined, place);
  const one = await step("R.1 Look at this worker's CA", async () => {
    const candidate = from === undefined ? undefined : here.certificateInFolder("ca", from);
    const found = undo ? here.wayBackOfWorker(node) : await renewalOfWorker(node, candidate);
    say(`${found.path}: ${here.inWords(found)}`);
    return found;
  });
  await step("R.2 Put the certificate in place", async () => {
    const written = here.place([one], here.caFiles(node, ""), asideOf(newRescue()));
    if (written.length === 0) say("both files have the renewed CA already");
    await mendKubeletConf();
  });
  await step(
    "R.3 Restart the kubelet",
    async () => {
      if ((await kubeletCaReader(node)).some(restart.holdsAnother({ undo })))
        await restart.restartOwnKubelet(node, asKubelet(node));
      else say("unchanged kubelet: it has read the renewed CAs");
    },
    "systemctl restart kubelet",
  );
  finish(
    values,
    [one],
    "the same on the other workers, then ./bunw scripts/05-verify.ts on all nodes",
  );
}

/** Holders that still trust only an old certificate, which is allowed until its end. */
function sayLeft(renewals: readonly renewal.Renewal[]) {
  const older = renewals.flatMap((one) => here.olderOf(one) ?? []);
  const [first] = older.map(({ notAfter }) => notAfter).sort((a, b) => a.getTime() - b.getTime());
  if (!first) return;
  const end = day(first);
  if (renewals.some(({ name }) => name === "ca")) {
    say(`before ${end}: the workers, one line on each, in any order and at any time`);
    say(`before ${end}: each container that runs now and asks the API has to restart once`);
    say(`before ${end}: kubeconfigs and programs outside of the cluster; only their CA changes`);
  }
  const [files, objects] = here.linesForCopies(older);
  say(`before ${end}: the copies that people have made. On each machine: ${files}`);
  say(`copies in objects: ${objects}`);
}

function untilEtcdAnswers(cp: ControlPlaneNode): Todo[] {
  return [
    { command: again({}), called: "the same", on: others(cp).join(", ") },
    { command: again({}), called: "the same here once more" },
  ];
}

/**
 * `leader`: the other node whose controller-manager leads, and publishes the certificate that it
 * has read.
 */
function next(
  cp: ControlPlaneNode,
  renewals: readonly renewal.Renewal[],
  leader: string | undefined,
): Todo[] {
  const verify = { command: command("05-verify") };
  if (renewals.every((one) => here.olderOf(one) === undefined)) return [verify];
  const names = others(cp).join(", ");
  const nodes = leader ? `${names} (${leader} last)` : names;
  const same: Todo = { command: again({}), called: "the same", on: nodes, unlessDone: true };
  const workers = renewals.some(({ name }) => name === "ca");
  return [
    ...(names === "" ? [] : [same]),
    ...(leader ? [{ command: again({}), called: "this line here once more" }] : []),
    ...(workers ? [{ command: command("renew-ca"), on: "each worker" }] : []),
    verify,
  ];
}

function others(cp: ControlPlaneNode): string[] {
  return otherControlPlanes(cp.cluster, cp).map(({ name }) => name);
}

const USAGE = `Usage:
    ./bunw scripts/renew-ca.ts [--only CA,…] [--from FOLDER] [--undo] [--dry-run]
                               [--etcd-data DIR] [--json]

Renews CAs in the second half of their lifetime with their own keys: only the expiry date and the
serial number of the certificate change. Certificates that they have signed stay valid, and so do
tokens and the hash for kubeadm join. The old and the renewed certificate may be in use side by side
until the old one expires. Run it on each control plane node, one after the other. etcd, the API
server, controller-manager, scheduler and kubelet restart one by one; no other container restarts.
Then run it on each worker, where it needs no key, no token and no carried file: the worker's
kubelet restarts. All that may take months.

Options:
    --only CAS       Renew only these, of ${renewal.CA_NAMES.join(", ")}. Nothing restarts for
                     front-proxy-ca.
    --from FOLDER    Use certificates that were made elsewhere: FOLDER/ca.crt, FOLDER/etcd/ca.crt,
                     FOLDER/front-proxy-ca.crt, or some of them. They are for a CA whose key is not
                     here, or that a company's CA has signed.
    --undo           Put back the old certificates that this kit has moved aside. That is possible
                     until they expire, on each node.
    --json           Print the dates of the CAs before and after for programs, and what comes next;
                     with --dry-run nothing is renewed.

If somebody else may have the key of a CA, do not renew that CA: it needs a new key. RUNBOOK-MORE
"A CA that expires" has the steps.`;

const OPTIONS = {
  only: { type: "string", list: true },
  from: { type: "string", path: "trusted" },
  undo: { type: "boolean" },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
  json: { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
