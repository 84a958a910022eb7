/** Checks of a whole cluster: each chain from both ends. Nothing here writes, and one that fails never keeps another from running. */

import { adminClient } from "../api/admin-api.ts";
import { ApiError, KubeApi, type KubeObject } from "../api/kube-api.ts";
import { hearNodes, leaderNow } from "../api/leases.ts";
import { etcdClient } from "../etcd/identity.ts";
import { servedPem } from "../etcd/peers.ts";
import type { Master } from "../facts/master.ts";
import { rescueFolders } from "../facts/repair.ts";
import { exists, readText } from "../files/files.ts";
import { backupAnswer } from "../hand-over/backup-mark.ts";
import { hostFiles } from "../manifests/from-mirror-pod.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { oldSaPub } from "../manifests/sa-old-flag.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import { trusted } from "../node/kubelet-certs.ts";
import type { Node } from "../node/node.ts";
import { certInfo, keyMatches, signedBy } from "../pki/certificate.ts";
import { CERTS, certPath, certRow, keyPath } from "../pki/certs.ts";
import { clusterCa, examine, examineKubeconfig, examineServiceAccountKey } from "../pki/examine.ts";
import { clusterServer, kubeconfigRows, localServer, readKubeconfig } from "../pki/kubeconfigs.ts";
import { managerIsReduced } from "../static-pods/restore.ts";
import { mountsSuperAdmin, otherStaticPods } from "../static-pods/wanted-manifests.ts";
import { nodeServes, servingByCa } from "../workers/wait.ts";
import { standIns } from "../workloads/left-for-people.ts";
import { isCurrent, namespacesWithOldCa, reviewNewToken, tokenSecrets } from "../workloads/token-secrets.ts";
import { checkPods } from "./check-pods.ts";
import type { Answer, Checks } from "./collect.ts";

/** Files of a master: certificates, kubeconfigs, manifests and what they need. */
export async function checkFiles(checks: Checks, master: Master) {
  const { facts } = master;
  for (const row of CERTS) await checks.check("files", `${row.file}.crt and .key`, () => ok(examine(row, facts)));
  await checks.check("files", "sa.key and sa.pub", () => ok(examineServiceAccountKey(facts.certificatesDir)));
  for (const row of kubeconfigRows(facts, { superAdmin: mountsSuperAdmin(master) })) {
    await checks.check("files", row.path, () => (row.name === "kubelet" ? "see the kubelet's checks" : ok(examineKubeconfig(row, facts))));
  }
  for (const { name, namespace } of [...CONTROL_PLANE.map((name) => ({ name, namespace: undefined })), ...otherStaticPods(master)]) {
    await checks.check("files", `manifest of ${name}`, () => manifestAnswer(manifestPath(master, name, namespace)));
  }
  for (const path of standIns(master)) await checks.check("files", path, () => ({ warning: "a stand-in for the lost audit policy" }));
  const oldKey = oldSaPub(facts.certificatesDir);
  if (exists(oldKey))
    await checks.check("files", oldKey, () => ({ warning: "old tokens are still accepted: ./bunw scripts/04-sa-tokens.ts retire" }));
  for (const { dir } of rescueFolders()) {
    const goneBy = dir === master.rescue.dir ? ", and what the scripts go by" : "";
    await checks.check("files", dir, () => ({ warning: `old keys and all Secrets${goneBy}: remove it when nothing is missing any more` }));
  }
  if (!facts.externalCa) await checks.check("files", "backup", () => backupAnswer(facts.certificatesDir));
}

/** This node's kubelet: its certificate is of the CA that it trusts itself, and fits its kubelet.conf. */
export async function checkKubelet(checks: Checks, node: Node) {
  const { kubelet } = node;
  const ca = readText(kubelet.clientCaFile) ?? "";
  await checks.check("kubelet", `${kubelet.clientPem}`, () => {
    if (!trusted(kubelet.clientPem, ca)) throw new Error(`missing, expired, or not signed by ${kubelet.clientCaFile}`);
    const { cn, notAfter } = certInfo(readText(kubelet.clientPem)!);
    if (cn !== `system:node:${node.name}`) throw new Error(`is for "${cn}"`);
    return `${cn}, until ${notAfter.toISOString().slice(0, 10)}`;
  });
  await checks.check("kubelet", kubelet.kubeconfig, async () => {
    const conf = readKubeconfig(kubelet.kubeconfig);
    if (!conf) throw new Error("missing");
    if (conf.caPem.trim() !== ca.trim()) throw new Error(`trusts another CA than ${kubelet.clientCaFile}`);
    await KubeApi.from(conf).get(`/api/v1/nodes/${node.name}`);
    return `${conf.server} answers it`;
  });
  await checks.check("kubelet", kubelet.bootstrapKubeconfig, () => {
    if (readText(kubelet.bootstrapKubeconfig) !== undefined) return { warning: "still there: it holds a token" };
    return "not there, as it should be";
  });
}

