#!/usr/bin/env bun
/**
 * RUNBOOK part 4: pods and tokens. What still trusts the old CA or the old service-account key is
 * renewed, in order. Run it once, on the first control plane node, after part 3 is closed. Safe to
 * run again: what is current is not touched.
 */
import { adminApi, apiReady, endpointReady } from "../shared/api/admin-api.ts";
import { leftOut } from "../shared/etcd/all-members.ts";
import { type ControlPlaneNode, controlPlaneToRepair } from "../shared/facts/control-plane-node.ts";
import { afterRetire, afterTokens, inOneLine, routeOf } from "../shared/facts/next.ts";
import { Fail } from "../shared/fail.ts";
import { takeNode } from "../shared/node/take-node.ts";
import { parseOptions } from "../shared/options.ts";
import { dropNewSaKeyMark, oldSaKeys } from "../shared/pki/sa-keys.ts";
import { tokenVerifier } from "../shared/pki/tokens.ts";
import { count } from "../shared/progress.ts";
import { done, mode, run, say, start, step } from "../shared/run.ts";
import { finishExchange } from "../shared/static-pods/exchange.ts";
import { leftToDo } from "../shared/workloads/left-to-do.ts";
import { type Ready, readyForPart4 } from "../shared/workloads/preconditions.ts";
import { renewTokens } from "../shared/workloads/renew-tokens.ts";
import { findStale, reportedOf, restartInOrder } from "../shared/workloads/restart-order.ts";
import { retireOldSaKey } from "../shared/workloads/retire-sa-key.ts";
import type { Group } from "../shared/workloads/stale-pods.ts";
import * as tokens from "../shared/workloads/token-secrets.ts";

async function main() {
  const { values, positionals } = parse();
  const command = positionals.join(" ");
  if (values.help) return console.log(USAGE);
  if (command !== "" && command !== "retire")
    throw new Fail(`04-sa-tokens knows only retire, got "${command}"`, {
      hint: "./bunw scripts/04-sa-tokens.ts --help",
    });
  start(`04-sa-tokens${command ? ` ${command}` : ""}`, { dryRun: values["dry-run"] });
  takeNode();
  const named = values.without.split(",").filter(Boolean);
  if (command === "retire") return await retire(values, named);

  const scene = await step("4.1 Check that part 3 is closed", () => look(values, named));
  const { cp, api, trust, nodes, without } = scene;
  await step(
    "4.2 Wait for the CA in every namespace",
    () => waitForRootCa(scene),
    "kubectl get cm -A --field-selector metadata.name=kube-root-ca.crt",
  );
  const renewed = await step(
    "4.3 Renew the tokens that no longer verify",
    () => renew(scene),
    `kubectl patch secret NAME -p '{"data":{"token":null}}'`,
  );
  const groups = await step("4.4 Find the pods that hold on to the old CA", () =>
    findStale(cp, api, trust.caPem),
  );
  await step(
    "4.5 Restart them in order",
    () => restartInOrder(api, groups, nodes),
    "kubectl rollout restart",
  );
  await step(
    "4.6 Prove that tokens are signed and accepted",
    () => proveTokens(scene),
    "kubectl create token default",
  );
  await step("4.7 Print what is left for you to do", () => sayLeft(scene, renewed, groups));
  const oldSaKey = oldSaKeys(cp.facts.certificatesDir).length > 0;
  done(inOneLine(afterTokens(routeOf(cp, without), oldSaKey)));
}

interface Scene extends Ready {
  cp: ControlPlaneNode;
}

async function look(values: Values, named: string[]): Promise<Scene> {
  const cp = await controlPlaneToRepair(values["etcd-data"]);
  return { cp, ...(await readyForPart4(cp, named)) };
}

async function waitForRootCa({ api, trust: { caPem } }: Scene) {
  if (!mode.dryRun) return await tokens.waitForRootCa(api, caPem);
  const old = await tokens.namespacesWithOldCa(api, caPem);
  tokens.sayNames("namespaces with another CA", old);
}

