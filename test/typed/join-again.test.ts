/** join-again as operators run it: what it saves of a kubelet, and the file for kubeadm join. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, renameSync, rmSync } from "node:fs";
import { parse } from "yaml";
import { ADDRESS, healthyCp, write } from "../pretend/cluster.ts";
import { sameEtcd, serveOtherMember } from "../pretend/etcd.ts";
import {
  CRICTL,
  crictlPs,
  expectTranscript,
  MEMBER,
  type NodeOptions,
  pretendNode,
  SHOWN_ADDRESS,
} from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { expectRefusal, REFUSED } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

const FLAGS = "/var/lib/kubelet/kubeadm-flags.env";
const ENV = `KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/x.sock --node-ip=10.0.0.13 --pod-infra-container-image=pause:3.10 --root-dir=/data/kubelet --v"\n`;
const LINE = `join-again --address ${ADDRESS}:6443 --kubernetes`;

/**
 * A control plane node whose /etc/kubernetes and etcd data are lost. `running`: its containers, each time
 * that they are looked at.
 */
const withoutData = (...running: string[][]) => nodeThatRuns(...running, []);

/** Each time that the runtime is asked; the last is repeated. */
async function nodeThatRuns(...running: string[][]) {
  const command = `${CRICTL.replace("containerd/containerd", "x")} ps -a -o json`;
  const node = here(
    await pretendNode({ commands: running.map((names) => ({ command, stdout: crictlPs(names) })) }),
  );
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  write(node.root + FLAGS, ENV, 0o644);
  return node;
}

/** What the only save has. */
function saved(node: Awaited<ReturnType<typeof withoutData>>, file: string): string {
  const folders = readdirSync(`${node.root}/root`).filter((name) => node.exists(`/root/${name}/kubelet`));
  expect(folders).toHaveLength(1);
  return node.read(`/root/${folders[0]}/kubelet/${file}`);
}

test("join-again saves the kubelet's flags and configuration, and writes a join.yaml with the flags that are not kubeadm's own", async () => {
  using node = await withoutData();
  await expectTranscript("join-again", await node.run(`${LINE} v1.34.4`));
  expect(parse(saved(node, "join.yaml"))).toEqual({
    apiVersion: "kubeadm.k8s.io/v1beta4",
    kind: "JoinConfiguration",
    discovery: { file: { kubeConfigPath: "/etc/kubernetes/admin.conf" } },
    controlPlane: { localAPIEndpoint: { advertiseAddress: ADDRESS, bindPort: 6443 } },
    nodeRegistration: {
      name: "m1",
      criSocket: "unix:///run/x.sock",
      kubeletExtraArgs: [
        { name: "node-ip", value: "10.0.0.13" },
        { name: "root-dir", value: "/data/kubelet" },
        { name: "v", value: "true" },
      ],
    },
  });
  expect(saved(node, "kubeadm-flags.env")).toBe(ENV);
  expect(saved(node, "config.yaml")).toBe(node.read("/var/lib/kubelet/config.yaml"));
});

test("join-again writes the older format, with a map of flags, for a kubeadm before 1.31", async () => {
  using node = await withoutData();
  expect(await node.run(`${LINE} v1.30.14`)).toMatchObject({ exitCode: 0 });
  expect(parse(saved(node, "join.yaml"))).toMatchObject({
    apiVersion: "kubeadm.k8s.io/v1beta3",
    nodeRegistration: {
      kubeletExtraArgs: { "node-ip": "10.0.0.13", "root-dir": "/data/kubelet", v: "true" },
    },
  });
});

test.each([
  ["no address", "join-again", "join-again needs --address and --kubernetes"],
  [
    "an address without a port",
    "join-again --address 10.0.0.13 --kubernetes v1.34.4",
    '"10.0.0.13" is no address with a port',
  ],
  [
    "a name as an address",
    "join-again --address cp3:6443 --kubernetes v1.34.4",
    '"cp3" is not an IP address',
  ],
  ["a word as a version", `${LINE} latest`, '"latest" is no version of Kubernetes'],
])("join-again refuses %s, and changes nothing", async (_, line, error) => {
  using node = await withoutData();
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(line);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: line === "join-again" ? 64 : 1,
    stderr: expect.stringContaining(`error: ${error}\nhint: `),
  });
  expect(node.fingerprint()).toEqual(before);
});