/** etcd and the API of this master, by their own certificates. */
export async function checkServers(checks: Checks, master: Master, api: KubeApi) {
  const { facts, cluster } = master;
  await checks.check("etcd", "answers with today's certificates", async () => {
    const status = await etcdClient(facts)?.status();
    if (!status) throw new Error("its client certificate is missing");
    return `etcd ${status.version}, revision ${status.revision}`;
  });
  await checks.check("etcd", "members", async () => {
    const members = (await etcdClient(facts)?.members()) ?? [];
    const before = cluster.identity.members.length;
    if (members.length < before) return { warning: `${members.length}, was ${before}: a lost master has not been replaced yet` };
    return members.map((member) => member.name).join(", ");
  });
  for (const server of new Set([localServer(facts), clusterServer(facts)])) {
    await checks.check("API", server, async () => {
      if (!(await adminClient(facts, server).ready())) throw new Error("not ready");
      return "ready";
    });
  }
  await checks.check("API", "serves the certificate that is on disk", () => servedCertificate(master));
  await checks.check("API", "a new token is signed and accepted", async () => (await reviewNewToken(api)) || failed("not accepted"));
  await checks.check("API", "controller-manager", () => {
    return managerIsReduced(master) ? failed("still reduced: ./bunw scripts/03-workers.ts close") : "whole";
  });
  for (const name of ["kube-controller-manager", "kube-scheduler"])
    await checks.check("API", `a ${name} leads`, async () => (await leaderNow(api, name)) ?? failed(NO_LEADER));
}

const NO_LEADER = "nobody: ./bunw scripts/02-control-plane.ts on each master starts those again that run since before their kubeconfig";

/** What the cluster holds about trust, and its nodes. */
export async function checkCluster(checks: Checks, master: Master, api: KubeApi): Promise<Answer> {
  const pki = master.facts.certificatesDir;
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
  const serving = servingByCa(master);
  const there = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  const { renewals, silent } = await hearNodes(api, [...there]);
  for (const node of master.cluster.nodes) {
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
  await checkPods(checks, master, trust.caPem, api);
  return `${master.cluster.nodes.length} nodes`;
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

function manifestAnswer(path: string): Answer {
  const manifest = readManifest(path);
  if (!manifest) return failed("missing");
  // A volume that does not say what it is may be missing: it is mounted empty then.
  const missing = hostFiles(manifest).filter(({ type, path }) => type !== "" && !type.endsWith("OrCreate") && !exists(path));
  return missing.length === 0
    ? "there, with all files it names"
    : failed(`needs ${missing.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")}`);
}

/** Both ends of the chain: what the server shows over the network, and the pair on disk. */
async function servedCertificate({ facts }: Master): Promise<Answer> {
  const row = certRow("apiserver");
  const [cert, key, ca] = [
    certPath(row, facts.certificatesDir),
    keyPath(row, facts.certificatesDir),
    certPath(certRow("ca"), facts.certificatesDir),
  ].map((path) => readText(path)!);
  const served = await servedPem(facts.advertiseAddress, facts.bindPort);
  if (!signedBy(served, ca!)) return failed(`it shows one of "${certInfo(served).issuer}", not of the CA on disk`);
  if (!keyMatches(served, key!)) return failed("it shows another one: it has not been restarted since");
  return `until ${certInfo(cert!).notAfter.toISOString().slice(0, 10)}`;
}

function ok(finding: { state: string; detail: string }): string {
  if (finding.state !== "ok") throw new Error(`${finding.state}: ${finding.detail}`);
  return finding.detail;
}

function failed(detail: string): never {
  throw new Error(detail);
}
