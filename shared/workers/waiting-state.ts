/** Nodes on their way back: what is kept of each, which is little as there may be thousands, and how it is told. */

import type { KubeApi } from "../api/kube-api.ts";
import type { KnownNode } from "../facts/cluster.ts";
import { strangers } from "../plain.ts";
import { count, FEW, Progress } from "../progress.ts";
import { say } from "../run.ts";
import type { Joining } from "./client-csrs.ts";
import type { Csr } from "./csr.ts";
import type { Identities } from "./identities.ts";

/** Milliseconds after which a port is asked again for the first time. */
export const FIRST_PAUSE = 200;

/** A node that is not back yet. */
export interface Away {
  node: KnownNode;
  heard?: true;
  /** Its request is approved; until it is issued its port has nothing new to show. */
  approved?: true;
  issuedAt?: number;
  /** Its last request for a serving certificate that was left alone, why, and since when (milliseconds). */
  leftAlone?: { csr: string; why: string; at: number };
  askedLast?: "other" | "unreachable";
  asking?: true;
  nextProbe: number;
  pause: number;
}

export interface Return {
  api: KubeApi;
  /** Those to wait for. */
  expected: readonly KnownNode[];
  caPem: string;
  /** Whether the kubelets' serving certificates come from the cluster's CA (serverTLSBootstrap in the ConfigMap kubelet-config). */
  serving: boolean;
  seconds: number;
  /** By whom requests for serving certificates are judged; undefined where none is to be approved. */
  identities?: Identities | undefined;
  /** By what requests for client certificates are judged; undefined where no token of the kit is there. */
  joining?: Joining | undefined;
  /** Nodes that the operator has left out already. */
  without?: readonly string[];
  /** Milliseconds after which a node whose serving certificate waits for a person counts as back. Default: 15 seconds. */
  leftAloneMs?: number;
  /** Only what a node does from now on counts as a sign of life, and once the token has ended nobody is waited for. */
  whileTokenLasts?: true;
}

export interface Returned {
  back: number;
  /** Names of those that are not. */
  away: string[];
  approved: number;
  /** Names of requests that were left alone. */
  refused: string[];
  /** Nodes whose Lease and certificate are good and whose port cannot be reached from here. */
  unreachable: string[];
}

export interface Scene extends Return {
  away: Map<string, Away>;
  refused: Set<string>;
  /** Requests in the name of a node that has been given a certificate already. */
  doubles: Set<string>;
  /** Requests for nodes that may be heard in a moment, by name. */
  undecided: Map<string, Csr>;
  /** When each kubelet had renewed its Lease before we listened. */
  before: ReadonlyMap<string, Date>;
  /** Milliseconds, as Date.now(). */
  began: number;
  tokensReadAt: number;
  approved: number;
  issued: number;
  probing: number;
  unreachable: string[];
  /** Nodes that are heard, and whose serving certificate waits for a person's word, with the request and why. */
  unserved: string[];
  progress: Progress;
  /** For what goes wrong beside the main course. */
  failure: PromiseWithResolvers<never>;
}

export function setScene(options: Return, before: ReadonlyMap<string, Date>): Scene {
  const start = (node: KnownNode): [string, Away] => [node.name, { node, nextProbe: 0, pause: FIRST_PAUSE }];
  return {
    ...options,
    away: new Map(options.expected.map(start)),
    refused: new Set(),
    doubles: new Set(),
    undecided: new Map(),
    before,
    began: Date.now(),
    tokensReadAt: Date.now(),
    approved: 0,
    issued: 0,
    probing: 0,
    unreachable: [],
    unserved: [],
    progress: new Progress("nodes back", options.expected.length),
    failure: Promise.withResolvers<never>(),
  };
}

export function comeBack({ away, expected, serving, progress }: Scene, { node }: Away, how?: string) {
  if (!away.delete(node.name) || expected.length > FEW) return;
  const said = how ?? `back${serving ? ", serves with a certificate of the cluster's CA" : ""}`;
  progress.say(`${node.name}: ${said}   ${expected.length - away.size} / ${expected.length}`);
}

export function noteOf({ serving, approved, issued, refused }: Scene): string | undefined {
  if (!serving) return undefined;
  return `serving CSRs: ${count(approved)} approved, ${count(issued)} issued${refused.size > 0 ? `, ${count(refused.size)} left alone` : ""}`;
}

export function whyAway({ node, heard, askedLast }: Away): string {
  if (!heard) return node.name;
  return `${node.name} (heard, but its port 10250 ${askedLast === "unreachable" ? "cannot be reached" : "shows another certificate"})`;
}

export function sayReturned(scene: Scene) {
  const { expected, away, refused, doubles, unreachable, unserved } = scene;
  if (expected.length > FEW)
    say([`${count(expected.length - away.size)} of ${count(expected.length)} nodes are back`, noteOf(scene)].filter(Boolean).join("; "));
  if (doubles.size > FEW)
    say(`WARNING: ${count(doubles.size - FEW)} more requests in the name of nodes that have been given a certificate`);
  if (refused.size > FEW) say(`${count(refused.size - FEW)} more requests were left alone: kubectl get csr`);
  if (unreachable.length > 0)
    say(`warning: port 10250 cannot be reached from here, so kubectl logs and exec may not work: ${listed(unreachable)}`);
  if (unserved.length > 0) {
    say("warning: without a serving certificate, so kubectl logs and exec do not work there:");
    for (const line of unserved.slice(0, FEW)) say(`  ${strangers(line)}`);
    if (unserved.length > FEW) say(`  and ${count(unserved.length - FEW)} more`);
    say(
      "  If what a request names is that node's own (ip addr there): kubectl certificate approve CSR. If it is another's, look who owns that node",
    );
  }
}

export function listed(names: readonly string[]): string {
  return `${names.slice(0, FEW).join(", ")}${names.length > FEW ? ` and ${names.length - FEW} more` : ""}`;
}
