/**
 * The cluster's nodes now. The running API shows whether they are the ones from before, which renew their Lease, and
 * which have to join; port 10250 of a kubelet, whether it has a certificate of this CA, another one, or none.
 */

import { command, type LeftOut, leftNames } from "../again.ts";
import type { DeafWebhook } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import {
  allRenewals,
  type Listening,
  leaseRenewed,
  nodeLeases,
  provingSince,
  renewalRefused,
  waitForRenewal,
} from "../api/leases.ts";
import { caEndedAt, caIsNew, trustedSince } from "../facts/ca-copies.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { apiAddressOf } from "../facts/known-nodes.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { otherControlPlanes } from "../facts/other-control-planes.ts";
import { codeOf, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { inParallel } from "../in-parallel.ts";
import { endSavedOptionsOf } from "../node/words.ts";
import { configMapIn } from "../objects/stored.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { certInfo, infoOf, isValidNow, orUndefined } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { fetchDirectly, isHeard, servedPem, trusting } from "../pki/served.ts";
import { listed } from "../plain.ts";
import { mode, say, tell } from "../run.ts";
import { isMapping, readYaml } from "../yaml.ts";

/** Errors: Fail where the API serves none of the old Nodes. */
export async function proveNodes({ cluster }: ControlPlaneNode, api: KubeApi) {
  const nodes = await api.list("/api/v1/nodes");
  const uids = new Map(nodes.map(({ metadata }) => [metadata.name, metadata.uid]));
  const same = cluster.nodes.filter(({ name, uid }) => uids.get(name) === uid);
  if (same.length === 0)
    throw new Fail(
      `The API serves ${uids.size} Nodes, and none of the ${cluster.nodes.length} that etcd's data has`,
      { hint: 'follow RUNBOOK-MORE "If etcd comes up empty"' },
    );
  const others = cluster.nodes.filter((node) => !same.includes(node)).map(({ name }) => name);
  if (others.length === 0) return say(`${same.length} Nodes, all with their old UIDs`);
  say(
    `${same.length} of ${cluster.nodes.length} Nodes, with their old UIDs; deleted or created again since: ${others.join(", ")}`,
  );
}

/** "Ready" is stale as long as nobody watches the nodes: the Lease is the proof. */
export async function proveOwnKubelet({ node, facts }: ControlPlaneNode, api: KubeApi) {
  const since = provingSince(clusterCa(facts.certificatesDir), readText(node.kubelet.clientPem));
  const hint =
    "journalctl -u kubelet -n 50; check this node's clock (date), and that kubelet.conf's server is reachable";
  await waitForRenewal(api, node.name, since, { seconds: 90, hint });
  if (!mode.dryRun) say(`${node.name}: renewed its Lease with the new certificate`);
}

/**
 * Errors: Fail where this node's Lease is not renewed because of a webhook: then no node's kubelet can come
 * back.
 */
export async function refuseDeafLeases({ node, facts }: ControlPlaneNode, api: KubeApi) {
  if (await leaseRenewed(api, node.name, provingSince(clusterCa(facts.certificatesDir)))) return;
  const deaf = await renewalRefused(api, node.name);
  if (deaf) throw new Fail(`The Lease of ${node.name} is not renewed: ${deaf.message}`, { hint: deaf.hint });
}

/** Nodes that are still there and do not renew their Lease, by what brings them back. */
export interface Silent {
  /**
   * Control plane nodes without an API server: part 2 has not run there, and before that no kubelet there can
   * renew its Lease.
   */
  unrepaired: readonly string[];
  /** Part 2 gives their kubelets certificates. */
  controlPlanes: readonly string[];
  /** They have to join, or are away. */
  workers: readonly string[];
  named: readonly string[];
  /** They are named, and renew their Lease all the same. */
  here: readonly string[];
  /** The webhook for which nobody can renew a Lease. */
  deaf: DeafWebhook | undefined;
  /** The last renewals, by the nodes' own clocks. */
  last: ReadonlyMap<string, Date>;
}

/**
 * The rule of the whole repair: the controller-manager runs in full when this finds none but those of
 * `without`, which the operator has named as away. It waits for those that can come.
 */
export async function findSilent(
  cp: ControlPlaneNode,
  api: KubeApi,
  without: readonly string[],
): Promise<Silent> {
  const nodeNames = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  const nodes = cp.cluster.nodes.filter(({ name }) => nodeNames.has(name));
  const noServer = await withoutApiServer(cp, nodes);
  const names = nodes.map(({ name }) => name);
  const endedAt = caEndedAt(cp);
  const since = trustedSince(cp, { endedAt });
  const notAwaited = [...noServer, ...without];
  if (caIsNew(cp) || endedAt) {
    // no kubelet that trusts the new or renewed CA, or it would have renewed its Lease since: it has to join
    const before = await allRenewals(api);
    notAwaited.push(...names.filter((name) => (before.get(name) ?? 0) < since));
  }
  const options = { onlyNew: true, since, notAwaited, listening: listeningOn(nodes) };
  const { notRenewed, renewals, deaf } = await nodeLeases(api, names, options);
  const isNamed = ({ name }: KnownNode) => without.includes(name);
  const isUnrepaired = ({ name }: KnownNode) => noServer.includes(name);
  const silent = nodes.filter(({ name }) => notRenewed.includes(name));
  const missed = silent.filter((node) => !isNamed(node));
  const controlPlanes = missed.filter((node) => node.controlPlane);
  const namesOf = (some: readonly KnownNode[]) => some.map(({ name }) => name);
  return {
    unrepaired: namesOf(controlPlanes.filter(isUnrepaired)),
    controlPlanes: namesOf(controlPlanes.filter((node) => !isUnrepaired(node))),
    workers: namesOf(missed.filter((node) => !node.controlPlane)),
    named: namesOf(silent.filter(isNamed)),
    here: namesOf(nodes.filter((node) => isNamed(node) && !silent.includes(node))),
    deaf,
    last: renewals,
  };
}

async function withoutApiServer(
  { node, data, facts }: ControlPlaneNode,
  nodes: readonly KnownNode[],
): Promise<string[]> {
  const found: string[] = [];
  const others = otherControlPlanes({ nodes }, { node });
  await inParallel(others, others.length, async (other) => {
    const address = apiAddressOf(other, data, facts.bindPort);
    if (address && (await isHeard(address.host, address.port, KNOCK_MS)) === false) found.push(other.name);
  });
  return found.sort();
}

export const OF_WINDOWS = 'Windows, by its label: join is for Linux. By hand: RUNBOOK-MORE "A Windows node"';

/** Names those among the `silent` ones, or all. */
export function sayWindows({ cluster }: ControlPlaneNode, out: LeftOut, silent: Silent | undefined) {
  const joining = cluster.nodes.filter(
    ({ name }) => !leftNames(out).includes(name) && (silent?.workers.includes(name) ?? true),
  );
  for (const { name, windows } of joining) if (windows) tell(`${name}: ${OF_WINDOWS}`);
}

export function missedOf({ unrepaired, controlPlanes, workers }: Silent): string[] {
  return [...unrepaired, ...controlPlanes, ...workers];
}

export function countBack(names: readonly string[]) {
  for (const name of names) say(`${name}: it renews its Lease, so it is not left out`);
  endSavedOptionsOf(names);
}

export function printSilentNodes({ unrepaired, controlPlanes, workers, here, last, deaf }: Silent) {
  countBack(here);
  if (unrepaired.length > 0)
    say(`${listed(unrepaired)}: no API server there, so part 2 has not run there yet; not waited for`);
  const since = (names: readonly string[]) =>
    listed(names.map((name) => `${name} (last ${last.get(name)?.toISOString() ?? "never"})`));
  if (deaf && controlPlanes.length + workers.length > 0)
    return say(
      `no Lease renewal from ${since([...controlPlanes, ...workers])}: ${deaf.message}: ${deaf.hint}`,
    );
  const why = "The CA is unchanged, so these kubelets' client certificates have expired or are missing";
  if (controlPlanes.length > 0)
    say(`no Lease renewal from ${since(controlPlanes)}. ${why}: run part 2 on these nodes`);
  if (workers.length > 0)
    say(
      `no Lease renewal from ${since(workers)}. ${why}: join is for these nodes, and for no other; or they are away`,
    );
}

/** `leader`: the node whose controller-manager leads in full. */
export function sayReduced(cp: ControlPlaneNode, silent: Silent, leader: string | undefined) {
  const reduced = leader
    ? "this node's controller-manager stays reduced until"
    : "the controller-manager stays reduced, and nothing is evicted, until";
  if (caIsNew(cp)) return say(`not back yet: ${listed(missedOf(silent))}; ${reduced} part 3 is closed`);
  const close = `, then on each control plane node: ${command("03-workers close")}`;
  if (silent.workers.length === 0) return say(`${reduced} they are back${close}`);
  const joins = `${command("03-workers open")}, then on ${listed(silent.workers)} the line that it prints`;
  say(`${reduced} they are back: ${joins}${close}. If one of them cannot come now: --without NODE`);
}

/* The kubelets' ports. */

export const KUBELET_PORT = 10250;

/** Milliseconds. */
const TIMEOUT = 5000;

/**
 * Ports that are asked at the same time: with the approvals, fewer than the connections that Bun's fetch
 * opens at once (256).
 */
export const PROBES = 128;

/**
 * `unreachable`: no answer, for example because of a firewall. `own`: a certificate that the kubelet has
 * signed itself, as one without serverTLSBootstrap does; it asks for none. `other`: an answer, but no
 * certificate of this CA for this address.
 */
type PortAnswer = "serves" | "other" | "own" | "unreachable";

const NO_ANSWER =
  /^(ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ConnectionRefused|ConnectionClosed|FailedToOpenSocket)$/;

/** The answer's text does not matter: the kubelet asks for credentials first. */
export async function askKubeletPort(node: KnownNode, ca: string): Promise<PortAnswer> {
  const ip = node.claimed.ips[0];
  if (!ip) return "serves";
  try {
    const request = {
      tls: trusting(ca),
      signal: AbortSignal.timeout(TIMEOUT),
      keepalive: false,
      redirect: "manual",
    } as const;
    await fetchDirectly(`${endpointUrl(ip, KUBELET_PORT)}/healthz`, request);
    return "serves";
  } catch (err) {
    if (!(err instanceof Error)) throw err;
    if (err.name === "TimeoutError" || NO_ANSWER.test(codeOf(err) ?? "")) return "unreachable";
    const pem = await servedPem(ip, KUBELET_PORT).catch(() => "");
    return OF_KUBELET.test(infoOf(pem)?.issuer ?? "") ? "own" : "other";
  }
}

/** The name of a CA that a kubelet makes for itself: client-go util/cert, GenerateSelfSignedCertKey. It only decides which sentence is printed. */
const OF_KUBELET = /(^|[\n,])CN=[^\n,]+-ca@\d+$/m;

/**
 * Connections at the same time, and milliseconds for each: on thousands of nodes that are off this must not
 * take long.
 */
const KNOCKS = 500;
const KNOCK_MS = 1000;

export function listeningOn(nodes: readonly KnownNode[]): Listening {
  return async (names) => {
    const found = new Map<string, boolean | undefined>();
    const meant = nodes.filter(({ name }) => names.includes(name));
    await inParallel(meant, KNOCKS, async ({ name, claimed }) => {
      const [host] = claimed.ips;
      found.set(name, host ? await isHeard(host, KUBELET_PORT, KNOCK_MS) : undefined);
    });
    return found;
  };
}

/**
 * Names of nodes whose kubelet answers without a certificate of the CA, but should have one. Nodes that
 * cannot be reached are left out, and so are those that show a valid certificate of a CA with another name, as the
 * company's (tlsCertFile): they ask for none.
 */
export async function withoutServing(
  cp: ControlPlaneNode,
  nodes: readonly KnownNode[] = cp.cluster.nodes,
): Promise<string[]> {
  if (!servingByCa(cp)) return [];
  const caPem = clusterCa(cp.facts.certificatesDir);
  const { subject } = certInfo(caPem);
  const names: string[] = [];
  await inParallel(nodes, PROBES, async (node) => {
    if ((await askKubeletPort(node, caPem)) !== "other") return;
    const pem = await servedPem(node.claimed.ips[0]!, KUBELET_PORT).catch(() => "");
    const shown = infoOf(pem);
    if (!shown || !isValidNow(shown) || shown.issuer === subject) names.push(node.name);
  });
  return names.sort();
}

/**
 * Whether the kubelets' serving certificates come from the cluster's CA, by the ConfigMap kubelet-config or this
 * node's kubelet: a drop-in may say so alone.
 */
export function servingByCa({ data, node }: ControlPlaneNode): boolean {
  if (node.kubelet.serverTlsBootstrap) return true;
  const text = configMapIn(data, "kube-system/kubelet-config")?.kubelet ?? "";
  const config = orUndefined(() => readYaml(text));
  return isMapping(config) && config.serverTLSBootstrap === true;
}
