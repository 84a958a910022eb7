/**
 * Pods are encrypted, too (`*.*`): what tells where the encryption configuration lies, and that no tenant can
 * tell it.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { stringify } from "yaml";
import type { Manifest } from "../../shared/objects/objects.ts";
import { KUBELET_CONFIG, manifest, mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { cgroupFolder } from "../pretend/memory.ts";
import { CRICTL, crictlPs, type NodeOptions, pretendNode, staticUid } from "../pretend/node.ts";
import { encryptionConfig, sealed } from "../pretend/sealed.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const KEY = randomBytes(32);
const CONFIG = "/srv/enc/encryption.yaml";
const FLAG = "--encryption-provider-config=/enc/encryption.yaml";
const ID = "a".repeat(64);
const UID = "0123456789abcdef0123456789abcdef";

/**
 * All of etcd's data, as `resources: ["*.*"]` makes it; the API server's mirror pod names the configuration.
 */
function all(objects: Objects) {
  objects["pods/kube-system/kube-apiserver-m1"] = withConfig(mirrorPod("kube-apiserver"));
  for (const [path, object] of Object.entries(objects))
    objects[path] = sealed(
      "secretbox",
      Buffer.from(JSON.stringify(object)),
      KEY,
      `/registry/${path}`,
    ) as unknown as object;
}

function withConfig(pod: Manifest): Manifest {
  const [container] = pod.spec.containers;
  container!.command!.push(FLAG);
  container!.volumeMounts!.push({ name: "enc", mountPath: "/enc" });
  pod.spec.volumes!.push({ name: "enc", hostPath: { path: "/srv/enc", type: "DirectoryOrCreate" } });
  return pod;
}

/** An API server's container that has ended, with its configuration below `dir` of the host. */
function runtime({
  uid = UID,
  namespace = "kube-system",
  dir = "/srv/enc",
} = {}): NonNullable<NodeOptions["commands"]> {
  const ps = crictlPs(["kube-proxy", "kube-apiserver"])
    .replaceAll("kube-apiserver-id", ID)
    .replaceAll(staticUid("kube-apiserver"), uid)
    .replaceAll("kube-system", namespace)
    .replace(/CONTAINER_RUNNING(?=[^{]*$)/, "CONTAINER_EXITED");
  const args = ["kube-apiserver", FLAG, "--authorization-config=/enc/authz.yaml"];
  const mounts = [
    { containerPath: "/enc", hostPath: dir },
    {
      containerPath: "/dev/termination-log",
      hostPath: "/var/lib/kubelet/pods/x/containers/kube-apiserver/1",
    },
  ];
  const inspected = { status: { mounts }, info: { runtimeSpec: { process: { args, env: ["PATH=/bin"] } } } };
  return [
    { command: `${CRICTL} ps -a -o json`, stdout: ps },
    { command: `${CRICTL} inspect -o json ${ID}`, stdout: JSON.stringify(inspected) },
  ];
}

const nodeWith = (commands: NodeOptions["commands"] = []) => pretendNode({ etcd: all, commands });

/** Whether the data could be read. */
async function reads(node: Awaited<ReturnType<typeof pretendNode>>) {
  const { stdout, stderr, exitCode } = await node.run("01-etcd --new-cas --dry-run");
  return {
    isRead: stdout.includes("done: nothing was changed") || stderr.includes("done: nothing was changed"),
    exitCode,
    stderr,
  };
}

test("the API server's container that has ended names the file; while it is lost, each script says where it has to lie", async () => {
  using node = await nodeWith(runtime());
  const assessed = await node.run("00-assess");
  expect(assessed.stdout).toMatch(
    new RegExp(`${CONFIG} +!MISSING! +named by kube-apiserver --encryption-provider-config`),
  );
  expect(assessed.stdout).toMatch(/\/srv\/enc\/authz\.yaml +!MISSING!/);
  expect(assessed.stdout).not.toContain("/var/lib/kubelet/pods/x");
  expect(assessed.stdout).toContain(
    `bring the EncryptionConfiguration back first, from a backup or another control plane node: scp -p root@NODE:${CONFIG} ${CONFIG}`,
  );
  const { stderr, exitCode } = await node.run("01-etcd --new-cas");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining(`scp -p root@NODE:${CONFIG} ${CONFIG}`),
  });

  write(node.root + CONFIG, encryptionConfig("secretbox", randomBytes(32)));
  expect((await reads(node)).stderr).toContain(`The one in ${CONFIG} does not open it`);
  write(node.root + CONFIG, encryptionConfig("secretbox", KEY));
  write(`${node.root}/srv/enc/authz.yaml`, "kind: AuthorizationConfiguration\n");
  expect(await reads(node)).toMatchObject({ isRead: true, exitCode: 0 });
});

