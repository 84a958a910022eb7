/** A workload's pods, by its selector. */
import { expect, test } from "bun:test";
import { type LabelSelector, podsPath, selectorOf, selects } from "../../../shared/api/kube-object.ts";

const SELECTOR: LabelSelector = {
  matchLabels: { app: "web" },
  matchExpressions: [
    { key: "tier", operator: "In", values: ["a", "b"] },
    { key: "track", operator: "NotIn", values: ["canary"] },
    { key: "shop", operator: "Exists" },
    { key: "legacy", operator: "DoesNotExist" },
  ],
};

test("labels and each kind of expression: without the expressions a DaemonSet would seem to own every pod of its namespace", () => {
  const text = selectorOf({ spec: { selector: SELECTOR } });
  expect(text).toBe("app=web,tier in (a,b),track notin (canary),shop,!legacy");
  const query = new URL(`https://m1${podsPath("shop", text)}`);
  expect([query.pathname, query.searchParams.get("labelSelector")]).toEqual([
    "/api/v1/namespaces/shop/pods",
    text,
  ]);
  expect(selectorOf({ spec: {} })).toBe("");
});

test.each([
  [{ app: "web", tier: "b", shop: "1" }, true],
  [{ app: "web", tier: "b", shop: "1", track: "stable" }, true],
  [{ app: "web", tier: "b", shop: "1", track: "canary" }, false],
  [{ app: "web", tier: "b", shop: "1", legacy: "" }, false],
  [{ app: "web", tier: "b" }, false],
  [{ app: "web", tier: "c", shop: "1" }, false],
  [{ app: "other", tier: "b", shop: "1" }, false],
])("which pods it means: %j is %j", (labels, isWanted) => {
  expect(selects(SELECTOR, { metadata: { name: "web-1", labels: labels as Record<string, string> } })).toBe(
    isWanted,
  );
});

test("an empty selector means all pods, none means no pod", () => {
  const pod = { metadata: { name: "web-1" } };
  expect([selects({}, pod), selects(undefined, pod)]).toEqual([true, false]);
});
