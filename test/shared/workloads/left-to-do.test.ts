/** What part 4 leaves to people: which lines, the most urgent first, and whether it ends well. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync } from "node:fs";
import { adminClient } from "../../../shared/api/admin-api.ts";
import { readControlPlaneNode } from "../../../shared/facts/control-plane-node.ts";
import { Fail, failOf } from "../../../shared/fail.ts";
import { leftToDo, refuseRest } from "../../../shared/workloads/left-to-do.ts";
import type { PodOwner } from "../../../shared/workloads/pod-owners.ts";
import { findStale } from "../../../shared/workloads/restart-order.ts";
import { healthyCp, otherCa } from "../../pretend/cluster.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { knewCa, oldPod, serveRunning } from "../../pretend/running.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const before = await otherCa();
const WELL = { kind: "healthy control plane node" } as const;
const why = new Fail("why", { hint: "hint" });
const owner = (name: string, more: Partial<PodOwner> = {}): PodOwner => ({
  ...{
    restart: "rollout",
    namespace: "shop",
    name,
    controller: "Deployment",
    since: new Date(0),
    pods: [],
    ...more,
  },
});

/** Nothing makes it anew. */
const { controller: _, ...bare } = owner("task", { restart: "report", reason: "bare" });

type Done = Omit<Parameters<typeof leftToDo>[0], "cp" | "caPem">;

const NOTHING: Done = {
  reported: [],
  skipped: [],
  later: [],
  workloads: [],
  secrets: new Map(),
  namespaces: [],
};
const ALL: Done = {
  reported: [bare],
  skipped: [owner("db")],
  later: [owner("web")],
  workloads: [{ owner: owner("api"), why }],
  secrets: new Map([["shop/token", why]]),
  namespaces: ["shop"],
};

/** The beginning of each line. */
async function lines(done: Done, on: Parameters<typeof lookAt>[0] = {}): Promise<string[]> {
  return (await wholeLines(done, on)).map((line) => line.split(" ").slice(0, 4).join(" "));
}

async function wholeLines(done: Done, on: Parameters<typeof lookAt>[0] = {}): Promise<string[]> {
  return await lookAt({ ...WELL, ...on }, async (node) => {
    using _api = serveRunning(node);
    const cp = await readControlPlaneNode(undefined);
    return leftToDo({ cp, caPem: ca.cert, ...done });
  });
}

const PEOPLE = "./bunw scripts/05-verify.ts names the";

test("where all is done, only part 5's tasks for people are left", async () => {
  expect(await lines(NOTHING)).toEqual([PEOPLE]);
});

test("what could not be renewed comes first, then what nobody restarts, then what is for later", async () => {
  expect(await lines(ALL)).toEqual([
    "kube-root-ca.crt has another CA",
    "Secret shop/token still has",
    "shop/api (Deployment) still has",
    "shop/task still has a",
    "shop/db (Deployment) still has",
    "left for a later",
    PEOPLE,
  ]);
});

test("after a new CA old pods trust the old one", async () => {
  const rescue = "/root/kube-pki-repair-20260101T000000/etcd";
  const change = ({ root }: { root: string }) =>
    cpSync(`${root}/var/lib/etcd`, root + rescue, { recursive: true });
  const said = await lines(
    { ...NOTHING, workloads: [{ owner: owner("api"), why }] },
    { etcd: knewCa(before.cert), change },
  );
  expect(said).toEqual(["shop/api (Deployment) still trusts", PEOPLE]);
});

const THOUSAND = Array.from({ length: 1000 }, (_, i) => i);

/** The pod of a Job in a namespace of its own. */
function jobPod(i: number) {
  const names = { name: `batch-${i}-x`, namespace: `team-${i}` };
  const job = { apiVersion: "batch/v1", kind: "Job", name: `batch-${i}`, uid: `uid-${i}`, controller: true };
  return { metadata: { ...names, uid: `uid-of-${i}`, ownerReferences: [job] }, spec: { nodeName: `w${i}` } };
}

function jobOwner(i: number): PodOwner {
  const { controller: _, ...one } = owner(`batch-${i}-x`, { namespace: `team-${i}`, restart: "report" });
  return { ...one, pods: [jobPod(i)], reason: `of the Job batch-${i}: it runs until it is finished` };
}

const kept = (i: number) => ({
  owner: owner("web", { namespace: `team-${i}` }),
  why: new Fail(`team-${i} stays without the current CA`, { hint: `kubectl -n team-${i} get configmap` }),
});

test("a thousand of one reason have two lines: that of the first with its command, and who else", async () => {
  const said = await wholeLines({
    ...NOTHING,
    reported: THOUSAND.map(jobOwner),
    workloads: THOUSAND.map(kept),
    secrets: new Map(THOUSAND.map((i) => [`team-${i}/token`, why])),
  });
  const first =
    "web (Deployment) still has a token of the old key: team-0 stays without the current CA: kubectl -n";
  expect(said.slice(0, -1)).toEqual([
    "Secret team-0/token still has old trust: why: hint",
    expect.stringMatching(/^999 more like Secret team-0\/token: Secret team-1\/token, .* and 979 more$/),
    `team-0/${first} team-0 get configmap`,
    expect.stringMatching(
      /^999 more like team-0\/web \(Deployment\): team-1\/web \(Deployment\), .* and 979 more$/,
    ),
    "team-0/batch-0-x still has a token of the old key (of the Job batch-0: it runs until it is finished): restart it, unless it never calls the API",
    expect.stringMatching(/^999 more like team-0\/batch-0-x: team-1\/batch-1-x, .* and 979 more$/),
  ]);
});

test("4.4 names a thousand pods of Jobs in one line; 4.7 says why they are not restarted", async () => {
  const pods = THOUSAND.map((i) => {
    const { metadata, spec } = jobPod(i);
    const old = oldPod(metadata.name, metadata.ownerReferences[0]!);
    return {
      ...old,
      metadata: { ...old.metadata, ...metadata },
      spec: { ...old.spec, ...spec, nodeName: "w1" },
    };
  });
  const objects = Object.fromEntries(
    pods.map((pod) => [`/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}`, pod]),
  );
  await lookAt({ ...WELL, etcd: knewCa(before.cert) }, async (node, said) => {
    using _api = serveRunning(node, { objects });
    const cp = await readControlPlaneNode(undefined);
    const from = said.length;
    const choice = { onlySystem: false, namespaces: [], skip: [] };
    await findStale(cp, await adminClient(cp.facts), { caPem: ca.cert, choice });
    expect(said.slice(from)).toEqual([
      expect.stringMatching(/^not restarted: team-0\/batch-0-x, team-1\/batch-1-x, .* and 980 more$/),
    ]);
  });
});

test("refuseRest() counts what could not be renewed, and lets pass what people have kept out", async () => {
  expect(await failOf(() => refuseRest(NOTHING))).toBeUndefined();
  const counts = async (rest: Partial<Done>) =>
    (await failOf(() => refuseRest({ ...NOTHING, ...rest })))?.message.split(": ")[1];
  expect(await counts({ workloads: ALL.workloads })).toBe("1 workloads, 0 token Secrets");
  expect(await counts({ secrets: ALL.secrets })).toBe("0 workloads, 1 token Secrets");
  expect(await counts({ namespaces: ["a", "b"] })).toBe("0 workloads, 0 token Secrets, 2 namespaces");
});
