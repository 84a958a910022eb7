/** Who has read a CA once: by what was in the file's place when the process started, never by a guess. */
import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, renameSync, statSync, utimesSync } from "node:fs";
import { dirname } from "node:path";
import { processStart } from "../../../shared/etcd-location/static-pod-here.ts";
import { asideOf, newRescue } from "../../../shared/node/rescue-folder.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import type { Pair } from "../../../shared/pki/issue.ts";
import { kubeletKubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../../shared/pki/renew.ts";
import type { CaReader } from "../../../shared/renew/ca-reader.ts";
import { caReaders, holdExpired, kubeletCaReader, textReadAt } from "../../../shared/renew/ca-readers.ts";
import { FACTS, healthyCp, otherCa, write } from "../../pretend/cluster.ts";
import { NODE } from "../../pretend/control-plane-node.ts";
import { type PretendProcess, pretendProcess } from "../../pretend/memory.ts";
import { programsHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { ca } = await healthyCp();
const etcdCa = await otherCa();
const renewed = ({ cert, key }: Pair) => renewCa(cert, key, { hours: 87_600, signed: [] });
const endOf = (pem: string) => certInfo(pem).notAfter;
const config = (pem: string) => kubeletKubeconfig({ server: "https://127.77.0.11:6443", ca: pem });

const [PKI, KUBECONFIGS] = ["/etc/kubernetes/pki", "/etc/kubernetes"];
const ETCD_CA = `${PKI}/etcd/ca.crt`;
const CONFIGS = ["controller-manager", "scheduler", "kubelet", "admin"].map(
  (name) => `${KUBECONFIGS}/${name}.conf`,
);
/** Certificates begin five minutes before they are made: these begin before it. */
const BEFORE = new Date(Date.now() - 120_000);
const AFTER = new Date(Date.now() + 3_600_000);

const PROGRAMS: Omit<PretendProcess, "pid">[] = [
  {
    comm: "etcd",
    args: ["etcd", `--trusted-ca-file=${ETCD_CA}`, `--peer-trusted-ca-file=${ETCD_CA}`],
  },
  { comm: "kube-apiserver", args: ["kube-apiserver", `--etcd-cafile=${ETCD_CA}`] },
  {
    comm: "kube-controller",
    args: [
      "kube-controller-manager",
      `--root-ca-file=${PKI}/ca.crt`,
      `--kubeconfig=${KUBECONFIGS}/controller-manager.conf`,
    ],
  },
  { comm: "kube-scheduler", args: ["kube-scheduler", `--kubeconfig=${KUBECONFIGS}/scheduler.conf`] },
  { comm: "kubelet", args: ["kubelet"] },
];

/** A control plane node with the CAs of before in all their places. */
function place() {
  const box = sandbox();
  const at = (path: string) => `${box.dir}${path}`;
  const put = (path: string, content: string) => write(at(path), content, 0o644);
  put(`${PKI}/ca.crt`, ca.cert);
  put(`${PKI}/ca.key`, ca.key);
  put(ETCD_CA, etcdCa.cert);
  for (const path of CONFIGS) put(path, config(ca.cert));
  const rescue = newRescue();
  return {
    ...{ at, put },
    /** As this kit does it: the one before goes into the rescue folder. */
    replace: (path: string, content: string) => {
      mkdirSync(dirname(at(`${asideOf(rescue)}${path}`)), { recursive: true });
      renameSync(at(path), at(`${asideOf(rescue)}${path}`));
      put(path, content);
    },
    start: (started: Date, programs = PROGRAMS) => {
      for (const [i, process] of programs.entries())
        pretendProcess(box.dir, { ...process, pid: 100 + i, started });
    },
    look: (oldCaPem = ca.cert, facts = FACTS) =>
      caReaders({ node: NODE, facts, cluster: { oldCaPem } as never }),
    [Symbol.dispose]: () => box[Symbol.dispose](),
  };
}

function renewAll(node: ReturnType<typeof place>) {
  node.replace(`${PKI}/ca.crt`, renewed(ca));
  node.replace(ETCD_CA, renewed(etcdCa));
  for (const path of CONFIGS) node.replace(path, config(renewed(ca)));
}

const shown = (all: readonly CaReader[]) =>
  all.map(({ name, path, holds, until, fileUntil }) => [
    `${name} ${path.replace(`${KUBECONFIGS}/`, "")}`,
    holds,
    until,
    ...(fileUntil ? [fileUntil] : []),
  ]);

const READERS = [
  ["etcd pki/etcd/ca.crt", etcdCa],
  ["kube-apiserver pki/etcd/ca.crt", etcdCa],
  ["kube-controller-manager pki/ca.crt", ca],
  ["kube-controller-manager controller-manager.conf", ca],
  ["kube-scheduler scheduler.conf", ca],
  ["kubelet kubelet.conf", ca],
] as const;

test("files renewed and nothing restarted: each holds the one that was there when it started, and until when", async () => {
  using node = place();
  renewAll(node);
  node.start(BEFORE);
  const found = await node.look();
  expect(shown(found)).toEqual(READERS.map(([what, { cert }]) => [what, "an older one", endOf(cert)]));
  expect(Math.abs(found[0]!.started!.getTime() - BEFORE.getTime())).toBeLessThan(60_000);
  expect(found[0]!.changed).toEqual(statSync(node.at(ETCD_CA)).ctime);
  const [etcd] = found;
  const [before, after] = [-1, 1].map((ms) => new Date(endOf(etcdCa.cert).getTime() + ms));
  expect([holdExpired([etcd!], before), holdExpired([etcd!], after)]).toEqual([false, true]);
  expect(
    holdExpired(
      [
        { ...etcd!, holds: undefined },
        { ...etcd!, holds: "today's" },
      ],
      after,
    ),
  ).toBe(false);
});

test("restarted since: each holds today's", async () => {
  using node = place();
  renewAll(node);
  node.start(AFTER);
  expect(shown(await node.look())).toEqual(READERS.map(([what]) => [what, "today's", undefined]));
});

test("healthy clusters: nothing was renewed, whatever was touched, and whoever runs since when", async () => {
  using node = place();
  for (const started of [BEFORE, AFTER]) {
    node.start(started);
    // a tool writes the same, gives a mode, and kubeadm certs renew writes a kubeconfig with the same CA
    node.put(ETCD_CA, etcdCa.cert);
    chmodSync(node.at(`${PKI}/ca.crt`), 0o600);
    node.replace(CONFIGS[0]!, config(ca.cert));
    for (const { holds, until, fileUntil } of await node.look()) {
      expect(holds).not.toBe("an older one");
      expect([until, fileUntil]).toEqual([undefined, undefined]);
    }
  }
});

test("renewed and restarted, and written anew by somebody with the same: nothing says it, but it may be", async () => {
  using node = place();
  node.replace(ETCD_CA, renewed(etcdCa));
  node.start(AFTER, PROGRAMS.slice(0, 1));
  utimesSync(node.at(ETCD_CA), AFTER, AFTER);
  expect(shown(await node.look())[0]).toEqual(["etcd pki/etcd/ca.crt", "today's", undefined]);
});

test("replaced by hand, so that nothing is in a rescue folder: an older one is known elsewhere, or none", async () => {
  using node = place();
  node.put(`${PKI}/ca.crt`, renewed(ca));
  node.put(ETCD_CA, renewed(etcdCa));
  node.start(BEFORE);
  const [etcd, , manager, config] = shown(await node.look());
  expect(etcd).toEqual(["etcd pki/etcd/ca.crt", undefined, undefined]);
  expect(manager).toEqual(["kube-controller-manager pki/ca.crt", undefined, endOf(ca.cert)]);
  // nobody has written the kubeconfig: it is the older one, in the file, too
  expect(config).toEqual([
    "kube-controller-manager controller-manager.conf",
    undefined,
    endOf(ca.cert),
    endOf(ca.cert),
  ]);
});

test("a certificate that begins after the process does: that has another, with no end that is known", async () => {
  using node = place();
  node.start(new Date(BEFORE.getTime() - 3_600_000), PROGRAMS.slice(0, 1));
  expect(shown(await node.look())[0]).toEqual(["etcd pki/etcd/ca.crt", "an older one", undefined]);
});

test("etcd reads a CA for its peers, too, where that is another file", async () => {
  using node = place();
  const peers = `${PKI}/etcd/peers.crt`;
  node.put(peers, etcdCa.cert);
  const args = ["etcd", `--trusted-ca-file=${ETCD_CA}`, `--peer-trusted-ca-file=${peers}`];
  node.start(AFTER, [{ comm: "etcd", args }]);
  expect((await node.look()).slice(0, 2).map(({ path }) => path)).toEqual([ETCD_CA, peers]);
});

test("a clock that was set since: where its start by the kernel and by the runtime has other certificates, it may hold the older one", async () => {
  using node = place();
  node.replace(ETCD_CA, renewed(etcdCa));
  node.start(AFTER, PROGRAMS.slice(0, 1));
  const seen = async (created: Date) => {
    const one = { id: "c".repeat(64), name: "etcd", pod: `etcd-${NODE.name}`, namespace: "kube-system" };
    const container = { ...one, running: true, podUid: "d".repeat(32), created };
    const asked = { node: NODE, facts: FACTS, cluster: { oldCaPem: ca.cert } as never };
    return shown(await caReaders(asked, [container]))[0]?.slice(1);
  };
  expect([await seen(AFTER), await seen(BEFORE)]).toEqual([
    ["today's", undefined],
    [undefined, endOf(etcdCa.cert)],
  ]);
});

test("a kubeconfig that still has the older one, of a process that has read it", async () => {
  using node = place();
  node.put(`${PKI}/ca.crt`, renewed(ca));
  node.start(AFTER);
  const found = shown(await node.look()).find(([what]) => what === "kubelet kubelet.conf");
  expect(found).toEqual(["kubelet kubelet.conf", "an older one", endOf(ca.cert), endOf(ca.cert)]);
});

test("the way back: who has the older one has today's, and who has the newer one holds no older one", async () => {
  using node = place();
  renewAll(node);
  node.replace(`${PKI}/ca.crt`, ca.cert);
  node.replace(ETCD_CA, etcdCa.cert);
  for (const path of CONFIGS) node.replace(path, config(ca.cert));
  for (const started of [BEFORE, AFTER]) {
    node.start(started);
    expect(shown(await node.look()).map(([, ...held]) => held)).toEqual(
      READERS.map(() => ["today's", undefined]),
    );
  }
});

test("what a process still has mounted counts before every clock", async () => {
  using node = place();
  renewAll(node);
  const [, , manager] = PROGRAMS;
  node.start(AFTER, [{ ...manager!, mounts: { [CONFIGS[0]!]: config(ca.cert) } }]);
  const found = shown(await node.look()).find(([what]) => String(what).endsWith("controller-manager.conf"));
  expect(found?.slice(1)).toEqual(["an older one", endOf(ca.cert)]);
});

test("what does not run holds nothing that is known; a file that is old is named", async () => {
  using node = place();
  node.put(`${PKI}/ca.crt`, renewed(ca));
  const found = await node.look();
  expect(found.map(({ started, holds }) => [started, holds])).toEqual(
    found.map(() => [undefined, undefined]),
  );
  expect(shown(found).at(-1)).toEqual(["kubelet kubelet.conf", undefined, endOf(ca.cert), endOf(ca.cert)]);
});

test("of a CA that is a file of its own, named by a kubeconfig, client-go tells since 1.36: nobody but the kubelet reads that once", async () => {
  using node = place();
  const named = config(ca.cert).replace(
    /certificate-authority-data: .*/,
    `certificate-authority: ${PKI}/ca.crt`,
  );
  for (const path of CONFIGS) node.put(path, named);
  node.start(BEFORE);
  node.replace(`${PKI}/ca.crt`, renewed(ca));
  const of = async (kubernetesVersion: string) =>
    shown(await node.look(ca.cert, { ...FACTS, kubernetesVersion }))
      .map(([what]) => what)
      .slice(3);
  expect(await of("v1.35.8")).toEqual([
    "kube-controller-manager pki/ca.crt",
    "kube-scheduler pki/ca.crt",
    "kubelet pki/ca.crt",
  ]);
  expect(await of("v1.36.5")).toEqual(["kubelet pki/ca.crt"]);
});

test("a worker: its kubelet.conf, and what kube-system's pods have got", async () => {
  using node = place();
  node.start(AFTER, PROGRAMS.slice(4));
  expect(shown(await kubeletCaReader(NODE))).toEqual([["kubelet kubelet.conf", "today's", undefined]]);
  node.put(`${PKI}/ca.crt`, renewed(ca));
  expect(shown(await kubeletCaReader(NODE))).toEqual([
    ["kubelet kubelet.conf", "an older one", endOf(ca.cert), endOf(ca.cert)],
  ]);
});

test("a kubelet in a slice of its own is known by systemd's word", async () => {
  using node = place();
  node.replace(CONFIGS[2]!, config(renewed(ca)));
  node.put(`${PKI}/ca.crt`, renewed(ca));
  using _programs = programsHere([{ command: "systemctl show -p MainPID --value kubelet", stdout: "100\n" }]);
  const cgroup = "/kube.slice/kube-node.slice/kubelet.service";
  node.start(BEFORE, [{ comm: "kubelet", args: ["/usr/bin/kubelet"], cgroup }]);
  expect(shown(await kubeletCaReader(NODE))).toEqual([
    ["kubelet kubelet.conf", "an older one", endOf(ca.cert)],
  ]);
});

test("between the last write and the last change nothing is known, but for what this kit replaced itself", () => {
  using node = place();
  const path = `${PKI}/ca.crt`;
  utimesSync(node.at(path), BEFORE, BEFORE);
  const between = new Date(BEFORE.getTime() + 60_000);
  expect(textReadAt(path, between)).toBeUndefined();
  expect(textReadAt(path, AFTER)).toBe(ca.cert);
  node.replace(path, renewed(ca));
  expect(textReadAt(path, between)).toBe(ca.cert);
  const { mtime } = statSync(node.at(path));
  chmodSync(node.at(path), 0o600);
  expect(textReadAt(path, new Date(mtime.getTime() + 1))).toBe(renewed(ca));
});

test("a process's start is counted back from today's clock; unknown where the kernel does not say", () => {
  using node = place();
  node.start(BEFORE, PROGRAMS.slice(0, 1));
  expect(Math.abs(processStart(100)!.getTime() - BEFORE.getTime())).toBeLessThan(60_000);
  expect(processStart(99)).toBeUndefined();
  pretendProcess(node.at(""), { pid: 101, comm: "etcd" });
  expect(processStart(101)).toBeUndefined();
});

/** kube-vip, with admin.conf, on that node; the readers that are its. */
function kubeVip(node: ReturnType<typeof place>) {
  const [metadata, name] = [{ name: "kube-vip", namespace: "kube-system" }, "conf"];
  const volumes = [{ name, hostPath: { path: `${KUBECONFIGS}/admin.conf` } }];
  const containers = [{ name: "kube-vip", image: "x", volumeMounts: [{ name, mountPath: "/admin.conf" }] }];
  node.put(
    `${KUBECONFIGS}/manifests/kube-vip.yaml`,
    JSON.stringify({ kind: "Pod", metadata, spec: { containers, volumes } }),
  );
  return async (created: Date, podUid = "d".repeat(32)) => {
    const pod = `kube-vip-${NODE.name}`;
    const one = { id: "c".repeat(64), name: "kube-vip", pod, namespace: "kube-system", running: true };
    const asked = { node: NODE, facts: FACTS, cluster: { oldCaPem: ca.cert } as never };
    const all = await caReaders(asked, [{ ...one, podUid, created }]);
    return all.filter((reader) => reader.name === "kube-vip");
  };
}

test("a static pod beside kubeadm's that has a kubeconfig may hold what was in it when it started; it does where its process sees that", async () => {
  using node = place();
  const vip = kubeVip(node);
  const seen = async (...started: Parameters<typeof vip>) => shown(await vip(...started));
  expect(await seen(AFTER)).toEqual([["kube-vip admin.conf", "today's", undefined]]);
  renewAll(node);
  expect(await seen(BEFORE)).toEqual([["kube-vip admin.conf", undefined, endOf(ca.cert)]]);
  expect(await seen(AFTER)).toEqual([["kube-vip admin.conf", "today's", undefined]]);
  expect(await seen(BEFORE, "d0b2c3d4-0000-4000-8000-000000000001")).toEqual([]);
  const running = (config: string) =>
    pretendProcess(node.at(""), { pid: 55, comm: "kube-vip", mounts: { "/admin.conf": config } });
  running(await Bun.file(node.at(CONFIGS[3]!)).text());
  expect(await seen(BEFORE)).toEqual([["kube-vip admin.conf", undefined, endOf(ca.cert)]]);
  // the file alone is mounted: it is the one from its start
  running(config(ca.cert));
  expect(await seen(BEFORE)).toEqual([["kube-vip admin.conf", "an older one", endOf(ca.cert)]]);
});

test("such a pod may hold the client certificate from before where another one was written since, and not where it was not", async () => {
  using node = place();
  const vip = kubeVip(node);
  const path = CONFIGS[3]!;
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const withUser = (caPem: string, user: string) =>
    config(caPem).replace(/client-(certificate|key): .*/g, `client-$1-data: ${base64(user)}`);
  const otherUser = async (started: Date) => (await vip(started)).map((one) => one.otherUser ?? false);
  const [old, renewedUser] = [ca.cert, etcdCa.cert];
  // in its place, as kubeadm certs renew writes it
  node.put(path, withUser(ca.cert, renewedUser));
  expect([await otherUser(BEFORE), await otherUser(AFTER)]).toEqual([[true], [false]]);
  // only another mode since
  utimesSync(node.at(path), new Date(BEFORE.getTime() - 60_000), new Date(BEFORE.getTime() - 60_000));
  expect(await otherUser(BEFORE)).toEqual([false]);
  // by this kit: another user, or only another CA
  node.replace(path, withUser(ca.cert, old));
  expect(await otherUser(BEFORE)).toEqual([true]);
  node.replace(path, withUser(renewed(ca), old));
  expect(await otherUser(BEFORE)).toEqual([false]);
  // a certificate that is a file of its own is read again
  node.put(path, config(ca.cert));
  expect(await otherUser(BEFORE)).toEqual([false]);
});