test("join-again goes on where the kubelet's configuration is a file of the operator's, and a second run looks for life again", async () => {
  using node = await nodeThatRuns([], CONTROL_PLANE);
  const own = `${node.root}/etc/kubelet.yaml`;
  renameSync(`${node.root}/var/lib/kubelet/config.yaml`, own);
  write(node.root + FLAGS, ENV.replace('="', '="--config=/etc/kubelet.yaml '), 0o644);
  const { exitCode, stderr, stdout } = await node.run(`${LINE} v1.34.4`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stdout).not.toContain("/config.yaml");
  await expectRefusal(node, `${LINE} v1.34.4`, RUNS, STOP_FIRST, REFUSED);
});

test("join-again after kubeadm reset says that the flags are gone", async () => {
  using node = await withoutData();
  rmSync(node.root + FLAGS);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(`${LINE} v1.34.4`);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("error: There is no "),
  });
  expect(node.fingerprint()).toEqual(before);
});

test("join-again --dry-run writes nothing", async () => {
  using node = await withoutData();
  const before = node.fingerprint();
  expect(await node.run(`${LINE} v1.34.4 --dry-run`)).toMatchObject({ exitCode: 0 });
  expect(node.fingerprint()).toEqual(before);
});

const CONTROL_PLANE = ["etcd", "kube-apiserver", "kube-proxy"];
const RUNS = /^"m1" is not lost: etcd and kube-apiserver run here$/;
const STOP_FIRST =
  /^see what this node needs: .*00-assess\.ts.* systemctl stop kubelet; crictl stop etcd-id kube-apiserver-id; .*02-control-plane\.ts --lost m1; /;

test.each(["", " --lost m1", " --dry-run"])(
  "join-again%s on a control plane node that lives is refused",
  async (more) => {
    using node = here(await pretendNode({ kind: "healthy control plane node", containers: CONTROL_PLANE }));
    await expectRefusal(node, `${LINE} v1.34.4${more}`, RUNS, STOP_FIRST, REFUSED);
  },
);

test("join-again waits for an API server that the kubelet is just stopping", async () => {
  using node = await withoutData(["kube-apiserver"], ["kube-apiserver"]);
  const { exitCode, stderr } = await node.run(`${LINE} v1.34.4`, { KUBE_PKI_REPAIR_PATIENCE: "0.3" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
});

test("join-again is refused where servers without a manifest run on", async () => {
  using node = here(await pretendNode({ containers: CONTROL_PLANE }));
  await expectRefusal(node, `${LINE} v1.34.4`, RUNS, STOP_FIRST, REFUSED);
});

test("join-again after the join is refused: the node lives again", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node", containers: CONTROL_PLANE }));
  write(`${node.root}/root/kube-pki-repair-20260101T000000/kubelet/join.yaml`, "kind: JoinConfiguration\n");
  await expectRefusal(node, `${LINE} v1.34.4`, RUNS, STOP_FIRST, REFUSED);
});

test.each([undefined, "healthy control plane node"] as const)(
  "join-again on another machine than the line's is refused (%p)",
  async (kind) => {
    using node = kind ? here(await pretendNode({ kind })) : await withoutData();
    const error = new RegExp(`^"10\\.0\\.0\\.13" is no address of this machine \\(${SHOWN_ADDRESS}\\)$`);
    const line = "join-again --address 10.0.0.13:6443 --kubernetes v1.34.4";
    await expectRefusal(node, line, error, /^log in to the machine with that address: /, REFUSED);
  },
);

const OF_WORKER = "join-again --address 127.77.0.21:6443 --kubernetes v1.34.4";

test("join-again on a worker is refused, unless the operator names it as a lost control plane node", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  const error =
    /^This is no control plane node: it has no trace of one, but it has "\/etc\/kubernetes\/kubelet\.conf"$/;
  await expectRefusal(
    node,
    OF_WORKER,
    error,
    /^run it on a control plane node .*join-again\.ts .* --lost w1$/,
    REFUSED,
  );
  expect(await node.run(`${OF_WORKER} --lost w1`)).toMatchObject({ exitCode: 0 });
});

