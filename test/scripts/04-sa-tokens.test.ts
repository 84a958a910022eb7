/**
 * 04-sa-tokens as operators run it, with a new CA and a new service-account key: what it renews, what it
 * leaves, and what it refuses.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { reduced } from "../../shared/manifests/repair-changes.ts";
import { serviceAccountKeyId, tokenVerifier } from "../../shared/pki/sa-keys.ts";
import {
  clusterObjects,
  FACTS,
  healthyCp,
  manifest,
  type Objects,
  otherCa,
  write,
} from "../pretend/cluster.ts";
import { writeData } from "../pretend/control-plane-node.ts";
import { sameEtcd, serveEtcd, TAKEN_OUT } from "../pretend/etcd.ts";
import { unkept } from "../pretend/kept.ts";
import { expectTranscript, MEMBER, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { newKeyOf } from "../pretend/old-keys.ts";
import { knewCa, LEASES, lease, oldPod, serveRunning } from "../pretend/running.ts";
import { STALE_PROXY, STALE_SECRET, STALE_WEB, serveStale } from "../pretend/stale.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const MARK = "/etc/kubernetes/.kube-pki-repair-new-sa-key";
const RESCUE = "/root/kube-pki-repair-20260101T000000";
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };

/** A control plane node whose repair has come as far as part 4. */
function afterPart3(options: NodeOptions = {}) {
  return pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert), ...options });
}

test("04-sa-tokens renews the token and restarts the pods of before, in order; again it finds nothing to do", async () => {
  using node = await afterPart3();
  using api = serveStale(node, before.cert);
  const untouched = node.fingerprint();
  await expectTranscript("04-sa-tokens", await node.run("04-sa-tokens", WAITS));
  const canary = (name: string) => [
    "POST /api/v1/namespaces/kube-system/pods",
    `DELETE /api/v1/namespaces/kube-system/pods/kube-pki-repair-canary-${name}`,
  ];
  const changes = api.changes().filter((change) => !/\/token$|\/tokenreviews$/.test(change));
  expect(changes.slice(0, 2)).toEqual([`PUT ${STALE_SECRET}`, `POST ${STALE_PROXY}/eviction`]);
  expect(changes.slice(2, -1).sort()).toEqual(["m1", "w1", "w2"].flatMap(canary).sort());
  expect(changes.at(-1)).toBe(`PATCH ${STALE_WEB}`);
  const { token, "ca.crt": ca } = api.objects.get(STALE_SECRET).data;
  expect(tokenVerifier(node.read("/etc/kubernetes/pki/sa.pub"))(atob(token))).toBe(true);
  expect(atob(ca)).toBe(node.read("/etc/kubernetes/pki/ca.crt"));

  const first = api.changes().length;
  const after = node.fingerprint();
  expect(unkept(after)).toEqual(unkept(untouched));
  await expectTranscript("04-sa-tokens-again", await node.run("04-sa-tokens", WAITS));
  expect(api.changes().slice(first)).toEqual([
    "POST /api/v1/namespaces/kube-system/serviceaccounts/default/token",
    "POST /apis/authentication.k8s.io/v1/tokenreviews",
  ]);
  expect(node.fingerprint()).toEqual(after);
});

