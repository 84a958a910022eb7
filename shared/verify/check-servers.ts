/** The servers of this control plane node: each chain from both ends. */
import { adminClient } from "../api/admin-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { leaderNow } from "../api/leases.ts";
import { etcdClient } from "../etcd/identity.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { readText } from "../files/files.ts";
import { certInfo, keyMatches, signedBy } from "../pki/certificate.ts";
import { certPath, certRow, keyPath } from "../pki/certs.ts";
import { clusterServer, localServer } from "../pki/kubeconfigs.ts";
import { servedPem } from "../pki/served.ts";
import { managerIsReduced } from "../static-pods/restore.ts";
import { reviewNewToken } from "../workloads/token-secrets.ts";
import { type Answer, type Checks, failed } from "./checks.ts";

/** etcd and the API of this control plane node, by their own certificates. */
export async function checkServers(checks: Checks, cp: ControlPlaneNode, api: KubeApi) {
  const { facts, cluster } = cp;
  await checks.check("etcd", "answers with today's certificates", async () => {
    const status = await etcdClient(facts)?.status();
    if (!status) throw new Error("its client certificate is missing");
    return `etcd ${status.version}, revision ${status.revision}`;
  });
  await checks.check("etcd", "members", async () => {
    const members = (await etcdClient(facts)?.members()) ?? [];
    const before = cluster.identity.members.length;
    if (members.length < before)
      return { warning: `${members.length}, was ${before}: a lost control plane node has not been replaced yet` };
    return members.map((member) => member.name).join(", ");
  });
  for (const server of new Set([localServer(facts), clusterServer(facts)])) {
    await checks.check("API", server, async () => {
      if (!(await adminClient(facts, server).ready())) throw new Error("not ready");
      return "ready";
    });
  }
  await checks.check("API", "serves the certificate that is on disk", () => servedCertificate(cp));
  await checks.check("API", "a new token is signed and accepted", async () => (await reviewNewToken(api)) || failed("not accepted"));
  await checks.check("API", "controller-manager", () => {
    return managerIsReduced(cp) ? failed("still reduced: ./bunw scripts/03-workers.ts close") : "whole";
  });
  for (const name of ["kube-controller-manager", "kube-scheduler"])
    await checks.check("API", `a ${name} leads`, async () => (await leaderNow(api, name)) ?? failed(NO_LEADER));
}

const NO_LEADER =
  "nobody: ./bunw scripts/02-control-plane.ts on each control plane node starts those again that run since before their kubeconfig";

/** Both ends of the chain: what the server shows over the network, and the pair on disk. */
async function servedCertificate({ facts }: ControlPlaneNode): Promise<Answer> {
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
