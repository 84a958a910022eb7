/** An etcd that answers is not yet the one from before. */
import { expect, test } from "bun:test";
import { proveSameEtcd } from "../../../shared/etcd/identity.ts";
import { EtcdClient } from "../../../shared/etcd-location/client.ts";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { FACTS } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { type EtcdState, etcdAnswer, sameEtcd } from "../../pretend/etcd.ts";

const data = await pretendData();
const cluster = readCluster(data);
const stored = () => new Map(data.list("").map(({ key, value }) => [key, Buffer.from(value).toString()]));

/** Compares an etcd in this state with the data read before. `asked` sees each request first, and may answer it. */
async function prove(
  different: Partial<EtcdState> = {},
  asked?: (body: { key?: string; revision?: number }) => Promise<Response | undefined>,
): Promise<string[]> {
  const state = { ...sameEtcd(stored()), revision: data.revision, ...different };
  using server = Bun.serve({
    port: 0,
    fetch: async (request) => {
      const body = await request.json();
      const answer = await asked?.(body);
      return answer ?? Response.json(etcdAnswer(new URL(request.url).pathname, body, state));
    },
  });
  const client = new EtcdClient(`http://127.0.0.1:${server.port}`, { ca: "", cert: "", key: "" });
  return (await proveSameEtcd(client, { data, cluster, facts: FACTS })).proofs;
}

function without(...keys: string[]) {
  const left = stored();
  for (const key of keys) expect(left.delete(key)).toBe(true);
  return left;
}

test("the same etcd is proved, also when it has gone on meanwhile", async () => {
  expect(await prove()).toEqual([
    "etcd 3.6.5: healthy, leader m1, 1 of 1 members answer",
    "same cluster, revision 13 (was 13), 12 of 12 keys",
    "the namespace kube-system and 3 Nodes have the UIDs read before",
  ]);
  await prove({ revision: 99, keys: stored().set("/registry/new", "1") });
  const rejoined = stored().set("/registry/minions/w1", JSON.stringify({ metadata: { uid: "other" } }));
  expect((await prove({ keys: rejoined }))[2]).toBe(
    "the namespace kube-system and 2 of 3 Nodes have the UIDs read before",
  );
});

test("Nodes are not asked for one after the other: thousands of them, over a slow line, would take minutes", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  AbortSignal.timeout(2000).addEventListener("abort", () => resolve());
  let [asked, atOnce] = [0, 0];
  await prove({}, async ({ key }) => {
    if (!atob(key ?? "").includes("/minions/")) return undefined;
    if (++asked === cluster.nodes.length) resolve();
    await promise;
    atOnce ||= asked;
    return undefined;
  });
  expect(atOnce).toBe(cluster.nodes.length);
});

test.each<[string, Partial<EtcdState>, string]>([
  ["empty", { keys: new Map(), revision: 1 }, "0 keys, was 12; no Node object"],
  [
    "almost empty",
    { keys: new Map([["/registry/namespaces/kube-system", "{}"]]) },
    "1 keys, was 12; no Node object",
  ],
  ["of another cluster", { clusterId: "beef" }, 'cluster id "beef", was "c1d2e3f4"'],
  ["older than the data", { revision: 12 }, "revision 12, was 13"],
  [
    "without a key that nobody deleted",
    { keys: without("/registry/minions/w1") },
    '1 keys are missing, for instance "/registry/minions/w1"',
  ],
  [
    "with a member that was not there",
    { members: [{ id: "77", name: "x" }] },
    'a member "x" that was not there',
  ],
  [
    "with another namespace kube-system",
    {
      keys: stored().set("/registry/namespaces/kube-system", JSON.stringify({ metadata: { uid: "other" } })),
    },
    'the namespace kube-system has the UID "other", was "uid-of-kube-system"',
  ],
])("an etcd that is healthy, but %s, is refused", async (_, different, what) => {
  const run = prove(different);
  await expect(run).rejects.toThrow(`etcd answers, but it is not the old one: ${what}`);
  await expect(run).rejects.toMatchObject({
    hint: expect.stringContaining('RUNBOOK-MORE "If etcd comes up empty"'),
  });
});

test("a key that etcd itself saw deleted since is no loss", async () => {
  const keys = without("/registry/namespaces/default");
  const [, line] = await prove({ keys, earlier: stored(), revision: 20 });
  expect(line).toBe("same cluster, revision 20 (was 13), 11 of 12 keys (1 deleted since)");
});

test("where etcd has compacted since, a key that is gone is no loss; it is asked for one, thousands may be gone", async () => {
  const keys = without("/registry/namespaces/default", "/registry/pods/kube-system/kube-scheduler-m1");
  const asked: unknown[] = [];
  const compacted = { code: 11, message: "etcdserver: mvcc: required revision has been compacted" };
  const [, line] = await prove({ keys, revision: 20 }, async ({ key, revision }) => {
    if (revision === undefined) return undefined;
    asked.push(key);
    return Response.json(compacted, { status: 400 });
  });
  expect(line).toBe("same cluster, revision 20 (was 13), 10 of 12 keys (2 deleted since)");
  expect(asked).toHaveLength(1);
});
