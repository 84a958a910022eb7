#!/usr/bin/env bun
/**
 * RUNBOOK part 4: renews pods and tokens that still trust the old CA or the old service-account
 * key, in order. Run it once, on the first control plane node, after part 3 is closed. Safe to run
 * again.
 */
import { inOneLine, type LeftOut } from "../shared/again.ts";
import { adminApi, apiReady, sayEndpointReady } from "../shared/api/admin-api.ts";
import { nameOf } from "../shared/api/kube-object.ts";
import { routeOf, todosAfterRetire, todosAfterTokens } from "../shared/facts/course.ts";
import { containerEnd } from "../shared/facts/ended-container.ts";
import type { ControlPlaneNode } from "../shared/facts/node-facts.ts";
import { controlPlaneToRepair } from "../shared/facts/node-to-repair.ts";
import { nodesToSkip, saveOptions, withSavedOptions } from "../shared/facts/typed-options.ts";
import { Fail } from "../shared/fail.ts";
import { type OptionValues, parseOptions } from "../shared/files/operator-files.ts";
import { settleWaitingManifest } from "../shared/manifests/on-disk.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import { dropNewSaKeyMark, oldSaKeys } from "../shared/pki/sa-keys.ts";
import { formatNumber, sayNames } from "../shared/progress.ts";
import { done, mode, run, say, sayNoUndo, start, step } from "../shared/run.ts";
import { beforeRetire, leftToDo, refuseRest } from "../shared/workloads/left-to-do.ts";
import { howToRestart, ownerName } from "../shared/workloads/pod-owners.ts";
import { type Renewed, renewTokens, retireOldSaKey } from "../shared/workloads/renew-tokens.ts";
import * as order from "../shared/workloads/restart-order.ts";
import {
  type NamespacesWithoutCa,
  namespacesWithOldCa,
  waitForRootCa,
} from "../shared/workloads/root-ca.ts";
import {
  type Chosen,
  type Group,
  refuseBareNames,
  rememberSkipped,
  reportedOwners,
} from "../shared/workloads/stale-pods.ts";
import * as tokens from "../shared/workloads/token-secrets.ts";

/**
 * The order is that of what each step needs:
 * 4.1 proves that every node is back, or given up by name: else its pods would be replaced.
 * 4.2 waits until each namespace has the CA of today, so that what restarts reads it.
 * 4.3 renews the tokens in Secrets that no longer verify.
 * 4.4 finds the pods that have the old CA or an old token in memory, and no others.
 * 4.5 restarts them: the network, DNS, then the rest; a test pod on each node shows the way.
 * 4.6 proves that a new token is signed and accepted; 4.7 names what only people can do.
 * Cut off anywhere, the same line goes on: pods that are new do not restart again.
 */
async function main() {
  const { values, positionals } = parseOptions({
    options: OPTIONS,
    usage: USAGE,
    allowPositionals: true,
    commands: { "": [], retire: [] },
  });
  const [command] = positionals;
  start(`04-sa-tokens${command ? ` ${command}` : ""}`, values);
  lockNode();
  if (command === "retire") return await retire(values);

  const scene = await step("4.1 Check that part 3 is closed", () => look(values));
  const { cp, api, trust, out } = scene;
  const choice = {
    ...values,
    onlySystem: values["only-system"] ?? false,
    namespaces: values.namespace,
  };
  const stale = await step(
    "4.2 Wait for the CA in every namespace",
    () => seeRootCa(scene),
    "kubectl get cm -A --field-selector metadata.name=kube-root-ca.crt",
  );
  const renewed = await step(
    "4.3 Renew the tokens that no longer verify",
    () => renew(scene),
    `kubectl patch secret NAME -p '{"data":{"token":null}}'`,
  );
  const chosen = await step("4.4 Find the pods with the old CA or an old token", () =>
    order.findStale(cp, api, { caPem: trust.caPem, choice }),
  );
  const left = await step(
    "4.5 Restart them in order",
    () => restartAll({ ...scene, kept: stale }, chosen.groups, renewed),
    "kubectl rollout restart",
  );
  const refused = await step(
    "4.6 Prove that tokens are signed and accepted",
    () => proveTokens(scene),
    "kubectl create token default",
  );
  await step("4.7 Print what is left for you to do", () => sayLeft(scene, chosen, left));
  if (refused) throw refused;
  if (!mode.dryRun) refuseRest(left);
  sayNext(cp, out, chosen);
}

