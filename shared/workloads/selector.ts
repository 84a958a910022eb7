/** Which pods a label selector means (k8s.io/apimachinery pkg/apis/meta/v1 LabelSelector, labels.Parse for its text). */
import type { KubeObject } from "../api/kube-object.ts";

export interface LabelSelector {
  matchLabels?: Record<string, string>;
  /** `values` of In and NotIn. */
  matchExpressions?: { key: string; operator: "In" | "NotIn" | "Exists" | "DoesNotExist"; values?: string[] }[];
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

/** Where the API lists the pods that a selector of this namespace means. */
export function podsPath(namespace: string, selector: string): string {
  return `/api/v1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(selector)}`;
}

/** An empty selector means all, none means nothing (policy/v1 PodDisruptionBudget). */
export function selects(selector: LabelSelector | undefined, { metadata: { labels = {} } }: KubeObject): boolean {
  if (!selector) return false;
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === "Exists" || operator === "DoesNotExist") return (value !== undefined) === (operator === "Exists");
      return (value !== undefined && values.includes(value)) === (operator === "In");
    })
  );
}
