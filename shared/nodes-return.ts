/** Waits until the nodes are back: each kubelet renews its Lease with a certificate of today's CA, and its own port serves with one. */
import { endpointUrl } from "./addresses.ts";
import { certPath, certRow } from "./certs.ts";
import { type KnownNode, readObject } from "./cluster.ts";
import { Fail } from "./fail.ts";
import { readText } from "./files.ts";
import type { KubeApi } from "./kube-api.ts";
import { allRenewals, provingSince } from "./leases.ts";
import type { Master } from "./master.ts";
import { mode, say, waitFor } from "./run.ts";
import { approve, objection, pendingServing } from "./serving-csrs.ts";

const KUBELET_PORT = 10250;

interface Watch {
  master: Master;
  api: KubeApi;
  expected: KnownNode[];
  caPem: string;
  /** Whether the kubelets' serving certificates come from the cluster's CA (serverTLSBootstrap in the ConfigMap kubelet-config). */
  serving: boolean;
  refused: Set<string>;
  back: Set<string>;
}

/** Errors: Fail that names the nodes that did not come back in time. */
export async function watchNodesReturn(master: Master, api: KubeApi, options: { without: readonly string[]; minutes: number }) {
  const strangers = options.without.filter((name) => !master.cluster.nodes.some((node) => node.name === name));
  if (strangers.length > 0)
    throw new Fail(`etcd knew no node "${strangers.join('", "')}"`, {
      hint: `its nodes: ${master.cluster.nodes.map((node) => node.name).join(", ")}`,
    });
  const expected = master.cluster.nodes.filter((node) => !options.without.includes(node.name));
  const caPem = readText(certPath(certRow("ca"), master.facts.certificatesDir))!;
  const watch: Watch = { master, api, expected, caPem, serving: servingByCa(master), refused: new Set(), back: new Set() };
  if (mode.dryRun) return say(`would wait for: ${expected.map((node) => node.name).join(", ")}; and approve their serving certificates`);

  await waitFor("all nodes to come back", () => look(watch), { seconds: options.minutes * 60, hint: "" }).catch((err: unknown) => {
    const missing = expected.filter((node) => !watch.back.has(node.name)).map((node) => node.name);
    throw new Fail(`${missing.length} of ${expected.length} nodes have not come back: ${missing.slice(0, 20).join(", ")}`, {
      hint: `has 03-workers.ts join been run there? Nodes that stay away: ./bunw scripts/03-workers.ts close --without ${missing.slice(0, 20).join(",")}`,
      cause: err,
    });
  });
}

async function look(watch: Watch): Promise<boolean> {
  await decideCsrs(watch);
  const renewals = await allRenewals(watch.api);
  const since = provingSince(watch.caPem);
  for (const node of watch.expected) {
    if (watch.back.has(node.name) || (renewals.get(node.name) ?? 0) < since) continue;
    if (watch.serving && !(await nodeServes(node, watch.caPem))) continue;
    watch.back.add(node.name);
    say(
      `${node.name}: back${watch.serving ? ", serves with a certificate of the cluster's CA" : ""}   ${watch.back.size} / ${watch.expected.length}`,
    );
  }
  return watch.back.size === watch.expected.length;
}

async function decideCsrs({ api, master, refused }: Watch) {
  for (const csr of await pendingServing(api)) {
    const reason = objection(csr, master.cluster.nodes);
    if (!reason) {
      await approve(api, csr);
      say(`${csr.metadata.name}: approved for ${csr.spec.username}`);
    } else if (!refused.has(csr.metadata.name)) {
      refused.add(csr.metadata.name);
      say(`${csr.metadata.name}: left alone: ${reason}`);
    }
  }
}

/** Whether a node's kubelet port shows a certificate of this CA. What it answers does not matter: it asks for credentials first. */
export async function nodeServes(node: KnownNode, ca: string): Promise<boolean> {
  const ip = node.ips[0];
  if (!ip) return true;
  try {
    await fetch(`${endpointUrl(ip, KUBELET_PORT)}/healthz`, { tls: { ca }, signal: AbortSignal.timeout(2000) });
    return true;
  } catch (err) {
    // No answer, or one with another certificate: both mean not yet, and the last reason is of no use to the operator.
    if (err instanceof Error) return false;
    throw err;
  }
}

/** Whether the kubelets' serving certificates come from the cluster's CA (serverTLSBootstrap in the ConfigMap kubelet-config). */
export function servingByCa({ data }: Master): boolean {
  const config = readObject<{ data?: { kubelet?: string } }>(data, "configmaps/kube-system/kubelet-config")?.data?.kubelet ?? "";
  return /^serverTLSBootstrap: true$/m.test(config);
}
