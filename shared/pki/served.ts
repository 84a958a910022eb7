/**
 * Reads a server's certificate and time before it knows us, and trusts neither before it is verified. Also connects a
 * client to a server by the CAs that Go's programs trust.
 */
import { connect as connectSocket, isIP } from "node:net";
import { connect } from "node:tls";
import { attempt } from "../fail.ts";
import { hostAndPort, isFor, urlHost } from "./addresses.ts";
import { infoOf, shareCertificate, signedBy } from "./certificate.ts";

/** A slow control plane node must not look like one that has lost its keys. */
const HANDSHAKE_MS = 10_000;

/**
 * A server that accepts the connection, but shows no certificate: its files are gone, or a signal has stopped
 * it.
 */
export class NoCertificate extends Error {}

/** Shown even if the server then refuses us. Errors: the connection's own; NoCertificate. */
export function servedPem(host: string, port: number, timeout = HANDSHAKE_MS): Promise<string> {
  return new Promise((resolve, reject) => {
    let isAccepted = false;
    const socket = connect(unverified(host, port, timeout), () => {
      resolve(socket.getPeerX509Certificate()!.toString());
      socket.destroy();
    });
    socket.on("connect", () => {
      isAccepted = true;
    });
    socket.on("error", (err) => reject(isAccepted ? new NoCertificate(err.message, { cause: err }) : err));
    socket.on("timeout", () => socket.destroy(new Error(`${host}:${port} does not answer`)));
  });
}

function unverified(host: string, port: number, timeout = TIME_MS) {
  return { host, port, ...(isIP(host) ? {} : { servername: host }), rejectUnauthorized: false, timeout };
}

const request = (host: string) =>
  `GET /version HTTP/1.1\r\nHost: ${urlHost(host)}\r\nConnection: close\r\n\r\n`;

/**
 * Whether a server accepts this client certificate: false if it refuses it, undefined if there is no answer
 * in time. With TLS 1.3 the refusal comes after the handshake (RFC 8446, 4.4.2.4).
 */
export function acceptsClientCertificate(
  { host, port }: { host: string; port: number },
  pair: { cert: string; key: string },
): Promise<boolean | undefined> {
  return new Promise((resolve) => {
    const end = (taken?: boolean) => {
      resolve(taken);
      socket.destroy();
    };
    const socket = connect({ ...unverified(host, port), ...pair }, () => socket.write(request(host)));
    socket.on("data", () => end(true));
    socket.on("timeout", () => end());
    socket.on("error", () => end(false));
    socket.on("close", () => end(false));
  });
}

/** A server that is off must not cause a long wait. */
const TIME_MS = 1500;

/** A server of this CA for this name, of this CA for another name, another machine's, or none. */
export type Answerer = "ours" | "not for this name" | "another" | "nobody";

/** `name`: required in the certificate, if it is not the host (tls-server-name). Does not judge its dates. */
export async function whoAnswers(server: string, caPem: string, name?: string): Promise<Answerer> {
  const { host, port } = hostAndPort(server);
  const pem = await shownSoon(host, port);
  if (pem === undefined) return "nobody";
  if (isServerOf(pem, name ?? host, caPem)) return "ours";
  return isKnown(pem, caPem) && infoOf(pem)?.usages.includes("server") ? "not for this name" : "another";
}

/** Undefined if no certificate is shown in time, or the resolver does not answer. */
export async function shownSoon(host: string, port: number): Promise<string | undefined> {
  const signal = AbortSignal.timeout(2 * TIME_MS);
  const late = new Promise<undefined>((resolve) =>
    signal.addEventListener("abort", () => resolve(undefined)),
  );
  try {
    return await Promise.race([servedPem(host, port, TIME_MS), late]);
  } catch (err) {
    if (!(err instanceof Error)) throw err;
    return undefined;
  }
}

/** Bytes. */
const HEAD = 16_384;

/**
 * Its answer's Date (RFC 9110, 6.6.1). Undefined if nothing answers, or only a server without a certificate
 * of this CA for that name. Does not judge the certificate's dates: our own clock may be the wrong one.
 */
