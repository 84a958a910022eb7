/**
 * 05-verify as operators run it: a cluster that is well, and what it says of one that is not. It never
 * writes.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, rmSync } from "node:fs";
import { ANSWER_SCHEMA } from "../../shared/json-answer.ts";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { reduced } from "../../shared/manifests/repair-changes.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { VERSION } from "../../shared/run.ts";
import { type ApiRequest, pretendApi, status } from "../pretend/api.ts";
import { ADDRESS, FACTS, healthyCp, manifest, mirrorPod, otherCa, write } from "../pretend/cluster.ts";
import { LOST, sameEtcd, serveEtcd, serveOtherMember, THIRD, THIRD_AT } from "../pretend/etcd.ts";
import { expectTranscript, MEMBER, pretendNode, type Transcript } from "../pretend/node.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { olderOf, renewedOnly } from "../pretend/renewed.ts";
import { knewCa, LEASES, lease, oldPod, SCHEDULER_LEASE, serveRunning } from "../pretend/running.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const PKI = "/etc/kubernetes/pki";

const older = await olderOf((await healthyCp()).root, "ca", 100);
const OLD_POD = "/api/v1/namespaces/shop/pods/till";

/** kube-root-ca.crt that the controller-manager has written again since. */
const renewedMap = (ca: string) => ({
  metadata: {
    creationTimestamp: "2025-01-01T00:00:00Z",
    managedFields: [{ time: "2026-06-01T00:00:00Z", fieldsV1: { "f:data": {} } }],
  },
  data: { "ca.crt": ca },
});

type Node = Awaited<ReturnType<typeof pretendNode>>;

/**
 * Runs 05-verify: whatever it finds, it changes no byte, and nothing at the API but asking for a token and
 * reviewing it.
 */
async function verify(
  node: Node,
  api: ReturnType<typeof serveRunning> | undefined,
  line = "05-verify",
): Promise<Transcript> {
  const untouched = node.fingerprint();
  const run = await node.run(line);
  expect(node.fingerprint()).toEqual(untouched);
  expect(api?.changes().filter((change) => !/\/token$|\/tokenreviews$/.test(change)) ?? []).toEqual([]);
  return run;
}

test("05-verify on a control plane node of a cluster that is well says so, check by check with --all", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveRunning(node);
  const run = await verify(node, api, "05-verify --all");
  await expectTranscript("05-verify", { ...run, stdout: run.stdout.replace(/\b\d+ s ago/g, "SECONDS ago") });
});

test("05-verify names an expired certificate, and exits with 2", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const ca = { cert: node.read(`${PKI}/front-proxy-ca.crt`), key: node.read(`${PKI}/front-proxy-ca.key`) };
  const { cert, key } = await issueLeaf(certRow("front-proxy-client"), ca, FACTS, {
    now: new Date(Date.now() - 400 * 86_400_000),
  });
  write(`${node.root}${PKI}/front-proxy-client.crt`, cert, 0o644);
  write(`${node.root}${PKI}/front-proxy-client.key`, key);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveRunning(node);
  await expectTranscript("05-verify-expired", await verify(node, api));
});

test("05-verify names what still holds a CA's certificate from before it was renewed: a warning until that has expired, then a failure", async () => {
  const look = async (days: number) => {
    using node = await pretendNode({ kind: "healthy control plane node" });
    await renewedOnly(node, days);
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    using api = serveRunning(node);
    const { exitCode, stdout } = await verify(node, api, "05-verify --output short");
    return [exitCode, stdout.split("\n").find((line) => /^ {2}.*memory of/.test(line))];
  };
  const since =
    "node: the current CA in the memory of etcd: started at TIME, before /etc/kubernetes/pki/etcd/ca.crt was renewed at TIME: it holds the one that";
  const mend = ": ./bunw scripts/renew-ca.ts";
  expect(await look(20)).toEqual([0, `  warning  ${since} expires on DATE, 19 days from now${mend}`]);
  const [exitCode, line] = await look(-1);
  expect([exitCode, String(line).replace("!OLD CA!: ", "")]).toEqual([
    2,
    `  failed   ${since} has expired on DATE${mend}`,
  ]);
});

