/**
 * Whether a repair is over, as etcd's data tells today. The facts in its rescue folder are those of that day; what was changed since, a
 * manifest, a node, a release, is in today's data only.
 */

import { readCluster } from "./cluster.ts";
import type { EtcdData } from "./etcd/data.ts";
import { Fail } from "./fail.ts";
import { readText } from "./files/files.ts";
import { readObject, readObjects } from "./k8s/stored.ts";
import { CONTROL_PLANE } from "./nodes/runtime.ts";
import { foreignAuthority } from "./pki/authority-key.ts";
import { certInfo, madeAt } from "./pki/certificate.ts";
import { attempt } from "./pki/verdicts.ts";
import { isReduced } from "./static-pods/reduced-controllers.ts";
import type { Pod } from "./workloads/pod-owners.ts";
import { waitsForRestart } from "./workloads/stale-pods.ts";
import type { TrustTimes } from "./workloads/trust-times.ts";

const STATIC_POD = new RegExp(`/pods/kube-system/(?:${CONTROL_PLANE.join("|")})-([^/]+)$`);

/**
 * The cluster has gone on with all the static pods that its nodes had `before`, the copy that the repair began with at `began`; and where its CA is
 * another now, parts 3 and 4 are through. What cannot be read, as it is encrypted, tells that it is not.
 */
export function hasEnded(before: EtcdData, live: EtcdData, began: Date): boolean {
  if (live.revision === before.revision) return false;
  const cas = attempt(() => [before, live].map((data) => certInfo(readCluster(data).oldCaPem)));
  if (cas instanceof Fail) return false;
  const [old, now] = [cas[0]!, cas[1]!];
  const here = attempt(() => certInfo(readText("/etc/kubernetes/pki/ca.crt") ?? ""));
  if (!(here instanceof Fail) && here.publicKeyHash !== now.publicKeyHash && !foreignAuthority(here.pem, now.pem)) return false;
  const [running, nodes] = [new Set(live.keys("")), new Set(names(live, "minions/"))];
  // A master that was lost for good has no Node any more.
  if (before.keys("").some((key) => nodes.has(STATIC_POD.exec(key)?.[1] ?? "") && !running.has(key))) return false;
  return old.publicKeyHash === now.publicKeyHash || attempt(() => isThrough(live, nodes, now.pem, began)) === true;
}

/** Nothing is left of the old CA that parts 3 and 4 take away: each namespace has the new one, nothing is reduced, no pod waits for its restart. */
function isThrough(live: EtcdData, nodes: Set<string>, caPem: string, began: Date): boolean {
  const since = new Date(Math.max(began.getTime(), madeAt(caPem).getTime()));
  const isToday = (namespace: string) => {
    const map = readObject<{ data?: Record<string, string> }>(live, `configmaps/${namespace}/kube-root-ca.crt`);
    return !map || map.data?.["ca.crt"]?.trim() === caPem.trim();
  };
  // Token Secrets are not looked at: they are often encrypted, and the pods that mount one go in the same part.
  const times: TrustTimes = { rootCa: () => since, tokenSecret: () => undefined };
  const isDone = (pod: Pod) => !isReduced(pod) && !(nodes.has(pod.spec.nodeName ?? "") && waitsForRestart(pod, times));
  return names(live, "namespaces/").every(isToday) && readObjects<Pod>(live, "pods/").every(isDone);
}

function names(data: EtcdData, path: string): string[] {
  return readObjects<{ metadata: { name: string } }>(data, path).map(({ metadata }) => metadata.name);
}
