/**
 * Port 10250 of the kubelets: does it show a certificate of this CA, another one, or nothing? Asked of one node, of all nodes, and of each
 * node that comes back, again and again.
 */

import { connect } from "node:net";
import { inParallel } from "../api/many.ts";
import type { Listening } from "../api/node-leases.ts";
import type { KnownNode } from "../facts/cluster.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { readObject } from "../k8s/stored.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { infoOf } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { servedPem } from "../pki/served.ts";
import { fetchDirectly, isHeard, trusting } from "../pki/trusting.ts";
import { type Away, comeBack, type Scene, whyUnserved } from "./waiting-state.ts";

export const KUBELET_PORT = 10250;

/** How long a port may take to answer, in milliseconds. */
const TIMEOUT = 5000;

/** Ports that are asked at the same time: with the approvals, fewer than the connections that Bun's fetch opens at once (256). */
const PROBES = 128;

/** Milliseconds: a port is asked again after FIRST_PAUSE, then after twice as long each time, up to LAST_PAUSE. */
const LAST_PAUSE = 5000;

/** Milliseconds after its certificate was issued; then a node counts as back even if its port cannot be reached from here. */
const UNREACHABLE_MS = 5000;

/**
 * Milliseconds after its request for a serving certificate was refused, or in which it has made none; then a node that renews its Lease counts
 * as back. Until then it may ask, or ask again with right names. A stranger who claims the node's name, or a firewall before its port, must not
 * make everybody wait: an operator decides.
 */
const REFUSED_MS = 15_000;

/**
 * `unreachable`: no answer, for example because of a firewall. `own`: a certificate that the kubelet has signed itself, as one without
 * serverTLSBootstrap does; it asks for none. `other`: an answer, but no certificate of this CA for this address.
 */
type PortAnswer = "serves" | "other" | "own" | "unreachable";

const NO_ANSWER = /^(ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ConnectionRefused|ConnectionClosed|FailedToOpenSocket)$/;

/** Asks a node's kubelet port. The answer's text does not matter: the kubelet asks for credentials first. */
export async function askKubeletPort(node: KnownNode, ca: string): Promise<PortAnswer> {
  const ip = node.ips[0];
  if (!ip) return "serves";
  try {
    const request = { tls: trusting(ca), signal: AbortSignal.timeout(TIMEOUT), keepalive: false, redirect: "manual" } as const;
    await fetchDirectly(`${endpointUrl(ip, KUBELET_PORT)}/healthz`, request);
    return "serves";
  } catch (err) {
    if (!(err instanceof Error)) throw err;
    const code = "code" in err ? String(err.code) : "";
    if (err.name === "TimeoutError" || NO_ANSWER.test(code)) return "unreachable";
    return (await signsItself(ip)) ? "own" : "other";
  }
}

/** The kubelet names its own CA HOST-ca@TIME (client-go util/cert, GenerateSelfSignedCertKey). It decides nothing but what is said. */
async function signsItself(host: string): Promise<boolean> {
  const pem = await servedPem(host, KUBELET_PORT).catch(() => "");
  return /(^|[\n,])CN=[^\n,]+-ca@\d+$/m.test(infoOf(pem)?.issuer ?? "");
}

/** Connections at the same time, and milliseconds for each: on thousands of nodes that are off this must not take long. */
const KNOCKS = 500;
const KNOCK_MS = 1000;

/** For nodeLeases(): asks the ports of these nodes. */
export function listeningOn(nodes: readonly KnownNode[]): Listening {
  return async (names) => {
    const found = new Map<string, boolean | undefined>();
    await inParallel(
      nodes.filter(({ name }) => names.includes(name)),
      KNOCKS,
      async ({ name, ips: [host] }) => void found.set(name, host ? await isListening({ host, port: KUBELET_PORT }) : undefined),
    );
    return found;
  };
}

/** False where the node itself says that nobody listens there. */
export async function isListening({ host, port }: { host: string; port: number }): Promise<boolean | undefined> {
  const seems = await knock({ host, port });
  return seems === false ? await isHeard(host, port, KNOCK_MS) : seems;
}

