/**
 * 02-control-plane --lost NODE, on pretend nodes: a control plane node that is lost for good leaves etcd, and
 * a new one can come in.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { reduced } from "../../shared/manifests/repair-changes.ts";
import { RESTARTS } from "../pretend/after-part2.ts";
import { FACTS, manifest, mirrorPod, write } from "../pretend/cluster.ts";
import {
  LOST,
  sameEtcd,
  serveEtcd,
  serveOtherMember,
  TAKEN_OUT,
  THIRD,
  THIRD_AT,
  THREE,
} from "../pretend/etcd.ts";
import { servePart2, withVip } from "../pretend/in-part2.ts";
import { expectTranscript, MEMBER, pretendNode } from "../pretend/node.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

test("02-control-plane --lost takes a lost control plane node out of etcd, and says how a new one comes in without a secret in a command line", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    members: THREE,
    etcd: withVip(mirrorPod("kube-vip")),
    commands: RESTARTS,
  });
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  using _third = await serveOtherMember(node.root, state, THIRD_AT);
  using _api = servePart2(node);
  await expectTranscript(
    "02-control-plane-without",
    await node.run("02-control-plane --lost m2", { KUBE_PKI_REPAIR_PATIENCE: "1" }),
  );
  expect(state.members).toEqual([MEMBER, THIRD]);
});

test("02-control-plane --lost a worker takes nothing out of etcd, and prints no control plane node's join", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  const { exitCode, stderr } = await node.run("02-control-plane --lost w2", {
    KUBE_PKI_REPAIR_PATIENCE: "1",
  });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).not.toMatch(/taken out|kubeadm join|takes the place of/);
  expect(stderr).toContain(
    "\ndone.  next: kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found w2, then ",
  );
});

test.each(["", " --dry-run"])(
  "02-control-plane%s --lost so many that etcd never answers says so at once, not after a wait for it",
  async (dry) => {
    using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, LOST] });
    await expectRefusal(
      node,
      `02-control-plane${dry} --lost m2`,
      "etcd cannot answer without m2: 2 of its 2 members have to run, and 1 would be left",
      /^bring one of these nodes back/,
      3,
    );
  },
);

test("02-control-plane on the next control plane node leaves out what the first one took out of etcd, and prints that on", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    members: [MEMBER, TAKEN_OUT],
    commands: RESTARTS,
  });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  write(
    `${node.root}/etc/kubernetes/manifests/kube-controller-manager.yaml`,
    manifestText(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion)),
  );
  write(
    `${node.root}/var/lib/kubelet/config.yaml`,
    `${node.read("/var/lib/kubelet/config.yaml")}serverTLSBootstrap: true\n`,
  );
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "  w2: no member of etcd any more (02-control-plane --lost): left out here, too\n",
  );
  expect(stderr).toContain(
    "\nAfter part 3, before part 4:\n  kubectl --kubeconfig /etc/kubernetes/admin.conf delete node w2\n",
  );
  expect(stderr).toContain("\n  kubeadm join --control-plane --discovery-file /etc/kubernetes/admin.conf\n");
  // restored data, or an attacker, may have other requests of that name: `close` knows whose they are
  expect(stderr).toContain("approve its serving certificate:\n  ./bunw scripts/03-workers.ts close\n");
  expect(stderr).toEndWith(`\ndone.  next: ${DELETE} w2, then ./bunw scripts/05-verify.ts\n`);
});

const DELETE = "kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found";

test("02-control-plane --dry-run --lost prints that a member is taken out of etcd, before etcd answers as well, and who remains", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [...THREE] });
  const before = node.fingerprint();
  const line = "02-control-plane --dry-run --lost m3";
  const removal =
    "  would remove m3 from etcd's members\n" +
    "  then etcd has the members m1, m2, and answers while 2 of its 2 members run\n";
  const silent = await node.run(line);
  expect([silent.exitCode, silent.stderr]).toEqual([0, expect.stringContaining(removal)]);
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  expect((await node.run(line)).stderr).toContain(removal);
  state.members = [MEMBER, LOST];
  expect((await node.run(line)).stderr).toContain("  m3: is no member of etcd any more\n");
  expect(node.fingerprint()).toEqual(before);
});

test("02-control-plane --dry-run --lost prints the removal where part 1 has not been there yet", async () => {
  using node = await pretendNode({ members: THREE });
  const { stderr } = await node.run("02-control-plane --dry-run --lost m2");
  expect(stderr).toContain("  would remove m2 from etcd's members");
  expect(stderr).toContain("  then etcd has the members m1, m3, and answers while 2 of its 2 members run\n");
});

test("02-control-plane says which member of etcd does not answer, and the way without it", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, LOST] });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [MEMBER, LOST] });
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect(exitCode).toBe(3);
  expect(stderr).toContain("  etcd 3.6.5: healthy, leader m1, 1 of 2 members answer, not m2\n");
  expect(stderr).toContain(
    "hint: m2 does not answer: run part 1 on that node first\n  If it is away for now: ./bunw scripts/02-control-plane.ts --without m2\n  If its data is lost for good: ./bunw scripts/02-control-plane.ts --lost m2\n",
  );
});
