/**
 * Nodes on their way back: what is kept of each (little, as there may be thousands), how it is printed, and their kubelets'
 * ports, asked again and again: who is back, or counts as back.
 */
import type { KubeApi } from "../api/kube-api.ts";
import type { KnownNode } from "../facts/known-node.ts";
import type { Moved } from "../pki/addresses.ts";
import { FEW, listed, quoteUntrusted } from "../plain.ts";
import { formatNumber, Progress } from "../progress.ts";
import { say } from "../run.ts";
import type { Csr } from "./csr.ts";
import type { Joining } from "./csr-rules.ts";
import type { Identities } from "./identities.ts";
import { askKubeletPort, PROBES } from "./node-status.ts";

/** Milliseconds until a port is asked again for the first time. */
export const FIRST_PAUSE = 200;

interface Away {
  node: KnownNode;
  /** Since when it is seen to renew its Lease, in milliseconds. */
  renewsSince?: number;
  /** Its CSR is approved. Until the certificate is issued, its port has nothing new to show. */
  approved?: true;
  issuedAt?: number;
  /** Its last CSR for a serving certificate that was not approved, why, and when (milliseconds). */
  refused?: { csr: string; why: string; at: number };
  lastAnswer?: "other" | "own" | "unreachable";
  asking?: true;
  nextProbe: number;
  pause: number;
}

export interface Return {
  api: KubeApi;
  expected: readonly KnownNode[];
  caPem: string;
  /** An older Lease renewal may be of a kubelet that does not trust this CA. */
  since: Date;
  /**
   * Whether the kubelets' serving certificates come from the cluster's CA (serverTLSBootstrap in the
   * ConfigMap kubelet-config).
   */
  serving: boolean;
  seconds: number;
  /** CSRs for serving certificates are judged by these; undefined: none is approved. */
  identities?: Identities | undefined;
  /** Machines that have moved: a kubelet may ask with its old address first. */
  moved?: Moved;
  /** Certificates from before are judged by the CAs of then. */
  casBefore?: readonly string[];
  /** CSRs for client certificates are judged by this; undefined: there is no token of the kit. */
  joining?: Joining | undefined;
  /** A node's last renewal before the repair; undefined where it is not known. */
  renewalBefore?: (node: string) => Date | undefined;
  /**
   * Milliseconds after which a node that renews its Lease counts as back without a serving certificate.
   * Default: 15 seconds.
   */
  refusedMs?: number;
  /** Only a renewal from now on counts, and the waiting ends when the token expires. */
  whileTokenLasts?: true;
}

export type Scene = ReturnType<typeof setScene>;

/** How a collection is followed: until when, and what to call when all that was there has been looked at. */
export interface Following {
  signal: AbortSignal;
  onListed: () => void;
}

/** `before`: the last renewals before we begin to watch. Times are milliseconds, as Date.now(). */
export function setScene(options: Return, before: ReadonlyMap<string, Date>) {
  const start = (node: KnownNode): [string, Away] => [node.name, { node, nextProbe: 0, pause: FIRST_PAUSE }];
  return {
    ...options,
    away: new Map(options.expected.map(start)),
    refused: new Set<string>(),
    doubles: new Set<string>(),
    /** CSRs, by name, of nodes that may renew their Lease in a moment. */
    undecided: new Map<string, Csr>(),
    before,
    began: Date.now(),
    tokensReadAt: Date.now(),
    approved: 0,
    issued: 0,
    probing: 0,
    /** Nodes whose Lease and certificate are good, but whose port cannot be reached from here. */
    unreachable: [] as string[],
    /** Nodes that renew their Lease, but have no serving certificate of the CA, each with its CSR and why. */
    withoutCertificate: [] as string[],
    /** Nodes whose kubelet signs its own serving certificate: it asks nobody. */
    selfSigned: [] as string[],
    progress: new Progress("nodes back", options.expected.length),
    /** Errors in the background end the waiting. */
    failure: Promise.withResolvers<never>(),
  };
}

export function markReturned({ away, expected, serving, progress }: Scene, { node }: Away, how?: string) {
  if (!away.delete(node.name) || expected.length > FEW) return;
  const words = how ?? `back${serving ? ", serves with a certificate of the cluster's CA" : ""}`;
  progress.say(`${node.name}: ${words}   ${expected.length - away.size} / ${expected.length}`);
}

export function waitingNote({ serving, approved, issued, refused }: Scene): string | undefined {
  if (!serving) return undefined;
  return `serving CSRs: ${formatNumber(approved)} approved, ${formatNumber(issued)} issued${refused.size > 0 ? `, ${formatNumber(refused.size)} not approved` : ""}`;
}

