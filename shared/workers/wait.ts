/**
 * Waits until the nodes are back: each kubelet renews its Lease with a certificate of today's CA, and its own port serves with one. Made for
 * thousands: Leases and signing requests are watched, not listed again and again, and of a node only a few words are kept.
 */

import { kitTokens, TOKEN_HOURS } from "../api/bootstrap-tokens.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { allRenewals, watchRenewals } from "../api/leases.ts";
import { inParallel } from "../api/many.ts";
import type { KnownNode } from "../facts/cluster.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { command } from "../facts/next.ts";
import { Fail } from "../fail.ts";
import { readObject } from "../k8s/stored.ts";
import { clusterCa } from "../pki/examine.ts";
import { FEW } from "../progress.ts";
import { mode, say, waitFor } from "../run.ts";
import { givenBefore, type Joining } from "./client-csrs.ts";
import { decideAgain, followClients, followServing } from "./deciding.ts";
import { identitiesOf, isControlPlane } from "./identities.ts";
import { askKubeletPort } from "./kubelet-port.ts";
import {
  type Away,
  comeBack,
  listed,
  noteOf,
  type Return,
  type Returned,
  type Scene,
  sayReturned,
  setScene,
  whyAway,
} from "./waiting-state.ts";

/** Port probes at the same time; with the approvals they stay below the connections that Bun's fetch opens at once (256). */
const PROBES = 128;

/** Milliseconds: a port is asked again after FIRST_PAUSE, then after twice as long each time, up to LAST_PAUSE. */
const LAST_PAUSE = 5000;

/** A node whose port nobody can reach from here counts as back so long after its certificate was issued. */
const UNREACHABLE_MS = 5000;

/**
 * A node that is heard counts as back so long after its request for a serving certificate was left alone: it may ask again with right names. Nobody
 * is to wait for a certificate that a stranger's claim keeps from it; a person decides.
 */
const LEFT_ALONE_MS = 15_000;

/** Milliseconds between two looks whether the token is still there. */
const TOKEN_EVERY = 5000;

/** Errors: Fail that names the nodes that did not come back in time. */
export async function watchNodesReturn(cp: ControlPlaneNode, api: KubeApi, options: { without: readonly string[]; minutes: number }) {
  const { without } = options;
  const expected = expectedOf(cp, without);
  if (mode.dryRun) return say(`would wait for: ${listed(expected.map((node) => node.name))}; and approve their certificates`);
  const caPem = clusterCa(cp.facts.certificatesDir);
  const joining = await joiningOf(cp, api, without);
  const serving = servingByCa(cp);
  await nodesReturn({ api, expected, caPem, serving, joining, without, identities: identitiesOf(cp), seconds: options.minutes * 60 });
}

/** For as long as workers join: approves what they ask for with the kit's token. Ends with them, or with the token. */
export async function approveJoining(cp: ControlPlaneNode, api: KubeApi, without: readonly string[]) {
  const expected = expectedOf(cp, without).filter((node) => !isControlPlane(node, cp.cluster));
  if (mode.dryRun) return say(`would approve the client certificates of: ${listed(expected.map((node) => node.name))}; each once`);
  const caPem = clusterCa(cp.facts.certificatesDir);
  const joining = await joiningOf(cp, api, without);
  if (!joining) throw new Fail("There is no token of this kit", { hint: `${command("03-workers open", without)} makes one` });
  const seconds = TOKEN_HOURS * 3600;
  const { away } = await nodesReturn({ api, expected, caPem, serving: false, joining, seconds, whileTokenLasts: true });
  if (away.length > 0) say(`the token has ended, and there is no sign of: ${listed(away)}. open makes a new one`);
}

function expectedOf({ cluster: { nodes } }: ControlPlaneNode, without: readonly string[]): KnownNode[] {
  const strangers = without.filter((name) => !nodes.some((node) => node.name === name));
  if (strangers.length > 0)
    throw new Fail(`etcd knew no node "${strangers.join('", "')}"`, { hint: `its nodes: ${listed(nodes.map((node) => node.name))}` });
  return nodes.filter((node) => !without.includes(node.name));
}

async function joiningOf({ cluster }: ControlPlaneNode, api: KubeApi, without: readonly string[]): Promise<Joining | undefined> {
  const tokens = await kitTokens(api);
  if (tokens.length === 0) return undefined;
  const known = new Map(cluster.nodes.map((node) => [node.name, { ...node, controlPlane: isControlPlane(node, cluster) }]));
  return { tokens, known, without, heard: new Set(), given: await givenBefore(api, tokens) };
}

/** The same for any cluster: what the benchmark measures. */
export async function nodesReturn(options: Return): Promise<Returned> {
  const scene = setScene(options, options.joining ? await allRenewals(options.api) : new Map());
  const ending = new AbortController();
  const followers = [followServing, followClients, followLeases].map((follower) => follower(scene, ending.signal));
  try {
    await Promise.race([allBack(scene), scene.failure.promise, ...followers.map(forEver)]);
  } finally {
    ending.abort();
    await Promise.allSettled(followers);
    scene.progress.clear();
  }
  sayReturned(scene);
  const { approved, refused, unreachable, away } = scene;
  return { back: scene.expected.length - away.size, away: [...away.keys()], approved, refused: [...refused], unreachable };
}

