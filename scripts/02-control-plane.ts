#!/usr/bin/env bun
/**
 * RUNBOOK part 2: certificates, kubeconfigs and static pods of this control plane node; the API answers.
 * Run on each control plane node, side by side if you like, once part 1 has proved etcd. Safe to run again: what is right is kept.
 */
import { parseArgs } from "node:util";
import { adminClient, apiReady, endpointReady } from "../shared/api/admin-api.ts";
import { cleanFrontProxy, ensureAdmins, publishClusterInfo } from "../shared/api/cluster-trust.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { dropDeadLeaders, leaseRenewed, nodeLeases, provingSince } from "../shared/api/leases.ts";
import { proveMembers, removeMembers } from "../shared/etcd/all-members.ts";
import { etcdClient, proveSameEtcd } from "../shared/etcd/identity.ts";
import { peersOf } from "../shared/etcd/peers.ts";
import { refuseStrangers } from "../shared/facts/cluster.ts";
import {
  type ControlPlaneNode,
  ensureOptions,
  readControlPlaneNode,
} from "../shared/facts/control-plane-node.ts";
import { refuseExternalCa } from "../shared/facts/external-ca.ts";
import { refuseExternalEtcd } from "../shared/facts/no-etcd-data.ts";
import { saKeyIsNew } from "../shared/facts/sa-key.ts";
import { Fail } from "../shared/fail.ts";
import { exists, readText } from "../shared/files/files.ts";
import { manifestPath } from "../shared/manifests/on-disk.ts";
import { containers, stopContainers } from "../shared/node/containers.ts";
import { ensureControlPlaneKubelet } from "../shared/node/kubelet-certs.ts";
import { kubeletActive, needRoot, turnKubelet } from "../shared/node/node.ts";
import { CERTS } from "../shared/pki/certs.ts";
import { ensureMany } from "../shared/pki/ensure.ts";
import { clusterCa } from "../shared/pki/examine.ts";
import { kubeconfigRows } from "../shared/pki/kubeconfigs.ts";
import { listed } from "../shared/plain.ts";
import { done, mode, run, say, start, step, tell, waitFor } from "../shared/run.ts";
import { howToReplace } from "../shared/static-pods/replace-control-plane.ts";
import {
  caIsNew,
  managerIsReduced,
  refuseLostFiles,
  restoreManifests,
} from "../shared/static-pods/restore.ts";
import {
  mountsSuperAdmin,
  onlyOnPeers,
  SERVERS,
  staleReaders,
} from "../shared/static-pods/wanted-manifests.ts";
import { withoutServing } from "../shared/workers/kubelet-port.ts";
import { proveOldSaKeys, takeUpSaKey } from "../shared/workloads/retire-sa-key.ts";

const USAGE = `Usage:
    ./bunw scripts/02-control-plane.ts [--super-admin] [--without NODE,…] [--dry-run] [--etcd-data DIR]

Brings this control plane node's API server, controller-manager and scheduler back, as they were: same flags, same images, same hand edits. Run it on each
control plane node, side by side if you like, once part 1 has proved etcd. No workload restarts.

Options:
    --super-admin    Write super-admin.conf too (group system:masters; kubeadm makes it on the first control plane node only), where no static pod mounts it.
    --without NODES  Control plane nodes that are lost for good: they are taken out of etcd's members, and the steps to put new ones in are printed.
    --etcd-data DIR  etcd's data directory (default: /var/lib/etcd).
    --dry-run        Print what would be done; nothing is written, stopped or started.
    --help           Print this text.

Examples:
    ./bunw scripts/02-control-plane.ts --dry-run
    ./bunw scripts/02-control-plane.ts

Exit codes: 0 done, 1 stopped (see the hint)
`;

