/** 02-control-plane as operators run it: refusals, and the run up to an API that answers. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, utimesSync } from "node:fs";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { keyPair } from "../../shared/pki/keys.ts";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import { manifest, mirrorPod, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { afterPart1, servePart2, withVip } from "../pretend/in-part2.ts";
import { CRICTL, expectTranscript, pretendNode } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

test("02-control-plane without etcd's certificates names part 1, and changes nothing", async () => {
  using node = await pretendNode();
  const before = node.fingerprint();
  await expectTranscript("02-control-plane-no-part-1", await node.run("02-control-plane"));
  expect(node.fingerprint()).toEqual(before);
});

test("02-control-plane where etcd does not answer names part 1, and changes nothing", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("02-control-plane");
  expect(exitCode).toBe(1);
  expect(stderr).toContain("error: Waited 30 s for etcd to answer: ");
  expect(stderr).toContain("hint: run part 1 first: ./bunw scripts/01-etcd.ts\n");
  expect(node.fingerprint()).toEqual(before);
});

test("02-control-plane --dry-run on a wiped control plane node prints the plan and changes nothing", async () => {
  using node = await pretendNode();
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("02-control-plane --dry-run");
  expect(node.fingerprint()).toEqual(before);
  // Nothing can be planned under a CA that is not there yet.
  expect(exitCode).toBe(1);
  expect(stderr).toContain("error: /etc/kubernetes/pki/ca.crt is needed and cannot be used: missing");
});

test("02-control-plane brings the API back, and run again changes no byte", async () => {
  using node = await afterPart1();
  using _etcd = node.etcd;
  const restarts = () => node.calls().filter((call) => call === "systemctl restart kubelet").length;
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  using api = servePart2(node);
  await expectTranscript("02-control-plane", await running);
  expect(node.read("/etc/kubernetes/manifests/kube-controller-manager.yaml")).toContain(
    "-node-lifecycle-controller",
  );
  // Nothing that a cluster has tightened is loosened: of bindings only the administrators' own is made.
  expect(
    api.requests.flatMap(({ method, body }) =>
      method === "POST" && body.roleRef ? [body.metadata.name] : [],
    ),
  ).toEqual(["kubeadm:cluster-admins"]);
  expect(api.changes()).toEqual([
    "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "DELETE /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager",
    "PUT /api/v1/namespaces/kube-public/configmaps/cluster-info",
    "PATCH /api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
  ]);

  const [before, count] = [node.fingerprint(), restarts()];
  await expectTranscript(
    "02-control-plane-again",
    await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" }),
  );
  expect(node.fingerprint()).toEqual(before);
  expect(restarts()).toBe(count);
});

test("02-control-plane tells of Nodes that are gone or other ones now, and stops at an API that has none of them", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: ["etcd"] });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = servePart2(node);
  api.objects.delete("/api/v1/nodes/w1");
  api.objects.get("/api/v1/nodes/w2").metadata.uid = "made-anew";
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  1 of 3 Nodes, with their old UIDs; deleted or created again since: w1, w2\n");
  api.objects.delete("/api/v1/nodes/m1");
  const none = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect(none.exitCode).toBe(1);
  expect(none.stderr).toContain("error: The API serves 1 Nodes, and none of the 3 that etcd's data has\n");
});

test("02-control-plane starts again what a run that was cut off gave a new kubeconfig, and nothing else", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"],
  });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  const stops = () => node.calls().filter((call) => call.startsWith(`${CRICTL} stop`));
  expect((await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" })).exitCode).toBe(0);
  expect(stops()).toEqual([]);
  const later = new Date(Date.now() + 60_000);
  utimesSync(`${node.root}/etc/kubernetes/controller-manager.conf`, later, later);
  expect((await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" })).exitCode).toBe(0);
  expect(stops()).toEqual([`${CRICTL} stop --timeout 0 kube-controller-manager-id`]);
});

test("02-control-plane brings kube-vip back, with the super-admin.conf that it mounts; run again changes no byte", async () => {
  const mirror = JSON.parse(
    JSON.stringify(mirrorPod("kube-vip")).replaceAll("/admin.conf", "/super-admin.conf"),
  );
  using node = await afterPart1({ etcd: withVip(mirror) });
  using _etcd = node.etcd;
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  using _api = servePart2(node);
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("wrote /etc/kubernetes/super-admin.conf (kubernetes-super-admin, until ");
  expect(stderr).toContain(
    "wrote /etc/kubernetes/manifests/kube-vip.yaml (from its mirror pod in etcd, no record of it on this node)\n",
  );
  const before = node.fingerprint();
  expect((await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" })).exitCode).toBe(0);
  expect(node.fingerprint()).toEqual(before);
});

test("02-control-plane starts kube-vip again when its admin.conf is issued anew, and finds its manifest by the pod in it", async () => {
  const file = "/etc/kubernetes/manifests/10-vip.yml";
  const etcd = withVip(mirrorPod("kube-vip"));
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: ["etcd", "kube-vip", "kube-controller-manager"],
    etcd,
  });
  write(`${node.root}${file}`, manifestText(manifest("kube-vip")));
  rmSync(`${node.root}/etc/kubernetes/admin.conf`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(`  unchanged ${file}\n`);
  expect(node.exists("/etc/kubernetes/manifests/kube-vip.yaml")).toBe(false);
  const stopped = node.calls().filter((call) => call.includes(" stop --timeout"));
  expect(stopped.filter((call) => !call.endsWith(" kube-controller-manager-id"))).toEqual([
    `${CRICTL} stop --timeout 0 kube-vip-id`,
  ]);
});

test("02-control-plane brings the API back without a static pod of others whose files are lost, and says which", async () => {
  const mirror = JSON.parse(
    JSON.stringify(mirrorPod("kube-vip")).replaceAll(
      "/etc/kubernetes/admin.conf",
      "/etc/haproxy/haproxy.cfg",
    ),
  );
  using node = await pretendNode({ kind: "healthy control plane node", etcd: withVip(mirror) });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const [, waiting] =
    /kube-vip: NOT started, it needs "\/etc\/haproxy\/haproxy.cfg" \(env KUBECONFIG\).*: mv (\S+) /.exec(
      stderr,
    )!;
  expect(waiting).toBe("/root/kube-pki-repair-TIME/kube-vip.yaml");
  expect(node.exists("/etc/kubernetes/manifests/kube-vip.yaml")).toBe(false);
});

test("a second manifest of a pod is reported, and part 2 moves it to the rescue folder", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const second = "/etc/kubernetes/manifests/kube-scheduler.yaml.bak";
  write(node.root + second, node.read("/etc/kubernetes/manifests/kube-scheduler.yaml"));
  const { exitCode, stdout } = await node.run("00-assess");
  expect([exitCode, stdout]).toEqual([2, expect.stringContaining(`${second} `)]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  expect((await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" })).exitCode).toBe(0);
  expect(node.exists(second)).toBe(false);
  expect((await node.run("00-assess")).exitCode).toBe(0);
});

test("super-admin.conf is not missed where a pod mounts the whole folder", async () => {
  const mirror = JSON.parse(
    JSON.stringify(mirrorPod("kube-vip")).replaceAll("/etc/kubernetes/admin.conf", "/etc/kubernetes"),
  );
  using node = await pretendNode({ kind: "healthy control plane node", etcd: withVip(mirror) });
  write(
    `${node.root}/etc/kubernetes/manifests/kube-vip.yaml`,
    manifestText({ ...manifest("kube-vip"), spec: mirror.spec }),
  );
  expect(await node.run("00-assess")).toMatchObject({ exitCode: 0 });
});

test("00-assess names a lost static pod that kubeadm did not make", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    etcd: withVip(mirrorPod("kube-vip")),
  });
  const { exitCode, stdout } = await node.run("00-assess");
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(
    / manifests\/kube-vip\.yaml +!MISSING! +can be rebuilt from its mirror pod in etcd\n/,
  );
});

test("02-control-plane gives the API server the old key of tokens beside the new one, and proves that it checks by it", async () => {
  using node = await afterPart1();
  using _etcd = node.etcd;
  const { pub } = await keyPair("ECDSA-P256");
  write(`${node.root}/etc/kubernetes/pki/sa-old.pub`, pub, 0o644);
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  using _api = servePart2(node, [serviceAccountKeyId(pub)]);
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "kube-apiserver.yaml (from its mirror pod in etcd, with sa-old.pub as a second key for service-account tokens)\n",
  );
  expect(stderr).toContain(
    "  old and new service-account tokens are accepted, until part 4 takes sa-old.pub out\n",
  );
});

test("02-control-plane starts an API server and a controller-manager again that hold another sa.key than the one on disk", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: ["etcd", "kube-apiserver", "kube-controller-manager"],
  });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const stopped = () => node.calls().filter((call) => call.includes(" stop "));
  const own = serviceAccountKeyId(node.read("/etc/kubernetes/pki/sa.pub"));
  using _api = servePart2(node, [], () => (stopped().length > 0 ? own : "another"));
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "the API server signs tokens with another key than sa.key on disk\n  stopped kube-apiserver\n",
  );
  expect(stopped().map((call) => call.split(" ").at(-1))).toEqual([
    "kube-apiserver-id",
    "kube-controller-manager-id",
  ]);
});

test("02-control-plane does not go on under an API server that does not check by the old key", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  write(`${node.root}/etc/kubernetes/pki/sa-old.pub`, (await keyPair("ECDSA-P256")).pub, 0o644);
  using _api = servePart2(node, ["another"]);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "0.005" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain("error: Waited 180 s for the API server to check tokens with sa-old.pub, too: ");
});

test("02-control-plane does not start an API server whose encryption configuration is lost", async () => {
  using node = await afterPart1({
    etcd: (objects) => {
      const pod = objects["pods/kube-system/kube-apiserver-m1"] as ReturnType<typeof manifest>;
      pod.spec.containers[0]!.command!.push("--encryption-provider-config=/etc/kubernetes/audit/enc.yaml");
    },
  });
  using _etcd = node.etcd;
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("02-control-plane");
  expect(node.fingerprint()).toEqual(before);
  expect(exitCode).toBe(3);
  expect(stderr).toContain(
    'error: Cannot start kube-apiserver: "/etc/kubernetes/audit/enc.yaml" (--encryption-provider-config) missing',
  );
  for (const name of ["kube-apiserver", "kube-controller-manager", "kube-scheduler"])
    expect(node.exists(`/etc/kubernetes/manifests/${name}.yaml`)).toBe(false);
});