/** A socket alone: of these there may be more than of requests. It says false, too, where there is no route to the node. */
function knock({ host, port }: { host: string; port: number }): Promise<boolean | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: KNOCK_MS });
    const end = (answer: boolean | undefined) => {
      resolve(answer);
      socket.destroy();
    };
    socket.once("timeout", () => end(undefined));
    socket.once("connect", () => end(true));
    socket.once("error", (err: NodeJS.ErrnoException) => end(err.code === "ECONNREFUSED" ? false : undefined));
  });
}

/** Names of nodes whose kubelet answers without a certificate of the CA, but should have one. Nodes that cannot be reached are left out. */
export async function withoutServing(cp: ControlPlaneNode, nodes: readonly KnownNode[] = cp.cluster.nodes): Promise<string[]> {
  if (!servingByCa(cp)) return [];
  const caPem = clusterCa(cp.facts.certificatesDir);
  const names: string[] = [];
  await inParallel(nodes, PROBES, async (node) => {
    if ((await askKubeletPort(node, caPem)) === "other") names.push(node.name);
  });
  return names.sort();
}

/**
 * Whether the kubelets' serving certificates come from the cluster's CA: serverTLSBootstrap, in the ConfigMap kubelet-config, or in the
 * configuration of this node's kubelet with its drop-ins, which the ConfigMap does not have.
 */
export function servingByCa({ data, node }: ControlPlaneNode): boolean {
  if (node.kubelet.serverTlsBootstrap) return true;
  const config = readObject<{ data?: { kubelet?: string } }>(data, "configmaps/kube-system/kubelet-config")?.data?.kubelet ?? "";
  return /^serverTLSBootstrap: true$/m.test(config);
}

/** Asks the ports of nodes that renew their Lease, each when it is its turn, PROBES at a time. */
export function probePorts(scene: Scene) {
  if (!scene.serving) return;
  const now = Date.now();
  for (const node of scene.away.values()) {
    if (scene.probing >= PROBES) return;
    const longAgo = now - (scene.refusedMs ?? REFUSED_MS);
    if (node.renewsSince === undefined) continue;
    const quietSince = node.refused?.at ?? node.renewsSince;
    if (!node.approved && (node.refused || node.lastAnswer) && quietSince <= longAgo) {
      unserved(scene, node);
      continue;
    }
    const isPromised = node.approved && node.issuedAt === undefined;
    if (!node.asking && !isPromised && node.nextProbe <= now) probe(scene, node).catch(scene.failure.reject);
  }
}

/** A node that renews its Lease is back, whatever its port shows: that is a warning. */
export function unserved(scene: Scene, node: Away) {
  const { refused, lastAnswer } = node;
  if (lastAnswer === "own") scene.selfSigned.push(node.node.name);
  else if (!refused && lastAnswer === "unreachable") scene.unreachable.push(node.node.name);
  else scene.unserved.push(`${node.node.name}: ${refused ? `${refused.csr}: ${refused.why}` : whyUnserved(node)}`);
  comeBack(scene, node, "back, without a serving certificate of the CA");
}

async function probe(scene: Scene, away: Away) {
  scene.probing++;
  away.asking = true;
  const answer = await askKubeletPort(away.node, scene.caPem).finally(() => {
    scene.probing--;
    delete away.asking;
  });
  if (answer !== "serves") away.lastAnswer = answer;
  if (answer === "serves") comeBack(scene, away);
  else if (answer === "own") unserved(scene, away);
  else if (answer === "unreachable" && away.issuedAt !== undefined && Date.now() - away.issuedAt > UNREACHABLE_MS) {
    scene.unreachable.push(away.node.name);
    comeBack(scene, away, "back, but its port 10250 cannot be reached from here");
  } else {
    away.nextProbe = Date.now() + away.pause;
    away.pause = Math.min(away.pause * 2, LAST_PAUSE);
  }
  probePorts(scene);
}
