/**
 * A control plane node is lost, and its machine joins again: what part 2 keeps and prints, and what 05-verify
 * then compares.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readdirSync, rmSync } from "node:fs";
import { certInfo } from "../../shared/pki/certificate.ts";
import { healthyCp, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, serveOtherMember, THIRD_AT, THREE } from "../pretend/etcd.ts";
import { HAND_EDIT, M2, mirrorPodOfM2, withM2 } from "../pretend/lost-cp.ts";
import { LEASES, lease, serveRunning } from "../pretend/running.ts";
import { nodeHere } from "../pretend/typed-here.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

test("02-control-plane --lost keeps what a lost control plane node was, and prints how the same machine comes back", async () => {
  using node = await nodeHere({ kind: "healthy control plane node", members: THREE, etcd: withM2 });
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  using _third = await serveOtherMember(node.root, state, THIRD_AT);
  using _api = serveRunning(node, { objects: { "/api/v1/nodes/m2": M2 } });
  const { exitCode, stderr } = await node.run("02-control-plane --lost m2", {
    KUBE_PKI_REPAIR_PATIENCE: "1",
  });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const kubectl = "  kubectl --kubeconfig /etc/kubernetes/admin.conf";
  const printed = stderr.split("\n");
  expect(printed).toContain("  ./bunw scripts/join-again.ts --address 127.77.0.12:7443 --kubernetes v1.34.4");
  expect(printed).toContain("  kubeadm reset --force");
  expect(printed).toContain(
    '  kubeadm join --config "$(ls /root/kube-pki-repair-*/kubelet/join.yaml | tail -n 1)"',
  );
  expect(printed.filter((line) => / (label|taint|patch) .*node m2/.test(line))).toEqual([
    `${kubectl} label --overwrite node m2 disk=nvme node.kubernetes.io/exclude-from-external-load-balancers-`,
    `${kubectl} taint --overwrite node m2 storage=only:NoExecute`,
    expect.stringMatching(
      / patch --type merge --patch-file \S+\/lost-nodes\/m2\/annotation-example\.org_owner\.json node m2$/,
    ),
  ]);
  const page = await node.run("plan --lost m2");
  const [, line] = /^(sed -n .*)$/m.exec(page.stdout)!;
  const again = line!;
  const shown = Bun.spawnSync([
    "bash",
    "-c",
    again.replaceAll(" /root/", ` ${node.root}/root/`),
  ]).stdout.toString();
  expect(shown).toStartWith("After part 3, before part 4:\n");
  expect(shown).toContain(
    '  kubeadm join --config "$(ls /root/kube-pki-repair-*/kubelet/join.yaml | tail -n 1)"\n',
  );
  expect(shown).toContain("\ndone.  next: ");
  const [folder] = readdirSync(`${node.root}/root`).map((name) => `/root/${name}/lost-nodes/m2`);
  expect(readdirSync(node.root + folder).sort()).toEqual(
    [
      "annotation-example.org_owner.json",
      "etcd.yaml",
      "kube-apiserver.yaml",
      "kube-controller-manager.yaml",
      "kube-scheduler.yaml",
      "node.json",
    ].sort(),
  );
  expect(node.read(`${folder}/kube-apiserver.yaml`)).toContain(HAND_EDIT);
  const patch = JSON.parse(node.read(`${folder}/annotation-example.org_owner.json`));
  expect(patch).toEqual({ metadata: { annotations: { "example.org/owner": "O'Neill & co" } } });
});

/**
 * A control plane node that part 2 has left out, and whose name has joined again, as this Node and with these
 * static pods.
 */
