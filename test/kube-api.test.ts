/** The REST client, and what is built on few of its calls: Leases and bootstrap tokens. */
import { expect, test } from "bun:test";
import { createToken, revokeTokens, tokenFile } from "../shared/api/bootstrap-tokens.ts";
import { inParallel } from "../shared/api/in-parallel.ts";
import { ApiError, KubeApi } from "../shared/api/kube-api.ts";
import { allRenewals, dropDeadLeaders, dropLease, leaderSince, leaseRenewed } from "../shared/api/leases.ts";
import { mode } from "../shared/run.ts";
import { pretendApi, status } from "./pretend-api.ts";
import { sandbox } from "./sandbox.ts";

const client = (server: { url: string }) => new KubeApi({ server: `${server.url}/`, ca: undefined, token: "abc" });

test("list() fetches all pages, and keeps the selector on each", async () => {
  const objects = Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`/api/v1/namespaces/a/secrets/s${i}`, { type: "t" }]));
  using server = pretendApi({ objects: { ...objects, "/api/v1/namespaces/a/secrets/other": { type: "u" } }, pageSize: 2 });
  const items = await client(server).list("/api/v1/secrets?fieldSelector=type%3Dt");
  expect(items.map(({ metadata }) => metadata.name)).toEqual(["s0", "s1", "s2", "s3", "s4"]);
  expect(server.requests.map(({ path }) => path)).toEqual([
    "/api/v1/secrets?fieldSelector=type%3Dt&limit=500",
    "/api/v1/secrets?fieldSelector=type%3Dt&limit=500&continue=2",
    "/api/v1/secrets?fieldSelector=type%3Dt&limit=500&continue=4",
  ]);
});

test("list() takes Go's null for no items", async () => {
  using server = pretendApi({ on: () => Response.json({ items: null, metadata: {} }) });
  expect(await client(server).list("/api/v1/pods")).toEqual([]);
});

test("pages() asks for the next page before the last is looked at; one that fails is an error only for whoever goes on to it", async () => {
  const item = { metadata: { name: "a" } };
  using server = pretendApi({
    on: ({ path }) => (path.includes("continue") ? status(410, "too old") : Response.json({ items: [item], metadata: { continue: "x" } })),
  });
  for await (const { items } of client(server).pages("/api/v1/pods")) {
    expect(items).toEqual([item]);
    while (server.requests.length < 2) await new Promise(setImmediate);
    break;
  }
  await expect(client(server).list("/api/v1/pods")).rejects.toMatchObject({ status: 410 });
});

test("a request says who asks, and wants nothing packed", async () => {
  let seen: Record<string, string> = {};
  using server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: ({ headers }) => {
      seen = headers.toJSON();
      return new Response("ok");
    },
  });
  await client({ url: server.url.href.replace(/\/$/, "") }).ready();
  expect(seen).toMatchObject({ "user-agent": "kube-pki-repair", "accept-encoding": "identity", authorization: "Bearer abc" });
});

test("find() is undefined for a 404 only; other refusals carry the API's own sentence", async () => {
  using server = pretendApi({
    on: ({ path }) => (path === "/api/v1/nodes/secret" ? status(403, 'nodes "secret" is forbidden') : undefined),
  });
  expect(await client(server).find("/api/v1/nodes/none")).toBeUndefined();
  const refused = client(server).find("/api/v1/nodes/secret");
  await expect(refused).rejects.toThrow(ApiError);
  await expect(refused).rejects.toMatchObject({ status: 403, message: 'nodes "secret" is forbidden' });
});

test("a refusal that is not JSON, and one that says nothing, are errors with a sentence as well", async () => {
  using server = pretendApi({ on: ({ path }) => new Response(path === "/a" ? "etcd is down\n" : "", { status: 500 }) });
  await expect(client(server).get("/a")).rejects.toThrow("etcd is down");
  await expect(client(server).get("/b")).rejects.toThrow("GET /b: HTTP 500");
});

test("ready() is what /readyz says", async () => {
  using server = pretendApi();
  expect(await client(server).ready()).toBe(true);
});

test("inParallel() does every item, never more than `width` at a time, and ends at the first error", async () => {
  let [running, most] = [0, 0];
  const done: number[] = [];
  await inParallel([1, 2, 3, 4, 5], 2, async (item) => {
    most = Math.max(most, ++running);
    await new Promise(setImmediate);
    running--;
    done.push(item);
  });
  expect([most, done]).toEqual([2, [1, 2, 3, 4, 5]]);
  await expect(inParallel([1, 2], 1, () => Promise.reject(new Error("first")))).rejects.toThrow("first");
});

test("inParallel() takes from a source no more than it works on, and closes it at the first error", async () => {
  const [taken, begun]: number[][] = [[], []];
  let closed = false;
  async function* source() {
    try {
      for (let i = 1; ; i++) {
        taken!.push(i);
        yield i;
      }
    } finally {
      closed = true;
    }
  }
  const action = async (item: number) => {
    begun!.push(item);
    await new Promise(setImmediate);
    if (item === 4) throw new Error("fourth");
  };
  await expect(inParallel(source(), 2, action)).rejects.toThrow("fourth");
  expect(closed).toBe(true);
  expect(taken!.length).toBeLessThanOrEqual(6);
  expect(begun).toEqual(taken);
});