interface Scene extends order.PartFourInput {
  cp: ControlPlaneNode;
}

async function look(values: Values): Promise<Scene> {
  refuseBareNames(values.skip);
  const cp = await controlPlaneToRepair(values["etcd-data"], { asRan: false });
  return { cp, ...(await order.readyForPart4(cp, values)) };
}

async function seeRootCa({ api, trust: { caPem } }: Scene): Promise<NamespacesWithoutCa> {
  if (!mode.dryRun) return await waitForRootCa(api, caPem);
  sayNames("namespaces with another CA", await namespacesWithOldCa(api, caPem));
  return new Map();
}

async function renew({ api, trust }: Scene): Promise<Renewed> {
  if (mode.dryRun) return await sayStale({ api, trust });
  const { renewed, caOnly, stuck, orphans, refused } = await renewTokens(api, trust);
  if (renewed.length + refused.size === 0) say("unchanged token Secrets: all of them verify");
  else sayNames("renewed token Secrets", renewed);
  if (caOnly.length > 0)
    say(`renewed only the CA in ${formatNumber(caOnly.length)} token Secrets with a valid token`);
  sayNames("immutable: delete them and create them again by hand", stuck);
  sayNames("unchanged, as their ServiceAccount is gone, or is another one now", orphans);
  sayNames("not yet, because the API refuses it", [...refused.keys()]);
  return { renewed, caOnly, stuck, orphans, refused };
}

async function sayStale({ api, trust }: Pick<Scene, "api" | "trust">): Promise<Renewed> {
  const verifies = tokens.verifierOf(trust);
  const all = await tokens.tokenSecrets(api);
  const stale = all.filter((secret) => !tokens.isCurrent(secret, trust, verifies));
  if (stale.length === 0) say("unchanged token Secrets: all of them verify");
  sayNames("would renew", stale.map(nameOf));
  if (stale.some((secret) => !verifies(tokens.tokenOf(secret)))) sayNoUndo("tokens");
  return { renewed: [], caOnly: [], stuck: [], orphans: [], refused: new Map() };
}

/** Holders of the old CA or an old token. */
interface Left {
  workloads: order.End["left"];
  /** Lines that are no failures. */
  notes: string[];
  secrets: Renewed["refused"];
  /** Namespaces without the current CA. */
  namespaces: string[];
}

/** Secrets that a webhook kept from being renewed: its pods may be among those that restart. */
async function restartAll(
  scene: Scene & { kept: NamespacesWithoutCa },
  groups: Group[],
  first: Renewed,
): Promise<Left> {
  const { api, trust, cp, out, kept } = scene;
  const way = { from: cp.node.name, away: new Set(out.without), kept, caPem: trust.caPem };
  const { left: workloads, notes } = await order.restartInOrder(api, groups, way);
  const second = first.refused.size === 0 ? undefined : await renew(scene);
  const namespaces = mode.dryRun ? [] : await namespacesWithOldCa(api, trust.caPem);
  return { workloads, notes, secrets: second?.refused ?? new Map(), namespaces };
}

/** The rest is printed even if this fails. */
async function proveTokens({ api }: Scene): Promise<Fail | undefined> {
  if (mode.dryRun) return void say("would ask for a token and have it reviewed");
  const user = await tokens.reviewNewToken(api);
  if (user) return void say(`a new token: accepted as ${user}`);
  return new Fail("The API does not accept the token that it has just signed", {
    hint: "compare sa.pub of all control plane nodes with sha256sum: sa.key differs between them",
  });
}

function sayLeft({ cp, trust }: Scene, chosen: Chosen, left: Left) {
  const { later, skipped } = chosen;
  for (const note of left.notes) say(`- ${note}`);
  const waiting = { reported: reportedOwners(chosen.groups), skipped, later };
  const done = { cp, ...left, ...waiting, caPem: trust.caPem };
  for (const line of leftToDo(done)) say(`- ${line}`);
  rememberSkipped(skipped, cp.node.name);
  const old = [...Object.values(waiting).flat(), ...left.workloads].length + left.secrets.size;
  if (old === 0 && oldSaKeys(cp.facts.certificatesDir).length === 0) dropNewSaKeyMark();
}

