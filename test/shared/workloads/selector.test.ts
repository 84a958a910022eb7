/** A workload's pods, by its selector. */
import { expect, test } from "bun:test";
import type { Workload } from "../../../shared/workloads/rollout-status.ts";
import { podsPath, selectorOf } from "../../../shared/workloads/selector.ts";

test("labels and each kind of expression: without the expressions a DaemonSet would seem to own every pod of its namespace", () => {
  const selector: Workload["spec"]["selector"] = {
    matchLabels: { app: "web" },
    matchExpressions: [
      { key: "tier", operator: "In", values: ["a", "b"] },
      { key: "track", operator: "NotIn", values: ["canary"] },
      { key: "shop", operator: "Exists" },
      { key: "legacy", operator: "DoesNotExist" },
    ],
  };
  const text = selectorOf({ spec: { selector, template: {} } });
  expect(text).toBe("app=web,tier in (a,b),track notin (canary),shop,!legacy");
  const query = new URL(`https://m1${podsPath("shop", text)}`);
  expect([query.pathname, query.searchParams.get("labelSelector")]).toEqual(["/api/v1/namespaces/shop/pods", text]);
  expect(selectorOf({ spec: { template: {} } })).toBe("");
});
