/** The REST client, and what is built on few of its calls: Leases and bootstrap tokens. */
import { expect, spyOn, test } from "bun:test";
import { ApiError } from "../../../shared/api/api-error.ts";
import {
  ANY_WORKER,
  closeJoining,
  isTokenUser,
  openJoining,
  tokenUsers,
} from "../../../shared/api/bootstrap-tokens.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import {
  allRenewals,
  dropDeadLeaders,
  dropLease,
  leaderOf,
  leaseRenewed,
} from "../../../shared/api/leases.ts";
import { inParallel } from "../../../shared/in-parallel.ts";
import { typed } from "../../../shared/options.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import type { Kubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { mode } from "../../../shared/run.ts";
import { NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const client = (server: { url: string }) => new KubeApi({ server: `${server.url}/`, ca: NO_TLS });

test("list() fetches all pages, and keeps the selector on each", async () => {
  const objects = Object.fromEntries(
    Array.from({ length: 5 }, (_, i) => [`/api/v1/namespaces/a/secrets/s${i}`, { type: "t" }]),
  );
  using server = pretendApi({
    objects: { ...objects, "/api/v1/namespaces/a/secrets/other": { type: "u" } },
    pageSize: 2,
  });
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
    on: ({ path }) =>
      path.includes("continue")
        ? status(410, "too old")
        : Response.json({ items: [item], metadata: { continue: "x" } }),
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
  const facts = testFacts({ advertiseAddress: "127.0.0.1" });
  const ca = await issueCa(certRow("ca"), facts);
  using server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    tls: await issueLeaf(certRow("apiserver"), ca, facts),
    fetch: ({ headers }) => {
      seen = headers.toJSON();
      return new Response("ok");
    },
  });
  await new KubeApi({ server: server.url.href, ca: ca.cert, token: "abc" }).ready();
  expect(seen).toMatchObject({
    "user-agent": "kube-pki-repair",
    "accept-encoding": "identity",
    authorization: "Bearer abc",
  });
});

test.each(["http://", "HTTP://", "//", ""])("a token never goes to a server at %s", (scheme) => {
  using server = pretendApi();
  const to = server.url.replace("http://", scheme);
  expect(() => new KubeApi({ server: to, ca: NO_TLS, token: "abc" })).toThrow("would go there in clear");
  expect(() => KubeApi.from({ server: to, caPem: NO_TLS, token: "abc" } as Kubeconfig)).toThrow("in clear");
  expect(server.requests).toEqual([]);
});

test("a change waits until the API server itself gives up on a webhook that hangs, and names it: after 60 s; a question waits less", async () => {
  using timeout = spyOn(AbortSignal, "timeout");
  using server = pretendApi({ objects: { "/api/v1/nodes/a": {} } });
  const api = client(server);
  await api.get("/api/v1/nodes/a");
  await api.patch("/api/v1/nodes/a", {});
  await api.create("/api/v1/nodes", { metadata: { name: "b" } });
  const [question, ...changes] = timeout.mock.calls.map(([milliseconds]) => milliseconds);
  expect(question).toBeLessThan(30_000);
  expect(changes.map((milliseconds) => milliseconds > 60_000)).toEqual([true, true]);
});

test("find() is undefined for a 404 only; other refusals carry the API's own sentence", async () => {
  using server = pretendApi({
    on: ({ path }) =>
      path === "/api/v1/nodes/secret" ? status(403, 'nodes "secret" is forbidden') : undefined,
  });
  expect(await client(server).find("/api/v1/nodes/none")).toBeUndefined();
  const refused = client(server).find("/api/v1/nodes/secret");
  await expect(refused).rejects.toThrow(ApiError);
  await expect(refused).rejects.toMatchObject({ status: 403, message: 'nodes "secret" is forbidden' });
});

test("a refusal that is not JSON, and one that says nothing, are errors with a sentence as well", async () => {
  using server = pretendApi({
    on: ({ path }) => new Response(path === "/a" ? "etcd is down\n" : "", { status: 500 }),
  });
  await expect(client(server).get("/a")).rejects.toThrow("etcd is down");
  await expect(client(server).get("/b")).rejects.toThrow("GET /b: HTTP 500");
});

test.each([[{ ca: "" }], [{ ca: undefined }], [{}], [{ ca: "no certificate" }]])(
  "%j is no way to say that a server need not be verified",
  (options) => {
    expect(() => new KubeApi({ server: "https://a:6443", ...options })).toThrow(
      'There is no CA to verify "https://a:6443" with',
    );
  },
);

test("of a refusal no more is read than is worth reading", async () => {
  let sent = 0;
  const endless = () =>
    new Response(
      new ReadableStream({
        pull: (stream) => {
          sent += 65_536;
          if (sent > 50_000_000) stream.close();
          else stream.enqueue(new Uint8Array(65_536).fill(0x41));
        },
      }),
      { status: 500 },
    );
  using server = pretendApi({ on: endless });
  const refused = client(server).get("/refused");
  await expect(refused).rejects.toThrow(/^A{500}… \(\d+ more characters\)$/);
  expect(sent).toBeLessThan(50_000_000);
});

