/** 02-control-plane as operators run it: refusals, and the run up to an API that answers. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync, utimesSync } from "node:fs";
import { parse, stringify } from "yaml";
import { reduced } from "../../shared/manifests/reduced-controllers.ts";
import { CERTS } from "../../shared/pki/certs.ts";
import { keyPair } from "../../shared/pki/keys.ts";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import { waitFor } from "../../shared/wait-for.ts";
import { afterPart2 } from "../pretend/after-part2.ts";
import { pretendApi } from "../pretend/api.ts";
import { ADDRESS, FACTS, manifest, mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, serveOtherMember, TAKEN_OUT } from "../pretend/etcd.ts";
import { expireCertificates } from "../pretend/expired.ts";
import { CRICTL, expectTranscript, MEMBER, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(60_000);

type Node = Awaited<ReturnType<typeof pretendNode>>;

/** A control plane node that has been through part 1: run here for real, against a pretend etcd that stays. */
async function afterPart1(options: NodeOptions = {}) {
  const node = await pretendNode(options);
  const part1 = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  const etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await part1;
  if (exitCode !== 0) etcd[Symbol.dispose]();
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return Object.assign(node, { etcd });
}

/** The API of the old objects, with the certificate that part 2 wrote. */
function serveApi(node: Node, kids: string[] = [], own = () => serviceAccountKeyId(node.read("/etc/kubernetes/pki/sa.pub"))) {
  const [cert, key] = ["crt", "key"].map((end) => readFileSync(`${node.root}/etc/kubernetes/pki/apiserver.${end}`, "utf8"));
  const lease = { spec: { holderIdentity: "m1_dead", renewTime: "2026-01-01T00:00:00.000000Z", leaseDurationSeconds: 15 } };
  return pretendApi({
    hostname: ADDRESS,
    port: 6443,
    tls: { cert: cert!, key: key! },
    on: ({ path }) => (path === "/openid/v1/jwks" ? Response.json({ keys: [own(), ...kids].map((kid) => ({ kid })) }) : undefined),
    objects: {
      ...Object.fromEntries(["m1", "w1", "w2"].map((name) => [`/api/v1/nodes/${name}`, {}])),
      "/api/v1/namespaces/kube-public/configmaps/cluster-info": { data: { kubeconfig: "old", "jws-kubeconfig-abcdef": "old" } },
      "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication": { data: { "client-ca-file": node.ca.cert } },
      "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager": lease,
      ...Object.fromEntries(
        ["m1", "w1", "w2"].map((name) => [
          `/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/${name}`,
          { spec: { renewTime: new Date(Date.now() + 1000).toISOString() } },
        ]),
      ),
    },
  });
}

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
  expect(stderr).toContain("hint: part 1 first: ./bunw scripts/01-etcd.ts\n");
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
  using api = serveApi(node);
  await expectTranscript("02-control-plane", await running);
  expect(node.read("/etc/kubernetes/manifests/kube-controller-manager.yaml")).toContain("-node-lifecycle-controller");
  // Nothing that a cluster has tightened is loosened: of bindings only the administrators' own is made.
  expect(api.requests.flatMap(({ method, body }) => (method === "POST" && body.roleRef ? [body.metadata.name] : []))).toEqual([
    "kubeadm:cluster-admins",
  ]);
  expect(api.changes()).toEqual([
    "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "DELETE /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager",
    "PUT /api/v1/namespaces/kube-public/configmaps/cluster-info",
    "PATCH /api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
  ]);

  const [before, count] = [node.fingerprint(), restarts()];
  await expectTranscript("02-control-plane-again", await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" }));
  expect(node.fingerprint()).toEqual(before);
  expect(restarts()).toBe(count);
});