export function serverTime(host: string, port: number, caPem: string): Promise<Date | undefined> {
  return new Promise((resolve) => {
    let head = "";
    const end = (time?: Date) => {
      resolve(time);
      socket.destroy();
    };
    const socket = connect(unverified(host, port), () => {
      if (!isServerOf(socket.getPeerX509Certificate()?.toString() ?? "", host, caPem)) return end();
      socket.write(request(host));
    });
    socket.on("timeout", () => end());
    socket.on("error", () => end());
    socket.on("close", () => end());
    socket.on("data", (piece: Buffer) => {
      head += piece.toString("latin1");
      if (head.includes("\r\n\r\n") || head.length > HEAD) end(dateIn(head));
    });
  });
}

/**
 * A kubelet's client certificate is of the same CA, so it has to be for a server of this name. Does not judge its
 * dates.
 */
export function isServerOf(pem: string, host: string, caPem: string): boolean {
  return isServersOf(pem, caPem) && isFor(infoOf(pem)!.sans, host);
}

/** The same of any name. */
export function isServersOf(pem: string, caPem: string): boolean {
  return infoOf(pem)?.usages.includes("server") === true && isKnown(pem, caPem);
}

/** Signed by one of these CAs, or one of these itself: a certificate that root has given to the server. */
function isKnown(pem: string, caPem: string): boolean {
  return attempt(() => signedBy(pem, caPem)) === true || attempt(() => shareCertificate(pem, caPem)) === true;
}

function dateIn(head: string): Date | undefined {
  const date = new Date(/^date:(.+)$/im.exec(head)?.[1] ?? "");
  return Number.isNaN(date.getTime()) ? undefined : date;
}

/**
 * TLS options by which a client trusts as Go's programs do: each certificate of the bundle by itself (crypto/x509,
 * VerifyOptions.Roots). kubeadm accepts a CA that a company's root has signed (app/phases/certs, UsingExternalCA),
 * and ca.crt mostly holds that one alone. Without this OpenSSL wants its root: "unable to get issuer certificate".
 */
export function trusting(ca: string) {
  return { ca, allowPartialTrustChain: true };
}

/**
 * Variables that Bun's fetch obeys at each call; `proxy: ""` does not help against them (tried with 1.4.5).
 */
const PROXIES = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/**
 * Root's shell often names a proxy for the internet, through which a control plane node seems dead. The variables are
 * unset while the request begins; programs that we start still have them.
 */
export function fetchDirectly(url: string, request: BunFetchRequestInit): Promise<Response> {
  const variables = PROXIES.map((name) => [name, process.env[name]] as const);
  for (const name of PROXIES) delete process.env[name];
  try {
    return fetch(url, request);
  } finally {
    for (const [name, value] of variables) if (value !== undefined) process.env[name] = value;
  }
}

/** As `knock`, but undefined without a route: Bun's node:net calls that ECONNREFUSED, too, and fetch does not. */
export async function isHeard(
  host: string,
  port: number,
  milliseconds: number,
): Promise<boolean | undefined> {
  const seems = await knock(host, port, milliseconds);
  if (seems !== false) return seems;
  try {
    await fetchDirectly(`http://${urlHost(host)}:${port}/`, {
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

/**
 * Whether a port is open, whatever answers. False: the host refuses it, or there is no route; undefined: no answer in so
 * many milliseconds. Many of them can run at once.
 */
export function knock(host: string, port: number, milliseconds: number): Promise<boolean | undefined> {
  return new Promise((resolve) => {
    const socket = connectSocket({ host, port, timeout: milliseconds });
    const end = (answer: boolean | undefined) => {
      resolve(answer);
      socket.destroy();
    };
    socket.once("timeout", () => end(undefined));
    socket.once("connect", () => end(true));
    socket.once("error", (err: NodeJS.ErrnoException) =>
      end(err.code === "ECONNREFUSED" ? false : undefined),
    );
  });
}
