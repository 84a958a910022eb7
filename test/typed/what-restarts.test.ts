/**
 * A restart follows from a file that is written and its readers. admin.conf is read by nobody on the node: where it
 * alone was taken away, nothing is damaged; who types part 2 gets it, and nothing restarts.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { parse, stringify } from "yaml";
import { certRow } from "../../shared/pki/certs.ts";
import { issueClient } from "../../shared/pki/issue.ts";
import { FACTS, manifest, mirrorPod, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expireCertificates } from "../pretend/expired.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import type { PretendNode } from "../pretend/in-process.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";
import { here } from "../pretend/typed-here.ts";
import { changesIn } from "../pretend/wrong-hands.ts";

setDefaultTimeout(300_000);

const CONF = "/etc/kubernetes";
const MANAGER = `${CONF}/manifests/kube-controller-manager.yaml`;
const CONTAINERS = [
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kube-vip",
  "coredns",
];

type Serve = (node: PretendNode) => Disposable;

async function controlPlane(
  change: (node: PretendNode) => Promise<void> | void,
  { serve = servePart2, ...options }: NodeOptions & { serve?: Serve } = {},
) {
  const node = here(
    await pretendNode({ kind: "healthy control plane node", containers: CONTAINERS, ...options }),
  );
  const servers = [serveEtcd(node.root, sameEtcd(node.stored)), serve(node)];
  await change(node);
  const end = node[Symbol.dispose];
  return Object.assign(node, {
    [Symbol.dispose]() {
      for (const one of servers) one[Symbol.dispose]();
      end();
    },
  });
}

const gone =
  (...files: string[]) =>
  ({ root }: PretendNode) => {
    for (const file of files) rmSync(`${root}${CONF}/${file}`);
  };

/** kubeconfigs whose certificate expired a year ago. */
const expired =
  (...names: string[]) =>
  async ({ root, ca }: PretendNode) => {
    for (const name of names) {
      const path = `${root}${CONF}/${name}.conf`;
      const conf = parse(readFileSync(path, "utf8"));
      const now = new Date(Date.now() - 2 * 366 * 86_400_000);
      const cn = name === "admin" ? "kubernetes-admin" : `system:kube-${name}`;
      const { cert, key } = await issueClient({ cn, o: "kubeadm:cluster-admins" }, ca, FACTS, { now });
      const [data, keyData] = [cert, key].map((pem) => Buffer.from(pem).toString("base64"));
      conf.users[0].user = { "client-certificate-data": data, "client-key-data": keyData };
      write(path, stringify(conf));
    }
  };

/** What part 2 stops: the containers' names; "kubelet" where that restarts. */
function stopped(node: PretendNode): string[] {
  return changesIn(node.calls()).map(
    (call) => /stop --timeout \d+ (\S+)-id$/.exec(call)?.[1] ?? call.replace(/^systemctl restart /, ""),
  );
}

test("admin.conf alone was taken away: 00-assess, 05-verify and drill call the node well, and name how it is written", async () => {
  using node = await controlPlane(gone("admin.conf"), { serve: serveRunning });
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: expect.stringContaining("nothing is damaged"),
  });
  expect(stdout).toMatch(/admin\.conf +.*02-control-plane\.ts/);
  const verified = await node.run("05-verify");
  expect(verified.stdout.split("\n").filter((line) => line.includes("failed") && /admin/.test(line))).toEqual(
    [],
  );
  expect(node.exists(`${CONF}/admin.conf`)).toBe(false);
  expect((await node.run("drill")).exitCode).not.toBe(3);
});

test.each<[string, string[]]>([
  ["another file is lost, too", ["admin.conf", "scheduler.conf"]],
  ["the CA's key is away, too", ["admin.conf", "pki/ca.key"]],
  ["a certificate is lost, too", ["admin.conf", "pki/front-proxy-client.crt"]],
])("it is lost where %s", async (_, files) => {
  using node = await controlPlane(gone(...files), { serve: serveRunning });
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toEqual({
    exitCode: 2,
    stdout: expect.stringMatching(/admin\.conf +!MISSING!/),
  });
});

test("one that has expired is damage: who uses it here is locked out", async () => {
  using node = await controlPlane(expired("admin"));
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toEqual({
    exitCode: 2,
    stdout: expect.stringMatching(/admin\.conf +!EXPIRED!/),
  });
});