test("04-sa-tokens removes part 1's mark when no running pod is older than the new key, and not before", async () => {
  using node = await afterPart3();
  const kid = serviceAccountKeyId(node.read("/etc/kubernetes/pki/sa.pub"));
  write(node.root + MARK, JSON.stringify({ made: new Date().toISOString(), kid }), 0o644);
  using api = serveStale(node, before.cert, {
    "/api/v1/namespaces/shop/pods/batch": oldPod("batch", {
      kind: "Job",
      name: "batch",
      apiVersion: "batch/v1",
    }),
  });
  const { exitCode, stderr } = await node.run("04-sa-tokens", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect([
    node.exists(MARK),
    /not restarted: shop\/batch\n[\s\S]*shop\/batch .*\(of the Job batch/.test(stderr),
  ]).toEqual([true, true]);

  api.objects.delete("/api/v1/namespaces/shop/pods/batch");
  const again = await node.run("04-sa-tokens", WAITS);
  expect(again.stderr).toContain(`  removed ${MARK}\n`);
  expect([again.exitCode, node.exists(MARK)]).toEqual([0, false]);
});

/** Nothing makes it again. */
function barePod() {
  const { metadata, ...rest } = oldPod("bare", { kind: "", name: "" });
  return { ...rest, metadata: { ...metadata, ownerReferences: [] } };
}

const REPLACE_BARE =
  'd=$(mktemp -d) && kubectl -n shop get pod -o yaml bare > "$d/pod.yaml" && kubectl replace --force -f "$d/pod.yaml"';

test("while a bare pod runs, 04-sa-tokens says before retire that retire stops, and retire does not send back to it", async () => {
  using node = await afterPart3();
  write(`${node.root}/etc/kubernetes/pki/sa-old.pub`, newKeyOf("ECDSA-P256").pub, 0o644);
  using _api = serveStale(node, before.cert, { "/api/v1/namespaces/shop/pods/bare": barePod() });
  const { exitCode, stderr } = await node.run("04-sa-tokens", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    `  - shop/bare still trusts the old CA (a bare pod: nothing would bring it back): restart it, unless it never calls the API: ${REPLACE_BARE}\n`,
  );
  expect(stderr).toEndWith(
    "\ndone.  next: restart or end shop/bare as 4.7 says (retire stops until then), then on each control plane node: ./bunw scripts/04-sa-tokens.ts retire, then ./bunw scripts/05-verify.ts\n",
  );
  const verify = await node.run("05-verify --output short");
  expect(verify.stdout).toContain(
    `  warning  pods: older than the current CA or key: shop/bare: shop/bare (a bare pod: nothing would bring it back): restart it, unless it never calls the API: ${REPLACE_BARE}\n`,
  );
  const retire = await node.run("04-sa-tokens retire", WAITS);
  expect(retire.exitCode).toBe(1);
  expect(retire.stderr).toEndWith(
    `: shop/bare\n  shop/bare (a bare pod: nothing would bring it back): restart it, unless it never calls the API: ${REPLACE_BARE}\n\nerror: Tokens of the old key may still be in use: shop/bare\nhint: restart or end the pods with a line above\n  If they no longer need the API, or read their token file again: ./bunw scripts/04-sa-tokens.ts retire --force; their old tokens then stop working, nothing else changes\n`,
  );
});

test("where only the service-account key is new, no line speaks of an old CA", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const kid = serviceAccountKeyId(node.read("/etc/kubernetes/pki/sa.pub"));
  write(node.root + MARK, JSON.stringify({ made: new Date().toISOString(), kid }), 0o644);
  using _api = serveRunning(node, {
    objects: {
      "/api/v1/namespaces/shop/pods/db-0": oldPod("db-0", { kind: "StatefulSet", name: "db" }),
      "/apis/apps/v1/namespaces/shop/statefulsets/db": { spec: { template: {} }, status: {} },
    },
  });
  const { stderr, exitCode } = await node.run("04-sa-tokens --skip shop/db", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "  - shop/db (StatefulSet) still has a token of the old key (skipped by you): kubectl -n shop",
  );
  expect(stderr.match(/.*old CA.*/g)).toEqual(["== 4.4 Find the pods with the old CA or an old token"]);
});

test("04-sa-tokens --dry-run says what it would restart, and changes nothing", async () => {
  using node = await afterPart3();
  using api = serveStale(node, before.cert);
  const untouched = node.fingerprint();
  const run = await node.run("04-sa-tokens --dry-run");
  expect(run.stderr).toMatch(
    /\n {2}old is what started before TIME: for two minutes a kubelet may show its pods the old CA and token\n/,
  );
  await expectTranscript("04-sa-tokens-dry-run", run);
  expect(api.changes()).toEqual([]);
  expect(node.fingerprint()).toEqual(untouched);
});

test("04-sa-tokens with the old CA and key has nothing to do", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using api = serveRunning(node);
  const { exitCode, stderr } = await node.run("04-sa-tokens", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  unchanged token Secrets: all of them verify\n");
  expect(stderr).toContain("  none: the cluster knew its CA before, no pod has to restart\n");
  expect(api.changes().filter((change) => !/\/token$|\/tokenreviews$/.test(change))).toEqual([]);
});

test("04-sa-tokens, run again when its repair with a new CA is over, finds nothing to restart", async () => {
  const goneOn = (objects: Objects) => void Object.assign(objects, { "leases/shop/since": "{}" });
  using node = await pretendNode({ kind: "healthy control plane node", etcd: goneOn });
  using _api = serveRunning(node);
  writeData(`${node.root}${RESCUE}/etcd`, clusterObjects(before.cert));
  const { exitCode, stderr } = await node.run("04-sa-tokens", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  none: the cluster knew its CA before, no pod has to restart\n");
});

test("04-sa-tokens does not wait for a control plane node that part 2 took out of etcd", async () => {
  using node = await afterPart3({ members: [MEMBER, TAKEN_OUT] });
  using api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const early = await node.run("04-sa-tokens", WAITS);
  expect([early.exitCode, early.stderr]).toEqual([
    1,
    expect.stringContaining('error: The Node "w2" is still there'),
  ]);
  api.objects.delete("/api/v1/nodes/w2");
  const { exitCode, stderr } = await node.run("04-sa-tokens", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  2 of 2 nodes renew their Lease;");
});

/** Runs 04-sa-tokens where it has to stop: nothing was changed, on the node or at the API. */
async function refused(
  line: string,
  objects: Record<string, object>,
  prepare: (root: string) => void = () => {},
  code = 1,
) {
  using node = await afterPart3();
  using api = serveStale(node, before.cert, objects);
  prepare(node.root);
  const untouched = node.fingerprint();
  const { exitCode, stderr } = await node.run(line);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: code });
  expect(api.changes()).toEqual([]);
  expect(node.fingerprint()).toEqual(untouched);
  return stderr;
}

test("04-sa-tokens refuses while the controller-manager is reduced: part 3 is not closed", async () => {
  const text = manifestText(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion));
  const stderr = await refused("04-sa-tokens", {}, (root) =>
    write(`${root}/etc/kubernetes/manifests/kube-controller-manager.yaml`, text),
  );
  expect(stderr).toEndWith(
    "error: The controller-manager is still reduced\nhint: close part 3 first: ./bunw scripts/03-workers.ts close\n",
  );
});

