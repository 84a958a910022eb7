/**
 * join-again where something is saved already: each save has a folder of its own, and after kubeadm reset the
 * last one is all there is.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, renameSync, rmSync } from "node:fs";
import { parse } from "yaml";
import { ADDRESS, healthyCp, write } from "../pretend/cluster.ts";
import { CRICTL, crictlPs, pretendNode } from "../pretend/node.ts";
import { expectRefusal, REFUSED } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

type Pretended = Awaited<ReturnType<typeof pretendNode>>;

/** Of the first save, as if it had been made long ago. */
const EARLIER = "/root/kube-pki-repair-20260101T000000/kubelet";
const CONFIG = "/var/lib/kubelet/config.yaml";
const FLAGS = "/var/lib/kubelet/kubeadm-flags.env";
const line = (port: number, version: string) =>
  `join-again --address ${ADDRESS}:${port} --kubernetes ${version}`;
const FIRST = line(6443, "v1.30.14");
const SECOND = line(7443, "v1.34.4");

function setFlags(node: Pretended, ...flags: string[]) {
  const all = ["--container-runtime-endpoint=unix:///run/x.sock", ...flags.map((flag) => `--${flag}`)];
  write(node.root + FLAGS, `KUBELET_KUBEADM_ARGS="${all.join(" ")}"\n`, 0o644);
}

/** A control plane node whose etcd data is lost, after join-again with the first line. */
async function savedOnce() {
  const command = `${CRICTL.replace("containerd/containerd", "x")} ps -a -o json`;
  const node = await pretendNode({ commands: [{ command, stdout: crictlPs([]) }] });
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  setFlags(node, "node-ip=10.0.0.13", "v=2");
  expect(await node.run(FIRST)).toMatchObject({ exitCode: 0 });
  const [rescue] = saves(node);
  renameSync(`${node.root}/root/${rescue}`, `${node.root}${EARLIER.replace("/kubelet", "")}`);
  return node;
}

/** Rescue folders, the oldest first. */
function saves(node: Pretended): string[] {
  return readdirSync(`${node.root}/root`)
    .filter((name) => node.exists(`/root/${name}/kubelet/join.yaml`))
    .sort();
}

/** The folder of the second save; the first has to be as it was. */
async function savedAgain(node: Pretended, again: string) {
  const first = FILES.map((file) => node.read(`${EARLIER}/${file}`));
  const { exitCode, stderr } = await node.run(again);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(FILES.map((file) => node.read(`${EARLIER}/${file}`))).toEqual(first);
  expect(saves(node)).toHaveLength(2);
  const saved = `/root/${saves(node)[1]}/kubelet`;
  expect(stderr).toContain(
    `, then kubeadm join --config /root/kube-pki-repair-TIME/kubelet/join.yaml, then diff `,
  );
  return { saved, stderr, join: parse(node.read(`${saved}/join.yaml`)) };
}

const FILES = ["config.yaml", "kubeadm-flags.env", "join.yaml"];

function reset(node: Pretended) {
  for (const path of [CONFIG, FLAGS]) rmSync(node.root + path);
}

/** The second line is of a later release, whose kubeadm reads flags as a list. */
const OF_SECOND = {
  apiVersion: "kubeadm.k8s.io/v1beta4",
  controlPlane: { localAPIEndpoint: { advertiseAddress: ADDRESS, bindPort: 7443 } },
};
const NODE_IP = { name: "node-ip", value: "10.0.0.13" };
const V = { name: "v", value: "2" };

const OTHERS =
  /warning: the previous save has another (.*): diff -r \S+TIME\/kubelet \S+TIME\/kubelet\n {2}if the previous one is right: kubeadm join --config \S+\/join\.yaml\n/;

test("join-again with another line saves anew beside what was saved before, and says what differs", async () => {
  using node = await savedOnce();
  setFlags(node, "node-ip=10.0.0.13", "max-pods=50");
  write(node.root + CONFIG, `${node.read(CONFIG)}# of today\n`);
  const { saved, stderr, join } = await savedAgain(node, SECOND);
  const args = [NODE_IP, { name: "max-pods", value: "50" }];
  expect(join).toMatchObject({ ...OF_SECOND, nodeRegistration: { name: "m1", kubeletExtraArgs: args } });
  expect(node.read(`${saved}/config.yaml`)).toEndWith("# of today\n");
  expect(OTHERS.exec(stderr)?.[1]).toBe("config.yaml, kubeadm-flags.env, join.yaml");
});

test("join-again with the same line saves the same again", async () => {
  using node = await savedOnce();
  const { saved, stderr } = await savedAgain(node, FIRST);
  for (const file of FILES) expect(node.read(`${saved}/${file}`)).toBe(node.read(`${EARLIER}/${file}`));
  expect(stderr).not.toContain("the previous save");
});

test("join-again with another line after kubeadm reset takes the flags that are saved: nothing else has them", async () => {
  using node = await savedOnce();
  write(
    `${node.root}${EARLIER}/join.yaml`,
    `${node.read(`${EARLIER}/join.yaml`)}patches: {directory: /root/patches}\n`,
  );
  reset(node);
  const { saved, stderr, join } = await savedAgain(node, SECOND);
  const nodeRegistration = { name: "m1", criSocket: "unix:///run/x.sock", kubeletExtraArgs: [NODE_IP, V] };
  expect(join).toMatchObject({ ...OF_SECOND, nodeRegistration });
  for (const file of FILES.slice(0, 2))
    expect(node.read(`${saved}/${file}`)).toBe(node.read(`${EARLIER}/${file}`));
  expect(OTHERS.exec(stderr)?.[1]).toBe("join.yaml");
});

test("join-again after kubeadm reset with the line of another machine is refused", async () => {
  using node = await savedOnce();
  reset(node);
  const error = /^"10\.0\.0\.14" is no address of this machine \(\S+\)$/;
  await expectRefusal(
    node,
    "join-again --address 10.0.0.14:6443 --kubernetes v1.34.4",
    error,
    /^log in to the machine with that address: /,
    REFUSED,
  );
});

test.each(["kind: [", "kind: JoinConfiguration\n"])(
  "join-again after kubeadm reset stops at a join.yaml that it cannot read: %j",
  async (text) => {
    using node = await savedOnce();
    reset(node);
    write(`${node.root}${EARLIER}/join.yaml`, text);
    await expectRefusal(
      node,
      SECOND,
      /^Cannot use ".*join\.yaml": it /,
      /^repair that file by hand: the kubelet's flags are in .*kubeadm-flags\.env/,
    );
  },
);
