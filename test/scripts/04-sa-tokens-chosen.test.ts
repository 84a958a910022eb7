/**
 * 04-sa-tokens where the operator chooses whose pods restart now: it says what is left, and 05-verify knows
 * it from the cluster.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import type { SavedOption } from "../../shared/node/words.ts";
import { healthyCp, otherCa } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expectTranscript, pretendNode } from "../pretend/node.ts";
import { knewCa, oldPod, renewPod, serveRunning } from "../pretend/running.ts";
import { STALE_PROXY, STALE_WEB, staleObjects } from "../pretend/stale.ts";

setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const DB = "/apis/apps/v1/namespaces/blog/statefulsets/db";
const PART_4 = "./bunw scripts/04-sa-tokens.ts";

/** A StatefulSet in a namespace of its own, with one old pod. */
const BLOG = {
  "/api/v1/namespaces/blog": { status: { phase: "Active" } },
  "/api/v1/namespaces/blog/pods/db-0": oldPod("db-0", { kind: "StatefulSet", name: "db" }),
  [DB]: {
    metadata: { generation: 1 },
    spec: { replicas: 1, template: {} },
    status: {
      observedGeneration: 1,
      replicas: 1,
      updatedReplicas: 1,
      availableReplicas: 1,
      updateRevision: "b",
      currentRevision: "b",
    },
  },
};

type Node = Awaited<ReturnType<typeof pretendNode>>;

/** Workloads that the operator restarts, as kept; `at`: says another time for it. */
function skipped(node: Node, at?: string): string[] {
  const paths = ["root/kube-pki-repair-*/words.json", "run/kube-pki-repair-words.json"];
  const [path] = paths.flatMap((one) => [...new Bun.Glob(one).scanSync({ cwd: node.root })]);
  if (path === undefined) return [];
  const kept = JSON.parse(node.read(`/${path}`)) as { said: SavedOption[] };
  const said = kept.said.map((word) => ({ ...word, ...(at && { at }) }));
  if (at) writeFileSync(`${node.root}/${path}`, JSON.stringify({ ...kept, said }));
  return said.flatMap(({ option, value }) => (option === "skip" ? [value] : []));
}

function afterPart3() {
  return pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
}

function serve(node: Node) {
  const ca = { data: { "ca.crt": node.read("/etc/kubernetes/pki/ca.crt") } };
  return serveRunning(node, {
    objects: {
      ...staleObjects(before.cert),
      ...BLOG,
      "/api/v1/namespaces/blog/configmaps/kube-root-ca.crt": ca,
    },
    on: ({ method, path }, { objects }) => {
      if (method === "PATCH" && path === STALE_WEB) renewPod(objects, "/api/v1/namespaces/shop/pods/web-1");
      if (method === "PATCH" && path === DB) renewPod(objects, "/api/v1/namespaces/blog/pods/db-0");
      return undefined;
    },
  });
}

const restarts = (api: ReturnType<typeof serve>) =>
  api.changes().filter((change) => /^PATCH |\/eviction$/.test(change));

async function must(node: Node, line: string): Promise<string> {
  const { exitCode, stderr } = await node.run(line, WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return stderr;
}

/** What 05-verify says of old pods. */
async function podCheck(node: Node) {
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { stdout } = await node.run("05-verify --json");
  type Row = { what: string; result: string; detail: string };
  return (JSON.parse(stdout).checks as Row[]).filter(({ what }) =>
    /the current CA or key$|left as they are/.test(what),
  );
}

test("a --skip without its namespace is refused before a token is renewed", async () => {
  using node = await afterPart3();
  using api = serve(node);
  const { exitCode, stderr } = await node.run("04-sa-tokens --skip web,blog/db", WAITS);
  expect(exitCode).toBe(3);
  expect(stderr).toEndWith(
    "\nerror: --skip web: no NAMESPACE/NAME. Nothing was changed\nhint: ./bunw scripts/04-sa-tokens.ts --skip blog/db --dry-run lists the workloads by such names\n",
  );
  expect(api.changes()).toEqual([]);
});

test("kube-system first, then a namespace, then the rest: each run says what is left, and 05-verify knows it, too", async () => {
  using node = await afterPart3();
  using api = serve(node);
  await expectTranscript("04-sa-tokens-only-system", await node.run("04-sa-tokens --only-system", WAITS));
  expect(restarts(api)).toEqual([`POST ${STALE_PROXY}/eviction`]);
  expect(await podCheck(node)).toEqual([
    expect.objectContaining({
      result: "failed",
      detail: "shop/web (Deployment), blog/db (StatefulSet)",
      mend: `${PART_4} restarts them, one namespace at a time: --namespace NAME (shop, blog)`,
    }),
  ]);

  const shop = await must(node, "04-sa-tokens --namespace shop");
  expect(restarts(api).slice(1)).toEqual([`PATCH ${STALE_WEB}`]);
  expect(shop).toContain("  later: blog/db (StatefulSet)\n");
  expect(shop).toEndWith(
    `\ndone for now: 1 workload still has to restart.  next, when you choose: ${PART_4}\n`,
  );

  expect(await must(node, "04-sa-tokens")).toEndWith("\ndone.  next: ./bunw scripts/05-verify.ts\n");
  expect(restarts(api).slice(2)).toEqual([`PATCH ${DB}`]);
  expect(await podCheck(node)).toEqual([expect.objectContaining({ result: "ok" })]);
});

test("--namespace may be given more than once, with --only-system, and all of its dry run is only words", async () => {
  using node = await afterPart3();
  using api = serve(node);
  const said = await must(node, "04-sa-tokens --only-system --namespace blog --namespace shop --dry-run");
  expect(said).toContain("  would restart: shop/web (Deployment), blog/db (StatefulSet)\n");
  expect(said).not.toContain("  later: ");
  expect(api.changes()).toEqual([]);
  await must(node, "04-sa-tokens --only-system --namespace blog");
  expect(restarts(api)).toEqual([`POST ${STALE_PROXY}/eviction`, `PATCH ${DB}`]);
});

test.each([
  [
    "a mistyped namespace",
    "--namespace shp",
    'error: There is no namespace "shp"\nhint: choose a namespace where a restart is pending: kube-system, shop, blog\n',
  ],
  [
    "a namespace before kube-proxy",
    "--namespace shop",
    `error: kube-system/kube-proxy (DaemonSet) has to restart first: until then, new pods may get no traffic from Services\nhint: type first, or at the same time: ${PART_4} --namespace shop --only-system\n`,
  ],
])("04-sa-tokens refuses %s before it restarts anything", async (_, options, words) => {
  using node = await afterPart3();
  using api = serve(node);
  const { exitCode, stderr } = await node.run(`04-sa-tokens ${options}`, WAITS);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining(words)]);
  expect(restarts(api)).toEqual([]);
});