/** Whether there is nobody left to wait for: without a token nobody joins. A request is never judged by a token that was revoked long ago. */
async function tokenHasEnded(scene: Scene): Promise<boolean> {
  const { joining, api, whileTokenLasts } = scene;
  if (!joining) return false;
  if (Date.now() > scene.tokensReadAt + TOKEN_EVERY) {
    scene.tokensReadAt = Date.now();
    joining.tokens = await kitTokens(api);
  }
  return whileTokenLasts === true && joining.tokens.length === 0;
}

/** A follower's end means nothing while others run; its error does. */
async function forEver(follower: Promise<void>): Promise<never> {
  await follower;
  return new Promise<never>(() => {});
}

async function allBack(scene: Scene) {
  const { away, expected, progress, without = [] } = scene;
  const look = async () => {
    probePorts(scene);
    decideAgain(scene);
    progress.show(expected.length - away.size, noteOf(scene));
    return away.size === 0 || (await tokenHasEnded(scene));
  };
  await waitFor("all nodes to come back", look, { seconds: scene.seconds, hint: "" }).catch((cause: unknown) => {
    const missing = [...away.values()];
    const names = missing.map(({ node }) => node.name);
    throw new Fail(`${missing.length} of ${expected.length} nodes have not come back: ${listed(missing.map(whyAway))}`, {
      hint: `has 03-workers.ts join been run there?${scene.refused.size > 0 ? " Requests that were left alone, and why, stand above; one that you know to be right: kubectl certificate approve CSR." : ""} Nodes that stay away: ${command("03-workers close", [...without, ...names.slice(0, FEW)])}`,
      cause,
    });
  });
}

async function followLeases(scene: Scene, signal: AbortSignal) {
  for await (const { name, time } of watchRenewals(scene.api, scene.caPem, signal)) {
    if (signal.aborted) return;
    const isNew = time > (scene.before.get(name) ?? new Date(0));
    if (isNew) scene.joining?.heard.add(name);
    const node = scene.away.get(name);
    if (!node || (scene.whileTokenLasts && !isNew)) continue;
    node.heard = true;
    if (!scene.serving) comeBack(scene, node);
  }
}

/** Asks the ports of nodes that are heard, each when it is its turn, PROBES at a time. */
function probePorts(scene: Scene) {
  if (!scene.serving) return;
  const now = Date.now();
  for (const node of scene.away.values()) {
    if (scene.probing >= PROBES) return;
    if (waitsForAPerson(node, now - (scene.leftAloneMs ?? LEFT_ALONE_MS))) {
      const { csr, why } = node.leftAlone!;
      scene.unserved.push(`${node.node.name}: ${csr}: ${why}`);
      comeBack(scene, node, "back, without a serving certificate");
      continue;
    }
    const isPromised = node.approved && node.issuedAt === undefined;
    if (node.heard && !node.asking && !isPromised && node.nextProbe <= now) probe(scene, node).catch(scene.failure.reject);
  }
}

function waitsForAPerson({ heard, approved, leftAlone }: Away, longAgo: number): boolean {
  return heard === true && !approved && leftAlone !== undefined && leftAlone.at <= longAgo;
}

async function probe(scene: Scene, away: Away) {
  scene.probing++;
  away.asking = true;
  const answer = await askKubeletPort(away.node, scene.caPem).finally(() => {
    scene.probing--;
    delete away.asking;
  });
  if (answer === "serves") comeBack(scene, away);
  else if (answer === "unreachable" && away.issuedAt !== undefined && Date.now() - away.issuedAt > UNREACHABLE_MS) {
    scene.unreachable.push(away.node.name);
    comeBack(scene, away, "back, but its port 10250 cannot be reached from here");
  } else {
    away.askedLast = answer;
    away.nextProbe = Date.now() + away.pause;
    away.pause = Math.min(away.pause * 2, LAST_PAUSE);
  }
  probePorts(scene);
}

/** Whether a node's kubelet port shows a certificate of this CA. */
export async function nodeServes(node: KnownNode, ca: string): Promise<boolean> {
  return (await askKubeletPort(node, ca)) === "serves";
}

/** Nodes whose kubelet answers without a certificate of the CA, though it should have one. Those that cannot be reached are not among them. */
export async function withoutServing(cp: ControlPlaneNode, nodes: readonly KnownNode[] = cp.cluster.nodes): Promise<string[]> {
  if (!servingByCa(cp)) return [];
  const caPem = clusterCa(cp.facts.certificatesDir);
  const names: string[] = [];
  await inParallel(nodes, PROBES, async (node) => {
    if ((await askKubeletPort(node, caPem)) === "other") names.push(node.name);
  });
  return names.sort();
}

/** Whether the kubelets' serving certificates come from the cluster's CA (serverTLSBootstrap in the ConfigMap kubelet-config). */
export function servingByCa({ data }: ControlPlaneNode): boolean {
  const config = readObject<{ data?: { kubelet?: string } }>(data, "configmaps/kube-system/kubelet-config")?.data?.kubelet ?? "";
  return /^serverTLSBootstrap: true$/m.test(config);
}
