/** The cluster's nodes as the running API shows them: are they the ones from before, which renew their Lease, and which have to join? */
import type { KubeApi } from "../api/kube-api.ts";
import { leaseRenewed, nodeLeases, provingSince } from "../api/leases.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { clusterCa } from "../pki/examine.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { isControlPlane } from "../trust/control-planes.ts";
import { waitFor } from "../wait-for.ts";
import { listeningOn, withoutServing } from "./kubelet-port.ts";

/** The API serves the old Nodes; those that were deleted or are others now are named. Errors: Fail where it serves none of them. */
export async function proveNodes({ cluster }: ControlPlaneNode, api: KubeApi) {
  const uids = new Map((await api.list("/api/v1/nodes")).map(({ metadata }) => [metadata.name, metadata.uid]));
  const same = cluster.nodes.filter(({ name, uid }) => uids.get(name) === uid);
  if (same.length === 0) {
    throw new Fail(`The API serves ${uids.size} Nodes, and none of the ${cluster.nodes.length} that etcd's data has`, {
      hint: 'RUNBOOK 1, "If etcd comes up empty"',
    });
  }
  const others = cluster.nodes.filter((node) => !same.includes(node)).map(({ name }) => name);
  if (others.length === 0) return say(`${same.length} Nodes, all with the UIDs from before`);
  say(`${same.length} of ${cluster.nodes.length} Nodes, with the UIDs from before; deleted or made anew since: ${others.join(", ")}`);
}

/** "Ready" is stale as long as nobody watches the nodes: the Lease is the proof. */
export async function proveOwnKubelet({ node, facts }: ControlPlaneNode, api: KubeApi) {
  const since = provingSince(clusterCa(facts.certificatesDir), readText(node.kubelet.clientPem));
  await waitFor(`the Lease of ${node.name} to be renewed`, () => leaseRenewed(api, node.name, since), {
    seconds: 90,
    hint: "journalctl -u kubelet -n 50; is its clock right, is kubelet.conf's server reachable?",
  });
  if (!mode.dryRun) say(`${node.name}: renewed its Lease with the new certificate`);
}

/** Whether a node does not renew its Lease, or this one waits for its serving certificate. */
export async function nodesNeedPart3(cp: ControlPlaneNode, api: KubeApi, without: readonly string[]): Promise<boolean> {
  const there = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  const nodes = cp.cluster.nodes.filter(({ name }) => there.has(name) && !without.includes(name));
  const names = nodes.map(({ name }) => name);
  const { notRenewed } = await nodeLeases(api, names, { listening: listeningOn(nodes) });
  if (notRenewed.length > 0) say(`no Lease renewal yet from: ${listed(notRenewed)}`);
  const own = nodes.filter(({ name }) => name === cp.node.name);
  return notRenewed.length > 0 || (await withoutServing(cp, own)).length > 0;
}

export type Silent = Awaited<ReturnType<typeof findSilent>>;

/** Nodes that do not renew their Lease, though the cluster knows its CA. */
export async function findSilent({ cluster, data }: ControlPlaneNode, api: KubeApi, without: readonly string[]) {
  const nodes = cluster.nodes.filter(({ name }) => !without.includes(name));
  const names = nodes.map(({ name }) => name);
  const { notRenewed: silent } = await nodeLeases(api, names, { onlyNew: true, listening: listeningOn(nodes) });
  const controlPlanes = nodes.filter((node) => isControlPlane(node, data)).map(({ name }) => name);
  return {
    /** Part 2 gives their kubelets certificates. */
    controlPlanes: silent.filter((name) => controlPlanes.includes(name)),
    /** They have to join. */
    workers: silent.filter((name) => !controlPlanes.includes(name)),
  };
}

/** With the old CA: part 2 gives a control plane node's kubelet its certificate, a worker joins. */
export function saySilent({ controlPlanes, workers }: Silent) {
  const why = "The CA is unchanged, so these kubelets' client certificates have expired or are missing";
  if (controlPlanes.length > 0) say(`no Lease renewal from ${controlPlanes.join(", ")}. ${why}: run part 2 on these nodes`);
  if (workers.length > 0) say(`no Lease renewal from ${workers.join(", ")}. ${why}: run join on these nodes only`);
}