async function joinedAgain(now: object, apiServerFlags: string[]) {
  await using served = new AsyncDisposableStack();
  const node = served.use(
    await nodeHere({ kind: "healthy control plane node", members: THREE, etcd: withM2 }),
  );
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  served.use(serveEtcd(node.root, state));
  served.use(await serveOtherMember(node.root, state, THIRD_AT));
  const pods = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"].map((name) => [
    `/api/v1/namespaces/kube-system/pods/${name}-m2`,
    mirrorPodOfM2(name, ...(name === "kube-apiserver" ? apiServerFlags : [])),
  ]);
  const objects = { "/api/v1/nodes/m2": now, [`${LEASES}/m2`]: lease(0), ...Object.fromEntries(pods) };
  served.use(serveRunning(node, { objects }));
  const part2 = await node.run("02-control-plane --lost m2", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect(part2).toMatchObject({ exitCode: 0 });
  const verify = async () => {
    const { stdout } = await node.run("05-verify --all");
    return stdout.split("\n").filter((line) => line.includes("joined again"));
  };
  const mine = served.move();
  return { verify, [Symbol.asyncDispose]: () => mine.disposeAsync() };
}

const again = ({ labels = {}, taints = [] as object[] }) => ({
  metadata: { uid: "uid-of-the-new-m2", labels, annotations: M2.metadata.annotations },
  spec: { taints },
});

test("05-verify names what a control plane node that has joined again has lost, with the lines that put it back", async () => {
  const defaults = again({
    labels: { "node-role.kubernetes.io/control-plane": "" },
    taints: M2.spec.taints.slice(0, 1),
  });
  await using m2 = await joinedAgain(defaults, ["--event-ttl=1h"]);
  const rows = await m2.verify();
  const kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf";
  const folder = "/root/kube-pki-repair-TIME/lost-nodes/m2";
  const begin = "nodes: m2, which has joined again:";
  const meant = `; or, if it is to be so: rm -r ${folder}`;
  expect(rows).toEqual([
    `  failed   ${begin} labels, taints, annotations: !CHANGED!: ${kubectl} label --overwrite node m2 disk=nvme; ${kubectl} taint --overwrite node m2 storage=only:NoExecute${meant}`,
    `  failed   ${begin} kube-apiserver: !CHANGED!: +--event-ttl=1h -${HAND_EDIT}: scp -p ${folder}/kube-apiserver.yaml root@m2:/etc/kubernetes/manifests/${meant}`,
    `  ok       ${begin} etcd: as before`,
    `  ok       ${begin} kube-controller-manager: as before`,
    `  ok       ${begin} kube-scheduler: as before`,
  ]);
});

test("05-verify says that a control plane node that has joined again is as before when all is put back", async () => {
  await using m2 = await joinedAgain(
    again({ labels: M2.metadata.labels, taints: M2.spec.taints.slice(0, 2) }),
    [HAND_EDIT],
  );
  const rows = await m2.verify();
  expect(rows.map((line) => line.trim().split(" ")[0])).toEqual(["ok", "ok", "ok", "ok", "ok"]);
});

test("05-verify compares nothing while the Node of the lost control plane node is still there", async () => {
  await using m2 = await joinedAgain(M2, []);
  expect(await m2.verify()).toEqual([]);
});

test("hand-over unpack on a control plane node without etcd data names the way on without it, not part 1", async () => {
  using from = await nodeHere({ kind: "healthy control plane node" });
  write(`${from.root}/root/passphrase`, "nine trees by the river");
  const pack = await from.run("hand-over pack --passphrase-file /root/passphrase --out /root/keys.age");
  expect(pack).toMatchObject({ exitCode: 0 });
  using node = await nodeHere();
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  for (const file of ["passphrase", "keys.age"])
    cpSync(`${from.root}/root/${file}`, `${node.root}/root/${file}`);
  const line = /hand-over\.ts unpack .*/
    .exec(pack.stderr)![0]
    .replace("hand-over.ts", "hand-over")
    .replace(/sha256:HASH/, certInfo(from.ca.cert).publicKeyHash);
  const { exitCode, stderr } = await node.run(line);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("etcd's data is not here: part 1 would not begin\n");
  expect(stderr.trimEnd().split("\n").at(-1)).toMatch(
    /^done\. {2}next: lsblk -f, then if etcd is on other machines: \.\/bunw scripts\/00-assess\.ts --etcd-data https:\/\/HOST:2379, then on another control plane node, if the data is lost for good: \.\/bunw scripts\/02-control-plane\.ts --lost m1, then \.\/bunw scripts\/restore\.ts SNAPSHOT --as m1 --dry-run$/,
  );
});
