/** What the cluster holds about trust, and its nodes. */
import { ApiError, type KubeApi, type KubeObject } from "../api/kube-api.ts";
import { hearNodes } from "../api/leases.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { readText } from "../files/files.ts";
import { clusterCa } from "../pki/examine.ts";
import { nodeServes, servingByCa } from "../workers/wait.ts";
import { isCurrent, namespacesWithOldCa, tokenSecrets } from "../workloads/token-secrets.ts";
import { checkPods } from "./check-pods.ts";
import { type Answer, type Checks, failed } from "./checks.ts";

/** What the cluster holds about trust, and its nodes. */
export async function checkCluster(checks: Checks, cp: ControlPlaneNode, api: KubeApi): Promise<Answer> {
  const pki = cp.facts.certificatesDir;
  const trust = { caPem: clusterCa(pki), saPub: readText(`${pki}/sa.pub`)! };
  await checks.check("cluster", "kube-root-ca.crt in every namespace", async () => {
    const old = await namespacesWithOldCa(api, trust.caPem);
    return old.length === 0
      ? "today's CA"
      : failed(`another CA in ${old.join(", ")}: the controller-manager writes it; ./bunw scripts/04-sa-tokens.ts waits for it`);
  });
  await checks.check("cluster", "cluster-info", async () => {
    const map = await api.get<KubeObject & { data: { kubeconfig: string } }>("/api/v1/namespaces/kube-public/configmaps/cluster-info");
    return map.data.kubeconfig.includes(Buffer.from(trust.caPem).toString("base64"))
      ? "today's CA"
      : failed("another CA: ./bunw scripts/02-control-plane.ts");
  });
  for (const secret of await secretsOrNone(checks, api)) {
    const name = `${secret.metadata.namespace}/${secret.metadata.name}`;
    await checks.check("tokens", name, () =>
      isCurrent(secret, trust) ? "verifies" : failed("does not verify, or holds another CA: ./bunw scripts/04-sa-tokens.ts renews it"),
    );
  }
  const serving = servingByCa(cp);
  const there = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  const { renewals, silent } = await hearNodes(api, [...there]);
  for (const node of cp.cluster.nodes) {
    if (!there.has(node.name)) {
      await checks.check("nodes", node.name, () => ({ warning: "is no Node any more" }));
      continue;
    }
    await checks.check("nodes", `${node.name} renews its Lease`, () => {
      const age = (Date.now() - (renewals.get(node.name)?.getTime() ?? 0)) / 1000;
      return !silent.includes(node.name)
        ? `${age.toFixed(0)} s ago`
        : failed(`last ${age.toFixed(0)} s ago: does it run? Has its certificate ended: ./bunw scripts/03-workers.ts open`);
    });
    if (serving) {
      await checks.check("nodes", `${node.name} serves with a certificate of the CA`, async () =>
        (await nodeServes(node, trust.caPem)) ? "yes" : failed("no: ./bunw scripts/03-workers.ts close approves what it asks for"),
      );
    }
    await checks.check("nodes", `${node.name} answers kubectl logs and exec`, () => reachedByApi(node.name, api));
  }
  await checkPods(checks, cp, trust.caPem, api);
  return `${cp.cluster.nodes.length} nodes`;
}

/** The connection that an API server has kept to a kubelet which has started anew since is dead; what it is asked next goes over another one. */
async function reachedByApi(name: string, api: KubeApi): Promise<Answer> {
  const ask = () => api.get(`/api/v1/nodes/${name}/proxy/healthz`);
  try {
    await ask();
  } catch (err) {
    if (!(err instanceof ApiError) || err.status < 500) throw err;
    await ask();
  }
  return "the API server reaches its kubelet";
}

async function secretsOrNone(checks: Checks, api: KubeApi) {
  try {
    return await tokenSecrets(api);
  } catch (err) {
    await checks.check("tokens", "Secrets can be read", () => failed((err as Error).message));
    return [];
  }
}
