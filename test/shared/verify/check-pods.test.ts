/** What part 5 says of the cluster's pods. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { podChecks } from "../../../shared/verify/check-cluster.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";

const WAITING = { phase: "Pending" };
const READY = { phase: "Running", conditions: [{ type: "Ready", status: "True" }] };

test.each([
  ["on this side and on a node that is away", ["w1", "w2"], { warning: ["on-w1", "on-w2"] }],
  ["on this side alone", ["w1"], { warning: ["on-w1"] }],
  ["on a node that is away alone, which is no trouble of theirs", ["w2"], ["on-w2"]],
  ["nowhere", [], []],
] as [string, string[], string[] | { warning: string[] }][])(
  "pods that are not Ready are named, %s",
  async (_, late, named) => {
    const pods = ["w1", "w2", "w3"].map((nodeName) => [
      `/api/v1/namespaces/shop/pods/on-${nodeName}`,
      {
        metadata: { name: `on-${nodeName}`, namespace: "shop" },
        spec: { nodeName },
        status: late.includes(nodeName) ? WAITING : READY,
      },
    ]);
    using server = pretendApi({ objects: Object.fromEntries(pods) });
    const api = new KubeApi({ server: server.url, ca: NO_TLS });
    const { value: row } = await podChecks({} as never, api, "the CA", new Set(["w2"]), []).next();
    const answer = await row!.look();
    const names = (said: unknown): string[] => String(said).match(/on-w\d/g) ?? [];
    const { warning } = answer as { warning?: string };
    expect(warning === undefined ? names(answer) : { warning: names(warning) }).toEqual(named);
  },
);

test.each<[string, number | undefined, unknown]>([
  [
    "for seven seconds, as after close has restarted it",
    7,
    "all but those that became not Ready less than a minute ago: shop/web",
  ],
  ["for an hour", 3600, { warning: "not Ready: shop/web" }],
  ["since a time to come, by a node's wrong clock", -600, { warning: "not Ready: shop/web" }],
  ["without a time", undefined, { warning: "not Ready: shop/web" }],
])("a pod that is not Ready %s", async (_, seconds, answer) => {
  const lastTransitionTime =
    seconds === undefined ? undefined : new Date(Date.now() - seconds * 1000).toISOString();
  const status = { phase: "Running", conditions: [{ type: "Ready", status: "False", lastTransitionTime }] };
  const pod = { metadata: { name: "web", namespace: "shop" }, spec: { nodeName: "w1" }, status };
  using server = pretendApi({ objects: { "/api/v1/namespaces/shop/pods/web": pod } });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const { value: row } = await podChecks({} as never, api, "the CA", new Set(), []).next();
  expect(await row!.look()).toEqual(answer as never);
});

test.each([
  ["has just made", 5, "all but those that became not Ready less than a minute ago: shop/web"],
  ["made an hour ago", 3600, { warning: "not Ready: shop/web" }],
])("a pod of which no kubelet has said anything yet, and which somebody %s", async (_, seconds, answer) => {
  const creationTimestamp = new Date(Date.now() - seconds * 1000).toISOString();
  const metadata = { name: "web", namespace: "shop", creationTimestamp };
  const pod = { metadata, spec: { nodeName: "w1" }, status: { phase: "Pending" } };
  using server = pretendApi({ objects: { "/api/v1/namespaces/shop/pods/web": pod } });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const { value: row } = await podChecks({} as never, api, "the CA", new Set(), []).next();
  expect(await row!.look()).toEqual(answer as never);
});

test("a worker's own static pod that ran before the repair, and is gone, is named", async () => {
  const pods = {
    "/api/v1/namespaces/kube-system/pods/nginx-proxy-w2": {
      metadata: { name: "nginx-proxy-w2", namespace: "kube-system" },
      status: READY,
    },
  };
  using server = pretendApi({ objects: pods });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const own = ["nginx-proxy-w1", "nginx-proxy-w2"];
  const { value: row } = await podChecks({} as never, api, "the CA", new Set(), own).next();
  expect(await row!.look()).toMatchObject({
    warning: "static pods of workers that ran before are gone: nginx-proxy-w1",
    mend: expect.stringContaining("/etc/kubernetes/manifests"),
  } as never);
  const late = { metadata: { name: "web", namespace: "shop" }, spec: { nodeName: "w2" }, status: WAITING };
  server.objects.set("/api/v1/namespaces/shop/pods/web", late);
  expect(await row!.look()).toMatchObject({
    warning: "static pods of workers that ran before are gone: nginx-proxy-w1; not Ready: shop/web",
  } as never);
});
