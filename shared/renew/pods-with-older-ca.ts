/** Pods with a renewed CA's old certificate in memory, and by when each has to restart. Reads only. */
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import { check } from "../checks/check.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import {
  lastWritten,
  mountedBefore,
  NOT_YET,
  type RunningPod,
  type TrustHolder,
} from "../facts/pod-trust.ts";
import { day } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { trustReached } from "../workloads/root-ca.ts";
import { type CaOfKey, knownCas, newestCertificate } from "./ca-readers.ts";
import type { OldCaHolder } from "./reader-rows.ts";

const YEAR_MS = 365 * 86_400_000;

/**
 * Looks only if the cluster's CA was renewed and its old certificate has not expired: after that, other checks name the
 * failures. Errors: as KubeApi.
 */
export async function olderInPods({ facts, cluster }: ControlPlaneNode, api: KubeApi, now = new Date()) {
  const { ca } = knownCas(facts.certificatesDir, cluster.oldCaPem);
  const until = ca?.olderEnd;
  if (!until || until <= now) return { rows: [], holders: [] };
  const pods = await podsWithOlderCa(api, ca);
  const detail = `${pods.length} not yet: until ${day(until)} each has to restart once: ${listed(pods)}`;
  const isSoon = until.getTime() - now.getTime() < YEAR_MS;
  const answer = pods.length === 0 ? "all" : isSoon ? { warning: detail } : detail;
  return {
    rows: [check("pods-renewed", () => answer)],
    holders: pods.map((name): OldCaHolder => ({ kind: "pod", name, until })),
  };
}

/**
 * They started before kube-root-ca.crt, or a token's Secret, had the current one. None has to restart before the old
 * one expires. Returns `namespace/name` of each, as the API lists them. Errors: as KubeApi.
 */
export async function podsWithOlderCa(api: KubeApi, ca: CaOfKey): Promise<string[]> {
  const isCurrent = (text: string) => (newestCertificate(text, ca.hash)?.notAfter ?? ca.end) >= ca.end;
  const since = (holder: TrustHolder, text: string) =>
    isCurrent(text) ? lastWritten(holder, new Date(0)) : NOT_YET;
  const cutOff = await trustReached(api, { map: since, secret: since });
  const found: string[] = [];
  await readAll("pods", api.items<RunningPod>("/api/v1/pods"), (pod) => {
    if (mountedBefore(pod, cutOff)) found.push(nameOf(pod));
  });
  return found;
}