test("what was skipped is no surprise to 05-verify, until it has restarted", async () => {
  using node = await afterPart3();
  using api = serve(node);
  const said = await must(node, "04-sa-tokens --skip blog/db");
  expect(said).toContain("  skipped by you: blog/db (StatefulSet)\n");
  expect(said).toContain(
    "  - blog/db (StatefulSet) still trusts the old CA (skipped by you): kubectl -n blog rollout restart statefulset/db\n",
  );
  expect(said).toEndWith(
    "\ndone for now: 1 workload still has to restart.  next, when you choose: kubectl -n blog rollout restart statefulset/db, then ./bunw scripts/05-verify.ts\n",
  );
  expect(skipped(node)).toEqual(["blog/db"]);
  const [fresh, left] = await podCheck(node);
  expect(fresh).toMatchObject({ result: "ok" });
  expect(left).toMatchObject({
    result: "warning",
    detail:
      "skipped by you, still with the old CA or token: blog/db (StatefulSet): kubectl -n blog rollout restart statefulset/db",
  });

  renewPod(api.objects, "/api/v1/namespaces/blog/pods/db-0");
  expect(await podCheck(node)).toEqual([expect.objectContaining({ result: "ok" })]);
  expect(skipped(node)).toEqual([]);
  expect(await must(node, "04-sa-tokens")).not.toContain("blog/db");
});

test("a later run names what was skipped before and restarts now; one for another namespace leaves it, and remembers it", async () => {
  using node = await afterPart3();
  using api = serve(node);
  await must(node, "04-sa-tokens --only-system --skip blog/db");
  const shop = await must(node, "04-sa-tokens --namespace shop");
  expect(shop).toContain("  skipped by you: blog/db (StatefulSet)\n");
  expect((await podCheck(node)).map(({ result }) => result)).toEqual(["ok", "warning"]);
  expect(await must(node, "04-sa-tokens")).toContain(
    "  skipped before, and restarted now: blog/db (StatefulSet)\n",
  );
  expect(restarts(api).slice(1)).toEqual([`PATCH ${STALE_WEB}`, `PATCH ${DB}`]);
  expect(skipped(node)).toEqual([]);
});

test("a skip of an earlier repair means nothing after a new CA", async () => {
  using node = await afterPart3();
  using _api = serve(node);
  await must(node, "04-sa-tokens --skip blog/db");
  skipped(node, "2020-01-01T00:00:00Z");
  expect(await podCheck(node)).toEqual([expect.objectContaining({ result: "failed" })]);
  expect(await must(node, "04-sa-tokens --dry-run")).not.toContain("blog/db\n");
});

test("the next command of a partial run has what was typed with --skip", async () => {
  using node = await afterPart3();
  using _api = serve(node);
  const said = await must(node, "04-sa-tokens --only-system --skip shop/web");
  expect(said).toContain(
    `- left for a later run: blog/db (StatefulSet): ${PART_4} --skip shop/web restarts them\n`,
  );
  expect(said).toEndWith(
    `\ndone for now: 2 workloads still have to restart.  next, when you choose: ${PART_4} --skip shop/web\n`,
  );
});
