/**
 * Scripts beside parts 1 to 5 where kubeadm did not make etcd: on a unit of this node, or on other machines. Each does
 * what it is for, or refuses by name, with the way.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, writeFileSync } from "node:fs";
import type { Manifest } from "../../shared/objects/objects.ts";
import { ADDRESS, type Objects, write } from "../pretend/cluster.ts";
import { type EtcdState, sameEtcd, serveUnit } from "../pretend/etcd.ts";
import {
  ETCD_HOST,
  ETCD_PKI,
  ETCD_URL,
  external,
  nodeOf,
  OTHER_MEMBER,
  UNIT_MEMBER,
} from "../pretend/etcd-as-unit.ts";
import { type NodeOptions, pretendNode, routesOf } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";
import { here } from "../pretend/typed-here.ts";
import { snapshotOf } from "../pretend/write-db.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const LAYOUTS = [
  { where: "a unit here", by: "kubespray", elsewhere: false },
  { where: "on other machines", by: "kubeadm", elsewhere: true },
] as const;
type Layout = (typeof LAYOUTS)[number];

const W2_AT = "127.77.0.22";
const SECOND = { ...UNIT_MEMBER, id: "a2b2c3d4e5f60718", name: "etcd2", peerURLs: [`https://${W2_AT}:2380`] };

/** m1, and w2, which is a control plane node, too: by its member of etcd, or by its API server's lease. */
const withTwo =
  ({ by, elsewhere }: Layout) =>
  (objects: Objects) => {
    external(objects, by, { elsewhere });
    const pod = structuredClone(objects["pods/kube-system/kube-apiserver-m1"]) as Manifest;
    Object.assign(pod.metadata, { name: "kube-apiserver-w2" });
    Object.assign(pod.spec, { nodeName: "w2" });
    pod.spec.containers[0]!.command = ["kube-apiserver", `--advertise-address=${W2_AT}`];
    objects["pods/kube-system/kube-apiserver-w2"] = pod;
    if (elsewhere) objects[`/registry/masterleases/${W2_AT}`] = { metadata: {} };
  };

/** A control plane node that is well, beside w2, with its etcd and its API. */
async function wellNode(
  layout: Layout,
  { two = true, api = true, ...options }: NodeOptions & { two?: boolean; api?: boolean } = {},
) {
  const { by, elsewhere } = layout;
  const members = elsewhere
    ? [{ ...OTHER_MEMBER, clientURLs: [ETCD_URL] }]
    : [UNIT_MEMBER, ...(two ? [SECOND] : [])];
  const node = here(await nodeOf(by, { elsewhere, etcd: withTwo(layout), members, ...options }));
  const state: EtcdState = { ...sameEtcd(node.stored), members };
  const servers = [
    serveUnit(ETCD_PKI, state, elsewhere ? ETCD_HOST : ADDRESS),
    ...(api ? [serveRunning(node)] : []),
  ];
  return Object.assign(node, {
    [Symbol.dispose]() {
      for (const server of servers) void server[Symbol.dispose]();
    },
  });
}

type Well = Awaited<ReturnType<typeof wellNode>>;

/** A refusal: nothing of the node has changed. */
async function refused(node: Well, line: string) {
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(line);
  expect({ exitCode, after: node.fingerprint() }).toEqual({ exitCode: 3, after: before });
  return stderr;
}

test.each(LAYOUTS)(
  "etcd is $where: --lost of a worker takes no member out, and part 2 goes on",
  async (layout) => {
    using node = await wellNode(layout);
    const { exitCode, stderr } = await node.run("02-control-plane --dry-run --lost w1");
    const said = expect.stringContaining("  w1: is no member of etcd any more\n");
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: said });
  },
);

test.each(LAYOUTS)(
  "etcd is $where: --lost of a control plane node is refused with what is to be done",
  async (layout) => {
    using node = await wellNode(layout);
    const said = await refused(node, "02-control-plane --lost w2");
    expect(said).toMatch(
      layout.elsewhere
        ? /error: w2: no member of etcd, which is on other machines: .*\nhint: leave it out .*: \.\/bunw scripts\/02-control-plane\.ts --without w2\. After part 5: kubectl delete node w2\n/
        : /error: w2: this kit takes no member out of an etcd that kubeadm did not make.*\nhint: remove the member by the means of etcd's maker /,
    );
  },
);

test.each(LAYOUTS)("etcd is $where: join-again is refused by name", async (layout) => {
  using node = await wellNode(layout);
  const said = await refused(node, `join-again --address ${ADDRESS}:6443 --kubernetes v1.34.4`);
  expect(said).toMatch(
    layout.elsewhere
      ? /error: "m1" is no member of etcd, which is on other machines: .*\nhint: bring this node back with parts 1 and 2, /
      : /error: etcd runs on this node as a systemd unit .*\nhint: \.\/bunw scripts\/00-assess\.ts says /,
  );
});

test.each(LAYOUTS)(
  "etcd is $where: restore makes no data of its snapshot, and says who does",
  async (layout) => {
    using node = await wellNode(layout);
    writeFileSync(
      `${node.root}/root/snapshot.db`,
      snapshotOf({ members: [{ ...UNIT_MEMBER }] as never, puts: [...node.stored] }),
    );
    const said = await refused(node, "restore snapshot.db --as m1");
    expect(said).toContain("error: This cluster's etcd is external: kubeadm does not run it");
  },
);

