/**
 * 01-etcd as operators run it: what it refuses before it touches anything, its plan, and the run up to an
 * etcd that answers.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { parse } from "yaml";
import { publicPem } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import { STOP_ETCD } from "../../shared/shell-line.ts";
import { ADDRESS, FACTS, write } from "../pretend/cluster.ts";
import { type EtcdState, sameEtcd, serveEtcd, TAKEN_OUT, THIRD, THIRD_AT } from "../pretend/etcd.ts";
import { pretendProcess } from "../pretend/memory.ts";
import { expectTranscript, MEMBER, pretendNode } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const CONTROL_PLANE = ["kube-apiserver", "kube-controller-manager", "kube-proxy"];

test("01-etcd --dry-run --new-cas prints the whole plan and changes nothing", async () => {
  using node = await pretendNode({ containers: CONTROL_PLANE });
  const before = node.fingerprint();
  await expectTranscript("01-etcd-dry-run", await node.run("01-etcd --dry-run --new-cas"));
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls().filter((call) => /stop|start/.test(call))).toEqual([]);
});

test("01-etcd --new-cas brings etcd back, and run again changes no byte", async () => {
  using node = await pretendNode({ containers: CONTROL_PLANE });
  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  await expectTranscript("01-etcd", await running);
  expect(node.read("/etc/kubernetes/manifests/etcd.yaml")).toContain(
    `--initial-advertise-peer-urls=https://${ADDRESS}:2380`,
  );

  const before = node.fingerprint();
  await expectTranscript("01-etcd-again", await node.run("01-etcd"));
  expect(node.fingerprint()).toEqual(before);
});

test("where ca.key alone is lost, 01-etcd --new-cas issues etcd's sound certificate anew: later parts know the repair by it", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: CONTROL_PLANE });
  const [ca, server] = ["ca.crt", "etcd/server.crt"].map(
    (file) => () => node.read(`/etc/kubernetes/pki/${file}`),
  );
  const [oldCa, oldServer] = [ca!(), server!()];
  rmSync(`${node.root}/etc/kubernetes/pki/ca.key`);
  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect([ca!() === oldCa, server!() === oldServer]).toEqual([false, false]);
  const before = node.fingerprint();
  expect((await node.run("01-etcd")).exitCode).toBe(0);
  expect(node.fingerprint()).toEqual(before);
});

test("the way back that 01-etcd --new-cas names: old keys that turn up take the place of the new ones, and part 1 keeps them", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", containers: CONTROL_PLANE });
  const old = ["ca.crt", "ca.key"].map(
    (file) => [`/etc/kubernetes/pki/${file}`, node.read(`/etc/kubernetes/pki/${file}`)] as const,
  );
  rmSync(`${node.root}/etc/kubernetes/pki/ca.key`);
  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { stderr } = await running;
  expect(stderr).toContain("  irreversible: new shared keys (ca): ");
  for (const [path, text] of old) write(node.root + path, text);
  const again = await node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode: again.exitCode, stderr: again.stderr }).toMatchObject({ exitCode: 0 });
  for (const [path, text] of old) expect(node.read(path)).toBe(text);
});

test("01-etcd stops a healthy etcd whose manifest is cut off, as the kubelet would a moment later", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: ["etcd", "kube-apiserver"],
  });
  const whole = node.read("/etc/kubernetes/manifests/etcd.yaml");
  write(`${node.root}/etc/kubernetes/manifests/etcd.yaml`, whole.slice(0, 900));
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  stopped kube-apiserver\n");
  expect(parse(node.read("/etc/kubernetes/manifests/etcd.yaml"))).toEqual(parse(whole));
});

test("01-etcd puts other manifests right that were laid there in silence, before the kubelet starts", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const [path, whole] = [
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    node.read("/etc/kubernetes/manifests/kube-scheduler.yaml"),
  ];
  write(node.root + path, whole.replace("--leader-elect=true", "--leader-elect=false"));
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(parse(node.read(path))).toEqual(parse(whole));
});

test("01-etcd does not take a healthy but empty etcd for the old one", async () => {
  using node = await pretendNode();
  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  const empty: EtcdState = { ...sameEtcd(node.stored), keys: new Map(), revision: 1 };
  using _etcd = serveEtcd(node.root, empty);
  const { exitCode, stderr } = await running;
  expect(exitCode).toBe(1);
  expect(stderr).toContain("error: etcd answers, but it is not the old one: 0 keys, was 12; no Node object");
});

test("01-etcd says which command looks further when etcd does not come", async () => {
  using node = await pretendNode();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(exitCode).toBe(1);
  expect(stderr).toContain("error: Waited 300 s for etcd to show its new certificate to its peers: ");
  expect(stderr).toContain("hint: crictl ps -a --name etcd; crictl logs ID; journalctl -u kubelet -n 50\n");
});

test("01-etcd names systemctl when it does not restart the kubelet, and where to look", async () => {
  using node = await pretendNode({
    commands: [
      { command: "systemctl restart kubelet", exit: 1, stderr: "Job for kubelet.service failed.\n" },
    ],
  });
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(exitCode).toBe(1);
  expect(stderr).toContain(
    "error: systemctl restart kubelet exited 1: Job for kubelet.service failed.\nhint: systemctl status kubelet; ",
  );
});

test("01-etcd with both flags for new keys refuses: one of them is never the cluster's CA", async () => {
  using node = await pretendNode();
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas --new-internal-cas");
  expect(exitCode).toBe(64);
  expect(stderr).toEndWith("give one\nhint: ./bunw scripts/00-assess.ts says which keys are lost\n");
  expect(node.fingerprint()).toEqual(before);
});

test("01-etcd where etcd's CA is lost, and etcd still runs elsewhere, prints what ends it there, and the same line again", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, THIRD] });
  using _peer = thirdAnswers(node);
  rmSync(`${node.root}/etc/kubernetes`, { recursive: true });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(exitCode).toBe(3);
  expect(stderr).toMatch(
    /nothing here proves it: it would refuse a new CA(?:\. Nothing was changed)?\nhint: look at m3\. .*\n {2}If etcd runs there: .*hand-over\.ts pack/,
  );
  expect(stderr).toContain(`on m3, on each: ${STOP_ETCD}. Then here ./bunw scripts/01-etcd.ts --new-cas`);
  expect(node.fingerprint()).toEqual(before);
});

test("an expired CA of etcd is renewed beside an etcd that runs elsewhere; where its key is lost, the key is asked for there", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, THIRD] });
  using _peer = thirdAnswers(node);
  const ca = "/etc/kubernetes/pki/etcd/ca";
  await expireEtcdCa(node.root);
  const renewed = await node.run("01-etcd --dry-run");
  expect(renewed).toMatchObject({ exitCode: 0 });
  expect(renewed.stderr).toContain(`would write ${ca}.crt`);
  rmSync(`${node.root}${ca}.key`);
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(exitCode).toBe(3);
  expect(stderr).toContain("etcd runs on m3, and the CA of etcd is not here with its key: ");
  expect(stderr).toContain("hint: bring the shared keys from there: on m3 ./bunw scripts/hand-over.ts pack");
});

test("an etcd whose CA has expired in its memory is stopped, though all its files are right", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  expect((await node.run("01-etcd --dry-run")).stderr).toContain("unchanged etcd: ");
  const file = "/etc/kubernetes/pki/etcd/ca.crt";
  const today = node.read(file);
  await expireEtcdCa(node.root);
  write(`${node.root}/root/kube-pki-repair-20260101T000000/aside${file}`, node.read(file));
  write(`${node.root}${file}`, today);
  const [started, args] = [new Date(Date.now() - 60_000), ["etcd", `--trusted-ca-file=${file}`]];
  pretendProcess(node.root, { pid: 77, comm: "etcd", args, started });
  const { exitCode, stderr } = await node.run("01-etcd --dry-run");
  expect({ exitCode, stderr }).toEqual({
    exitCode: 0,
    stderr: expect.stringContaining("etcd: a CA in memory has expired"),
  });
  expect(stderr).not.toContain("unchanged etcd: ");
});

/** The etcd of another node, with a certificate of the same CA. */
function thirdAnswers(node: { read(path: string): string | undefined }): Disposable {
  const [cert, key] = ["crt", "key"].map((end) => node.read(`/etc/kubernetes/pki/etcd/server.${end}`));
  const tls = { cert: cert!, key: key! };
  const peer = Bun.serve({ hostname: THIRD_AT, port: 2380, tls, fetch: () => new Response() });
  return { [Symbol.dispose]: () => peer.stop(true) };
}

