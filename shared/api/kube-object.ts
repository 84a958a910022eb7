/**
 * An object as the API has it, and how it is read: label selectors (k8s.io/apimachinery pkg/apis/meta/v1
 * LabelSelector, labels.Parse for its text), leaders' Leases (client-go leaderelection).
 */

/** A script has its own type for what else it reads in it. */
export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
  };
}

export function nameOf({ metadata }: KubeObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}

interface Conditions {
  status?: { conditions?: { type: string; status: string }[] };
}

/** Whether a pod's condition Ready is true; the pod may be about to end. */
export function isReady({ status }: Conditions): boolean {
  return status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True") ?? false;
}

export interface LabelSelector {
  matchLabels?: Record<string, string>;
  /** `values` of In and NotIn. */
  matchExpressions?: {
    key: string;
    operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
    values?: string[];
  }[];
}

/** "app=web,tier in (a,b),!canary", as `kubectl get pods -l` takes it. "" where there is no selector. */
export function selectorOf({ spec: { selector } }: { spec: { selector?: LabelSelector } }): string {
  const labels = Object.entries(selector?.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  const rules = (selector?.matchExpressions ?? []).map(({ key, operator, values = [] }) => {
    if (operator === "Exists") return key;
    if (operator === "DoesNotExist") return `!${key}`;
    return `${key} ${operator === "In" ? "in" : "notin"} (${values.join(",")})`;
  });
  return [...labels, ...rules].join(",");
}

export function podsPath(namespace: string, selector: string): string {
  return `/api/v1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(selector)}`;
}

export function podsOn(node: string, pods = "/api/v1/pods"): string {
  return withQuery(pods, `fieldSelector=spec.nodeName%3D${encodeURIComponent(node)}`);
}

export function withQuery(path: string, query: string): string {
  return `${path}${path.includes("?") ? "&" : "?"}${query}`;
}

/** An empty selector means all, none means nothing (policy/v1 PodDisruptionBudget). */
export function selects(
  selector: LabelSelector | undefined,
  { metadata: { labels = {} } }: KubeObject,
): boolean {
  if (!selector) return false;
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === "Exists" || operator === "DoesNotExist")
        return (value !== undefined) === (operator === "Exists");
      return (value !== undefined && values.includes(value)) === (operator === "In");
    })
  );
}

/** Signs the API server's ClusterTrustBundles. */
const SIGNER = "kubernetes.io/kube-apiserver-serving";

/** The controller-manager names them so, with a hash of the content behind it. */
export const API_SERVER_BUNDLES = `${SIGNER.replace("/", ":")}:`;

/** Whether this names the API server's: a bundle's spec, or the source of a pod's volume. */
export function isApiServers(named: { name?: string; signerName?: string | undefined }): boolean {
  return named.signerName === SIGNER || (named.name ?? "").startsWith(API_SERVER_BUNDLES);
}

export const LEADERS = ["kube-controller-manager", "kube-scheduler"] as const;

/** `cp1_1b2c…`. Two that differ prove that somebody led in between. */
export interface Leader {
  holder: string;
  renewTime: string;
}

/**
 * The holder is HOST_UUID, with the host's name as its kernel has it (os.Hostname in
 * cmd/kube-controller-manager/app and cmd/kube-scheduler/app).
 */
export function hostOfHolder(holder: string): string {
  return holder.replace(/_[^_]*$/, "");
}

export interface StoredLease {
  spec?: { holderIdentity?: string; renewTime?: string; leaseDurationSeconds?: number };
}

/** Seconds for a living kubelet: it renews its Lease four times while that lasts. It says how long: two minutes count. */
export function renewsWithin({ spec }: StoredLease): number {
  return Math.min(Math.max(12, 0.3 * (spec?.leaseDurationSeconds ?? 0)), 120);
}

/** Returns undefined if nobody has taken the Lease, or it was deleted. */
export function leaderIn(lease: StoredLease | undefined): Leader | undefined {
  const { holderIdentity: holder, renewTime } = lease?.spec ?? {};
  return holder && renewTime ? { holder, renewTime } : undefined;
}

/** The leaders' Leases as somebody saw them before, by name, and when that was, by our own clock. */
export interface LeadersSeen {
  leases: readonly string[];
  /** Since when this host's oldest process runs that may hold each; of none that runs, nothing. */
  started: ReadonlyMap<string, Date>;
  leaders: ReadonlyMap<string, Leader>;
  at: Date;
}