test("00-salvage files brings it back from a backup to the place that the container names", async () => {
  using node = await nodeWith(runtime());
  write(`${node.root}/backup/encryption.yaml`, encryptionConfig("secretbox", KEY));
  await node.run("00-salvage files --backup /backup");
  expect(node.read(CONFIG)).toContain("key1");
});

test.each([
  ["in another namespace", { namespace: "a-team" }],
  ["that the API server made", { uid: "01234567-89ab-cdef-0123-456789abcdef" }],
])("a container of this name of a pod %s names no file", async (_, pod) => {
  using node = await nodeWith(runtime({ ...pod, dir: "/srv/tenant" }));
  write(`${node.root}/srv/tenant/encryption.yaml`, encryptionConfig("secretbox", KEY));
  const { isRead, stderr } = await reads(node);
  expect(isRead).toBe(false);
  expect(stderr).not.toContain("/srv/tenant");
});

test("the manifest in another folder than kubeadm's names it", async () => {
  using node = await nodeWith();
  write(
    `${node.root}/var/lib/kubelet/config.yaml`,
    KUBELET_CONFIG.replace("/etc/kubernetes/manifests", "/srv/manifests"),
  );
  write(`${node.root}/srv/manifests/kube-apiserver.yaml`, stringify(withConfig(manifest("kube-apiserver"))));
  write(node.root + CONFIG, encryptionConfig("secretbox", KEY));
  expect(await reads(node)).toMatchObject({ isRead: true, exitCode: 0 });
});

test("a running API server of the control plane names it, though its file was deleted; another process of that name does not", async () => {
  using node = await nodeWith([{ command: `${CRICTL} ps -a -o json`, stderr: "no runtime\n", exit: 1 }]);
  const cgroup = `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID}.slice/cri-containerd-${ID}.scope`;
  const files = {
    "1/cgroup": "0::/init.scope\n",
    "1/mountinfo": "1 1 8:1 / / rw - ext4 /dev/x rw\n",
    "77/comm": "kube-apiserver\n",
    "77/cgroup": `0::${cgroup}\n`,
    "77/cmdline": `kube-apiserver\0${FLAG}\0`,
    "77/mountinfo": `1 1 0:9 / / rw - overlay o rw\n2 1 8:1 ${CONFIG}//deleted /enc/encryption.yaml rw - ext4 /dev/x rw\n`,
  };
  for (const [path, text] of Object.entries(files)) write(`${node.root}/proc/${path}`, text);
  cgroupFolder(node.root, cgroup);
  write(node.root + CONFIG, encryptionConfig("secretbox", KEY));
  const isRead = async () => !(await node.run("00-assess")).stdout.includes("!INCOMPLETE!");
  expect(await isRead()).toBe(false);
  write(`${node.root}/var/log/pods/kube-system_kube-apiserver-m1_${UID}/kube-apiserver/0.log`, "");
  expect(await isRead()).toBe(true);
});

test("where nothing names it, it may lie anywhere below /etc/kubernetes: it counts by what it opens", async () => {
  using node = await nodeWith();
  const place = "/etc/kubernetes/from-backup/encryption.yaml";
  write(
    `${node.root}/etc/kubernetes/from-backup/another.yaml`,
    encryptionConfig("secretbox", randomBytes(32)),
  );
  write(
    `${node.root}/etc/kubernetes/from-backup/half.yaml`,
    "kind: EncryptionConfiguration\nresources: [{\n",
  );
  const { isRead, stderr } = await reads(node);
  expect(isRead).toBe(false);
  expect(stderr).toContain("Nothing here names its path. So put it anywhere below /etc/kubernetes");
  write(node.root + place, encryptionConfig("secretbox", KEY));
  expect(await reads(node)).toMatchObject({ isRead: true, exitCode: 0 });
  const { stdout } = await node.run("00-assess");
  expect(stdout).toMatch(
    new RegExp(`${CONFIG} +!MISSING! +named by kube-apiserver --encryption-provider-config`),
  );
});

test("part 1 to its end: the running etcd shows encrypted values, too, and is the one from before", async () => {
  let stored: Objects = {};
  using node = await pretendNode({
    etcd: (objects) => {
      all(objects);
      stored = { ...objects };
    },
    commands: runtime(),
  });
  write(node.root + CONFIG, encryptionConfig("secretbox", KEY));
  write(`${node.root}/srv/enc/authz.yaml`, "kind: AuthorizationConfiguration\n");
  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  const keys = new Map(
    Object.entries(stored).map(([path, value]) => [`/registry/${path}`, value as unknown as Uint8Array]),
  );
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), keys });
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("the namespace kube-system and 3 Nodes have the UIDs read before");
});