/** Of the same key, as it is ten years later. */
async function expireEtcdCa(root: string) {
  const path = `${root}/etc/kubernetes/pki/etcd/ca`;
  const key = readFileSync(`${path}.key`, "utf8");
  const { cert } = await issueCa(certRow("etcd-ca"), FACTS, {
    key: { key, pub: publicPem(key) },
    now: new Date("2010-01-01"),
  });
  writeFileSync(`${path}.crt`, cert);
}

test("01-etcd names no part 1 for a member that was taken out of etcd since", async () => {
  const alive = { ...THIRD, name: "w1" };
  using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, alive, TAKEN_OUT] });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [MEMBER, alive] });
  using _peer = thirdAnswers(node);
  const { exitCode, stderr } = await node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/02-control-plane.ts\n");
});

test.each([
  [
    "sends nobody through a hand-over where no key is new: the others have them",
    "healthy control plane node",
    "01-etcd",
    "part 1 on m2, m3",
  ],
  [
    "has new keys carried to the others",
    "wiped control plane node",
    "01-etcd --new-cas",
    "./bunw scripts/hand-over.ts pack, then part 1 on m2, m3",
  ],
] as const)(
  "01-etcd on the first of three control plane nodes %s, also when it is run again",
  async (_, kind, line, next) => {
    const others = ["2", "3"].map((n) => ({
      id: `${n}1b2c3d4e5f60718`,
      name: `m${n}`,
      peerURLs: [`https://127.77.1.${n}:2380`],
    }));
    using node = await pretendNode({ kind, members: [MEMBER, ...others], containers: CONTROL_PLANE });
    if (kind === "healthy control plane node") rmSync(`${node.root}/etc/kubernetes/pki/etcd/server.crt`);
    const running = node.run(line, { KUBE_PKI_REPAIR_PATIENCE: "1" });
    await node.called("systemctl restart kubelet");
    using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [MEMBER, ...others] });
    expect(await running).toMatchObject({
      exitCode: 0,
      stderr: expect.stringMatching(new RegExp(`\\ndone\\.  next: ${next}\\n$`)),
    });
    expect((await node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" })).stderr).toEndWith(
      `\ndone.  next: ${next}\n`,
    );
    // said once, with an option or before: no line is printed for who is away
    for (const line of ["01-etcd --without m3", "01-etcd"])
      expect((await node.run(line, { KUBE_PKI_REPAIR_PATIENCE: "1" })).stderr).toEndWith(
        `\ndone.  next: ${next.replace(", m3", "")}\n`,
      );
  },
);