test("restore from the folder of an etcd that is a unit is refused before it asks for another name", async () => {
  using node = await wellNode(LAYOUTS[0]);
  const said = await refused(node, "restore --from /var/lib/etcd --as m1");
  expect(said).toContain("error: This cluster's etcd is external: kubeadm does not run it");
});

test.each(LAYOUTS)("etcd is $where: move tells the cluster of a worker that has moved", async (layout) => {
  using node = await wellNode(layout);
  const { exitCode, stderr } = await node.run("move --moved 127.77.0.21=127.66.0.21");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("M.8 Finish the move on this node"),
  });
});

test.each(LAYOUTS)(
  "etcd is $where: move of a control plane node is refused by name, with nothing stopped",
  async (layout) => {
    const said = async (line: string, options?: Parameters<typeof wellNode>[1]) => {
      using node = await wellNode(layout, options);
      return await refused(node, line);
    };
    const why = "has moved, and kubeadm did not make this cluster's etcd";
    expect(await said(`move --moved ${W2_AT}=127.66.0.22`)).toContain(`error: w2: ${why}`);
    expect(await said("move", { api: false, commands: routesOf("127.66.0.11") })).toContain(
      `error: m1: ${why}`,
    );
  },
);

test.each(LAYOUTS)(
  "etcd is $where: renew-ca knows the cluster's own CAs, and leaves etcd's to its maker",
  async (layout) => {
    using node = await wellNode(layout, { two: false });
    const { exitCode, stderr } = await node.run("renew-ca");
    expect(stderr).toMatch(
      /\/front-proxy-ca\.crt: unchanged, until DATE\n.*\/ca\.crt: unchanged, until DATE\n/,
    );
    expect({ exitCode, etcds: stderr.includes("/etcd/ca.crt") }).toEqual({ exitCode: 0, etcds: false });
    const said = await refused(node, "renew-ca --only etcd-ca");
    expect(said).toMatch(
      /is the CA of an etcd that kubeadm did not make: its maker renews it.*\nhint: type where its key is: openssl x509 -in ca\.crt -signkey /,
    );
  },
);

const W1_AT = "127.77.0.21";

/** w1 hosts a member of an external etcd, as a unit. `change`: of what is in its data. */
async function host(change: (objects: Objects) => void = () => {}) {
  const etcd = (objects: Objects) => {
    external(objects, "kubeadm", { elsewhere: true });
    Object.assign(objects["minions/w1"]!, {
      status: { addresses: [{ type: "InternalIP", address: W1_AT }] },
    });
    change(objects);
  };
  const members = [{ ...UNIT_MEMBER, peerURLs: [`https://${W1_AT}:2380`] }];
  using other = here(await pretendNode({ kind: "healthy control plane node", etcd, members }));
  const node = here(await pretendNode({ kind: "worker", etcd, commands: routesOf(W1_AT) }));
  cpSync(`${other.root}/var/lib/etcd`, `${node.root}/var/lib/etcd`, { recursive: true });
  const files = ["ca.crt", "server.crt", "server.key"].map((name) => `/etc/etcd/pki/${name}`);
  const pems = [ETCD_PKI.ca, ETCD_PKI.cert, ETCD_PKI.key];
  for (const [i, path] of files.entries()) write(node.root + path, pems[i]!);
  const unit = "[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/local/bin/etcd\n";
  write(`${node.root}/etc/systemd/system/etcd.service`, unit);
  const names = ["TRUSTED_CA_FILE", "CERT_FILE", "KEY_FILE"].map((name, i) => `ETCD_${name}=${files[i]}\n`);
  write(`${node.root}/etc/etcd.env`, `ETCD_DATA_DIR=/var/lib/etcd\nETCD_NAME=etcd1\n${names.join("")}`);
  return node;
}

/** A pod of an API server on w1, as its kubelet makes it. */
function withApi(objects: Objects) {
  const pod = structuredClone(objects["pods/kube-system/kube-apiserver-m1"]) as Manifest;
  Object.assign(pod.metadata, { name: "kube-apiserver-w1" });
  Object.assign(pod.spec, { nodeName: "w1" });
  objects["pods/kube-system/kube-apiserver-w1"] = pod;
}

test("a worker that hosts a member of etcd is a worker, and well", async () => {
  using node = await host();
  expect(await node.run("00-assess")).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("node w1 (worker)"),
  });
  expect((await node.run("plan")).stderr).toContain('error: "w1" is no control plane node');
  expect((await node.run("05-verify")).stdout).not.toContain("etcd");
  expect((await node.run("renew-ca --dry-run")).stderr).toContain("R.1 Look at this worker's CA");
});

test.each<[string, (objects: Objects) => void]>([
  ["the pod of an API server", withApi],
  [
    "the lease of an API server",
    (objects) => void Object.assign(objects, { [`/registry/masterleases/${W1_AT}`]: { metadata: {} } }),
  ],
  [
    "a control plane node's label",
    (objects) =>
      void Object.assign((objects["minions/w1"] as Manifest).metadata, {
        labels: { "node-role.kubernetes.io/control-plane": "" },
      }),
  ],
  [
    "etcd as a static pod in kubeadm's configuration",
    (objects) => {
      const map = objects["configmaps/kube-system/kubeadm-config"] as { data: Record<string, string> };
      map.data.ClusterConfiguration = map.data.ClusterConfiguration!.replace("external:", "local:");
    },
  ],
])("a wiped node beside etcd that has %s in its data is called no worker", async (_, change) => {
  using node = await host(change);
  expect((await node.run("00-assess")).stderr).toContain("node w1 (control plane)");
});