test("05-verify says which pods have a renewed CA's old certificate", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  write(`${node.root}/root/kube-pki-repair-20260101T000000/aside${PKI}/ca.crt`, older);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveRunning(node, {
    objects: {
      "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt": renewedMap(node.read(`${PKI}/ca.crt`)),
      [OLD_POD]: oldPod("till", { kind: "ReplicaSet", name: "till" }),
    },
  });
  mkdirSync(`${node.root}/var/lib/prometheus`, { recursive: true });
  const { exitCode, stdout } = await verify(node, api, "05-verify --all --output short");
  const rows = stdout.split("\n").filter((line) => /old certificate|renewed CA/.test(line));
  expect([exitCode, ...rows]).toEqual([
    0,
    "  warning  pods: started after they could see the renewed CA: 1 not yet: until DATE each has to restart once: shop/till: most restart by themselves until then; others: kubectl --kubeconfig /etc/kubernetes/admin.conf rollout restart",
  ]);
  await node.run("05-verify --metrics /var/lib/prometheus/a.prom");
  expect(node.read("/var/lib/prometheus/a.prom").match(/old_ca_holders\{.*/g)).toEqual([
    'old_ca_holders{kind="pod"} 1',
  ]);
});

test("05-verify where neither API nor etcd answers says so at once, and exits with 2", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const { exitCode, stdout, stderr } = await verify(node, undefined);
  expect(exitCode).toBe(2);
  expect(stdout).toStartWith(
    "verdict: failed: answers with the current certificates; the API does not answer. ",
  );
  expect(stdout).toContain("\n  failed   etcd: answers with the current certificates: ");
  expect(stdout.match(/^ {2}failed/gm)).toHaveLength(1);
  expect(stdout).toContain("9 checks could not be made because of it: the API does not answer");
  expect(stderr).toEndWith("hint: ./bunw scripts/01-etcd.ts\n");
});

/** Without ca.key nothing signs for this kit in its place. */
function loseAdmin(root: string) {
  for (const file of ["admin.conf", "pki/ca.key"]) rmSync(`${root}/etc/kubernetes/${file}`);
}

test("05-verify without admin.conf checks what it can, and names the part that makes it", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  loseAdmin(node.root);
  const { exitCode, stdout } = await verify(node, undefined);
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(/^ {2}failed {3}2 files: .*admin\.conf|admin\.conf: !MISSING!/m);
  const all = (await verify(node, undefined, "05-verify --all")).stdout;
  expect(all).toContain(
    "  failed   API: admin.conf: There is no /etc/kubernetes/admin.conf; run part 2 first: ./bunw scripts/02-control-plane.ts\n",
  );
});

test("05-verify says apart what is on a node that does not renew its Lease: no restart of part 4 starts or ends a pod there", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const labels = { "k8s-app": "kube-proxy" };
  const proxy = oldPod("kube-proxy-w2", { kind: "DaemonSet", name: "kube-proxy" }, labels);
  const made = { creationTimestamp: new Date(Date.now() + 60_000).toISOString() };
  using api = serveRunning(node, {
    objects: {
      [`${LEASES}/w2`]: lease(4000),
      "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy": {
        spec: { selector: { matchLabels: labels } },
      },
      "/api/v1/namespaces/kube-system/pods/kube-proxy-w2": {
        ...proxy,
        spec: { ...proxy.spec, nodeName: "w2" },
      },
      "/api/v1/namespaces/kube-system/pods/typha-new": {
        metadata: made,
        spec: { nodeName: "w2" },
        status: { phase: "Pending" },
      },
    },
  });
  const { exitCode, stdout } = await verify(node, api, "05-verify --all");
  expect(exitCode).toBe(2);
  expect(stdout.split("\n").filter((line) => /^ {2}\w+ +pods: /.test(line))).toEqual([
    "  warning  pods: older than the current CA or key: none; on w2, which is away: kube-system/kube-proxy (DaemonSet): when it is back, ./bunw scripts/04-sa-tokens.ts",
    "  ok       pods: Ready: all but those on w2, which is away: kube-system/typha-new",
  ]);
});

test.each([
  ["once is asked again: its kubelet has just started anew", 1, 0],
  ["every time is named", Number.POSITIVE_INFINITY, 2],
])("05-verify: a node that the API server does not reach %s", async (_, times, code) => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const gone = "error trying to reach service: write tcp: use of closed network connection";
  let asked = 0;
  const on = ({ path }: ApiRequest) =>
    path === "/api/v1/nodes/w1/proxy/healthz" && asked++ < times ? status(503, gone) : undefined;
  using api = serveRunning(node, { on });
  const { exitCode, stdout } = await verify(node, api);
  expect({ exitCode, stdout }).toMatchObject({ exitCode: code });
  expect(stdout.includes(`  failed   nodes: w1 answers kubectl logs and exec: ${gone}\n`)).toBe(code === 2);
  expect(asked).toBe(2);
});

