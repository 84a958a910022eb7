/**
 * Waits until the nodes are back: each kubelet renews its Lease with a certificate of today's CA, and its own port serves with one. Made for
 * thousands: Leases and signing requests are watched, not listed again and again, and of a node only a few words are kept.
 */

import { inParallel } from "../api/in-parallel.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { watchRenewals } from "../api/leases.ts";
import type { KnownNode } from "../cluster.ts";
import { Fail } from "../fail.ts";
import { readObject } from "../k8s/stored.ts";
import type { Master } from "../master.ts";
import { madeAt } from "../pki/certificate.ts";
import { clusterCa } from "../pki/pki.ts";
import { FEW } from "../progress.ts";
import { mode, say, waitFor } from "../run.ts";
import { askKubeletPort } from "./kubelet-port.ts";
import {
  type Away,
  comeBack,
  FIRST_PAUSE,
  listed,
  noteOf,
  type Return,
  type Returned,
  type Scene,
  sayReturned,
  setScene,
  whyAway,
} from "./returning.ts";
import { approve, type Csr, isPending, nodeAsking, objection, watchServing } from "./serving-csrs.ts";

/** Approvals and port probes at the same time; together they stay below the connections that Bun's fetch opens at once (256). */
const APPROVALS = 50;
const PROBES = 128;

/** Milliseconds: a port is asked again after FIRST_PAUSE, then after twice as long each time, up to LAST_PAUSE. */
const LAST_PAUSE = 5000;

/** A node whose port nobody can reach from here counts as back so long after its certificate was issued. */
const UNREACHABLE_MS = 5000;

/** Errors: Fail that names the nodes that did not come back in time. */
export async function watchNodesReturn(master: Master, api: KubeApi, options: { without: readonly string[]; minutes: number }) {
  const known = master.cluster.nodes;
  const strangers = options.without.filter((name) => !known.some((node) => node.name === name));
  if (strangers.length > 0)
    throw new Fail(`etcd knew no node "${strangers.join('", "')}"`, { hint: `its nodes: ${listed(known.map((node) => node.name))}` });
  const expected = known.filter((node) => !options.without.includes(node.name));
  if (mode.dryRun) return say(`would wait for: ${listed(expected.map((node) => node.name))}; and approve their serving certificates`);
  const caPem = clusterCa(master.facts.certificatesDir);
  await nodesReturn({ api, expected, known, caPem, serving: servingByCa(master), seconds: options.minutes * 60 });
}

/** The same for any cluster: what the benchmark measures. */
export async function nodesReturn(options: Return): Promise<Returned> {
  const scene = setScene(options);
  const ending = new AbortController();
  const followers = [followCsrs(scene, ending.signal), followLeases(scene, ending.signal)];
  try {
    await Promise.race([allBack(scene), scene.failure.promise, ...followers.map(forEver)]);
  } finally {
    ending.abort();
    scene.progress.clear();
    await Promise.allSettled(followers);
  }
  sayReturned(scene);
  const { approved, refused, unreachable } = scene;
  return { back: scene.expected.length, approved, refused: [...refused], unreachable };
}

/** A follower's end means nothing while others run; its error does. */
async function forEver(follower: Promise<void>): Promise<never> {
  await follower;
  return new Promise<never>(() => {});
}

async function allBack(scene: Scene) {
  const { away, expected, progress } = scene;
  const look = () => {
    probePorts(scene);
    progress.show(expected.length - away.size, noteOf(scene));
    return away.size === 0;
  };
  await waitFor("all nodes to come back", look, { seconds: scene.seconds, hint: "" }).catch((cause: unknown) => {
    const missing = [...away.values()];
    const names = missing.map(({ node }) => node.name);
    throw new Fail(`${missing.length} of ${expected.length} nodes have not come back: ${listed(missing.map(whyAway))}`, {
      hint: `has 03-workers.ts join been run there? Nodes that stay away: ./bunw scripts/03-workers.ts close --without ${names.slice(0, FEW).join(",")}`,
      cause,
    });
  });
}

/** Decides on each request, up to APPROVALS at a time; while so many are under way, the stream has to wait. */
async function followCsrs(scene: Scene, signal: AbortSignal) {
  const made = madeAt(scene.caPem);
  const running = new Set<Promise<void>>();
  for await (const { type, object: csr } of watchServing(scene.api, signal)) {
    if (signal.aborted) return;
    if (type !== "DELETED" && isPending(csr)) {
      const decision = decide(scene, csr)
        .catch(scene.failure.reject)
        .finally(() => running.delete(decision));
      running.add(decision);
      if (running.size >= APPROVALS) await Promise.race(running);
    } else if (csr.status?.certificate && askedAfter(csr, made)) issued(scene, nodeAsking(csr));
  }
}

/** One from before may have been signed by the old CA. The API's times are whole seconds. */
function askedAfter({ metadata }: Csr, made: Date): boolean {
  return new Date(metadata.creationTimestamp ?? 0).getTime() + 1000 > made.getTime();
}

async function decide(scene: Scene, csr: Csr) {
  const { api, byName, refused, progress, expected } = scene;
  const { name } = csr.metadata;
  const reason = objection(csr, byName.get(nodeAsking(csr)));
  if (!reason) {
    if (!(await approve(api, csr))) return;
    scene.approved++;
    const asking = scene.away.get(nodeAsking(csr));
    if (asking) asking.approved = true;
    if (expected.length <= FEW) progress.say(`${name}: approved for ${csr.spec.username}`);
  } else if (!refused.has(name)) {
    refused.add(name);
    if (refused.size <= FEW) progress.say(`${name}: left alone: ${reason}`);
  }
}

function issued(scene: Scene, name: string) {
  const node = scene.away.get(name);
  if (!node) return;
  scene.issued++;
  node.issuedAt ??= Date.now();
  node.nextProbe = 0;
  node.pause = FIRST_PAUSE;
}

async function followLeases(scene: Scene, signal: AbortSignal) {
  for await (const name of watchRenewals(scene.api, scene.caPem, signal)) {
    if (signal.aborted) return;
    const node = scene.away.get(name);
    if (!node) continue;
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
    const isPromised = node.approved && node.issuedAt === undefined;
    if (node.heard && !node.asking && !isPromised && node.nextProbe <= now) probe(scene, node).catch(scene.failure.reject);
  }
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
export async function withoutServing(master: Master, nodes: readonly KnownNode[] = master.cluster.nodes): Promise<string[]> {
  if (!servingByCa(master)) return [];
  const caPem = clusterCa(master.facts.certificatesDir);
  const names: string[] = [];
  await inParallel(nodes, PROBES, async (node) => {
    if ((await askKubeletPort(node, caPem)) === "other") names.push(node.name);
  });
  return names.sort();
}

/** Whether the kubelets' serving certificates come from the cluster's CA (serverTLSBootstrap in the ConfigMap kubelet-config). */
export function servingByCa({ data }: Master): boolean {
  const config = readObject<{ data?: { kubelet?: string } }>(data, "configmaps/kube-system/kubelet-config")?.data?.kubelet ?? "";
  return /^serverTLSBootstrap: true$/m.test(config);
}