/** Its servers are stopped, its data is here. */
const withData = async (options: NodeOptions = {}) =>
  here(await pretendNode({ kind: "healthy control plane node", ...options }));

test("join-again where etcd's data is here is refused, unless the operator says that this node is lost", async () => {
  using node = await withData();
  const error =
    /^etcd's data is here, in "\/var\/lib\/etcd", and nothing proves that etcd continues without this member$/;
  await expectRefusal(
    node,
    `${LINE} v1.34.4`,
    error,
    /^see what this node needs: .*00-assess\.ts.*join-again\.ts .* --lost m1$/,
    REFUSED,
  );
  await expectRefusal(
    node,
    `${LINE} v1.34.4 --lost m2`,
    /^This is "m1", not "m2"$/,
    /^check that this is the right machine/,
    REFUSED,
  );
  const { exitCode, stderr } = await node.run(`${LINE} v1.34.4 --lost m1`);
  const said = '  etcd\'s data in "/var/lib/etcd" is given up, as --lost says: kubeadm reset deletes it\n';
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(said) });
});

const OTHER = {
  id: "b1b2c3d4e5f60718",
  name: "m2",
  peerURLs: [`https://${ADDRESS.replace(/11$/, "12")}:2380`],
};

test.each(["", " --lost m1"])(
  "join-again%s is refused where another member of etcd lists this one",
  async (more) => {
    using node = await withData({ members: [MEMBER, OTHER] });
    using _other = await serveOtherMember(
      node.root,
      { ...sameEtcd(node.stored), members: [MEMBER, OTHER] },
      ADDRESS.replace(/11$/, "12"),
    );
    const hint = /^see what this node needs: .*00-assess\.ts.*02-control-plane\.ts --lost m1; /;
    await expectRefusal(
      node,
      `${LINE} v1.34.4${more}`,
      /^"m1" is a member of etcd: m2 lists it$/,
      hint,
      REFUSED,
    );
  },
);

test("join-again goes on where another member of etcd says that this one is out", async () => {
  using node = await withData({ members: [MEMBER, OTHER] });
  using _other = await serveOtherMember(
    node.root,
    { ...sameEtcd(node.stored), members: [OTHER] },
    ADDRESS.replace(/11$/, "12"),
  );
  const { exitCode, stderr } = await node.run(`${LINE} v1.34.4`);
  const said = '  etcd\'s data in "/var/lib/etcd" is of a former member, says m2: kubeadm reset deletes it\n';
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(said) });
});

test("a member that is alone with its list of members proves nothing: it may have been off when this one joined", async () => {
  using node = await withData({ members: [MEMBER, OTHER] });
  using _other = await serveOtherMember(
    node.root,
    { ...sameEtcd(node.stored), members: [OTHER], isAlone: true },
    ADDRESS.replace(/11$/, "12"),
  );
  await expectRefusal(node, `${LINE} v1.34.4`, /^etcd's data is here/, / --lost m1$/, REFUSED);
});

test("join-again asks members of another etcd in vain: they prove nothing", async () => {
  using node = await withData({ members: [MEMBER, OTHER] });
  const foreign = { ...sameEtcd(node.stored), clusterId: "d00d", members: [OTHER] };
  using _other = await serveOtherMember(node.root, foreign, ADDRESS.replace(/11$/, "12"));
  await expectRefusal(node, `${LINE} v1.34.4`, /^etcd's data is here/, / --lost m1$/, REFUSED);
});