test("05-verify names what parts 3 and 4 have left: a reduced controller-manager, a silent node, an old token, an old pod", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const text = manifestText(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion));
  write(`${node.root}/etc/kubernetes/manifests/kube-controller-manager.yaml`, text);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const token = btoa(tokenBy(newKeyOf("ECDSA-P256"), { alg: "ES256", of: "shop:cart" }));
  using api = serveRunning(node, {
    objects: {
      [`${LEASES}/w2`]: lease(4000),
      [SCHEDULER_LEASE]: lease(4000),
      "/api/v1/namespaces/shop/secrets/cart-token": {
        type: "kubernetes.io/service-account-token",
        data: { token },
      },
      "/api/v1/namespaces/shop/pods/web-1": oldPod("web-1", { kind: "DaemonSet", name: "web" }),
      "/apis/apps/v1/namespaces/shop/daemonsets/web": {},
    },
  });
  const { exitCode, stdout } = await verify(node, api, "05-verify --output short");
  expect(exitCode).toBe(2);
  const failed = stdout.split("\n").filter((line) => line.startsWith("  failed"));
  expect(failed).toEqual([
    expect.stringContaining(
      "  failed   API: a kube-scheduler leads: no leader: ./bunw scripts/02-control-plane.ts on each control plane node ",
    ),
    "  failed   tokens: shop/cart-token: does not verify, or holds another CA: ./bunw scripts/04-sa-tokens.ts renews it",
    expect.stringMatching(
      /^ {2}failed {3}nodes: w2 renews its Lease: last \d+ s ago: does its kubelet run\? .*03-workers.ts open$/,
    ),
    "  failed   pods: older than the current CA or key: shop/web (DaemonSet): ./bunw scripts/04-sa-tokens.ts restarts them",
    "  failed   API: controller-manager: still reduced: ./bunw scripts/03-workers.ts close",
  ]);
});

const BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles";
const bundle = (trustBundle: string, signerName = "kubernetes.io/kube-apiserver-serving") => ({
  spec: { signerName, trustBundle },
});

test.each([
  [
    "the current CA alone",
    ["today"],
    ["  ok       cluster: ClusterTrustBundle kubernetes.io:kube-apiserver-serving:*: current CA"],
  ],
  [
    "another CA",
    ["other"],
    [
      "  failed   cluster: ClusterTrustBundle kubernetes.io:kube-apiserver-serving:*: another CA in kubernetes.io:kube-apiserver-serving:other",
    ],
  ],
  [
    "another CA beside today's",
    ["today", "other"],
    [
      "  failed   cluster: ClusterTrustBundle kubernetes.io:kube-apiserver-serving:*: another CA in kubernetes.io:kube-apiserver-serving:other",
    ],
  ],
  ["none of the API server's signer", [], []],
])(
  "05-verify checks the ClusterTrustBundles by which pods know the API server: %s",
  async (_, held, says) => {
    using node = await pretendNode({ kind: "healthy control plane node" });
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    const cas: Record<string, string> = {
      today: node.read("/etc/kubernetes/pki/ca.crt"),
      other: before.cert,
    };
    const bundles = held.map((name) => [
      `${BUNDLES}/kubernetes.io:kube-apiserver-serving:${name}`,
      bundle(cas[name]!),
    ]);
    using api = serveRunning(node, {
      objects: {
        [`${BUNDLES}/mesh`]: bundle(before.cert, "example.com/mesh"),
        ...Object.fromEntries(bundles),
      },
    });
    const { stdout } = await verify(node, api, "05-verify --all");
    const lines = stdout.split("\n").filter((line) => /^ {2}\w.*ClusterTrustBundle/.test(line));
    expect(lines).toEqual(says.map((line) => expect.stringContaining(line)));
  },
);

test("05-verify names the node whose clock is wrong, and does not take its kubelet for dead", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  let asked = 0;
  using api = serveRunning(node, {
    objects: { [`${LEASES}/w2`]: lease(3600) },
    on: (_, { objects }) => void Object.assign(objects.get(`${LEASES}/w2`), lease(3600 - ++asked)),
  });
  const { stdout } = await verify(node, api);
  const line = stdout.split("\n").filter((text) => text.includes("nodes: w2 renews its Lease"));
  expect(line).toEqual([
    expect.stringMatching(
      /^ {2}warning {2}nodes: w2 renews its Lease: yes, but its clock is 3\d{3} s behind this node's/,
    ),
  ]);
});