test.each<[string, (node: PretendNode) => Promise<void> | void]>([
  ["is missing", gone("admin.conf")],
  ["has expired", expired("admin")],
])("part 2 where admin.conf alone %s: it is written, and nothing restarts", async (_, change) => {
  using node = await controlPlane(change);
  const before = node.read(MANAGER);
  expect((await node.run("02-control-plane --dry-run")).stderr).toContain("will stop: nothing\n");
  const { exitCode, stderr } = await node.run("02-control-plane");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.exists(`${CONF}/admin.conf`)).toBe(true);
  expect(stopped(node)).toEqual([]);
  expect(node.read(MANAGER)).toBe(before);
});

test.each<[string, (node: PretendNode) => Promise<void> | void, string[]]>([
  ["the scheduler's kubeconfig", expired("scheduler"), ["kube-scheduler"]],
  [
    "a certificate of the API server's",
    ({ root }) => expireCertificates(root, [certRow("front-proxy-client")]),
    ["kube-apiserver"],
  ],
  [
    "etcd's client for people",
    ({ root }) => expireCertificates(root, [certRow("etcd-healthcheck-client")]),
    [],
  ],
  ...["apiserver", "apiserver-kubelet-client", "apiserver-etcd-client"].map(
    (name): [string, (node: PretendNode) => Promise<void>, string[]] => [
      `${name}.crt`,
      ({ root }) => expireCertificates(root, [certRow(name)]),
      ["kube-apiserver"],
    ],
  ),
  ["the controller-manager's kubeconfig", expired("controller-manager"), ["kube-controller-manager"]],
  ["sa.pub", gone("pki/sa.pub"), ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]],
])("part 2 says before what it stops for %s: who reads it", async (_, change, names) => {
  using node = await controlPlane(change);
  const { stderr } = await node.run("02-control-plane --dry-run");
  const [, stops = ""] = /will stop: (.*?)(?:; they start again|\n)/.exec(stderr) ?? [];
  const servers = stops.split(", ").map((name) => name.replace(/ \(.*/, ""));
  for (const name of ["kube-apiserver", "kube-scheduler", "kube-vip"])
    expect([stops, name, servers.includes(name)]).toEqual([stops, name, names.includes(name)]);
  if (names.length === 0) expect(stops).toBe("nothing");
});

const ALL =
  "kubelet, etcd, kube-apiserver, kube-controller-manager, kube-scheduler; the API of the whole cluster is unavailable until part 2";

test.each<[string, string[], string | undefined]>([
  ["etcd's own", ["etcd-server"], ALL],
  ["etcd's for other members", ["etcd-peer"], ALL],
  ["etcd's client for people", ["etcd-healthcheck-client"], undefined],
  ["a client of the API server's", ["apiserver-kubelet-client"], undefined],
])("part 1 says before what it stops for %s: all servers with etcd, or nothing", async (_, names, stops) => {
  using node = await controlPlane(({ root }) => expireCertificates(root, names.map(certRow)));
  const { stderr } = await node.run("01-etcd --dry-run");
  expect(/will stop: (.*)/.exec(stderr)?.[1]).toBe(stops!);
});

test("who really reads admin.conf starts again with it: a scheduler whose flags name it, and kube-vip that mounts it", async () => {
  const edit = (pod: ReturnType<typeof manifest>) => {
    const [container] = pod.spec.containers;
    container!.command = container!.command!.map((word) => word.replace("scheduler.conf", "admin.conf"));
    for (const volume of pod.spec.volumes ?? [])
      if (volume.hostPath?.path.endsWith("scheduler.conf")) volume.hostPath.path = `${CONF}/admin.conf`;
    for (const mount of container!.volumeMounts ?? [])
      if (mount.mountPath.endsWith("scheduler.conf")) mount.mountPath = `${CONF}/admin.conf`;
    return pod;
  };
  const etcd: NodeOptions["etcd"] = (objects) => {
    edit(objects["pods/kube-system/kube-scheduler-m1"] as never);
    objects["pods/kube-system/kube-vip-m1"] = mirrorPod("kube-vip");
  };
  using node = await controlPlane(
    async (one) => {
      write(`${one.root}${CONF}/manifests/kube-scheduler.yaml`, stringify(edit(manifest("kube-scheduler"))));
      await expired("admin")(one);
    },
    { etcd },
  );
  const { stderr } = await node.run("02-control-plane --dry-run");
  expect(stderr).toMatch(/will stop: kube-scheduler/);
});
