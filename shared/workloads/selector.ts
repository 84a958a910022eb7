/** A workload's pods, by its own label selector (k8s.io/apimachinery pkg/apis/meta/v1 LabelSelector, labels.Parse for the text). */
import type { Workload } from "./rollout-status.ts";

/** "app=web,tier in (a,b),!canary", as `kubectl get pods -l` takes it. "" where the workload has no selector. */
export function selectorOf({ spec: { selector } }: Pick<Workload, "spec">): string {
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