test("escape sequences and lines of a server's answer are letters in an error", async () => {
  const attack = "no\u001b[2J\u001b]0;pwned\u0007\n  w1: approved\u009b31m\u202e";
  using server = pretendApi({
    on: ({ path }) => (path === "/json" ? status(403, attack) : new Response(attack, { status: 500 })),
  });
  for (const path of ["/json", "/text"]) {
    const error = await client(server)
      .get(path)
      .catch((err: Error) => err.message);
    expect(error).toBe("no\\u001b[2J\\u001b]0;pwned\\u0007\\n  w1: approved\\u009b31m\\u202e");
  }
});

test("what is no JSON, and JSON without a sentence, are errors that an operator can read", async () => {
  using server = pretendApi({
    on: ({ path }) =>
      new Response(path === "/a" ? "{\u001b[31m" : "null", { status: path === "/a" ? 200 : 500 }),
  });
  await expect(client(server).get("/a")).rejects.toThrow(`did not answer with JSON: "{\\u001b[31m"`);
  await expect(client(server).get("/b")).rejects.toThrow("GET /b: HTTP 500");
});

test("ready() is what /readyz says; where it says no, only what fails is told", async () => {
  using server = pretendApi();
  expect(await client(server).ready()).toBe(true);
  const page = [
    "[+]ping ok",
    "[-]kms-provider-0 failed: reason withheld",
    ...Array(40).fill("[+]poststarthook/x ok"),
    "readyz check failed",
  ];
  using other = pretendApi({ on: () => new Response(page.join("\n"), { status: 500 }) });
  await expect(client(other).ready()).rejects.toThrow(/^not ready: kms-provider-0 failed: reason withheld$/);
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
const lease = (renewTime: string | undefined, holderIdentity = "") => ({
  spec: { renewTime, holderIdentity, leaseDurationSeconds: 15 },
});
const NOON = "2026-06-01T12:00:00.000000Z";

test("a Lease proves a kubelet only when it was renewed after the moment asked for", async () => {
  using server = pretendApi({
    objects: {
      [`${LEASES}/kube-node-lease/leases/w1`]: lease(NOON),
      [`${LEASES}/kube-node-lease/leases/w2`]: lease(undefined),
    },
  });
  const api = client(server);
  expect(await leaseRenewed(api, "w1", new Date("2026-06-01T11:59:59Z"))).toBe(true);
  expect(await leaseRenewed(api, "w1", new Date("2026-06-01T12:00:00Z"))).toBe(false);
  expect(await leaseRenewed(api, "w2", new Date(0))).toBe(false);
  expect(await leaseRenewed(api, "none", new Date(0))).toBe(false);
  expect([...(await allRenewals(api)).keys()]).toEqual(["w1", "w2"]);
});

test("leaderOf() names the holder of a Lease that somebody has taken", async () => {
  using server = pretendApi({ objects: { [KCM]: lease(NOON, "m1_a"), [SCHEDULER]: lease(NOON) } });
  expect(await leaderOf(client(server), "kube-controller-manager")).toEqual({
    holder: "m1_a",
    renewTime: NOON,
  });
  expect(await leaderOf(client(server), "kube-scheduler")).toBeUndefined();
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
  expect(box.said).toEqual(["unchanged Lease kube-scheduler: another holder has just taken it"]);
});

/** What etcd's data said some time ago. */
const SEEN = { holder: "m2_b", renewTime: "2026-06-01T12:00:00Z" };
const MINUTE = 60_000;

test.each([
  [
    "that has stood still since etcd's data was read, whoever held it",
    () => lease(NOON, "m2_b"),
    MINUTE,
    true,
  ],
  ["that has stood still for less than it lasts", () => lease(NOON, "m2_b"), 5000, false],
  ["that only ran out by its holder's clock", () => lease("2026-06-01T12:00:02Z", "m2_b"), MINUTE, false],
  [
    "of this host from before its control plane was started anew",
    () => lease(new Date().toISOString(), "m1_a"),
    MINUTE,
    true,
  ],
  [
    "of another control plane node that is alive",
    () => lease(new Date().toISOString(), "m2_b"),
    MINUTE,
    false,
  ],
  [
    "of this host's new process",
    () => lease(new Date(Date.now() + 60_000).toISOString(), "m1_a"),
    MINUTE,
    false,
  ],
  [
    "of a host whose name only begins the same",
    () => lease(new Date().toISOString(), "m11_a"),
    MINUTE,
    false,
  ],
] as const)("dropDeadLeaders() and a Lease %s", async (_, held, ago, isDropped) => {
  expect(await isKept(held(), ago)).toBe(!isDropped);
});

test.each([
  ["was not started anew, or was started by hand, so it may be the holder", -MINUTE, true],
  ["started since: its holder has ended", 1000, false],
])("dropDeadLeaders() and a Lease of this host, whose oldest process %s", async (_, later, kept) => {
  const started = new Date(Date.now() + later);
  expect(await isKept(lease(new Date().toISOString(), "m1_a"), MINUTE, started)).toBe(kept);
});

/** After etcd's data was read so many milliseconds ago, on m1, whose oldest controller-manager has started then. */
async function isKept(held: object, ago: number, started?: Date): Promise<boolean> {
  using _box = sandbox();
  using server = pretendApi({ objects: { [KCM]: held } });
  const name = "kube-controller-manager";
  const seen = {
    leases: [name],
    leaders: new Map([[name, SEEN]]),
    started: new Map(started ? [[name, started]] : []),
    at: new Date(Date.now() - ago),
  };
  await dropDeadLeaders(client(server), {
    hostName: "m1",
    since: new Date(Date.now() + 2000),
    leadersBefore: seen,
  });
  return server.objects.has(KCM);
}

const SECRETS = "/api/v1/namespaces/kube-system/secrets";

const BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kube-pki-repair:kubelet-bootstrap";
const OTHERS = { type: "bootstrap.kubernetes.io/token", data: { description: "" } };

test("openJoining() makes a token that only lets a kubelet ask, in a group of the kit's own; closeJoining() leaves nothing of it", async () => {
  using box = sandbox();
  using server = pretendApi({ objects: { [`${SECRETS}/bootstrap-token-aaaaaa`]: OTHERS } });
  const token = (await openJoining(client(server), ["w1"])).get("w1")!;
  expect(token).toMatch(/^[a-z0-9]{6}\.[a-z0-9]{16}$/);
  const [id, secret] = token.split(".") as [string, string];
  const { type, stringData } = server.objects.get(`${SECRETS}/bootstrap-token-${id}`);
  expect(type).toBe("bootstrap.kubernetes.io/token");
  const { expiration, description, ...rest } = stringData;
  const group = "system:bootstrappers:kube-pki-repair";
  expect(rest).toEqual({
    "token-id": id,
    "token-secret": secret,
    "usage-bootstrap-authentication": "true",
    "auth-extra-groups": group,
  });
  const hours = (new Date(expiration).getTime() - Date.now()) / 3_600_000;
  expect(hours).toBeGreaterThan(1.9);
  expect(hours).toBeLessThanOrEqual(2);
  const { roleRef, subjects } = server.objects.get(BINDING);
  expect([roleRef.name, subjects.map(({ name }: { name: string }) => name)]).toEqual([
    "system:node-bootstrapper",
    [group],
  ]);
  expect([...(await tokenUsers(client(server)))]).toEqual([[`system:bootstrap:${id}`, "w1"]]);

  mode.dryRun = true;
  await closeJoining(client(server));
  expect(server.objects.size).toBe(3);
  mode.dryRun = false;
  await closeJoining(client(server));
  expect([...server.objects.keys()]).toEqual([`${SECRETS}/bootstrap-token-aaaaaa`]);
  await closeJoining(client(server));
  expect(box.said.at(-1)).toBe("no token of this kit is left");
  expect(box.said.join()).not.toContain(secret);
});

test("openJoining() again revokes the former token, and one that has ended is no token any more", async () => {
  using _box = sandbox();
  using server = pretendApi();
  await openJoining(client(server), ["w1", "w2"]);
  const id = (await openJoining(client(server), [ANY_WORKER])).get(ANY_WORKER)!.slice(0, 6);
  expect([...(await tokenUsers(client(server)))]).toEqual([[`system:bootstrap:${id}`, ANY_WORKER]]);
  expect(await isTokenUser(client(server), `system:bootstrap:${id}`)).toBe(true);
  for (const user of ["system:bootstrap:zzzzzz", "system:bootstrap:", "system:node:w1", `${id}`])
    expect(await isTokenUser(client(server), user)).toBe(false);
  server.objects.get(`${SECRETS}/bootstrap-token-${id}`).data.expiration = btoa("2026-01-01T00:00:00Z");
  expect([...(await tokenUsers(client(server)))]).toEqual([]);
  expect(await isTokenUser(client(server), `system:bootstrap:${id}`)).toBe(false);
});

test("openJoining() makes no token where a rule of the cluster's approves whatever its holders ask for", async () => {
  using _box = sandbox();
  using server = pretendApi({
    on: ({ path, body }) =>
      path.endsWith("/subjectaccessreviews")
        ? Response.json({ status: { allowed: body.spec.resourceAttributes.subresource === "nodeclient" } })
        : undefined,
  });
  await expect(openJoining(client(server), ["w1"])).rejects.toThrow(
    "A rule of this cluster approves every node's certificate",
  );
  expect(server.changes()).toEqual([]);
  expect(server.requests[0]!.body.spec.groups).toEqual([
    "system:bootstrappers",
    "system:bootstrappers:kube-pki-repair",
    "system:authenticated",
  ]);
});

test("typed() is in the folder in which the operator stands, not in the kit's", () => {
  expect(typed("token")).toBe(`${process.env.PWD}/token`);
  expect(typed("/root/token")).toBe("/root/token");
});