test("02-control-plane tells of Nodes that are gone or other ones now, and stops at an API that has none of them", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: ["etcd"] });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveApi(node);
  api.objects.delete("/api/v1/nodes/w1");
  api.objects.get("/api/v1/nodes/w2").metadata.uid = "made-anew";
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  1 of 3 Nodes, with the UIDs from before; deleted or made anew since: w1, w2\n");
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
  using _api = serveApi(node);
  const stops = () => node.calls().filter((call) => call.startsWith(`${CRICTL} stop`));
  expect((await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" })).exitCode).toBe(0);
  expect(stops()).toEqual([]);
  const later = new Date(Date.now() + 60_000);
  utimesSync(`${node.root}/etc/kubernetes/controller-manager.conf`, later, later);
  expect((await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" })).exitCode).toBe(0);
  expect(stops()).toEqual([`${CRICTL} stop --timeout 0 kube-controller-manager-id`]);
});

const withVip = (mirror: object) => (objects: Objects) => {
  objects["pods/kube-system/kube-vip-m1"] = mirror;
};
const text = (object: object) => stringify(object, { lineWidth: 0 });

test("02-control-plane brings kube-vip back, with the super-admin.conf that it mounts; run again changes no byte", async () => {
  const mirror = JSON.parse(JSON.stringify(mirrorPod("kube-vip")).replaceAll("/admin.conf", "/super-admin.conf"));
  using node = await afterPart1({ etcd: withVip(mirror) });
  using _etcd = node.etcd;
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  using _api = serveApi(node);
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("wrote /etc/kubernetes/super-admin.conf (kubernetes-super-admin, until ");
  expect(stderr).toContain("wrote /etc/kubernetes/manifests/kube-vip.yaml (from its mirror pod in etcd, no record of it on this node)\n");
  const before = node.fingerprint();
  expect((await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" })).exitCode).toBe(0);
  expect(node.fingerprint()).toEqual(before);
});

test("02-control-plane starts kube-vip again when its admin.conf is issued anew, and finds its manifest by the pod in it", async () => {
  const file = "/etc/kubernetes/manifests/10-vip.yml";
  const etcd = withVip(mirrorPod("kube-vip"));
  using node = await pretendNode({ kind: "healthy control plane node", containers: ["etcd", "kube-vip"], etcd });
  write(`${node.root}${file}`, text(manifest("kube-vip")));
  rmSync(`${node.root}/etc/kubernetes/admin.conf`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveApi(node);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(`  ${file}: kept\n`);
  expect(node.exists("/etc/kubernetes/manifests/kube-vip.yaml")).toBe(false);
  expect(node.calls().filter((call) => call.includes(" stop --timeout"))).toEqual([`${CRICTL} stop --timeout 0 kube-vip-id`]);
});

test("02-control-plane brings the API back without a static pod of others whose files are lost, and says which", async () => {
  const mirror = JSON.parse(JSON.stringify(mirrorPod("kube-vip")).replaceAll("/etc/kubernetes/admin.conf", "/etc/haproxy/haproxy.cfg"));
  using node = await pretendNode({ kind: "healthy control plane node", etcd: withVip(mirror) });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveApi(node);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const [, waiting] = /kube-vip: NOT started, it needs "\/etc\/haproxy\/haproxy.cfg" \(env KUBECONFIG\).*: mv (\S+) /.exec(stderr)!;
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
  using _api = serveApi(node);
  expect((await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" })).exitCode).toBe(0);
  expect(node.exists(second)).toBe(false);
  expect((await node.run("00-assess")).exitCode).toBe(0);
});

test("super-admin.conf is not missed where a pod mounts the whole folder", async () => {
  const mirror = JSON.parse(JSON.stringify(mirrorPod("kube-vip")).replaceAll("/etc/kubernetes/admin.conf", "/etc/kubernetes"));
  using node = await pretendNode({ kind: "healthy control plane node", etcd: withVip(mirror) });
  write(`${node.root}/etc/kubernetes/manifests/kube-vip.yaml`, text({ ...manifest("kube-vip"), spec: mirror.spec }));
  expect(await node.run("00-assess")).toMatchObject({ exitCode: 0 });
});

test("00-assess names a lost static pod that kubeadm did not make", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", etcd: withVip(mirrorPod("kube-vip")) });
  const { exitCode, stdout } = await node.run("00-assess");
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(/ manifests\/kube-vip\.yaml +!MISSING! +can be rebuilt from its mirror pod in etcd\n/);
});

const LOST = { id: "b1b2c3d4e5f60718", name: "m2", peerURLs: ["https://127.77.0.12:2380"] };
const THIRD_AT = ADDRESS.replace(/11$/, "13");
const THIRD = { id: "c1b2c3d4e5f60718", name: "m3", peerURLs: [`https://${THIRD_AT}:2380`] };
const THREE = [MEMBER, LOST, THIRD];

test("02-control-plane --without takes a lost control plane node out of etcd, and says how a new one comes in without a secret in a command line", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: THREE, etcd: withVip(mirrorPod("kube-vip")) });
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  using _third = await serveOtherMember(node.root, state, THIRD_AT);
  using _api = serveApi(node);
  await expectTranscript("02-control-plane-without", await node.run("02-control-plane --without m2", { KUBE_PKI_REPAIR_PATIENCE: "1" }));
  expect(state.members).toEqual([MEMBER, THIRD]);
});

test("02-control-plane --without a worker takes nothing out of etcd, and prints no control plane node's join", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveApi(node);
  const { exitCode, stderr } = await node.run("02-control-plane --without w2", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).not.toMatch(/taken out|kubeadm join|takes the place of/);
  expect(stderr).toContain("\ndone.  next: kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found w2, then ");
});

test.each(["", " --dry-run"])(
  "02-control-plane%s --without so many that etcd never answers says so at once, not after a wait for it",
  async (dry) => {
    using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, LOST] });
    await expectRefusal(
      node,
      `02-control-plane${dry} --without m2`,
      "etcd cannot answer without m2: 2 of its 2 members have to run, and 1 would be left",
      /^bring one of them back/,
      3,
    );
  },
);

