/** Leases of kubelets and leaders: who renews theirs, whatever their clocks say. */
import { expect, setSystemTime, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import {
  clockAhead,
  dropDeadLeaders,
  renewed as lastRenewal,
  leaderNow,
  leaseRenewed,
  mayBeAlive,
  nextLeader,
  nodeLeases,
  renewalRefused,
  secondsToRenew,
  waitForRenewal,
} from "../../../shared/api/leases.ts";
import { NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { variablesHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const renewed = (secondsAgo: number) => ({
  spec: { renewTime: new Date(Date.now() - secondsAgo * 1000).toISOString() },
});

const ALL = { since: new Date(0) };

test("nodeLeases() gives a kubelet the time to find an API that was away, and looks once if all have renewed their Lease", async () => {
  let asked = 0;
  using api = pretendApi({
    objects: {
      [`${LEASES}/m1`]: renewed(3),
      [`${LEASES}/w1`]: renewed(90),
      [`${LEASES}/gone`]: renewed(4000),
    },
    on: (_, { objects }) => {
      if (++asked === 3) Object.assign(objects.get(`${LEASES}/w1`), renewed(0));
      return undefined;
    },
  });
  const client = new KubeApi({ server: api.url, ca: NO_TLS });
  expect((await nodeLeases(client, ["m1", "w1"], ALL)).notRenewed).toEqual([]);
  expect(asked).toBe(3);
  await nodeLeases(client, ["m1", "w1"], ALL);
  expect(asked).toBe(4);
});

test("a node whose clock is late counts when its Lease is renewed while we look", async () => {
  let asked = 0;
  using api = pretendApi({
    objects: { [`${LEASES}/late`]: renewed(600) },
    on: (_, { objects }) => {
      Object.assign(objects.get(`${LEASES}/late`), renewed(600 - ++asked));
      return undefined;
    },
  });
  expect((await nodeLeases(new KubeApi({ server: api.url, ca: NO_TLS }), ["late"], ALL)).notRenewed).toEqual(
    [],
  );
});

test("a kubelet whose Lease lasts longer than the usual 40 s renews it less often: it is none that has died", async () => {
  const slow = renewed(80);
  Object.assign(slow.spec, { leaseDurationSeconds: 300 });
  using api = pretendApi({ objects: { [`${LEASES}/edge`]: slow } });
  using _patience = variablesHere({ KUBE_PKI_REPAIR_PATIENCE: "0" });
  const { notRenewed, renewals } = await nodeLeases(
    new KubeApi({ server: api.url, ca: NO_TLS }),
    ["edge"],
    ALL,
  );
  expect(notRenewed).toEqual([]);
  expect([renewals.get("edge"), undefined].map(secondsToRenew)).toEqual([90, 25]);
  Object.assign(slow.spec, { leaseDurationSeconds: 2 ** 31 - 1 });
  expect(secondsToRenew(lastRenewal(slow as never))).toBe(120);
});

/** Names → whether somebody listens there; counts how often each was asked. */
function ports(open: Record<string, boolean | undefined>) {
  const asked: Record<string, number> = {};
  const listening = async (names: readonly string[]) => {
    for (const name of names) asked[name] = (asked[name] ?? 0) + 1;
    return new Map(names.map((name) => [name, open[name]]));
  };
  return { asked, listening };
}

test("a kubelet whose port is closed is not waited for until the end; one that starts meanwhile is", async () => {
  const { asked, listening } = ports({ w1: false, w2: false });
  using api = pretendApi({
    objects: { [`${LEASES}/w1`]: renewed(4000), [`${LEASES}/w2`]: renewed(4000) },
    on: (_, { objects }) => {
      if (asked.w2 === 5) Object.assign(objects.get(`${LEASES}/w2`), renewed(0));
      return undefined;
    },
  });
  const { notRenewed } = await nodeLeases(new KubeApi({ server: api.url, ca: NO_TLS }), ["w1", "w2"], {
    ...ALL,
    onlyNew: true,
    listening,
  });
  expect(notRenewed).toEqual(["w1"]);
  expect(asked).toEqual({ w1: 12, w2: 5 });
});

test("where only a new renewal counts, one of the last minute does if the kubelet's port is open, and is not enough if it is closed", async () => {
  const { asked, listening } = ports({ alive: true, dead: false });
  using api = pretendApi({ objects: { [`${LEASES}/alive`]: renewed(20), [`${LEASES}/dead`]: renewed(20) } });
  const { notRenewed } = await nodeLeases(new KubeApi({ server: api.url, ca: NO_TLS }), ["alive", "dead"], {
    ...ALL,
    onlyNew: true,
    listening,
  });
  expect(notRenewed).toEqual(["dead"]);
  expect(asked.alive).toBe(1);
});

test("under a new CA a renewal of before is no sign of life, however young it is and whoever listens: that kubelet has to join", async () => {
  const { listening } = ports({ joined: true, old: true });
  using api = pretendApi({ objects: { [`${LEASES}/joined`]: renewed(5), [`${LEASES}/old`]: renewed(20) } });
  const options = { onlyNew: true, listening, since: new Date(Date.now() - 10_000), notAwaited: ["old"] };
  const { notRenewed } = await nodeLeases(
    new KubeApi({ server: api.url, ca: NO_TLS }),
    ["joined", "old"],
    options,
  );
  expect(notRenewed).toEqual(["old"]);
});

test("an open port alone proves no renewal: a kubelet whose certificate expired while it runs is waited for, and named", async () => {
  let asked = 0;
  const { listening } = ports({ w1: true });
  using api = pretendApi({
    objects: { [`${LEASES}/w1`]: renewed(90) },
    on: (_, { objects }) => {
      if (++asked === 30) Object.assign(objects.get(`${LEASES}/w1`), renewed(0));
      return undefined;
    },
  });
  expect(
    (
      await nodeLeases(new KubeApi({ server: api.url, ca: NO_TLS }), ["w1"], {
        ...ALL,
        onlyNew: true,
        listening,
      })
    ).notRenewed,
  ).toEqual([]);
  expect(asked).toBe(30);
});

const HOUR = 3600;
const YEAR = 365 * 24 * HOUR;
const KCM = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager";
const NAME = "kube-controller-manager";

test.each([
  ["an hour", HOUR],
  ["a year", YEAR],
])("a renewal %s in the future proves nothing by itself", (_, ahead) => {
  expect(mayBeAlive(new Date(Date.now() + ahead * 1000), new Date(0))).toBe(false);
});

test("a node whose clock was set back counts when its Lease is renewed while we look", async () => {
  let asked = 0;
  using api = pretendApi({
    objects: { [`${LEASES}/w1`]: renewed(-YEAR) },
    on: (_, { objects }) => {
      if (++asked === 3) Object.assign(objects.get(`${LEASES}/w1`), renewed(-HOUR));
      return undefined;
    },
  });
  expect((await nodeLeases(new KubeApi({ server: api.url, ca: NO_TLS }), ["w1"], ALL)).notRenewed).toEqual(
    [],
  );
});

/** Milliseconds that a clock is ahead of ours. */
test.each([
  ["an hour behind", -HOUR, -HOUR],
  ["a year ahead", YEAR, YEAR],
  ["about right", -30, 0],
])("a clock that is %s is known by a renewal that was just seen", (_, ahead, seconds) => {
  const now = new Date("2026-06-01T12:00:00Z");
  setSystemTime(now);
  expect(clockAhead(new Date(now.getTime() + ahead * 1000))).toBe(seconds * 1000);
  setSystemTime();
});

const held = (holderIdentity: string, secondsAgo: number) => ({
  spec: { holderIdentity, leaseDurationSeconds: 15, ...renewed(secondsAgo).spec },
});

test.each([
  ["an hour behind", HOUR],
  ["an hour ahead", -HOUR],
])("a leader whose clock is %s keeps its Lease, and is found: it renews it", async (_, ago) => {
  using _box = sandbox();
  let asked = 0;
  using server = pretendApi({
    objects: { [KCM]: held("m2_b", ago) },
    on: (_, { objects }) => {
      Object.assign(objects.get(KCM), held("m2_b", ago - ++asked));
      return undefined;
    },
  });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const seen = {
    leases: [NAME],
    started: new Map<string, Date>(),
    leaders: new Map([[NAME, { holder: "m2_b", ...renewed(ago + 2).spec }]]),
    at: new Date(Date.now() - 60_000),
  };
  await dropDeadLeaders(api, { hostName: "m1", since: new Date(), leadersBefore: seen });
  expect(server.changes()).toEqual([]);
  expect(await leaderNow(api, NAME)).toBe("m2_b");
});

test("a dead leader whose clock was a year ahead leads nobody, and the next one may have the earlier time", async () => {
  using _box = sandbox();
  const dead = held("m2_b", -YEAR);
  let asked = 0;
  using server = pretendApi({
    objects: { [KCM]: dead },
    on: (_, { objects }) => {
      if (++asked === 3) Object.assign(objects.get(KCM), held("m1_a", HOUR));
      return undefined;
    },
  });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const last = { holder: "m2_b", renewTime: dead.spec.renewTime };
  expect(await nextLeader(api, NAME, last, { seconds: 30, hint: "" })).toBe("m1_a");
  expect(asked).toBe(3);
});

const DEAF = 'failed calling webhook "guard.shop": Post "https://guard.shop.svc": connection refused';

test.each<[string, [code: number, message: string] | undefined, string | undefined]>([
  ["none", undefined, undefined],
  ["its Lease is not there", [404, "not found"], undefined],
  ["a webhook that does not answer", [500, `Internal error occurred: ${DEAF}`], "guard.shop"],
  ["a policy that is for us alone", [403, "leases is forbidden: not you"], undefined],
])("who refuses that a Lease is renewed: %s", async (_, refusal, webhook) => {
  using api = pretendApi({
    objects: { [`${LEASES}/w1`]: renewed(0) },
    on: ({ method }) => (method === "PATCH" && refusal ? status(...refusal) : undefined),
  });
  const client = new KubeApi({ server: api.url, ca: NO_TLS });
  expect((await renewalRefused(client, "w1"))?.webhook).toBe(webhook as never);
  const asked = api.requests.find(({ method }) => method === "PATCH")!;
  expect(asked.path).toEndWith("/leases/w1?dryRun=All");
  expect(asked.body.spec.renewTime).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]{12}000Z$/);
});

test("an error that is nobody's refusal is an error", async () => {
  using api = pretendApi({
    on: ({ method }) => (method === "PATCH" ? status(500, "etcd is away") : undefined),
  });
  await expect(renewalRefused(new KubeApi({ server: api.url, ca: NO_TLS }), "w1")).rejects.toThrow(
    "etcd is away",
  );
});

test("a Lease is renewed from the time on that counts, and one that is not is waited for", async () => {
  using _box = sandbox();
  using api = pretendApi({ objects: { [`${LEASES}/w1`]: renewed(60) } });
  const client = new KubeApi({ server: api.url, ca: NO_TLS });
  const [before, after] = [120, 30].map((seconds) => new Date(Date.now() - seconds * 1000));
  expect([await leaseRenewed(client, "w1", before!), await leaseRenewed(client, "w1", after!)]).toEqual([
    true,
    false,
  ]);
  await waitForRenewal(client, "w1", before!, { seconds: 1, hint: "look" });
  await expect(waitForRenewal(client, "w1", after!, { seconds: 0, hint: "look" })).rejects.toThrow(
    "the Lease of w1 to be renewed",
  );
});
