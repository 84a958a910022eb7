#!/usr/bin/env bun
/**
 * RUNBOOK part 4: pods and tokens. What holds trust in the old CA or the old service-account key is renewed, in order.
 * Run once, on the first control plane node, after part 3 is closed. Safe to run again: what is current is not touched.
 */
import { parseArgs } from "node:util";
import { adminApi, apiReady, endpointReady } from "../shared/api/admin-api.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { nodeLeases } from "../shared/api/leases.ts";
import { inParallel } from "../shared/api/many.ts";
import { refuseStrangers } from "../shared/facts/cluster.ts";
import { type ControlPlaneNode, readControlPlaneNode } from "../shared/facts/control-plane-node.ts";
import { trustSince } from "../shared/facts/sa-key.ts";
import { Fail } from "../shared/fail.ts";
import { readText } from "../shared/files/files.ts";
import { manifestPath, readManifest } from "../shared/manifests/on-disk.ts";
import { isReduced } from "../shared/manifests/reduced-controllers.ts";
import { needRoot } from "../shared/node/node.ts";
import { certPath, certRow } from "../shared/pki/certs.ts";
import { oldSaKeys } from "../shared/pki/sa-keys.ts";
import { tokenVerifier } from "../shared/pki/tokens.ts";
import { listed } from "../shared/plain.ts";
import { count } from "../shared/progress.ts";
import { done, mode, run, say, start, step, waitFor } from "../shared/run.ts";
import { finishExchange } from "../shared/static-pods/exchange.ts";
import { caIsNew } from "../shared/static-pods/restore.ts";
import { leftToDo } from "../shared/workloads/left-to-do.ts";
import { renewTokens } from "../shared/workloads/renew-tokens.ts";
import { retireOldSaKey } from "../shared/workloads/retire-sa-key.ts";
import { canaries, label, restart } from "../shared/workloads/rollout.ts";
import { type Group, staleGroups } from "../shared/workloads/stale-pods.ts";
import {
  isCurrent,
  nameOf,
  namespacesWithOldCa,
  reviewNewToken,
  type SigningTrust,
  sayNames,
  tokenSecrets,
} from "../shared/workloads/token-secrets.ts";

const USAGE = `Usage:
    ./bunw scripts/04-sa-tokens.ts [--without NODE,…] [--dry-run]
    ./bunw scripts/04-sa-tokens.ts retire [--force] [--dry-run]

Renews the tokens that no longer verify and restarts the pods that still trust the old CA: kube-proxy first, on all nodes at once, then the
network plugin, DNS and webhooks, the rest; those by their own rolling updates, and never more than a PodDisruptionBudget allows.

retire, on each control plane node, afterwards:  takes the old key (sa-old.pub, if 00-token-key made one) out of the API server, unless a Secret or a
                                     running pod still holds a token of it.

Options:
    --without NODES  Nodes that will not come back.
    --force          retire: even if somebody still holds a token of the old key.
    --etcd-data DIR  etcd's data directory (default: /var/lib/etcd).
    --dry-run        Print what would be renewed and restarted; nothing is changed.
    --help           Print this text.

Examples:
    ./bunw scripts/04-sa-tokens.ts --dry-run
    ./bunw scripts/04-sa-tokens.ts
    ./bunw scripts/04-sa-tokens.ts retire

Exit codes: 0 done, 1 stopped (see the hint)
`;