test("02-control-plane on the next control plane node leaves out what the first one took out of etcd, and prints that on", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, TAKEN_OUT] });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveApi(node);
  write(
    `${node.root}/etc/kubernetes/manifests/kube-controller-manager.yaml`,
    text(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion)),
  );
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  w2: no member of etcd any more (02-control-plane --without): left out here, too\n");
  expect(stderr).toContain("\nAfter part 3, before part 4:\n  kubectl --kubeconfig /etc/kubernetes/admin.conf delete node w2\n");
  expect(stderr).toContain("\n  kubeadm join --control-plane --discovery-file /etc/kubernetes/admin.conf\n");
  expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/03-workers.ts open --without w2\n");
});

test("02-control-plane --dry-run --without prints that a member is taken out of etcd, before etcd answers as well, and who remains", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [...THREE] });
  const before = node.fingerprint();
  const line = "02-control-plane --dry-run --without m3";
  const removal = "  would: m3: taken out of etcd's members\n" + "  then etcd has the members m1, m2, and answers while 2 of them run\n";
  const silent = await node.run(line);
  expect([silent.exitCode, silent.stderr]).toEqual([0, expect.stringContaining(removal)]);
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  expect((await node.run(line)).stderr).toContain(removal);
  state.members = [MEMBER, LOST];
  expect((await node.run(line)).stderr).toContain("  m3: is no member of etcd any more\n");
  expect(node.fingerprint()).toEqual(before);
});

test("02-control-plane --dry-run --without prints the removal where part 1 has not been there yet", async () => {
  using node = await pretendNode({ members: THREE });
  const { stderr } = await node.run("02-control-plane --dry-run --without m2");
  expect(stderr).toContain("  would: m2: taken out of etcd's members");
  expect(stderr).toContain("  then etcd has the members m1, m3, and answers while 2 of them run\n");
});

test("02-control-plane says which member of etcd does not answer, and the way without it", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, LOST] });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [MEMBER, LOST] });
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect(exitCode).toBe(1);
  expect(stderr).toContain("  etcd 3.6.5: healthy, leader m1, 1 of 2 members answer, not m2\n");
  expect(stderr).toContain(
    "hint: m2 does not answer: part 1 there first. If its data is lost, go on without it: ./bunw scripts/02-control-plane.ts --without m2\n",
  );
});