export function sayReturned(scene: Scene) {
  const { expected, away, refused, doubles, unreachable, withoutCertificate, selfSigned } = scene;
  const back = `${formatNumber(expected.length - away.size)} of ${formatNumber(expected.length)} nodes are back`;
  if (expected.length > FEW) say([back, waitingNote(scene)].filter(Boolean).join("; "));
  if (doubles.size > FEW)
    say(
      `WARNING: ${formatNumber(doubles.size - FEW)} more CSRs in the name of nodes that already have a certificate`,
    );
  if (refused.size > FEW)
    say(`${formatNumber(refused.size - FEW)} more CSRs were not approved: kubectl get csr`);
  if (unreachable.length > 0)
    say(
      `warning: port 10250 cannot be reached from here, so kubectl logs and exec may not work: ${listed(unreachable)}`,
    );
  if (selfSigned.length > 0)
    say(`self-signed by the kubelet, so no CSR for a serving certificate comes: ${listed(selfSigned)}`);
  if (withoutCertificate.length > 0) {
    say(
      "warning: these nodes have no serving certificate of the CA, so kubectl logs and exec may not work there:",
    );
    for (const line of withoutCertificate.slice(0, FEW)) say(`  ${quoteUntrusted(line)}`);
    if (withoutCertificate.length > FEW) say(`  and ${formatNumber(withoutCertificate.length - FEW)} more`);
    say(
      "  Does the name or address in the CSR belong to that node (ip addr there)? Yes: kubectl certificate approve CSR. No: find out who controls that node",
    );
  }
}

/**
 * Milliseconds: a port is asked again after FIRST_PAUSE, then after twice as long each time, up to
 * LAST_PAUSE.
 */
const LAST_PAUSE = 5000;

/**
 * Milliseconds after its certificate was issued; then a node counts as back even if its port cannot be
 * reached from here.
 */
const UNREACHABLE_MS = 5000;

/**
 * Milliseconds after its request for a serving certificate was refused, or in which it has made none; then a node that
 * renews its Lease counts as back. Until then it may ask again. A stranger who claims its name, or a firewall before its
 * port, must not make everybody wait: an operator decides.
 */
const REFUSED_MS = 15_000;

/**
 * The same of one whose port shows no certificate, and who has not asked yet: where its first tries failed, as before
 * it had its client certificate, it tries again after 32 s at most (client-go's certificate_manager.go, and a tenth).
 */
const ASKS_MS = 40_000;

export function probePorts(scene: Scene) {
  if (!scene.serving) return;
  const now = Date.now();
  for (const node of scene.away.values()) {
    if (scene.probing >= PROBES) return;
    const mayAsk = !node.refused && node.lastAnswer === "other";
    const longAgo = now - (scene.refusedMs ?? (mayAsk ? ASKS_MS : REFUSED_MS));
    if (node.renewsSince === undefined) continue;
    const quietSince = node.refused?.at ?? node.renewsSince;
    if (!node.approved && (node.refused || node.lastAnswer) && quietSince <= longAgo) {
      countAsBackWithoutCertificate(scene, node);
      continue;
    }
    const isPromised = node.approved && node.issuedAt === undefined;
    if (!node.asking && !isPromised && node.nextProbe <= now) probe(scene, node).catch(scene.failure.reject);
  }
}

/** A node that renews its Lease is back, whatever its port shows: that is a warning. */
export function countAsBackWithoutCertificate(scene: Scene, away: Away) {
  const { node, refused, approved, lastAnswer } = away;
  if (!refused && lastAnswer === "unreachable") {
    scene.unreachable.push(node.name);
    return markReturned(scene, away, "back, but its port 10250 cannot be reached from here");
  }
  const reason = approved
    ? "its request is approved, and its certificate is not there yet"
    : "its port 10250 shows another certificate, and it asks for none";
  if (lastAnswer === "own") scene.selfSigned.push(node.name);
  else scene.withoutCertificate.push(`${node.name}: ${refused ? `${refused.csr}: ${refused.why}` : reason}`);
  markReturned(scene, away, "back, without a serving certificate of the CA");
}

async function probe(scene: Scene, away: Away) {
  scene.probing++;
  away.asking = true;
  const answer = await askKubeletPort(away.node, scene.caPem).finally(() => {
    scene.probing--;
    delete away.asking;
  });
  if (answer !== "serves") away.lastAnswer = answer;
  const isLongAgo = away.issuedAt !== undefined && Date.now() - away.issuedAt > UNREACHABLE_MS;
  if (answer === "serves") markReturned(scene, away);
  else if (answer === "own" || (answer === "unreachable" && isLongAgo))
    countAsBackWithoutCertificate(scene, away);
  else {
    away.nextProbe = Date.now() + away.pause;
    away.pause = Math.min(away.pause * 2, LAST_PAUSE);
  }
  probePorts(scene);
}
