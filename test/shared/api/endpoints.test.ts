/** A Service must not lose its endpoints when the controllers for endpoints run again. */
import { expect, test } from "bun:test";
import { endpointsToWaitFor } from "../../../shared/api/endpoints.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { quietly } from "../../pretend/quietly.ts";

const waitForEndpoints = async (...asked: Parameters<typeof endpointsToWaitFor>) =>
  (await endpointsToWaitFor(...asked))();

const SLICE = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-x7";
const POD = "/api/v1/namespaces/shop/pods/web-0";
const METRICS = "/api/v1/nodes/m1/proxy/metrics/probes";
const [BEFORE, AFTER] = ["10.244.0.7", "10.244.0.9"];
const endpoint = (name: string, nodeName: string, ready = true) => ({
  addresses: [BEFORE],
  conditions: { ready },
  nodeName,
  targetRef: { kind: "Pod", name, namespace: "shop" },
});
const success = (result = "successful", type = "Readiness") =>
  `# TYPE prober_probe_total counter\nprober_probe_total{container="app",namespace="shop",pod="web-0",pod_uid="uid-of-web-0",probe_type="${type}",result="${result}"} 1\n`;

function shop({
  endpoints = [endpoint("web-0", "m1")],
  ready = "True",
  probed = true,
  metrics = success() as string | undefined,
  redirect = "",
  breaksOff = false,
  podIP = BEFORE,
  lastTransitionTime = "2026-11-29T18:00:10Z",
  containerStatuses = [{ state: { running: { startedAt: "2026-11-29T12:00:00Z" } } }] as object[],
} = {}) {
  const state = { ready, metrics, podIP, containerStatuses };
  const container = { name: "app", ...(probed ? { readinessProbe: {} } : {}) };
  const api = pretendApi({
    objects: { [SLICE]: { metadata: { labels: { "kubernetes.io/service-name": "web" } }, endpoints } },
    on: ({ path }) => {
      if (path === POD)
        return Response.json({
          metadata: { name: "web-0", uid: "uid-of-web-0" },
          spec: { containers: [container] },
          status: {
            podIP: state.podIP,
            conditions: [{ type: "Ready", status: state.ready, lastTransitionTime }],
            containerStatuses: state.containerStatuses,
          },
        });
      const broken = { pull: (to: ReadableStreamDefaultController) => to.error(new Error("broken off")) };
      if (path === METRICS && breaksOff) return new Response(new ReadableStream(broken));
      if (path === METRICS && redirect) return Response.redirect(redirect);
      if (path === METRICS)
        return state.metrics === undefined ? status(403, "no") : new Response(state.metrics);
      return undefined;
    },
  });
  const asked = (path: string) => api.requests.filter((request) => request.path === path).length;
  return Object.assign(api, { state, asked, client: new KubeApi({ server: api.url, ca: NO_TLS }) });
}

function untilAsked(api: ReturnType<typeof shop>, path: string, times: number) {
  return waitFor("the request", () => api.asked(path) >= times, { seconds: 250, hint: "" });
}

test("a Service waits for its pod, and then for the pod's readiness probe, which the kubelet's metrics show", async () => {
  using api = shop({ ready: "False", metrics: success("failed") });
  const waiting = quietly(() => waitForEndpoints(api.client, ["m1"]));
  let over = false;
  void waiting.then(() => (over = true));
  await untilAsked(api, POD, 2);
  api.state.ready = "True";
  await untilAsked(api, METRICS, 2);
  api.state.metrics = success("successful", "Liveness");
  await untilAsked(api, METRICS, api.asked(METRICS) + 2);
  expect(over).toBe(false);
  api.state.metrics = success();
  await waiting;
  expect(over).toBe(true);
});

test("a Service that leads to nobody any more holds nothing up: its pod has another address, or is gone", async () => {
  using api = shop({ ready: "False" });
  const waiting = quietly(() => waitForEndpoints(api.client));
  let over = false;
  void waiting.then(() => (over = true));
  await untilAsked(api, POD, 2);
  // the machine has started anew, and the pod has no address yet
  api.state.podIP = "";
  await untilAsked(api, POD, api.asked(POD) + 2);
  expect(over).toBe(false);
  api.state.podIP = AFTER;
  await waiting;
  using gone = shop({ endpoints: [endpoint("web-9", "m1")] });
  await quietly(() => waitForEndpoints(gone.client));
});