test("02-control-plane gives the API server the old key of tokens beside the new one, and proves that it checks by it", async () => {
  using node = await afterPart1();
  using _etcd = node.etcd;
  const { pub } = await keyPair("ECDSA-P256");
  write(`${node.root}/etc/kubernetes/pki/sa-old.pub`, pub, 0o644);
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  using _api = serveApi(node, [serviceAccountKeyId(pub)]);
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "kube-apiserver.yaml (from its mirror pod in etcd, with sa-old.pub as a second key for service-account tokens)\n",
  );
  expect(stderr).toContain("  old and new service-account tokens are accepted, until part 4 takes sa-old.pub out\n");
});

test("02-control-plane starts an API server and a controller-manager again that hold another sa.key than the one on disk", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: ["etcd", "kube-apiserver", "kube-controller-manager"] });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const stopped = () => node.calls().filter((call) => call.includes(" stop "));
  const own = serviceAccountKeyId(node.read("/etc/kubernetes/pki/sa.pub"));
  using _api = serveApi(node, [], () => (stopped().length > 0 ? own : "another"));
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("the API server signs tokens with another key than sa.key on disk\n  kube-apiserver: stopped\n");
  expect(stopped().map((call) => call.split(" ").at(-1))).toEqual(["kube-apiserver-id", "kube-controller-manager-id"]);
});

test("02-control-plane does not go on under an API server that does not check by the old key", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  write(`${node.root}/etc/kubernetes/pki/sa-old.pub`, (await keyPair("ECDSA-P256")).pub, 0o644);
  using _api = serveApi(node, ["another"]);
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
  expect(exitCode).toBe(1);
  expect(stderr).toContain('error: Cannot start kube-apiserver: "/etc/kubernetes/audit/enc.yaml" (--encryption-provider-config) missing');
  for (const name of ["kube-apiserver", "kube-controller-manager", "kube-scheduler"])
    expect(node.exists(`/etc/kubernetes/manifests/${name}.yaml`)).toBe(false);
});

const MANAGER = "/etc/kubernetes/manifests/kube-controller-manager.yaml";

/** The API, with a Service whose only pod is on m1 and not ready. */
function withUnreadyPod(api: ReturnType<typeof serveApi>) {
  const slice = { conditions: { ready: true }, nodeName: "m1", targetRef: { kind: "Pod", name: "dns-0" } };
  api.objects.set("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/dns", {
    metadata: { namespace: "kube-system", labels: { "kubernetes.io/service-name": "dns" } },
    endpoints: [slice],
  });
  const path = "/api/v1/namespaces/kube-system/pods/dns-0";
  const pod = (ready: string) => ({ spec: { containers: [{}] }, status: { conditions: [{ type: "Ready", status: ready }] } });
  api.objects.set(path, pod("False"));
  return {
    asked: () => api.requests.some((request) => request.path === path),
    isReady: () => api.objects.set(path, pod("True")),
  };
}

test("02-control-plane under the old CA starts the controller-manager last, when the pods of this node are ready again", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: ["etcd"] });
  rmSync(node.root + MANAGER);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveApi(node);
  const pod = withUnreadyPod(api);
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await waitFor("the pod to be asked for", pod.asked, { seconds: 50, hint: "" });
  expect(node.exists(MANAGER)).toBe(false);
  pod.isReady();
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.read(MANAGER)).not.toContain("-node-lifecycle-controller");
});

test("a full controller-manager leaves before its kubelet restarts, also where the run ends in between, and comes back once", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: ["etcd", "kube-apiserver", "kube-controller-manager"],
    commands: [{ command: "systemctl restart kubelet", does: "exit 1" }],
  });
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveApi(node);
  const content = node.read(MANAGER);
  const cut = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect(cut.exitCode).toBe(1);
  expect(cut.stderr).toContain(`\nnote: ${MANAGER} is away, in /etc/kubernetes/manifests/.kube-controller-manager.yaml: `);
  expect(node.calls().indexOf(`${CRICTL} stop --timeout 0 kube-controller-manager-id`)).toBeLessThan(
    node.calls().indexOf("systemctl restart kubelet"),
  );
  withUnreadyPod(api).isReady();
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.read(MANAGER)).toBe(content);
  expect(node.exists("/etc/kubernetes/manifests/.kube-controller-manager.yaml")).toBe(false);
});

