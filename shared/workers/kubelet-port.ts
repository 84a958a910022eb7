/** What a kubelet's own port shows: a certificate of this CA, another one, or nothing. */

import type { KnownNode } from "../facts/cluster.ts";
import { endpointUrl } from "../pki/addresses.ts";

export const KUBELET_PORT = 10250;

/** How long a port may take to answer, in milliseconds. */
const TIMEOUT = 5000;

/** `unreachable`: nobody answered, as with a firewall between. `other`: somebody did, without a certificate of this CA for this address. */
type PortAnswer = "serves" | "other" | "unreachable";

const NO_ANSWER = /^(ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ConnectionRefused|ConnectionClosed|FailedToOpenSocket)$/;

/** Asks a node's kubelet port. What it answers does not matter: it asks for credentials first. */
export async function askKubeletPort(node: KnownNode, ca: string): Promise<PortAnswer> {
  const ip = node.ips[0];
  if (!ip) return "serves";
  try {
    await fetch(`${endpointUrl(ip, KUBELET_PORT)}/healthz`, { tls: { ca }, signal: AbortSignal.timeout(TIMEOUT), keepalive: false });
    return "serves";
  } catch (err) {
    if (!(err instanceof Error)) throw err;
    const code = "code" in err ? String(err.code) : "";
    return err.name === "TimeoutError" || NO_ANSWER.test(code) ? "unreachable" : "other";
  }
}
