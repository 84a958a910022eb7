/**
 * Port 10250 of the kubelets: does it show a certificate of this CA, another one, or nothing? Asked of one
 * node, and of all.
 */

import type { Listening } from "../api/leases.ts";
import { inParallel } from "../api/many.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { KnownNode } from "../facts/known-nodes.ts";
import { configMapIn } from "../objects/stored.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { certInfo, infoOf, isValidNow } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { fetchDirectly, isHeard, knock, servedPem, trusting } from "../pki/served.ts";

export const KUBELET_PORT = 10250;

/** How long a port may take to answer, in milliseconds. */
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

/** Asks a node's kubelet port. The answer's text does not matter: the kubelet asks for credentials first. */
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
    const code = "code" in err ? String(err.code) : "";
    if (err.name === "TimeoutError" || NO_ANSWER.test(code)) return "unreachable";
    return (await signsItself(ip)) ? "own" : "other";
  }
}

/**
 * The kubelet names its own CA HOST-ca@TIME (client-go util/cert, GenerateSelfSignedCertKey). It decides
 * nothing but what is said.
 */
async function signsItself(host: string): Promise<boolean> {
  const pem = await servedPem(host, KUBELET_PORT).catch(() => "");
  return /(^|[\n,])CN=[^\n,]+-ca@\d+$/m.test(infoOf(pem)?.issuer ?? "");
}

/**
 * Connections at the same time, and milliseconds for each: on thousands of nodes that are off this must not
 * take long.
 */
const KNOCKS = 500;
const KNOCK_MS = 1000;

/** Asks the ports of these nodes; nodeLeases() uses it. */
export function listeningOn(nodes: readonly KnownNode[]): Listening {
  return async (names) => {
    const found = new Map<string, boolean | undefined>();
    const meant = nodes.filter(({ name }) => names.includes(name));
    await inParallel(meant, KNOCKS, async ({ name, claimed }) => {
      const [host] = claimed.ips;
      found.set(name, host ? await isListening({ host, port: KUBELET_PORT }) : undefined);
    });
    return found;
  };
}

/** False if the node itself says that nobody listens there. */
export async function isListening(at: { host: string; port: number }): Promise<boolean | undefined> {
  const { host, port } = at;
  const seems = await knock(host, port, KNOCK_MS);
  return seems === false ? await isHeard(host, port, KNOCK_MS) : seems;
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
 * Whether the kubelets' serving certificates come from the cluster's CA: serverTLSBootstrap, in the ConfigMap
 * kubelet-config, or in the configuration of this node's kubelet with its drop-ins, which the ConfigMap does
 * not have.
 */
export function servingByCa({ data, node }: ControlPlaneNode): boolean {
  if (node.kubelet.serverTlsBootstrap) return true;
  const config = configMapIn(data, "kube-system/kubelet-config")?.kubelet ?? "";
  return /^serverTLSBootstrap: true$/m.test(config);
}