test.each([
  ["False", "its kubelet says so"],
  ["Unknown", "its kubelet is unheard"],
])(
  "05-verify fails where a Node is not Ready (%s: %s), with the command that looks further",
  async (status) => {
    using node = await pretendNode({ kind: "healthy control plane node" });
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    const condition = { type: "Ready", status, message: "container runtime network not ready" };
    using api = serveRunning(node, {
      objects: { "/api/v1/nodes/w2": { status: { conditions: [condition] } } },
    });
    const { exitCode, stdout } = await verify(node, api);
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 2 });
    expect(stdout).toContain(
      `  failed   nodes: w2 is Ready: Ready is ${status}: container runtime network not ready\n           outage now. Still works: its pods, `,
    );
    expect(stdout).toContain(
      "\n           repair: kubectl --kubeconfig /etc/kubernetes/admin.conf describe node w2; journalctl",
    );
    expect(stdout.split("\n").filter((line) => line.startsWith("  failed"))).toHaveLength(1);
  },
);

test("05-verify asks again for a Node that is Unknown and renews its Lease: its kubelet's API was away for a moment", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const condition = { type: "Ready", status: "Unknown" };
  using api = serveRunning(node, {
    objects: { "/api/v1/nodes/w2": { status: { conditions: [condition] } } },
    on: ({ path }) => {
      if (path === "/api/v1/nodes/w2") api.objects.get(path).status.conditions[0].status = "True";
      return undefined;
    },
  });
  const { exitCode, stdout } = await node.run("05-verify", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
});

test("05-verify fails where a member of etcd is listed and does not answer: it is named, and the way without it", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, LOST] });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [MEMBER, LOST] });
  using api = serveRunning(node);
  const { exitCode, stdout } = await verify(node, api);
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2 });
  expect(stdout).toContain(
    "  failed   etcd: members: 1 of 2 members answer, not m2: part 1 there; if its data is lost: ./bunw scripts/02-control-plane.ts --lost m2\n",
  );
});

test("05-verify asks a member of etcd again that is silent at the first question: it may just have no leader", async () => {
  const members = [MEMBER, THIRD];
  using node = await pretendNode({ kind: "healthy control plane node", members });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members });
  let asked = 0;
  const refuses = () => (asked++ === 0 ? new Response("no leader", { status: 503 }) : undefined);
  const third = { ...sameEtcd(node.stored), members, refuses };
  using _third = await serveOtherMember(node.root, third, THIRD_AT);
  using _api = serveRunning(node, { objects: { "/api/v1/nodes/m3": {} } });
  const { stdout } = await node.run("05-verify", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect(stdout).not.toContain("members answer, not m3");
  expect(asked).toBeGreaterThan(1);
});

test("05-verify fails where a member of etcd has no Node: somebody deleted it after its machine had come back, and its kubelet makes it again", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, THIRD] });
  const state = { ...sameEtcd(node.stored), members: [MEMBER, THIRD] };
  using _etcd = serveEtcd(node.root, state);
  using _other = await serveOtherMember(node.root, state, THIRD_AT);
  using api = serveRunning(node);
  const { exitCode, stdout } = await verify(node, api);
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2 });
  expect(stdout).toContain(
    "  failed   etcd: members: m3 is a member, and its Node is gone: systemctl restart kubelet there makes it again\n",
  );
});

test("05-verify asks another API server where it listens: its Node's address may be of another network", async () => {
  const m2 = ADDRESS.replace(/11$/, "12");
  const as = (value: object, address: string) =>
    JSON.parse(JSON.stringify(value).replaceAll(ADDRESS, address).replaceAll('m1"', 'm2"'));
  using node = await pretendNode({
    kind: "healthy control plane node",
    etcd: (objects) => {
      objects["minions/m2"] = as(objects["minions/m1"] as object, "127.77.9.12");
      objects["pods/kube-system/kube-apiserver-m2"] = as(mirrorPod("kube-apiserver"), m2);
    },
  });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const status = { conditions: [{ type: "Ready", status: "True" }] };
  using _api = serveRunning(node, { objects: { "/api/v1/nodes/m2": { status } } });
  const tls = await issueLeaf(certRow("apiserver"), node.ca, {
    ...FACTS,
    nodeName: "m2",
    advertiseAddress: m2,
  });
  using _there = serveRunning(node, { hostname: m2, tls });
  const { checks } = JSON.parse((await node.run("05-verify --json")).stdout) as {
    checks: { id: string; result: string }[];
  };
  expect(checks.find(({ id }) => id === "tokens-both-ways")).toMatchObject({
    result: "ok",
    detail: "both ways",
  });
});

