import { isIPv6 } from "node:net";

/**
 * TLS options by which a client trusts what Go's programs trust: each certificate of the bundle by itself (crypto/x509, VerifyOptions.Roots).
 * kubeadm takes a CA that a company's root has signed (app/phases/certs, UsingExternalCA), and ca.crt mostly holds that one alone. Without
 * this OpenSSL wants its root as well: "unable to get issuer certificate". Dates and names are checked as always.
 */
export function trusting(ca: string) {
  return { ca, allowPartialTrustChain: true };
}

/** Variables that Bun's fetch obeys at each call; `proxy: ""` does not help against them (tried with 1.4.5). */
const PROXIES = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/**
 * A fetch that goes to the server itself. Root's shell often names a proxy for the internet, and a control plane node that is asked through
 * it seems dead. The variables are away while the request begins; programs that we start have them as before.
 */
export function fetchDirectly(url: string, request: BunFetchRequestInit): Promise<Response> {
  const kept = PROXIES.map((name) => [name, process.env[name]] as const);
  for (const name of PROXIES) delete process.env[name];
  try {
    return fetch(url, request);
  } finally {
    for (const [name, value] of kept) if (value !== undefined) process.env[name] = value;
  }
}

/**
 * Whether somebody listens at a port: an answer of any kind. False: the host says that nobody does; undefined: nothing is heard within so many
 * milliseconds. Asked with fetch: the sockets of Bun's node:net call it ECONNREFUSED, too, where there is no route to the host.
 */
export async function isHeard(host: string, port: number, milliseconds: number): Promise<boolean | undefined> {
  try {
    await fetchDirectly(`http://${isIPv6(host) ? `[${host}]` : host}:${port}/`, {
      redirect: "manual",
      signal: AbortSignal.timeout(milliseconds),
    });
    return true;
  } catch (err) {
    const { code } = err as NodeJS.ErrnoException;
    if (code === "ECONNREFUSED") return false;
    return code === "ECONNRESET" ? true : undefined;
  }
}