const OPTIONS = {
  "super-admin": { type: "boolean" },
  without: { type: "string", default: "" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  start("02-control-plane", { dryRun: values["dry-run"] });
  needRoot();

  const without = values.without.split(",").filter(Boolean);
  const cp = await step("2.1 Check that etcd is the one from before", () =>
    checkEtcd(values["etcd-data"], without),
  );
  const issued = await step(
    "2.2 Issue certificates and kubeconfigs",
    () => issue(cp, values["super-admin"] || mountsSuperAdmin(cp)),
    "kubeadm init phase certs all; kubeadm init phase kubeconfig all",
  );
  const started = await step(
    "2.3 Put the manifests back",
    () => startControlPlane(cp, issued),
    "kubeadm init phase control-plane all",
  );
  const api = await step(
    "2.4 Prove that the API serves the old objects with the new certificates",
    () => proveApi(cp, started),
    "kubectl get --raw /readyz",
  );
  await step(
    "2.5 Tell the cluster about its CAs",
    () => tellCluster(cp, api),
    "kubeadm init phase bootstrap-token",
  );
  await step(
    "2.6 Prove that this control plane node's kubelet is heard again",
    () => proveKubelet(cp, api),
    "kubeadm init phase kubelet-finalize all",
  );
  if (without.length > 0) tell(howToReplace(cp, without));
  done(await next(cp, api, without));
}

async function checkEtcd(dataDir: string, without: string[]): Promise<ControlPlaneNode> {
  const cp = await readControlPlaneNode(dataDir);
  const { facts, data, node, cluster } = cp;
  refuseExternalEtcd(cp);
  refuseExternalCa(cp);
  refuseStrangers(without, cp);
  refuseLostFiles(cp);
  const client = etcdClient(facts);
  if (!client) {
    if (!mode.dryRun)
      throw new Fail("etcd's certificates are not there", {
        hint: "part 1 first: ./bunw scripts/01-etcd.ts",
      });
    say("etcd: would have to answer by now (part 1)");
    return cp;
  }
  await waitFor("etcd to answer", () => client.status(), {
    seconds: 30,
    hint: "part 1 first: ./bunw scripts/01-etcd.ts",
  });
  if (mode.dryRun) return cp;
  for (const proof of await proveSameEtcd(client, data, cluster)) say(proof);
  await proveMembers(client, facts, { peers: await peersOf(data, node.addresses), without });
  await removeMembers(client, without);
  return cp;
}

/** Files first, manifests after them: a static pod that comes before its kubeconfig gets an empty one made by the kubelet. */
async function issue(cp: ControlPlaneNode, superAdmin: boolean): Promise<string[]> {
  const kubeconfigs = kubeconfigRows(cp.facts, { superAdmin }).filter(
    (row) => row.name !== "kubelet",
  );
  return (
    await ensureMany(
      { certs: CERTS, kubeconfigs, serviceAccountKey: true },
      cp.facts,
      ensureOptions(cp),
    )
  ).written;
}

/** Pods whose certificates or kubeconfigs were issued anew start again: they read them once. Returns when anything was started, or undefined. */
async function startControlPlane(
  cp: ControlPlaneNode,
  issued: string[],
): Promise<Date | undefined> {
  const began = new Date();
  const { node, facts, asideDir } = cp;
  const running = (await containers(node.runtimeEndpoint)).filter((c) => c.running);
  const watched = exists(node.kubelet.staticPodPath) && (await kubeletActive());
  const tried = SERVERS.some((name) => exists(manifestPath(cp, name)));
  const restored = restoreManifests(cp);
  for (const { name, peer } of onlyOnPeers(cp))
    say(
      `${name}: ${peer} has this static pod, and nothing tells whether it was here too; if it was, copy its manifest`,
    );
  const own =
    issued.length > 0
      ? running.filter(
          (c) => c.namespace === "kube-system" && SERVERS.some((name) => name === c.name),
        )
      : [];
  const stale = [...new Set([...own, ...staleReaders(cp, running)])];
  if (stale.length > 0) await stopContainers(node.runtimeEndpoint, stale);
  const credentials = await ensureControlPlaneKubelet(node, facts, asideDir);
  // A kubelet whose folder of manifests was there all the time has seen them come; any other one would look again after 20 s only. One that
  // tried to start them without their certificates holds them back for up to five minutes, and forgets that when it starts anew.
  const restart = !watched || credentials || (tried && (issued.length > 0 || restored));
  if (restart) await turnKubelet("restart");
  return restored || restart || stale.length > 0 ? began : undefined;
}

async function proveApi(cp: ControlPlaneNode, started: Date | undefined): Promise<KubeApi> {
  const { facts } = cp;
  const local = adminClient(facts);
  await apiReady(local, { seconds: 180 });
  if (mode.dryRun) return local;
  say(`${local.server}: ready`);
  await ensureAdmins(cp, local);
  await proveNodes(cp, local);
  const since = (await takeUpSaKey(cp, local)) ?? started;
  await proveOldSaKeys(local, facts.certificatesDir);
  if (since) await dropDeadLeaders(local, { hostName: cp.node.hostName, since });
  return local;
}

/** The API serves the old Nodes. Those that were deleted or joined anew since are told. */
async function proveNodes({ cluster }: ControlPlaneNode, api: KubeApi) {
  const uids = new Map(
    (await api.list("/api/v1/nodes")).map(({ metadata }) => [metadata.name, metadata.uid]),
  );
  const same = cluster.nodes.filter(({ name, uid }) => uids.get(name) === uid);
  if (same.length === 0) {
    throw new Fail(
      `The API serves ${uids.size} Nodes, and none of the ${cluster.nodes.length} that etcd's data has`,
      {
        hint: 'RUNBOOK 1, "If etcd comes up empty"',
      },
    );
  }
  const others = cluster.nodes.filter((node) => !same.includes(node)).map(({ name }) => name);
  if (others.length === 0) say(`${same.length} Nodes, all with the UIDs from before`);
  else
    say(
      `${same.length} of ${cluster.nodes.length} Nodes, with the UIDs from before; deleted since, or other ones now: ${others.join(", ")}`,
    );
}

async function tellCluster(cp: ControlPlaneNode, api: KubeApi) {
  if (mode.dryRun)
    return say("would: publish the CA in cluster-info, drop dead CAs for aggregated API servers");
  if (!caIsNew(cp)) say("the cluster knows this CA already: kubelets and pods trust it");
  await publishClusterInfo(cp, api);
  await cleanFrontProxy(cp, api);
}

/** "Ready" is stale as long as nobody watches the nodes: the Lease is the proof. */
async function proveKubelet({ node, facts }: ControlPlaneNode, api: KubeApi) {
  const since = provingSince(clusterCa(facts.certificatesDir), readText(node.kubelet.clientPem));
  const hint =
    "journalctl -u kubelet -n 50; is its clock right, is kubelet.conf's server reachable?";
  await waitFor(
    `the Lease of ${node.name} to be renewed`,
    () => leaseRenewed(api, node.name, since),
    { seconds: 90, hint },
  );
  if (mode.dryRun) return;
  say(`${node.name}: renewed its Lease with the new certificate`);
  await endpointReady(facts);
}

async function next(cp: ControlPlaneNode, api: KubeApi, without: string[]): Promise<string> {
  const others = cp.cluster.nodes
    .filter((n) => n.controlPlane && n.name !== cp.node.name && !without.includes(n.name))
    .map((n) => n.name);
  const here = await nextHere(cp, api, without);
  return others.length > 0
    ? `part 2 on ${others.join(", ")} where it has not been, then ${here}`
    : here;
}

/** With the old CA, part 3 only where a kubelet is not heard or waits for its serving certificate, part 4 only where sa.key is new. */
async function nextHere(cp: ControlPlaneNode, api: KubeApi, without: string[]): Promise<string> {
  if (caIsNew(cp) || (!mode.dryRun && (await needsPart3(cp, api, without))))
    return `./bunw scripts/03-workers.ts open${without.length > 0 ? `, close with --without ${without.join(",")}` : ""}`;
  return `./bunw scripts/${saKeyIsNew(cp) ? "04-sa-tokens.ts" : "05-verify.ts"}`;
}

async function needsPart3(cp: ControlPlaneNode, api: KubeApi, without: string[]): Promise<boolean> {
  if (managerIsReduced(cp)) return true;
  const there = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  const nodes = cp.cluster.nodes.filter(({ name }) => there.has(name) && !without.includes(name));
  const names = nodes.map(({ name }) => name);
  const { notRenewed } = await nodeLeases(api, names);
  if (notRenewed.length > 0) say(`no Lease renewal yet from: ${listed(notRenewed)}`);
  const own = nodes.filter(({ name }) => name === cp.node.name);
  return notRenewed.length > 0 || (await withoutServing(cp, own)).length > 0;
}

if (import.meta.main) await run(main);