test("a controller-manager's manifest that is cut off stops neither part 1 nor part 2, and is whole again", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: ["etcd", "kube-apiserver"] });
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveApi(node);
  const whole = node.read(MANAGER);
  write(node.root + MANAGER, whole.replace(/^( +)(image: [^\n]*\n).*/ms, "$1$2$1ima"));
  withUnreadyPod(api).isReady();
  for (const script of ["01-etcd", "02-control-plane"])
    expect(await node.run(script, { KUBE_PKI_REPAIR_PATIENCE: "1" })).toMatchObject({ exitCode: 0 });
  expect(parse(node.read(MANAGER)).spec).toEqual(parse(whole).spec);
});

test("what part 3 has let run in full under the new CA stays so where part 2 runs again and restarts the kubelet", async () => {
  using node = await afterPart1();
  using _etcd = node.etcd;
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  using _api = serveApi(node);
  expect((await running).exitCode).toBe(0);
  expect(node.read(MANAGER)).toContain("-node-lifecycle-controller");
  write(node.root + MANAGER, text(manifest("kube-controller-manager")));
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("kube-controller-manager: waits for this node's pods to be ready again");
  expect(node.read(MANAGER)).not.toContain("-node-lifecycle-controller");
  expect(node.exists("/etc/kubernetes/manifests/.kube-controller-manager.yaml")).toBe(false);
});

test("a reduced controller-manager ends before its kubelet starts: part 0 may have paused it, and nothing else wakes it", async () => {
  using node = await afterPart2({ containers: ["etcd", "kube-apiserver", "kube-controller-manager"] });
  write(`${node.env.FAKE}/stopped`, "");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveApi(node);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const order = [`${CRICTL} stop --timeout 0 kube-controller-manager-id`, "systemctl restart kubelet"];
  expect(node.calls().filter((call) => order.includes(call))).toEqual(order);
  expect(node.read(MANAGER)).toContain("-node-lifecycle-controller");
});

test("a controller-manager that part 1 took away in full comes back reduced where new CAs were made since", async () => {
  using node = await afterPart2({ containers: ["etcd"] });
  const waiting = MANAGER.replace("/kube-c", "/.kube-c");
  rmSync(node.root + MANAGER);
  write(node.root + waiting, text(manifest("kube-controller-manager")));
  utimesSync(node.root + waiting, new Date("2026-01-01"), new Date("2026-01-01"));
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveApi(node);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.read(MANAGER)).toContain("-node-lifecycle-controller");
  expect(node.exists(waiting)).toBe(false);
});

test("servers whose certificates have expired wait through part 1; part 2 brings them back as they were, and the kubelet runs on", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: [] });
  const servers = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"].map((name) => `/etc/kubernetes/manifests/${name}.yaml`);
  const before = servers.map(node.read);
  await expireCertificates(node.root);
  write(`${node.env.FAKE}/stopped`, "");
  const part1 = node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.called("systemctl restart kubelet"), part1]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const first = await part1;
  expect(first).toMatchObject({ exitCode: 0 });
  expect(first.stderr).toContain("kube-apiserver, kube-controller-manager, kube-scheduler: wait for their certificates; part 2");
  expect(servers.map(node.exists)).toEqual([false, false, false]);
  const assessed = await node.run("00-assess");
  expect(assessed.stdout).toMatch(/manifests\/kube-apiserver\.yaml +!WAITS! +as .*\/\.kube-apiserver\.yaml: part 2 brings it back/);

  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written(servers[0]!), running]);
  using _api = serveApi(node);
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(servers.map(node.read)).toEqual(before);
  expect(node.calls().filter((call) => call === "systemctl restart kubelet")).toHaveLength(1);
});

test("a living API server stays where its certificates have expired and etcd is well: part 1 takes no manifest away", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: ["etcd", "kube-apiserver"] });
  await expireCertificates(
    node.root,
    CERTS.filter((row) => row.ca === "ca"),
  );
  write(`${node.env.FAKE}/stopped`, "");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.calls()).toContain("systemctl restart kubelet");
  expect(node.exists("/etc/kubernetes/manifests/kube-apiserver.yaml")).toBe(true);
});