const OPTIONS = {
  without: { type: "string", default: "" },
  force: { type: "boolean" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

/** Owners restarted at the same time. */
const WIDTH = 20;

interface Scene {
  cp: ControlPlaneNode;
  api: KubeApi;
  trust: SigningTrust;
  nodes: string[];
  renewed: string[];
  groups: Group[];
}

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  const command = positionals.join(" ");
  if (values.help) return console.log(USAGE);
  if (command !== "" && command !== "retire")
    throw new Fail(`04-sa-tokens knows only retire, got "${command}"`, {
      hint: "./bunw scripts/04-sa-tokens.ts --help",
    });
  start(`04-sa-tokens${command ? ` ${command}` : ""}`, { dryRun: values["dry-run"] });
  needRoot();
  if (command === "retire") return await retire(values["etcd-data"], values.force ?? false);

  const scene = await step("4.1 Check that part 3 is closed", () =>
    checkNodes(values["etcd-data"], values.without.split(",").filter(Boolean)),
  );
  await step(
    "4.2 Wait for the CA in every namespace",
    () => waitForRootCa(scene),
    "kubectl get cm -A --field-selector metadata.name=kube-root-ca.crt",
  );
  await step(
    "4.3 Renew the tokens that no longer verify",
    () => renew(scene),
    `kubectl patch secret NAME -p '{"data":{"token":null}}'`,
  );
  await step("4.4 Find the pods that hold on to the old CA", () => findStale(scene));
  await step("4.5 Restart them in order", () => restartInOrder(scene), "kubectl rollout restart");
  await step(
    "4.6 Prove that tokens are signed and accepted",
    () => proveTokens(scene),
    "kubectl create token default",
  );
  await step("4.7 Say what is left for people", () => sayLeft(scene));
  const retireFirst = oldSaKeys(scene.cp.facts.certificatesDir).length > 0;
  done(
    `${retireFirst ? "./bunw scripts/04-sa-tokens.ts retire, on each control plane node; then " : ""}./bunw scripts/05-verify.ts`,
  );
}

async function retire(dataDir: string, force: boolean) {
  const cp = await readControlPlaneNode(dataDir);
  finishExchange(cp, "kube-apiserver");
  const api = await adminApi(cp);
  await step("4.8 Take the old service-account key out", async () => {
    await retireOldSaKey(cp, api, { force });
    // The keys are published a moment before everything else is ready.
    await apiReady(api, { seconds: 120 });
    await endpointReady(cp.facts);
  });
  const others = cp.cluster.nodes.filter(
    ({ controlPlane, name }) => controlPlane && name !== cp.node.name,
  );
  const first =
    others.length > 0
      ? `the same on ${others.map(({ name }) => name).join(", ")} where it has not been, then `
      : "";
  done(`${first}./bunw scripts/05-verify.ts`);
}

async function checkNodes(dataDir: string, without: string[]): Promise<Scene> {
  const cp = await readControlPlaneNode(dataDir);
  const { facts, cluster } = cp;
  refuseStrangers(without, cp);
  const pki = facts.certificatesDir;
  const [caPem, saPub, saKey] = [
    certPath(certRow("ca"), pki),
    `${pki}/sa.pub`,
    `${pki}/sa.key`,
  ].map((path) => readText(path));
  if (!caPem || !saPub || !saKey)
    throw new Fail("The shared keys are not there", {
      hint: "parts 1 and 2 first: ./bunw scripts/00-assess.ts",
    });
  const controllerManager = readManifest(manifestPath(cp, "kube-controller-manager"));
  if (!controllerManager || isReduced(controllerManager)) {
    throw new Fail(
      `The controller-manager is ${controllerManager ? "still reduced" : "not there"}`,
      {
        hint: "close part 3 first: ./bunw scripts/03-workers.ts close",
      },
    );
  }
  const api = await adminApi(cp);
  const nodes = cluster.nodes.map((node) => node.name).filter((name) => !without.includes(name));
  const { notRenewed: away } = await nodeLeases(api, nodes);
  if (away.length > 0) {
    throw new Fail(
      `${away.length} of ${nodes.length} nodes do not renew their Lease: ${listed(away)}`,
      {
        hint: `part 3 there first; nodes that stay away: ./bunw scripts/04-sa-tokens.ts --without ${away.slice(0, 20).join(",")}`,
      },
    );
  }
  await refuseDeadNodes(api, without);
  say(
    `${nodes.length} of ${nodes.length} nodes renew their Lease; the controller-manager is whole`,
  );
  return { cp, api, trust: { caPem, saPub, saKey }, nodes, renewed: [], groups: [] };
}

/** A DaemonSet does not roll out past a node that is dead: its pod there counts as the one that may be missing. */
async function refuseDeadNodes(api: KubeApi, without: readonly string[]) {
  for (const name of without) {
    if (!(await api.find(`/api/v1/nodes/${name}`))) continue;
    throw new Fail(`The Node "${name}" is still there, and no DaemonSet can roll out past it`, {
      hint: `it is lost for good? kubectl --kubeconfig /etc/kubernetes/admin.conf delete node ${name}; then run this script again`,
    });
  }
}

async function waitForRootCa({ api, trust }: Scene) {
  if (mode.dryRun)
    return sayNames("namespaces with another CA", await namespacesWithOldCa(api, trust.caPem));
  await waitFor(
    "kube-root-ca.crt to be today's CA in every namespace",
    async () => (await namespacesWithOldCa(api, trust.caPem)).length === 0,
    {
      seconds: 120,
      hint: "the controller-manager writes it: does it lead? kubectl -n kube-system get lease kube-controller-manager",
    },
  );
  say("kube-root-ca.crt: today's CA in every namespace");
}

async function renew(scene: Scene) {
  if (mode.dryRun) {
    const verifies = tokenVerifier(scene.trust.saPub);
    const stale = (await tokenSecrets(scene.api)).filter(
      (secret) => !isCurrent(secret, scene.trust, verifies),
    );
    return stale.length > 0
      ? sayNames("would renew", stale.map(nameOf))
      : say("all token Secrets verify: kept");
  }
  const { renewed, caOnly, stuck, orphans } = await renewTokens(scene.api, scene.trust);
  scene.renewed = renewed;
  say(
    renewed.length === 0
      ? "all token Secrets verify: kept"
      : `${count(renewed.length)} token Secrets have a new token`,
  );
  if (caOnly.length > 0) say(`${count(caOnly.length)} with a good token: today's CA beside it`);
  sayNames("immutable, to be deleted and made anew by hand", stuck);
  sayNames("left alone, their ServiceAccount is gone or another now", orphans);
}

async function findStale(scene: Scene) {
  const { cp, api, trust } = scene;
  scene.groups = await staleGroups(api, trust.caPem, trustSince(cp));
  const owners = scene.groups.flatMap((group) => group.owners);
  if (owners.length === 0)
    return say(
      caIsNew(cp) ? "none" : "none: the cluster knew its CA before, no pod has to restart",
    );
  for (const { name, owners } of scene.groups) {
    const restarts = owners.filter((owner) => owner.kind !== "report").map(label);
    if (restarts.length > 0) say(`${name}: ${restarts.join(", ")}`);
  }
  for (const owner of owners.filter((candidate) => candidate.kind === "report"))
    say(`not restarted: ${label(owner)}: ${owner.reason}`);
}

/** A group is through when its new pods are available; after those that new sandboxes need, every node proves it with a pod. */
async function restartInOrder({ api, groups, nodes }: Scene) {
  if (groups.every(({ owners }) => owners.every((owner) => owner.kind === "report")))
    return say("nothing to restart");
  for (const { name, owners } of groups) {
    const restarts = owners.filter((owner) => owner.kind !== "report");
    if (restarts.length === 0) continue;
    if (mode.dryRun) {
      say(`would restart: ${restarts.map(label).join(", ")}`);
      continue;
    }
    await inParallel(restarts, WIDTH, (owner) => restart(api, owner));
    if (name === "kube-proxy" || name === "network plugins") await canaries(api, nodes);
  }
}

async function proveTokens({ api }: Scene) {
  if (mode.dryRun) return say("would: ask for a token and have it reviewed");
  const user = await reviewNewToken(api);
  if (!user)
    throw new Fail("The API does not accept the token that it has just signed", {
      hint: "sa.key differs between control plane nodes: compare their sa.pub with sha256sum",
    });
  say(`a new token: accepted as ${user}`);
}

async function sayLeft({ cp, api, renewed, groups, trust }: Scene) {
  const reported = groups.flatMap(({ owners }) =>
    owners.filter((owner) => owner.kind === "report"),
  );
  for (const line of await leftToDo({ cp, api, renewed, reported, caPem: trust.caPem }))
    say(`- ${line}`);
}

if (import.meta.main) await run(main);