test("04-sa-tokens refuses while a node does not renew its Lease, and names it", async () => {
  const stderr = await refused("04-sa-tokens", { [`${LEASES}/w2`]: lease(4000) });
  expect(stderr).toEndWith(
    "error: 1 of 3 nodes do not renew their Lease: w2\nhint: run part 3 on these nodes first\n  If they are away for now: ./bunw scripts/04-sa-tokens.ts --without w2\n  If they are lost for good: --lost\n",
  );
});

test("04-sa-tokens does not take a dead node's Lease for renewed because that node's clock was a year ahead", async () => {
  const stderr = await refused("04-sa-tokens", { [`${LEASES}/w2`]: lease(-365 * 24 * 3600) });
  expect(stderr).toContain("error: 1 of 3 nodes do not renew their Lease: w2\n");
});

test("04-sa-tokens --lost a node whose Node is still there refuses: it has to be deleted first", async () => {
  const stderr = await refused("04-sa-tokens --lost w2", { [`${LEASES}/w2`]: lease(4000) });
  expect(stderr).toContain('error: The Node "w2" is still there, and it is lost for good\n');
  expect(stderr).toContain(
    "kubectl --kubeconfig /etc/kubernetes/admin.conf delete node w2; then run the same line again\n",
  );
});

test("04-sa-tokens and 02-control-plane --without a name that the repair's copy does not have take it for mistyped", async () => {
  const hint = 'error: etcd knew no node "w22"\nhint: name one of its nodes: m1, w1, w2\n';
  const copied = (root: string) =>
    cpSync(`${root}/var/lib/etcd`, `${root}${RESCUE}/etcd`, { recursive: true });
  expect(await refused("04-sa-tokens --without w22", {}, copied, 3)).toEndWith(hint);
  expect(await refused("02-control-plane --without w22", {}, copied, 3)).toEndWith(hint);
});

