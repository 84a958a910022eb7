/** join-again where something is saved already: the same machine is lost a second time, or the line was another one. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { parse } from "yaml";
import { ADDRESS, healthyCp, write } from "../pretend/cluster.ts";
import { CRICTL, crictlPs, pretendNode } from "../pretend/node.ts";
import { expectRefusal, REFUSED } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

type Pretended = Awaited<ReturnType<typeof pretendNode>>;

const SAVED = "/root/kube-pki-repair-kubelet";
const CONFIG = "/var/lib/kubelet/config.yaml";
const FLAGS = "/var/lib/kubelet/kubeadm-flags.env";
const line = (port: number, version: string) => `join-again --address ${ADDRESS}:${port} --kubernetes ${version}`;
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
  return node;
}

function reset(node: Pretended) {
  for (const path of [CONFIG, FLAGS]) rmSync(node.root + path);
}

const joinConfig = (node: Pretended) => parse(node.read(`${SAVED}/join.yaml`));

/** Contents of files of that name that were moved or copied aside. */
function aside(node: Pretended, name: string): string[] {
  const files = readdirSync(`${node.root}/root`, { recursive: true, encoding: "utf8" });
  return files.filter((file) => file.endsWith(`/aside${SAVED}/${name}`)).map((file) => readFileSync(`${node.root}/root/${file}`, "utf8"));
}

/** The second line is of a later release, whose kubeadm reads flags as a list. */
const OF_SECOND = {
  apiVersion: "kubeadm.k8s.io/v1beta4",
  controlPlane: { localAPIEndpoint: { advertiseAddress: ADDRESS, bindPort: 7443 } },
};
const NODE_IP = { name: "node-ip", value: "10.0.0.13" };
const V = { name: "v", value: "2" };

test("join-again with another line saves anew, and moves aside what was saved before", async () => {
  using node = await savedOnce();
  const before = node.read(`${SAVED}/join.yaml`);
  setFlags(node, "node-ip=10.0.0.13", "v=2", "max-pods=50");
  write(node.root + CONFIG, `${node.read(CONFIG)}# of today\n`);
  const { exitCode, stderr } = await node.run(SECOND);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringMatching(/\n {2}moved \S+kubelet to .*\n.*config\.yaml/),
  });
  const args = [NODE_IP, V, { name: "max-pods", value: "50" }];
  expect(joinConfig(node)).toMatchObject({ ...OF_SECOND, nodeRegistration: { name: "m1", kubeletExtraArgs: args } });
  expect(node.read(`${SAVED}/config.yaml`)).toEndWith("# of today\n");
  expect(aside(node, "join.yaml")).toEqual([before]);
});

test("join-again with another line after kubeadm reset takes the flags that are saved: nothing else has them", async () => {
  using node = await savedOnce();
  write(`${node.root}${SAVED}/join.yaml`, `${node.read(`${SAVED}/join.yaml`)}patches: {directory: /root/patches}\n`);
  const before = node.read(`${SAVED}/join.yaml`);
  reset(node);
  expect(await node.run(SECOND)).toMatchObject({ exitCode: 0 });
  const nodeRegistration = { name: "m1", criSocket: "unix:///run/x.sock", kubeletExtraArgs: [NODE_IP, V] };
  expect(joinConfig(node)).toMatchObject({ ...OF_SECOND, nodeRegistration, patches: { directory: "/root/patches" } });
  expect(aside(node, "join.yaml")).toEqual([before]);
  const written = node.fingerprint().filter((one) => one.includes("join.yaml"));
  expect(await node.run(SECOND)).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(`  ${SAVED}/join.yaml: kept\n`) });
  expect(node.fingerprint().filter((one) => one.includes("join.yaml"))).toEqual(written);
});

test("join-again with another line after a join that failed keeps the flags from before it, and the configuration of today", async () => {
  using node = await savedOnce();
  setFlags(node, "v=2");
  write(node.root + CONFIG, `${node.read(CONFIG)}# of today\n`);
  const { exitCode, stderr } = await node.run(SECOND);
  const said = `  ${SAVED}/join.yaml has --node-ip=10.0.0.13, and the kubelet of today has not. If you took that away: mv ${SAVED} `;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(said) });
  expect(joinConfig(node)).toMatchObject({ ...OF_SECOND, nodeRegistration: { kubeletExtraArgs: [NODE_IP, V] } });
  const configs = readdirSync(node.root + SAVED).filter((name) => name.startsWith("config"));
  expect(configs.map((name) => node.read(`${SAVED}/${name}`).endsWith("# of today\n")).sort()).toEqual([false, true]);
});

test.each([FIRST, SECOND])("join-again (%s) is refused where the saved flags and those of today are others", async (again) => {
  using node = await savedOnce();
  setFlags(node, "node-ip=10.0.0.14", "v=2");
  const error = /^"\S+\/join\.yaml" has --node-ip=10\.0\.0\.13, and the kubelet of today has --node-ip=10\.0\.0\.14 instead$/;
  const hint = /^nothing was changed: .*: mv \S+ \$\(mktemp .*\); \S+ \S+join-again\.ts .* cp \S+ \S+, then \S+ \S+join-again\.ts /;
  await expectRefusal(node, again, error, hint, REFUSED);
});

test("join-again after kubeadm reset with the line of another machine is refused, with the line that was right", async () => {
  using node = await savedOnce();
  reset(node);
  const error = /^"\S+\/join\.yaml" is for \S+, and this line for 10\.0\.0\.14$/;
  const hint = /^nothing was changed\. .*join-again\.ts --address \S+:6443 --kubernetes v1\.34\.4\. /;
  await expectRefusal(node, "join-again --address 10.0.0.14:6443 --kubernetes v1.34.4", error, hint, REFUSED);
});

test.each(["kind: [", "kind: JoinConfiguration\n"])("join-again stops at a join.yaml that it cannot read: %j", async (text) => {
  using node = await savedOnce();
  write(`${node.root}${SAVED}/join.yaml`, text);
  await expectRefusal(node, SECOND, /^Cannot use ".*join\.yaml": it /, /^repair it; the flags are in .*kubeadm-flags\.env/);
});