test("nor does one whose pod has started anew at its old address, and is not ready since: it serves nobody", async () => {
  for (const started of [
    [{ state: { running: { startedAt: "2026-11-29T18:00:10Z" } } }],
    [{ state: { waiting: { reason: "CrashLoopBackOff" } } }],
  ]) {
    using api = shop({ ready: "False" });
    const waiting = quietly(() => waitForEndpoints(api.client));
    let over = false;
    void waiting.then(() => (over = true));
    await untilAsked(api, POD, 2);
    // one of two is older: it may serve
    api.state.containerStatuses = [...api.state.containerStatuses, ...started];
    await untilAsked(api, POD, api.asked(POD) + 2);
    expect(over).toBe(false);
    api.state.containerStatuses = started;
    await waiting;
  }
  using unknown = shop({ ready: "False", containerStatuses: [] });
  const waiting = quietly(() => waitForEndpoints(unknown.client));
  await untilAsked(unknown, POD, 3);
  unknown.state.ready = "True";
  await waiting;
});

test("where one of two pods is where the Service leads, it is waited for", async () => {
  using api = shop({ ready: "False", endpoints: [endpoint("web-0", "m1"), endpoint("web-9", "m1")] });
  const waiting = quietly(() => waitForEndpoints(api.client));
  let over = false;
  void waiting.then(() => (over = true));
  await untilAsked(api, POD, 3);
  expect(over).toBe(false);
  api.state.ready = "True";
  await waiting;
});

test("nothing is asked of a Service with a pod on a node whose kubelet has not restarted, and of one without ready endpoints", async () => {
  using elsewhere = shop({ ready: "False", endpoints: [endpoint("web-0", "m1"), endpoint("web-1", "w1")] });
  await quietly(() => waitForEndpoints(elsewhere.client, ["m1"]));
  using none = shop({ ready: "False", endpoints: [endpoint("web-0", "m1", false)] });
  await quietly(() => waitForEndpoints(none.client));
  expect([elsewhere.asked(POD), none.asked(POD)]).toEqual([0, 0]);
});

test("a pod without a readiness probe need only be ready, and a kubelet that cannot be asked is taken at its word", async () => {
  using plain = shop({ probed: false });
  await quietly(() => waitForEndpoints(plain.client));
  using silent = shop({ metrics: undefined });
  await quietly(() => waitForEndpoints(silent.client));
  expect([plain.asked(METRICS), silent.asked(METRICS)]).toEqual([0, 1]);
});

test("a node that is silent to the API server voids no look: its kubelet cannot be asked, either", async () => {
  using api = shop({ breaksOff: true });
  await quietly(() => waitForEndpoints(api.client));
  expect(api.asked(POD)).toBe(1);
});

test("an EndpointSlice that a tenant wrote leads to no other path of the API", async () => {
  for (const [pod, node] of [
    ["web-0/proxy/shutdown", "m1"],
    ["../secrets/db", "m1"],
    ["web-0", "m1/proxy/run"],
  ] as const) {
    using api = shop({ endpoints: [endpoint(pod, node)] });
    await quietly(() => waitForEndpoints(api.client));
    expect(api.requests.map(({ path }) => path)).toEqual([expect.stringContaining("/endpointslices?")]);
  }
});

test("a kubelet's answer is not read beyond its length, and leads to no other server", async () => {
  const piece = Buffer.alloc(2 ** 20, "x");
  let sent = 0;
  const endless = () => {
    const pull = (stream: ReadableStreamDefaultController) =>
      void (++sent > 100 ? stream.close() : stream.enqueue(piece));
    return new Response(new ReadableStream({ pull }));
  };
  using other = pretendApi({ on: () => new Response(success()) });
  using api = pretendApi({
    on: ({ path }) => (path.endsWith("/long") ? endless() : Response.redirect(`${other.url}/api/v1/secrets`)),
  });
  const client = new KubeApi({ server: api.url, ca: NO_TLS });
  expect((await client.ofKubelet("/api/v1/nodes/m1/proxy/long")).length).toBe(16 * 2 ** 20);
  expect(sent).toBeLessThan(50);
  await expect(client.ofKubelet(METRICS)).rejects.toMatchObject({ status: 302 });
  await expect(client.get(METRICS)).rejects.toMatchObject({ status: 302 });
  expect(other.requests).toEqual([]);
});

test("a node whose kubelet sends us elsewhere is taken at its word, as one that cannot be asked", async () => {
  using other = pretendApi({ on: () => new Response("") });
  using api = shop({ redirect: `${other.url}/api/v1/secrets` });
  await quietly(() => waitForEndpoints(api.client));
  expect([api.asked(METRICS), other.requests]).toEqual([1, []]);
});