const LEASES = "/apis/coordination.k8s.io/v1/namespaces";
const KCM = `${LEASES}/kube-system/leases/kube-controller-manager`;
const SCHEDULER = `${LEASES}/kube-system/leases/kube-scheduler`;
const lease = (renewTime: string | undefined, holderIdentity = "") => ({ spec: { renewTime, holderIdentity, leaseDurationSeconds: 15 } });
const NOON = "2026-06-01T12:00:00.000000Z";

test("a Lease proves a kubelet only when it was renewed after the moment asked for", async () => {
  using server = pretendApi({
    objects: { [`${LEASES}/kube-node-lease/leases/w1`]: lease(NOON), [`${LEASES}/kube-node-lease/leases/w2`]: lease(undefined) },
  });
  const api = client(server);
  expect(await leaseRenewed(api, "w1", new Date("2026-06-01T11:59:59Z"))).toBe(true);
  expect(await leaseRenewed(api, "w1", new Date("2026-06-01T12:00:00Z"))).toBe(false);
  expect(await leaseRenewed(api, "w2", new Date(0))).toBe(false);
  expect(await leaseRenewed(api, "none", new Date(0))).toBe(false);
  expect([...(await allRenewals(api)).keys()]).toEqual(["w1", "w2"]);
});

test("leaderSince() names the holder only when it has renewed since", async () => {
  using server = pretendApi({ objects: { [KCM]: lease(NOON, "m1_a") } });
  expect(await leaderSince(client(server), "kube-controller-manager", new Date(0))).toBe("m1_a");
  expect(await leaderSince(client(server), "kube-controller-manager", new Date("2026-06-01T12:00:01Z"))).toBeUndefined();
  expect(await leaderSince(client(server), "kube-scheduler", new Date(0))).toBeUndefined();
});

test("dropLease() leaves the Lease of somebody who has taken it over", async () => {
  using box = sandbox();
  using server = pretendApi({
    objects: { [KCM]: lease(NOON, "m2_b"), [SCHEDULER]: lease(NOON, "m1_a") },
    on: ({ method }) => (method === "DELETE" ? status(409, "the precondition failed") : undefined),
  });
  await dropLease(client(server), "kube-controller-manager", "m1_a");
  expect(server.changes()).toEqual([]);
  await dropLease(client(server), "kube-scheduler", "m1_a");
  expect(server.requests.at(-1)?.body).toEqual({ preconditions: { resourceVersion: "1" } });
  expect(box.said).toEqual(["Lease kube-scheduler: taken over already"]);
});

test.each([
  ["that ran out, whoever held it", () => lease(NOON, "m2_b"), true],
  ["of this host from before its control plane was started anew", () => lease(new Date().toISOString(), "m1_a"), true],
  ["of another master that is alive", () => lease(new Date().toISOString(), "m2_b"), false],
  ["of this host's new process", () => lease(new Date(Date.now() + 60_000).toISOString(), "m1_a"), false],
  ["of a host whose name only begins the same", () => lease(new Date().toISOString(), "m11_a"), false],
])("dropDeadLeaders() and a Lease %s", async (_, held, isDropped) => {
  using _box = sandbox();
  using server = pretendApi({ objects: { [KCM]: held() } });
  await dropDeadLeaders(client(server), { hostName: "m1", since: new Date(Date.now() + 2000) });
  expect(server.objects.has(KCM)).toBe(!isDropped);
});

const SECRETS = "/api/v1/namespaces/kube-system/secrets";

test("createToken() makes a Secret that lets a kubelet in for two hours, and revokeTokens() removes it and no other", async () => {
  using box = sandbox();
  using server = pretendApi({
    objects: { [`${SECRETS}/bootstrap-token-aaaaaa`]: { type: "bootstrap.kubernetes.io/token", data: { description: "" } } },
    // The API server turns stringData into data.
    on: ({ method, body }) => {
      if (method !== "POST") return undefined;
      body.data = Object.fromEntries(
        Object.entries<string>(body.stringData).map(([key, value]) => [key, Buffer.from(value).toString("base64")]),
      );
      return undefined;
    },
  });
  const token = await createToken(client(server));
  expect(token).toMatch(/^[a-z0-9]{6}\.[a-z0-9]{16}$/);
  const [id, secret] = token.split(".") as [string, string];
  const { type, stringData } = server.objects.get(`${SECRETS}/bootstrap-token-${id}`);
  expect(type).toBe("bootstrap.kubernetes.io/token");
  expect(stringData).toMatchObject({ "token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true" });
  const hours = (new Date(stringData.expiration).getTime() - Date.now()) / 3_600_000;
  expect(hours).toBeGreaterThan(1.9);
  expect(hours).toBeLessThanOrEqual(2);

  mode.dryRun = true;
  await revokeTokens(client(server));
  expect(server.objects.size).toBe(2);
  mode.dryRun = false;
  await revokeTokens(client(server));
  expect([...server.objects.keys()]).toEqual([`${SECRETS}/bootstrap-token-aaaaaa`]);
  await revokeTokens(client(server));
  expect(box.said.at(-1)).toBe("no token of this kit is left");
  expect(box.said.join()).not.toContain(secret);
});

test("tokenFile() is in the folder in which the operator stands, not in the kit's", () => {
  expect(tokenFile("token")).toBe(`${process.env.PWD}/token`);
  expect(tokenFile("/root/token")).toBe("/root/token");
});