test("05-verify knows a member's Node by its address where a restore has given the member another name", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [{ ...MEMBER, name: "default" }] });
  const status = {
    conditions: [{ type: "Ready", status: "True" }],
    addresses: [{ type: "InternalIP", address: ADDRESS }],
  };
  using api = serveRunning(node, { objects: { "/api/v1/nodes/m1": { status } } });
  const { stdout } = await verify(node, api, "05-verify --all");
  expect(stdout).toContain("  ok       etcd: members: default\n");
});

test("05-verify --json prints every check, and a worker's are its kubelet's", async () => {
  using node = await pretendNode({ kind: "worker" });
  const { exitCode, stdout } = await verify(node, undefined, "05-verify --json");
  expect(exitCode).toBe(2);
  const { checks, ...report } = JSON.parse(stdout);
  const severities = { "outage now": 1, "outage later": 0, minor: 0, note: 0 };
  expect(report).toEqual({
    ...{ schemaVersion: ANSWER_SCHEMA, ended: "ok", kit: VERSION },
    summary: { checks: 5, ok: 4, warnings: 0, failed: 1, unknown: 0, severities },
  });
  const [area, kubeletConf] = ["kubelet", "/etc/kubernetes/kubelet.conf"];
  expect(checks).toEqual([
    {
      ...{ id: "kubelet-client-certificate", area, what: "/var/lib/kubelet/pki/kubelet-client-current.pem" },
      ...{ result: "ok", detail: expect.stringContaining("system:node:w1, until "), notAfter: "TIME" },
    },
    {
      id: "stopped-process",
      area: "node",
      what: "processes of pods",
      result: "ok",
      detail: "none is stopped",
    },
    {
      ...{
        id: "kubelet-conf",
        area,
        what: kubeletConf,
        result: "failed",
        detail: expect.stringContaining("No answer from "),
      },
      ...{
        severity: "outage now",
        works: expect.stringContaining("its containers; "),
        mend: "on a control plane node: ./bunw scripts/05-verify.ts",
      },
    },
    {
      ...{ id: "bootstrap-kubelet-conf", area, what: "/etc/kubernetes/bootstrap-kubelet.conf" },
      ...{ result: "ok", detail: "not there, as it should be" },
    },
    {
      ...{ id: "expiry-next", area: "files", what: "what expires in the next 90 days", result: "ok" },
      detail: expect.stringContaining("none; the first is "),
      notAfter: "TIME",
    },
  ]);
  expect((await verify(node, undefined, "05-verify --output json")).stdout).toBe(stdout);
});

test("05-verify --output with another word names the ones there are", async () => {
  using node = await pretendNode({ kind: "worker" });
  const { exitCode, stderr } = await verify(node, undefined, "05-verify --output yaml");
  expect({ exitCode, stderr }).toEqual({
    exitCode: 64,
    stderr: '\nerror: "--output" takes short or json, got "yaml"\nhint: ./bunw scripts/05-verify.ts --help\n',
  });
});

async function apiOf(node: { run(line: string): Promise<{ stdout: string }> }) {
  return JSON.parse((await node.run("05-verify --json")).stdout).checks.filter(
    ({ id }: { id: string }) => id === "api-ready",
  );
}

test("where no API server runs and admin.conf is gone, 05-verify says that it is an outage; where one answers it is none", async () => {
  using wiped = await pretendNode();
  expect(await apiOf(wiped)).toMatchObject([
    { result: "unknown", cause: "certificate-ca", detail: expect.stringContaining("ECONNREFUSED") },
  ]);
  expect((await wiped.run("05-verify")).stdout).toMatch(
    /^verdict: .*the API does not answer[\s\S]*\n {11}outage now\. Still works: pods and Services/,
  );
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _api = serveRunning(node);
  loseAdmin(node.root);
  expect(await apiOf(node)).toMatchObject([
    { result: "ok", detail: expect.stringContaining("without admin.conf") },
  ]);
});

test("a stranger on the API server's port, while admin.conf is gone, hides no outage: a pod of the host's network may listen there", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  loseAdmin(node.root);
  using _stranger = pretendApi({
    hostname: ADDRESS,
    port: 6443,
    tls: await issueLeaf(certRow("apiserver"), before, FACTS),
    objects: {},
  });
  expect(await apiOf(node)).toMatchObject([
    { result: "failed", severity: "outage now", detail: expect.stringContaining("not of the cluster's CA") },
  ]);
});
