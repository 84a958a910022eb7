/**
 * Each part as operators run it, to its end, in this process: what is decided, printed and changed. The same
 * transcripts as test/scripts.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { parse } from "yaml";
import type { KubeObject } from "../../shared/api/kube-object.ts";
import { kubeletKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { afterPart2, MANAGER, RESTARTS } from "../pretend/after-part2.ts";
import {
  ADDRESS,
  manifest,
  mirrorPod,
  type Objects,
  otherCa,
  write,
  writeKubelet,
} from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, serveOtherMember, THIRD, THIRD_AT, THREE } from "../pretend/etcd.ts";
import { servePart2, withVip } from "../pretend/in-part2.ts";
import { join, joinToItsEnd, kubeletFiles, newCa, serve, writeToken } from "../pretend/joining.ts";
import { CRICTL, expectTranscript, MEMBER, pretendNode } from "../pretend/node.ts";
import { ASKED } from "../pretend/plan.ts";
import { knewCa, LEASES, lease, MANAGER_LEASE, serveRunning } from "../pretend/running.ts";
import { serveStale } from "../pretend/stale.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const PART = { KUBE_PKI_REPAIR_PATIENCE: "0.1" };
const CONTROL_PLANE = ["kube-apiserver", "kube-controller-manager", "kube-proxy"];
const before = await otherCa();

test("parts 1 and 2: etcd and the API come back, and run again each changes no byte", async () => {
  using node = here(await pretendNode({ containers: CONTROL_PLANE }));
  await expectTranscript("01-etcd-dry-run", await node.run("01-etcd --dry-run --new-cas"));
  const part1 = node.run("01-etcd --new-cas", WAITS);
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  await expectTranscript("01-etcd", await part1);
  const untouched = node.fingerprint();
  await expectTranscript("01-etcd-again", await node.run("01-etcd"));
  expect(node.fingerprint()).toEqual(untouched);
});

test("part 2: the API comes back, and run again changes no byte", async () => {
  using node = here(await pretendNode());
  await expectTranscript("02-control-plane-no-part-1", await node.run("02-control-plane"));
  const part1 = node.run("01-etcd --new-cas", WAITS);
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  expect(await part1).toMatchObject({ exitCode: 0 });
  const part2 = node.run("02-control-plane", WAITS);
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), part2]);
  using _api = servePart2(node);
  await expectTranscript("02-control-plane", await part2);
  const untouched = node.fingerprint();
  await expectTranscript("02-control-plane-again", await node.run("02-control-plane", WAITS));
  expect(node.fingerprint()).toEqual(untouched);
});

test("beside other control plane nodes part 1 sends for their keys, and not to new ones", async () => {
  using node = here(await pretendNode({ ...ASKED, kind: "healthy control plane node" }));
  for (const file of ["ca.crt", "ca.key"]) rmSync(`${node.root}/etc/kubernetes/pki/${file}`);
  const { stderr } = await node.run("01-etcd");
  expect(stderr).toContain(
    "\nhint: bring it from m2 or m3, first of all if a repair has made a new one there: on that node ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE\n",
  );
  expect(stderr).not.toContain("--new-cas");
});

// without that of kube-apiserver part 1 refuses before: nothing else says where the API listens
test.each(["kube-scheduler", "kube-controller-manager"])(
  "where the mirror pod of %s is gone, part 1 brings etcd back all the same, and part 2 names it",
  async (name) => {
    const etcd = (objects: Objects) => {
      delete objects[`pods/kube-system/${name}-m1`];
    };
    using node = here(await pretendNode({ etcd }));
    const part1 = node.run("01-etcd --new-cas", WAITS);
    await Promise.race([node.called("systemctl restart kubelet"), part1]);
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    const unknown = `Cannot find the mirror pod of ${name} on "m1" in etcd's data`;
    expect(await part1).toEqual({
      exitCode: 0,
      stdout: "",
      stderr: expect.stringContaining(`warning: ${unknown}, and part 2 stops there. Before it: take`),
    });
    const before = node.fingerprint();
    expect(await node.run("02-control-plane", WAITS)).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining(`error: ${unknown}\nhint: take ${name}.yaml from another`),
    });
    expect(node.fingerprint()).toEqual(before);
  },
);

test("part 3: open", async () => {
  using node = here(await afterPart2());
  using _api = serveRunning(node);
  await expectTranscript("03-workers-open", await node.run("03-workers open"));
});

test("part 2 takes a lost control plane node out of etcd, and says how a machine takes its place", async () => {
  const options = {
    kind: "healthy control plane node",
    members: THREE,
    etcd: withVip(mirrorPod("kube-vip")),
    commands: RESTARTS,
  } as const;
  using node = here(await pretendNode({ ...options, members: [...THREE], commands: [...RESTARTS] }));
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  using _third = await serveOtherMember(node.root, state, THIRD_AT);
  using _api = servePart2(node);
  await expectTranscript("02-control-plane-without", await node.run("02-control-plane --lost m2", PART));
  expect(state.members).toEqual([MEMBER, THIRD]);
});

test("part 2 takes nobody out of etcd where it refuses: an image is not here", async () => {
  const noImage = {
    command: `${CRICTL} inspecti -q registry.k8s.io/kube-scheduler*`,
    exit: 1,
    stderr: 'FATA[0000] no such image "x" present\n',
  };
  using node = here(
    await pretendNode({
      ...{ kind: "healthy control plane node", members: [...THREE] },
      ...{ etcd: withVip(mirrorPod("kube-vip")), commands: [noImage, ...RESTARTS] },
    }),
  );
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  using _third = await serveOtherMember(node.root, state, THIRD_AT);
  using _api = servePart2(node);
  const { exitCode, stderr } = await node.run("02-control-plane --lost m2", PART);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 3 });
  expect(stderr).toContain("(kube-scheduler) is not on this node");
  expect(stderr).not.toContain("irreversible");
  expect(state.members).toEqual([...THREE]);
});

test("part 3: join; the kubelet's configuration and flags are never changed", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  writeToken(node.root);
  using api = await serve(newCa);
  const own = () => ["config.yaml", "kubeadm-flags.env"].map((file) => node.read(`/var/lib/kubelet/${file}`));
  const untouched = own();
  await expectTranscript("03-join", await joinToItsEnd(node, api));
  expect(own()).toEqual(untouched);
});

test("part 3: a join puts every file back where the kubelet gets no certificate", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  writeToken(node.root);
  using _api = await serve(newCa);
  const files = kubeletFiles(node);
  await expectTranscript("03-join-rolled-back", await node.run(join()));
  expect(kubeletFiles(node)).toEqual(files);
});

const CONF = "/etc/kubernetes/kubelet.conf";

test.each([
  ["both are of another CA", "old", "old", ["kubelet.conf", "client certificate"]],
  ["its certificate is of the new CA already", "new", "old", ["kubelet.conf"]],
  ["both are of the new CA, and ca.crt is not", "new", "new", []],
  ["only kubelet.conf is of the new CA", "old", "new", ["kubelet.conf", "client certificate"]],
] as const)("part 3: what a join lays aside: %s", async (_, certificate, conf, aside) => {
  using node = here(await pretendNode({ kind: "worker" }));
  const cas = { old: node.ca, new: newCa };
  const server = `https://${ADDRESS}:6443`;
  rmSync(`${node.root}/var/lib/kubelet/pki`, { recursive: true });
  await writeKubelet(node.root, "w1", { ca: cas[certificate], server });
  write(node.root + CONF, kubeletKubeconfig({ server, ca: cas[conf].cert }));
  writeToken(node.root);
  using _api = await serve(newCa);
  const { stderr } = await node.run(join());
  const moved = {
    "kubelet.conf": stderr.includes(`moved ${CONF} `),
    "client certificate": stderr.includes("moved /var/lib/kubelet/pki/kubelet-client-current.pem "),
  };
  expect(Object.entries(moved).flatMap(([what, is]) => (is ? [what] : []))).toEqual([...aside]);
});

const SECRETS = "/api/v1/namespaces/kube-system/secrets";
const OURS = {
  type: "bootstrap.kubernetes.io/token",
  data: { description: btoa("kube-pki-repair: workers come back") },
};

test("part 3: close revokes our tokens alone, and the controller-manager runs in full; again it changes no byte", async () => {
  using node = here(await afterPart2({ commands: RESTARTS }));
  const others = { description: btoa("w9 comes back") };
  const objects = {
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kube-pki-repair:kubelet-bootstrap": {},
    [`${SECRETS}/bootstrap-token-aaaaaa`]: OURS,
    [`${SECRETS}/bootstrap-token-cccccc`]: {
      ...OURS,
      data: { description: btoa("kube-pki-repair: w9 comes back") },
    },
    [`${SECRETS}/bootstrap-token-dddddd`]: { ...OURS, data: others },
  };
  using api = serveRunning(node, { objects });
  await expectTranscript("03-workers-close", await node.run("03-workers close", WAITS));
  expect(parse(node.read(MANAGER))).toEqual(manifest("kube-controller-manager"));
  expect(api.changes()).toEqual([
    `DELETE ${MANAGER_LEASE}`,
    ...["aaaaaa", "cccccc"].map((id) => `DELETE ${SECRETS}/bootstrap-token-${id}`),
    "DELETE /apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kube-pki-repair:kubelet-bootstrap",
  ]);
  const closed = node.fingerprint();
  await expectTranscript("03-workers-close-again", await node.run("03-workers close", WAITS));
  expect(node.fingerprint()).toEqual(closed);
});

test("part 3: close --dry-run says what it would do, and changes nothing", async () => {
  using node = here(await afterPart2());
  using api = serveRunning(node, { objects: { [`${SECRETS}/bootstrap-token-aaaaaa`]: OURS } });
  const untouched = node.fingerprint();
  await expectTranscript("03-workers-close-dry-run", await node.run("03-workers close --dry-run"));
  expect(node.fingerprint()).toEqual(untouched);
  expect(api.changes()).toEqual([]);
});

test("part 3: close names a node that does not renew its Lease, and changes nothing", async () => {
  using node = here(await afterPart2());
  using api = serveRunning(node, {
    objects: { [`${LEASES}/w2`]: lease(4000), [`${SECRETS}/bootstrap-token-aaaaaa`]: OURS },
  });
  const untouched = node.fingerprint();
  await expectTranscript("03-workers-close-away", await node.run("03-workers close --wait 0.05", WAITS));
  expect(node.fingerprint()).toEqual(untouched);
  expect(api.changes()).toEqual([]);
});

test("part 3: close names a Windows node that is not back, and waits for no such node: people join it by hand", async () => {
  const etcd = (objects: Objects) => {
    knewCa(before.cert)(objects);
    Object.assign((objects["minions/w2"] as KubeObject).metadata, {
      labels: { "kubernetes.io/os": "windows" },
    });
  };
  using node = here(await afterPart2({ etcd, commands: RESTARTS }));
  using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  const untouched = node.fingerprint();
  const { exitCode, stderr } = await node.run("03-workers close --wait 0.5", WAITS);
  expect(exitCode).toBe(1);
  expect(stderr).toContain("Not back, and not waited for: w2 (");
  expect(stderr).not.toMatch(/^w2: /m);
  expect(node.fingerprint()).toEqual(untouched);
});

test("part 4: the stale pods and the token are renewed; again there is nothing to do", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) }));
  using _api = serveStale(node, before.cert);
  await expectTranscript("04-sa-tokens-dry-run", await node.run("04-sa-tokens --dry-run"));
  await expectTranscript("04-sa-tokens", await node.run("04-sa-tokens", WAITS));
  await expectTranscript("04-sa-tokens-again", await node.run("04-sa-tokens", WAITS));
});

test("part 5: a cluster that is well, check by check", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node);
  const run = await node.run("05-verify --all");
  await expectTranscript("05-verify", { ...run, stdout: run.stdout.replace(/\b\d+ s ago/g, "SECONDS ago") });
});