/** Returns the names of Secrets that got a new token. */
async function renew({ api, trust }: Scene): Promise<string[]> {
  if (mode.dryRun) return await sayStale({ api, trust });
  const { renewed, caOnly, stuck, orphans } = await renewTokens(api, trust);
  if (renewed.length === 0) say("all token Secrets verify: kept");
  else say(`${count(renewed.length)} token Secrets have a new token`);
  if (caOnly.length > 0) say(`${count(caOnly.length)} with a good token: today's CA beside it`);
  tokens.sayNames("immutable: delete them and make them anew by hand", stuck);
  tokens.sayNames("left alone: their ServiceAccount is gone, or is another one now", orphans);
  return renewed;
}

async function sayStale({ api, trust }: Pick<Scene, "api" | "trust">): Promise<string[]> {
  const verifies = tokenVerifier(trust.saPub);
  const all = await tokens.tokenSecrets(api);
  const stale = all.filter((secret) => !tokens.isCurrent(secret, trust, verifies));
  if (stale.length === 0) say("all token Secrets verify: kept");
  tokens.sayNames("would renew", stale.map(tokens.nameOf));
  return [];
}

async function proveTokens({ api }: Scene) {
  if (mode.dryRun) return say("would: ask for a token and have it reviewed");
  const user = await tokens.reviewNewToken(api);
  if (!user)
    throw new Fail("The API does not accept the token that it has just signed", {
      hint: "sa.key differs between control plane nodes: compare their sa.pub with sha256sum",
    });
  say(`a new token: accepted as ${user}`);
}

async function sayLeft({ cp, api, trust }: Scene, renewed: string[], groups: Group[]) {
  const left = { cp, api, renewed, reported: reportedOf(groups), caPem: trust.caPem };
  for (const line of await leftToDo(left)) say(`- ${line}`);
  if (left.reported.length === 0 && oldSaKeys(cp.facts.certificatesDir).length === 0)
    dropNewSaKeyMark();
}

async function retire(values: Values, named: string[]) {
  const cp = await controlPlaneToRepair(values["etcd-data"]);
  finishExchange(cp, "kube-apiserver");
  const api = await adminApi(cp);
  await step("4.8 Take the old service-account key out", async () => {
    await retireOldSaKey(cp, api, { force: values.force ?? false });
    // The keys are published a moment before everything else is ready.
    await apiReady(api, { seconds: 120 });
    await endpointReady(cp.facts);
  });
  done(inOneLine(afterRetire(routeOf(cp, await leftOut(cp, named)))));
}

const USAGE = `Usage:
    ./bunw scripts/04-sa-tokens.ts [--without NODE,…] [--dry-run]
    ./bunw scripts/04-sa-tokens.ts retire [--without NODE,…] [--force] [--dry-run]

Renews the tokens that no longer verify, and restarts the pods that still trust the old CA: first
kube-proxy, on all nodes at once; then the network plugin, DNS and webhooks; then the rest. These
restart by their own rolling updates, and never more of them than a PodDisruptionBudget allows.

retire:  On each control plane node, afterwards. Removes the old key (sa-old.pub, if 00-token-key
         made one) from the API server, unless a Secret or a running pod still holds a token of it.

Options:
    --without NODES  Nodes that will not come back.
    --force          retire: also where a Secret or a pod may still use a token of the old key.
                     These tokens then stop working; nothing else changes.
    --etcd-data DIR  etcd's data directory (default: /var/lib/etcd).
    --dry-run        Print what would be renewed and restarted; nothing is changed.
    --help           Print this text.

Examples:
    ./bunw scripts/04-sa-tokens.ts --dry-run
    ./bunw scripts/04-sa-tokens.ts
    ./bunw scripts/04-sa-tokens.ts retire

Exit codes: 0 done, 1 stopped (see the hint), 4 locked by another run, 130 ended by a signal
`;

const OPTIONS = {
  without: { type: "string", default: "" },
  force: { type: "boolean" },
  "etcd-data": { type: "string", default: "/var/lib/etcd", path: true },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>["values"];

function parse() {
  return parseOptions({ options: OPTIONS, allowPositionals: true });
}

if (import.meta.main) await run(main);
