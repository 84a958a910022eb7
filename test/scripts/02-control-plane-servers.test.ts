/**
 * 02-control-plane and the servers that run meanwhile, on pretend nodes: who waits, who restarts, and who
 * stays.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, utimesSync } from "node:fs";
import { parse } from "yaml";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { CERTS } from "../../shared/pki/certs.ts";
import { waitFor } from "../../shared/wait-for.ts";
import { afterPart2, RESTARTS } from "../pretend/after-part2.ts";
import { manifest, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expireCertificates } from "../pretend/expired.ts";
import { afterPart1, servePart2 } from "../pretend/in-part2.ts";
import { CRICTL } from "../pretend/node.ts";
import { LEASES, lease } from "../pretend/running.ts";
import { here, nodeHere } from "../pretend/typed-here.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const MANAGER = "/etc/kubernetes/manifests/kube-controller-manager.yaml";

/** The API, with a Service whose only pod is on m1 and not ready. */
function withUnreadyPod(api: ReturnType<typeof servePart2>) {
  const slice = { conditions: { ready: true }, nodeName: "m1", targetRef: { kind: "Pod", name: "dns-0" } };
  api.objects.set("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/dns", {
    metadata: { namespace: "kube-system", labels: { "kubernetes.io/service-name": "dns" } },
    endpoints: [slice],
  });
  const path = "/api/v1/namespaces/kube-system/pods/dns-0";
  const pod = (ready: string) => ({
    spec: { containers: [{}] },
    status: { conditions: [{ type: "Ready", status: ready }] },
  });
  api.objects.set(path, pod("False"));
  const times = () => api.requests.filter((request) => request.path === path).length;
  return {
    times,
    asked: () => times() > 0,
    isReady: () => api.objects.set(path, pod("True")),
  };
}

test("02-control-plane under the old CA lets the controller-manager run in full last, when the pods of this node are ready again", async () => {
  using node = await nodeHere({
    kind: "healthy control plane node",
    containers: ["etcd"],
    commands: RESTARTS,
  });
  rmSync(node.root + MANAGER);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = servePart2(node);
  const pod = withUnreadyPod(api);
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await waitFor("the pod to be asked for", pod.asked, { seconds: 250, hint: "" });
  // the reduced one ends meanwhile
  await waitFor("its manifest to go", () => !node.exists(MANAGER), { seconds: 50, hint: "" });
  const asked = pod.times();
  await waitFor("the pod to be asked for again", () => pod.times() > asked + 1, { seconds: 250, hint: "" });
  expect(node.exists(MANAGER)).toBe(false);
  pod.isReady();
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.read(MANAGER)).not.toContain("-node-lifecycle-controller");
});

test("a full controller-manager is reduced before its kubelet restarts, also where the run ends in between, and runs in full again once", async () => {
  using node = await nodeHere({
    kind: "healthy control plane node",
    containers: ["etcd", "kube-apiserver", "kube-controller-manager"],
    commands: [{ command: "systemctl restart kubelet", does: "exit 1" }],
  });
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = servePart2(node);
  const content = parse(node.read(MANAGER));
  const cut = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect(cut.exitCode).toBe(1);
  expect(node.read(MANAGER)).toContain("-node-lifecycle-controller");
  expect(node.calls().indexOf(`${CRICTL} stop --timeout 0 kube-controller-manager-id`)).toBeLessThan(
    node.calls().indexOf("systemctl restart kubelet"),
  );
  withUnreadyPod(api).isReady();
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(parse(node.read(MANAGER))).toEqual(content);
  expect(node.exists("/etc/kubernetes/manifests/.kube-controller-manager.yaml")).toBe(false);
});

test("a controller-manager's manifest that is cut off stops neither part 1 nor part 2, and is whole again", async () => {
  using node = await nodeHere({
    kind: "healthy control plane node",
    containers: ["etcd", "kube-apiserver"],
    commands: RESTARTS,
  });
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = servePart2(node);
  const whole = node.read(MANAGER);
  write(node.root + MANAGER, whole.replace(/^( +)(image: [^\n]*\n).*/ms, "$1$2$1ima"));
  withUnreadyPod(api).isReady();
  for (const script of ["01-etcd", "02-control-plane"])
    expect(await node.run(script, { KUBE_PKI_REPAIR_PATIENCE: "1" })).toMatchObject({ exitCode: 0 });
  expect(parse(node.read(MANAGER)).spec).toEqual(parse(whole).spec);
});