test.each([
  "04-sa-tokens --without w9",
  "03-workers close --without w9",
  "03-workers open --without w9",
  "02-control-plane --without w9 --dry-run",
])(
  "%s goes through where the repair is over, and its copy alone still has the Node that was deleted",
  async (line) => {
    using node = await pretendNode({
      kind: "healthy control plane node",
      etcd: (objects) =>
        void Object.assign(objects, { "leases/shop/since": "{}", "leases/shop/later": "{}" }),
    });
    using _api = serveRunning(node);
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    const objects = clusterObjects(node.ca.cert);
    objects["minions/w9"] = {
      ...(objects["minions/w2"] as object),
      metadata: { name: "w9", uid: "uid-of-w9" },
    };
    writeData(`${node.root}${RESCUE}/etcd`, objects);
    const { exitCode, stderr } = await node.run(line, WAITS);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).not.toContain("no node of this cluster");
  },
);

test.each(["04-sa-tokens --without w7", "03-workers close --without w7", "04-sa-tokens retire --without w7"])(
  "%s says aloud that today's data has no such node, where part 1 made no copy, and goes on",
  async (line) => {
    using node = await pretendNode({ kind: "healthy control plane node" });
    using _api = serveRunning(node);
    const { exitCode, stderr } = await node.run(line, WAITS);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain(
      "  w7: not a node of this cluster any more. If it is mistyped, the nodes are m1, w1, w2\n",
    );
  },
);

test.each(["02-control-plane", "03-workers open", "03-workers approve"])(
  "%s --without a name that today's data does not have is refused",
  async (line) => {
    expect(await refused(`${line} --without w7`, {}, undefined, 3)).toEndWith(
      'error: etcd knew no node "w7"\nhint: name one of its nodes: m1, w1, w2\n',
    );
  },
);

test("04-sa-tokens without sa.key, which signs the new tokens, names parts 1 and 2", async () => {
  const stderr = await refused("04-sa-tokens", {}, (root) => rmSync(`${root}/etc/kubernetes/pki/sa.key`));
  expect(stderr).toEndWith(
    "error: The shared keys are not there\nhint: run parts 1 and 2 first: ./bunw scripts/00-assess.ts\n",
  );
});

test("04-sa-tokens before part 1 and 2 names them", async () => {
  using node = await pretendNode();
  const { exitCode, stderr } = await node.run("04-sa-tokens");
  expect(exitCode).toBe(1);
  expect(stderr).toEndWith(
    "error: The shared keys are not there\nhint: run parts 1 and 2 first: ./bunw scripts/00-assess.ts\n",
  );
});

const BUNDLE = "kubernetes.io:kube-apiserver-serving:0123456789abcdef01234567";

test.each([
  ["of the API server is waited for", BUNDLE, "kubernetes.io/kube-apiserver-serving", 1],
  ["of somebody else is named by part 5", "corporate", undefined, 0],
])("04-sa-tokens: a ClusterTrustBundle with the old CA %s", async (_, name, signerName, code) => {
  using node = await afterPart3();
  const bundle = { spec: { signerName, trustBundle: before.cert } };
  using _api = serveRunning(node, {
    objects: { [`/apis/certificates.k8s.io/v1/clustertrustbundles/${name}`]: bundle },
  });
  cpSync(`${node.root}/var/lib/etcd`, `${node.root}${RESCUE}/etcd`, { recursive: true });
  const { exitCode, stderr } = await node.run("04-sa-tokens");
  const says = code === 1 ? `(missing: ClusterTrustBundle ${name})` : "done.  next: ";
  expect([exitCode, stderr]).toEqual([code, expect.stringContaining(says)]);
  if (code === 0)
    expect((await node.run("05-verify")).stdout).toContain(
      `  ClusterTrustBundle ${name}: it still holds the old CA as trusted`,
    );
});

test("04-sa-tokens goes no further when the system's namespace does not get the new CA", async () => {
  using node = await afterPart3();
  using api = serveStale(node, before.cert, {
    "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt": { data: { "ca.crt": before.cert } },
  });
  const { exitCode, stderr } = await node.run("04-sa-tokens");
  expect(exitCode).toBe(1);
  expect(stderr).toContain(
    "error: Waited 120 s for the controller-manager to give every namespace the current CA (missing: kube-system): no answer yet\nhint: see whether it leads:",
  );
  expect(api.changes()).toEqual([]);
});
