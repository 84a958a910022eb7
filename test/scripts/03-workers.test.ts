/** 03-workers as operators run it: `open` and `close` on a control plane node. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { ADDRESS, FACTS, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, TAKEN_OUT } from "../pretend/etcd.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { serveLeases } from "../pretend/running.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

test.each([
  [
    "03-workers",
    "error: 03-workers needs a sub-command: open, close or approve",
    "./bunw scripts/03-workers.ts --help",
  ],
  ["03-workers jion", 'error: 03-workers has no sub-command "jion"', "./bunw scripts/03-workers.ts --help"],
])("%s stops and says what is missing", async (line, error, hint) => {
  using node = await pretendNode({ kind: "worker" });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(line);
  expect(exitCode).toBe(64);
  expect(stderr).toEndWith(`\n${error}\nhint: ${hint}\n`);
  expect(node.fingerprint()).toEqual(before);
});

test("03-workers open on a control plane node with its old CA has nothing to do where every kubelet renews its Lease, and prints no line for workers", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using api = serveLeases(node, ["m1", "w1", "w2"]);
  const before = node.fingerprint();
  const { exitCode, stdout, stderr } = await node.run("03-workers open");
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: "" });
  expect(stderr).toContain(
    "the CA is unchanged, and every kubelet renews its Lease: no worker has to join\n  part 3 has nothing to do\n",
  );
  expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/05-verify.ts\n");
  expect(api.changes()).toEqual([]);
  expect(node.fingerprint()).toEqual(before);
});

test("03-workers open on a control plane node with its old CA names the nodes without a Lease renewal, and lets them join", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using api = serveLeases(node, ["m1", "w2"]);
  const { exitCode, stdout, stderr } = await node.run("03-workers open");
  expect(exitCode).toBe(0);
  expect(stderr).toContain(
    "no Lease renewal from w1 (last TIME). The CA is unchanged, so these kubelets' client certificates have expired or are missing: join is for these nodes, and for no other",
  );
  expect(stdout).toMatch(/^\.\/bunw scripts\/03-join\.ts --server \S+ --ca-hash \S+ --token-file token\n$/);
  // a token for each worker, also for one that seems to live
  expect(api.changes()).toEqual([
    "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    ...Array(2).fill("POST /api/v1/namespaces/kube-system/secrets"),
  ]);
});

test("03-workers open on a control plane node with its old CA sends a silent control plane node to part 2, and makes no token for it", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, TAKEN_OUT] });
  using api = serveLeases(node, ["m1", "w1"]);
  const { exitCode, stdout, stderr } = await node.run("03-workers open");
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: "" });
  expect(stderr).toContain("w2: no API server there, so part 2 has not run there yet; not waited for\n");
  expect(stderr).toEndWith("\ndone.  next: on w2: ./bunw scripts/02-control-plane.ts\n");
  expect(api.changes()).toEqual([]);
});

test.each([
  ["in the ConfigMap", "serverTLSBootstrap: true\n", ""],
  ["in a drop-in of the kubelet", "", "serverTLSBootstrap: true\n"],
])(
  "03-workers open on a control plane node with its old CA goes on with close where a kubelet waits for its serving certificate, as %s",
  async (_, kubelet, dropIn) => {
    using node = await pretendNode({
      kind: "healthy control plane node",
      etcd: (objects) =>
        Object.assign(objects["configmaps/kube-system/kubelet-config"]!, { data: { kubelet } }),
    });
    write(
      `${node.root}/etc/default/kubelet`,
      "KUBELET_EXTRA_ARGS=--config-dir=/etc/kubernetes/kubelet.conf.d\n",
    );
    write(`${node.root}/etc/kubernetes/kubelet.conf.d/10-serving.conf`, dropIn || "{}\n");
    using _api = serveLeases(node, ["m1", "w1", "w2"]);
    const tls = await issueLeaf(certRow("apiserver"), await otherCa(), FACTS);
    const port = Bun.serve({ hostname: ADDRESS, port: 10250, tls, fetch: () => new Response("ok") });
    const { exitCode, stderr } = await node.run("03-workers open");
    await port.stop(true);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain("no serving certificate of the CA on m1: close approves their CSRs");
    expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/03-workers.ts close\n");
  },
);

test("03-workers open and close name a control plane node that does not answer, and the way on without it", async () => {
  const lost = { id: "b1b2c3d4e5f60718", name: "m2", peerURLs: ["https://127.77.0.12:2380"] };
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, lost] });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [MEMBER, lost] });
  using _api = serveLeases(node, ["m1", "w1", "w2"]);
  const line = (words: string) =>
    `  m2 does not answer: run part 1 on that node first. If it is away for now: ./bunw scripts/03-workers.ts ${words} --without m2. If its data is lost for good: ./bunw scripts/03-workers.ts ${words} --lost m2\n`;
  expect((await node.run("03-workers open")).stderr).toContain(line("open"));
  expect((await node.run("03-workers close --dry-run")).stderr).toContain(line("close --dry-run"));
  expect((await node.run("03-workers close --dry-run --without m2")).stderr).not.toContain("does not answer");
});

test("03-workers open before part 2 names it", async () => {
  using node = await pretendNode();
  const { exitCode, stderr } = await node.run("03-workers open");
  expect(exitCode).toBe(1);
  expect(stderr).toEndWith(
    "error: There is no /etc/kubernetes/admin.conf\nhint: run part 2 first: ./bunw scripts/02-control-plane.ts\n",
  );
});

test("03-workers close before part 2 names it", async () => {
  using node = await pretendNode();
  const { exitCode, stderr } = await node.run("03-workers close");
  expect(exitCode).toBe(1);
  expect(stderr).toEndWith(
    "error: There is no /etc/kubernetes/admin.conf\nhint: run part 2 first: ./bunw scripts/02-control-plane.ts\n",
  );
});