test("what part 3 has let run in full under the new CA does so again where part 2 restarts the kubelet, as everybody is back", async () => {
  using node = here(await afterPart1({ containers: ["kube-controller-manager"] }));
  using _etcd = node.etcd;
  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  using api = servePart2(node);
  const { exitCode: first, stderr: said } = await running;
  expect(first).toBe(0);
  expect(said).toContain(
    "  not back yet: w1, w2; the controller-manager stays reduced, and nothing is evicted, until part 3 is closed\n",
  );
  expect(node.read(MANAGER)).toContain("-node-lifecycle-controller");
  api[Symbol.dispose]();
  write(node.root + MANAGER, manifestText(manifest("kube-controller-manager")));
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  using _later = servePart2(node, [], undefined, ["m1", "w1", "w2"]);
  for (const name of ["w1", "w2"]) Object.assign(_later.objects.get(`${LEASES}/${name}`), lease(0));
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(`wrote ${MANAGER} (reduced: `);
  expect(node.read(MANAGER)).not.toContain("-node-lifecycle-controller");
});

test("a reduced controller-manager ends before its kubelet starts: part 0 may have paused it, and nothing else wakes it", async () => {
  using node = here(await afterPart2({ containers: ["etcd", "kube-apiserver", "kube-controller-manager"] }));
  write(`${node.env.FAKE}/stopped`, "");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node, [], undefined, ["m1"]);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const order = [`${CRICTL} stop --timeout 0 kube-controller-manager-id`, "systemctl restart kubelet"];
  expect(node.calls().filter((call) => order.includes(call))).toEqual(order);
  expect(node.read(MANAGER)).toContain("-node-lifecycle-controller");
});

test("a controller-manager that part 1 took away in full comes back reduced where new CAs were made since", async () => {
  using node = here(await afterPart2({ containers: ["etcd"] }));
  const waiting = MANAGER.replace("/kube-c", "/.kube-c");
  rmSync(node.root + MANAGER);
  write(node.root + waiting, manifestText(manifest("kube-controller-manager")));
  utimesSync(node.root + waiting, new Date("2026-01-01"), new Date("2026-01-01"));
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node, [], undefined, ["m1"]);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.read(MANAGER)).toContain("-node-lifecycle-controller");
  expect(node.exists(waiting)).toBe(false);
});

test("servers whose certificates have expired wait through part 1; part 2 brings them back as they were, and the kubelet runs on", async () => {
  using node = await nodeHere({
    kind: "healthy control plane node",
    containers: ["kube-controller-manager"],
  });
  const servers = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"].map(
    (name) => `/etc/kubernetes/manifests/${name}.yaml`,
  );
  const before = servers.map((path) => parse(node.read(path)));
  await expireCertificates(node.root);
  write(`${node.env.FAKE}/stopped`, "");
  const part1 = node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.called("systemctl restart kubelet"), part1]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const first = await part1;
  expect(first).toMatchObject({ exitCode: 0 });
  expect(first.stderr).toContain(
    "kube-apiserver, kube-controller-manager, kube-scheduler: wait for their certificates; part 2",
  );
  expect(servers.map(node.exists)).toEqual([false, false, false]);
  const assessed = await node.run("00-assess");
  expect(assessed.stdout).toMatch(
    /manifests\/kube-apiserver\.yaml +!WAITS! +as .*\/\.kube-apiserver\.yaml: part 2 brings it back/,
  );

  const running = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written(servers[0]!), running]);
  using _api = servePart2(node);
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(servers.map((path) => parse(node.read(path)))).toEqual(before);
  expect(node.calls().filter((call) => call === "systemctl restart kubelet")).toHaveLength(1);
});

test("a living API server stays where its certificates have expired and etcd is well: part 1 takes no manifest away", async () => {
  using node = await nodeHere({
    kind: "healthy control plane node",
    containers: ["etcd", "kube-apiserver"],
  });
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