function sayNext(cp: ControlPlaneNode, out: LeftOut, chosen: Chosen) {
  const { later, skipped } = chosen;
  const byHand = skipped.map((owner) => ({ name: ownerName(owner), command: howToRestart(owner) }));
  const oldSaKey = oldSaKeys(cp.facts.certificatesDir).length > 0;
  const outcome = { oldSaKey, later: later.length > 0, skipped: byHand };
  const held = oldSaKey ? beforeRetire(chosen) : [];
  const old = later.length + skipped.length;
  const left = `${old} workload${old === 1 ? " still has" : "s still have"} to restart`;
  done(
    inOneLine([...held, ...todosAfterTokens(routeOf(cp, out), outcome)]),
    old > 0 ? left : undefined,
  );
}

async function retire(values: Values) {
  const cp = await controlPlaneToRepair(values["etcd-data"], { asRan: false });
  const typed = withSavedOptions(values, cp, { mayBeDeleted: true });
  // after an exchange that was cut off: no script can ask anything without the API server
  settleWaitingManifest(cp, "kube-apiserver");
  const api = await adminApi(cp, containerEnd(cp, "kube-apiserver"));
  saveOptions(cp);
  await step("4.8 Take the old service-account key out", async () => {
    await retireOldSaKey(cp, api, { force: values.force ?? false });
    // The keys are published a moment before everything else is ready.
    await apiReady(api, { seconds: 120 });
    await sayEndpointReady(cp.facts);
  });
  done(inOneLine(todosAfterRetire(routeOf(cp, await nodesToSkip(cp, typed)))));
}

const USAGE = `Usage:
    ./bunw scripts/04-sa-tokens.ts [--only-system] [--namespace NS,…] [--skip NAMESPACE/NAME,…]
                                   [--without NODE,…] [--lost NODE,…] [--dry-run]
    ./bunw scripts/04-sa-tokens.ts retire [--without NODE,…] [--lost NODE,…] [--force] [--dry-run]

Renews the tokens that no longer verify, and restarts pods with the old CA or an old token. First
kube-proxy restarts, on all nodes at once. The network plugin is next, with what it needs, a tenth
of the nodes at a time. Webhooks and DNS follow, then the rest, by their own rolling updates. Pods
of an OnDelete workload, which no rolling update replaces, and pods of other controllers are
evicted, never more than a PodDisruptionBudget allows. Pods that run to their end, or that cannot be
restarted, are left. The command for each is printed, and they do not stop the others.

retire:  Run it on each control plane node, afterwards. Removes the old key (sa-old.pub, if
         00-token-key made one) from the API server. It refuses while a Secret or a running pod
         still holds a token of that key.

Options:
    --without NODES  Nodes that are away for now.
    --lost NODES     Nodes that are lost for good. Delete their Nodes before you run this.
    --only-system    Restart kube-system and the network plugin now, all others in a later run.
    --namespace NS   Restart this namespace's pods now (also several, with commas or repeated).
                     Without these two, all restart. Tokens in Secrets are renewed in any case.
    --skip WORKLOADS Workloads that you restart yourself: NAMESPACE/NAME,…, as 4.4 names them.
    --force          retire: remove the old key even if a Secret or a pod may still use a token of
                     it. These tokens then stop working; nothing else changes.
    --dry-run        Print what would be renewed and restarted; nothing is changed.

Exit codes: 0 done, 1 stopped (see the hint), or some workloads are left for you (4.7 names them),
            3 refused: not for this node or cluster, 4 locked by another run, 130 by a signal`;

const OPTIONS = {
  without: { type: "string", list: true },
  lost: { type: "string", list: true },
  "only-system": { type: "boolean", of: [""] },
  namespace: { type: "string", list: true, of: [""] },
  skip: { type: "string", list: true, of: [""] },
  force: { type: "boolean", of: ["retire"] },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
