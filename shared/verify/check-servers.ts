/**
 * Checks of this control plane node's servers, each chain of certificates at the client and at the server, and of the files that they share
 * with the other control plane nodes.
 */
import { command } from "../again.ts";
import { adminClient } from "../api/admin-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { LEADERS } from "../api/kube-object.ts";
import { allRenewals, isFresh, leaderNow } from "../api/leases.ts";
import { type Answer, type CheckRow, check, dated } from "../checks/check.ts";
import { askOthers, howMany } from "../etcd/identity.ts";
import { accessRefusal } from "../etcd/unheard.ts";
import { isNameless, memberName } from "../etcd-data/members.ts";
import { etcdClient, type LiveMember } from "../etcd-location/client.ts";
import { endedAt } from "../etcd-location/living-etcd.ts";
import { FULL, hostOf, makeRoom, promotion } from "../etcd-location/reach-etcd.ts";
import { endpointDifference } from "../facts/endpoint.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { apiAddressOf } from "../facts/known-nodes.ts";
import { leaderLease } from "../facts/leaders.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { otherControlPlanes } from "../facts/other-control-planes.ts";
import { attemptLater, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { managerIsReduced } from "../manifests/repair-changes.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { certInfo, day, keyMatches, shareCertificate, signedBy } from "../pki/certificate.ts";
import { certPath, certRow, keyPath } from "../pki/certs.ts";
import { bothCas } from "../pki/examine.ts";
import { clusterServer, localServer } from "../pki/kubeconfigs.ts";
import { isServerOf, servedPem } from "../pki/served.ts";
import { inTime, undefinedOnTimeout } from "../wait-for.ts";
import { newToken, review, reviewNewToken } from "../workloads/token-secrets.ts";

/** etcd and the API with this node's own certificates; then one check for each other control plane node. */
export function* serverChecks(
  cp: ControlPlaneNode,
  api: KubeApi,
  away: readonly string[] = [],
): Generator<CheckRow> {
  const { facts, cluster, endpoint } = cp;
  const own = localServer(facts);
  const ready = async (server: string): Promise<Answer> =>
    (await (await adminClient(facts, server)).ready()) ? "ready" : { failed: "not ready" };
  const leader = async (component: (typeof LEADERS)[number]): Promise<Answer> => {
    const lease = leaderLease(cp.node, component);
    if (lease === undefined) return "elects no leader";
    return (await leaderNow(api, lease)) ?? { failed: "no leader" };
  };
  yield check("etcd-answers", () => unlessTurnedAway(cp, api, () => etcdAnswer(cp)));
  yield check("etcd-members", () => unlessTurnedAway(cp, api, () => members(cp, api, away)));
  for (const server of new Set([own, clusterServer(facts)]))
    yield check(
      "api-ready",
      () => (server === own ? ready(own) : endpointAnswer(cp, api, () => ready(server))),
      server,
    );
  yield check("endpoint", () => endpointDifference(endpoint, facts) ?? "all witnesses agree");
  yield check("api-certificate", () => servedCertificate(cp));
  yield check("api-token", async () => (await reviewNewToken(api)) || { failed: "not accepted" });
  yield check("controller-manager", () =>
    managerIsReduced(cp) ? { failed: "still reduced" } : "runs in full",
  );
  yield check("controller-manager-leads", () => leader("kube-controller-manager"));
  yield check("scheduler-leads", () => leader("kube-scheduler"));
  for (const node of otherControlPlanes(cluster, { ...cp, without: away }))
    yield check("tokens-both-ways", () => tokensBothWays(cp, api, node), node.name);
}

/**
 * Without admin.conf nobody can ask whether it is ready. The server must be this cluster's: a pod of the host's network may
 * listen there. Errors: Fail if nothing answers.
 */
export function withoutAdmin({ facts, cluster }: ControlPlaneNode): CheckRow {
  const look = async () => {
    const served = await servedPem(facts.advertiseAddress, facts.bindPort);
    if (!isServerOf(served, facts.advertiseAddress, bothCas(facts.certificatesDir, cluster.oldCaPem)))
      return {
        failed: `the server there shows a certificate of "${certInfo(served).issuer}", not of the cluster's CA for this address`,
      };
    return "answers; without admin.conf it cannot be asked whether it is ready";
  };
  return check("api-ready", look, localServer(facts));
}

/** No outage if an API server keeps reading through this etcd. */
async function unlessTurnedAway(
  cp: ControlPlaneNode,
  api: KubeApi,
  ask: () => Promise<Answer>,
): Promise<Answer> {
  const answer = await attemptLater(ask);
  if (!(answer instanceof Fail)) return answer;
  const why = await accessRefusal(cp, answer);
  if (why && (await undefinedOnTimeout(api.ready())))
    return { differs: `not asked: ${why.message}. It lives: the API server is ready` };
  throw answer;
}

async function etcdAnswer({ facts }: ControlPlaneNode): Promise<Answer> {
  const client = etcdClient(facts);
  if (!client) return { failed: "its client certificate is missing" };
  const { version, revision } = await client.status();
  if (!(await client.isFull())) return `etcd ${version}, revision ${revision}`;
  return { failed: FULL, mend: makeRoom(facts, revision) };
}

async function members(
  { facts, data }: ControlPlaneNode,
  api: KubeApi,
  away: readonly string[],
): Promise<Answer> {
  const now = (await etcdClient(facts)?.members()) ?? [];
  const present = now.filter((member) => !away.includes(memberName(member)));
  let silent: LiveMember[] = [];
  // a server that just starts, or elects a leader, may miss one question
  const allAnswer = async () => {
    ({ silent } = await askOthers(present, data, facts));
    return silent.length === 0;
  };
  const hint = "crictl ps -a --name etcd on each control plane node";
  await inTime("every member of etcd to answer", allAnswer, { seconds: 15, hint });
  // members on other machines are no nodes
  if (facts.externalEtcd?.elsewhere) {
    const ended = await endedAt(
      silent.flatMap(({ clientURLs }) => clientURLs),
      facts.externalEtcd.ca,
    );
    const why = ended ? `${ended.why}. To ${ended.way}` : "repair it where it runs";
    return silent.length > 0
      ? { warning: `${howMany(now, silent)}: ${why}` }
      : present.map(memberName).join(", ");
  }
  if (silent.length > 0) {
    const neverStarted = silent.every(isNameless);
    const mend = neverStarted ? "it never started: take it out with" : "part 1 there; if its data is lost:";
    const line = command("02-control-plane", { lost: silent.map(memberName) });
    return { failed: `${howMany(now, silent)}: ${mend} ${line}` };
  }
  const learners = now.filter(({ isLearner }) => isLearner);
  if (learners.length > 0)
    return {
      warning: `${learners.map(memberName).join(", ")} has no vote: its join was cut off. To end it: ${promotion(learners[0]!, facts)}`,
    };
  const nodeless = await withoutNode(now, api);
  if (nodeless.length > 0)
    return {
      failed: `${nodeless.join(", ")} is a member, and its Node is gone: systemctl restart kubelet there makes it again`,
    };
  const members = Math.max(data.members.length, data.formerMembers?.length ?? 0);
  if (now.length < members)
    return { warning: `${now.length}, was ${members}: a lost control plane node has not been replaced yet` };
  const leftOut = now.filter((member) => !present.includes(member));
  const rest = leftOut.length > 0 ? `; not asked, as you say: ${leftOut.map(memberName).join(", ")}` : "";
  return `${present.map(memberName).join(", ")}${rest}`;
}

/**
 * Members without a Node, by their names and addresses, as a restore may give a member any name: a Node's
 * claim is enough to call nobody gone.
 */
async function withoutNode(all: readonly LiveMember[], api: KubeApi): Promise<string[]> {
  const found = await Promise.all(
    all.map(({ name }) => name && api.find(`/api/v1/nodes/${encodeURIComponent(name)}`)),
  );
  const nameless = all.filter((_, i) => !found[i]);
  if (nameless.length === 0) return [];
  const nodes = await api.list<{ status?: { addresses?: { address: string }[] } }>("/api/v1/nodes");
  const claimed = new Set(
    nodes.flatMap(({ status }) => status?.addresses?.map(({ address }) => address) ?? []),
  );
  return nameless.filter(({ peerURLs }) => !peerURLs.some((url) => claimed.has(hostOf(url)))).map(memberName);
}

/**
 * Some balancers do not lead a server back to itself. If other nodes renew their Leases, they do reach an API
 * server.
 */
async function endpointAnswer(
  cp: ControlPlaneNode,
  api: KubeApi,
  ready: () => Promise<Answer>,
): Promise<Answer> {
  const late = await attemptLater(ready);
  if (!(late instanceof Fail)) return late;
  const renewals = await allRenewals(api);
  const others = cp.cluster.nodes.filter(({ name }) => name !== cp.node.name);
  const alive = others.filter(({ name }) => isFresh(renewals.get(name))).length;
  if (alive === 0) throw late;
  return { warning: `${late.message}. Not from this node, at least: ${alive} others renew their Leases` };
}

/** Both ends of the chain: the certificate that the server shows over the network, and the pair on disk. */
async function servedCertificate({ facts }: ControlPlaneNode): Promise<Answer> {
  const [row, pki] = [certRow("apiserver"), facts.certificatesDir];
  const paths = [certPath(row, pki), keyPath(row, pki), certPath("ca", pki)];
  const [cert, key, ca] = paths.map((path) => readText(path));
  const lost = paths.filter((path) => readText(path) === undefined);
  if (lost.length > 0)
    return {
      failed: `not compared: there is no ${lost.join(", ")}`,
      needed: ["certificate-apiserver", "certificate-ca"],
    };
  const served = await servedPem(facts.advertiseAddress, facts.bindPort);
  if (shareCertificate(served, facts.shown ?? "")) return endOf(served, "of --tls-cert-file, ");
  if (!signedBy(served, ca!))
    return { failed: `it shows a certificate of "${certInfo(served).issuer}", not of the CA on disk` };
  if (!keyMatches(served, key!))
    return { failed: "it shows another certificate: it has not been restarted since" };
  return endOf(cert!);
}

function endOf(cert: string, kind = ""): Answer {
  const { notAfter } = certInfo(cert);
  return dated(`${kind}until ${day(notAfter)}`, notAfter);
}

/**
 * All control plane nodes have to agree: each accepts tokens that another one signs, and all have the same
 * CAs.
 */
async function tokensBothWays(
  { facts, data }: ControlPlaneNode,
  api: KubeApi,
  node: KnownNode,
): Promise<Answer> {
  const { name } = node;
  if (!(await api.find(`/api/v1/nodes/${name}`))) return "there is no such Node any more";
  const { host, port } = apiAddressOf(node, data, facts.bindPort) ?? { host: name, port: facts.bindPort };
  const client = await adminClient(facts, endpointUrl(host, port));
  if (!(await review(client, await newToken(api))))
    return { failed: `${name} does not accept ours: its sa.pub is another` };
  if (!(await review(api, await newToken(client))))
    return { failed: `this node does not accept ${name}'s: its sa.key is another` };
  return "both ways";
}
