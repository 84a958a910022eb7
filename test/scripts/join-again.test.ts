/** join-again as operators run it: what it saves of a kubelet, and the file for kubeadm join. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { parse } from "yaml";
import { healthyCp, write } from "../pretend/cluster.ts";
import { expectTranscript, pretendNode } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(60_000);

await healthyCp();

const SAVED = "/root/kube-pki-repair-kubelet";
const FLAGS = "/var/lib/kubelet/kubeadm-flags.env";
const ENV = `KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/x.sock --node-ip=10.0.0.13 --pod-infra-container-image=pause:3.10 --root-dir=/data/kubelet --v"\n`;
const LINE = "join-again --address 10.0.0.13:6443 --kubernetes";

/** A control plane node whose /etc/kubernetes and etcd data are lost. */
async function withoutData() {
  const node = await pretendNode();
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  write(node.root + FLAGS, ENV, 0o644);
  return node;
}

test("join-again saves the kubelet's flags and configuration, and writes a join.yaml with the flags that are not kubeadm's own", async () => {
  using node = await withoutData();
  await expectTranscript("join-again", await node.run(`${LINE} v1.34.4`));
  expect(parse(node.read(`${SAVED}/join.yaml`))).toEqual({
    apiVersion: "kubeadm.k8s.io/v1beta4",
    kind: "JoinConfiguration",
    discovery: { file: { kubeConfigPath: "/etc/kubernetes/admin.conf" } },
    controlPlane: { localAPIEndpoint: { advertiseAddress: "10.0.0.13", bindPort: 6443 } },
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
  expect(node.read(`${SAVED}/kubeadm-flags.env`)).toBe(ENV);
  expect(node.read(`${SAVED}/config.yaml`)).toBe(node.read("/var/lib/kubelet/config.yaml"));
});

test("join-again writes the older format, with a map of flags, for a kubeadm before 1.31", async () => {
  using node = await withoutData();
  expect(await node.run(`${LINE} v1.30.14`)).toMatchObject({ exitCode: 0 });
  expect(parse(node.read(`${SAVED}/join.yaml`))).toMatchObject({
    apiVersion: "kubeadm.k8s.io/v1beta3",
    nodeRegistration: { kubeletExtraArgs: { "node-ip": "10.0.0.13", "root-dir": "/data/kubelet", v: "true" } },
  });
});

test("join-again keeps what it has saved: after a join the flags are others", async () => {
  using node = await withoutData();
  await node.run(`${LINE} v1.34.4`);
  write(node.root + FLAGS, `KUBELET_KUBEADM_ARGS=""\n`, 0o644);
  const saved = node.fingerprint();
  const { exitCode, stderr } = await node.run(`${LINE} v1.34.4`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(`  ${SAVED}/join.yaml: kept`) });
  expect(node.fingerprint()).toEqual(saved);
});

test.each([
  ["no address", "join-again", "join-again needs --address and --kubernetes"],
  ["an address without a port", "join-again --address 10.0.0.13 --kubernetes v1.34.4", '"10.0.0.13" is no address with a port'],
])("join-again refuses %s, and changes nothing", async (_, line, error) => {
  using node = await withoutData();
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(line);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(`error: ${error}\nhint: `) });
  expect(node.fingerprint()).toEqual(before);
});

test("join-again after kubeadm reset says that the flags are gone", async () => {
  using node = await withoutData();
  rmSync(node.root + FLAGS);
  const { exitCode, stderr } = await node.run(`${LINE} v1.34.4`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("error: There is no ") });
  expect(node.exists(SAVED)).toBe(false);
});

test("join-again --dry-run writes nothing", async () => {
  using node = await withoutData();
  const before = node.fingerprint();
  expect(await node.run(`${LINE} v1.34.4 --dry-run`)).toMatchObject({ exitCode: 0 });
  expect(node.fingerprint()).toEqual(before);
});
