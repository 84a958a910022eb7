/**
 * 00-assess where a CA that is here is not the cluster's: the fingerprint that etcd's data names, and each CA
 * of this node beside it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, rmSync, utimesSync } from "node:fs";
import { kubeletKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { ADDRESS, healthyCp, otherCa, write } from "../pretend/cluster.ts";
import { POD_UID, podRecord } from "../pretend/memory.ts";
import { CRICTL, expectTranscript, type NodeOptions, pretendNode, staticUid } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const other = await otherCa();
/**
 * Transcripts show this instead of a fingerprint; test/shared/facts/ca-copies.test.ts holds them against each
 * other.
 */
const HASH = "sha256:HASH";

const LOOKS_FOR_OWN =
  "If neither part 1 nor hand-over.ts has made it, stop here: ./bunw scripts/00-salvage.ts --move-aside looks for the cluster's own CA\n";

interface Answer {
  damaged: boolean;
  ca: { hashes: string[]; copies: { what: string; hash: string; is: string }[] };
  deep: { keys: { file: string }[] };
  next: string[];
}

/** `kubeadm init phase certs ca`, typed at night: a CA that is younger than the cluster's. */
async function halfAttempt(options: NodeOptions = {}) {
  const node = await pretendNode(options);
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  write(`${node.root}/etc/kubernetes/pki/ca.crt`, other.cert, 0o644);
  write(`${node.root}/etc/kubernetes/pki/ca.key`, other.key);
  return node;
}

async function json(node: Awaited<ReturnType<typeof pretendNode>>, line = "00-assess --json") {
  const { exitCode, stdout } = await node.run(line);
  return { exitCode, ...(JSON.parse(stdout) as Answer) };
}

test("00-assess does not call the CA of a half attempt ok: etcd's data names another one", async () => {
  using node = await halfAttempt();
  await expectTranscript("00-assess-half-attempt", await node.run("00-assess"));
  const { exitCode, ca: seen } = await json(node);
  expect([exitCode, seen]).toEqual([
    2,
    expect.objectContaining({
      hashes: [HASH],
      copies: [{ what: "/etc/kubernetes/pki/ca.crt", hash: HASH, is: "another CA" }],
    }),
  ]);
});

test("00-assess on a node that is well but for a CA of a half attempt finds damage, and no other CA there", async () => {
  using node = await halfAttempt({ kind: "healthy control plane node" });
  const { exitCode, ca: seen, next } = await json(node);
  expect(exitCode).toBe(2);
  expect(seen.copies.map(({ what, is }) => [what, is])).toEqual([
    ["/etc/kubernetes/pki/ca.crt", "another CA"],
    ["/etc/kubernetes/kubelet.conf", "the cluster's"],
  ]);
  expect(next.map((line) => line.replace(/ +#.*/, ""))).toEqual([
    "./bunw scripts/00-salvage.ts --move-aside",
    "./bunw scripts/01-etcd.ts",
  ]);
});

test("00-assess --deep looks for the cluster's ca.key where another CA is in its place", async () => {
  using node = await halfAttempt();
  const { deep } = await json(node, "00-assess --deep --no-disk --json");
  expect(deep.keys.map(({ file }) => file)).toContain("ca.key");
});

test("00-salvage counts the cluster's ca.key as lost where another CA is in its place, and says how to get it", async () => {
  using node = await halfAttempt({ kind: "healthy control plane node" });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringContaining(
      "\nstill lost: ca.key: the CA here is not the cluster's. This looks for the cluster's own: ./bunw scripts/00-salvage.ts --move-aside\n",
    ),
  ]);
  expect(stderr).not.toContain("nothing is lost");
  expect(node.fingerprint()).toEqual(before);
});

test.each([
  ["no run is kept", undefined, LOOKS_FOR_OWN],
  ["a run had ended before", "11:00", LOOKS_FOR_OWN],
  ["a run was going on then", "12:00", "A script of this kit has put it there\n"],
])(
  "01-etcd names the CA of a half attempt before it does anything, and whether the kit has made it: %s",
  async (_, until, rest) => {
    using node = await halfAttempt();
    const at = (time: string) => new Date(`2026-05-01T${time}:00Z`);
    utimesSync(`${node.root}/etc/kubernetes/pki/ca.crt`, at("11:30"), at("11:30"));
    if (until) {
      const record = `${node.root}/root/kube-pki-repair-20260501T100000/runs/a-hand-over-1.jsonl`;
      write(
        record,
        `{"at":"${at("10:00").toISOString()}","what":"run"}\n{"at":"${at(until).toISOString()}","what":"end"}\n`,
      );
      write(record.replace(/jsonl$/, "txt"), "");
      utimesSync(record, at(until), at(until));
    }
    const { stderr } = await node.run("01-etcd --new-cas --dry-run");
    expect(stderr).toContain(
      `/etc/kubernetes/pki/ca.crt is newer than the CA that etcd's data names: ${HASH}. ${rest}`,
    );
    expect(stderr.indexOf("is newer than")).toBeLessThan(stderr.indexOf("== 1.2 "));
  },
);

test("a new CA of this repair is no strange one: 00-assess names it, and 00-salvage misses no other", async () => {
  using node = await pretendNode();
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  expect((await node.run("01-etcd --new-cas")).exitCode).toBe(1); // its etcd never starts here
  const { ca: seen, next } = await json(node);
  expect(seen.hashes).toEqual([HASH]);
  expect(seen.copies[0]).toMatchObject({ what: "/etc/kubernetes/pki/ca.crt", is: "new in this repair" });
  expect(next.join("\n")).not.toContain("--move-aside");
  expect((await node.run("01-etcd --dry-run")).stderr).not.toContain("is newer than");
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([0, expect.stringContaining("nothing is lost")]);
});

test("00-assess on a worker holds its CAs against the one that kube-system's pods have", async () => {
  using node = await pretendNode({ kind: "worker" });
  const volume = `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access`;
  write(
    `${node.root}/etc/kubernetes/kubelet.conf`,
    kubeletKubeconfig({ server: "https://127.77.0.11:6443", ca: other.cert }),
  );
  const unknown = await json(node);
  expect(unknown.ca.hashes).toEqual([]);
  podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
  write(`${volume}/ca.crt`, ca.cert);
  const { exitCode, ca: seen } = await json(node);
  expect([exitCode, seen]).toEqual([
    2,
    expect.objectContaining({
      hashes: [HASH],
      copies: [
        { what: "/etc/kubernetes/pki/ca.crt", hash: HASH, is: "the cluster's" },
        { what: "/etc/kubernetes/kubelet.conf", hash: HASH, is: "another CA" },
      ],
    }),
  ]);
  expect((await node.run("00-assess")).stdout).toMatch(
    / the cluster's CA, by kube-system's pods on this node: sha256:HASH\n/,
  );
});

const RECORDS = ["etcd", "kube-apiserver"];

test("00-assess knows a control plane node that lost everything by the kubelet's records of its static pods", async () => {
  using node = await pretendNode();
  for (const path of ["/var/lib/etcd", "/etc/kubernetes"])
    rmSync(node.root + path, { recursive: true, force: true });
  for (const [i, name] of RECORDS.entries())
    podRecord(node.root, "kube-system", `${name}-m1`, String(i).repeat(32));
  await expectTranscript("00-assess-lost-everything", await node.run("00-assess"));
});

test("00-assess knows it by containers that have ended, too", async () => {
  const pod = { namespace: "kube-system", name: "etcd-m1", uid: staticUid("etcd") };
  const labels = Object.fromEntries(
    Object.entries(pod).map(([key, value]) => [`io.kubernetes.pod.${key}`, value]),
  );
  const ended = { state: "CONTAINER_EXITED", metadata: { name: "etcd" }, labels };
  using node = await pretendNode({
    commands: [
      {
        command: `${CRICTL} ps -a -o json`,
        stdout: JSON.stringify({ containers: [ended] }),
      },
    ],
  });
  for (const path of ["/var/lib/etcd", "/etc/kubernetes"])
    rmSync(node.root + path, { recursive: true, force: true });
  expect((await node.run("00-assess")).stderr).toContain("node m1 (control plane)");
});

test.each([
  ["in another namespace", "a-team", "etcd-m1", "1".repeat(32)],
  ["that is no static pod", "kube-system", "etcd-m1", POD_UID],
  ["of another name", "kube-system", "etcd-backup-m1", "1".repeat(32)],
])(
  "00-assess does not take a node for a control plane node by the record of a pod %s",
  async (_, namespace, name, uid) => {
    using node = await pretendNode();
    for (const path of ["/var/lib/etcd", "/etc/kubernetes"])
      rmSync(node.root + path, { recursive: true, force: true });
    podRecord(node.root, namespace, name, uid);
    expect((await node.run("00-assess")).stderr).toContain(
      "node m1 (worker, or a control plane node that lost everything)",
    );
  },
);

test("00-assess where nothing tells a worker from a control plane node says so, with the command for both", async () => {
  using node = await pretendNode({ kind: "worker" });
  rmSync(`${node.root}/etc/kubernetes`, { recursive: true });
  await expectTranscript("00-assess-worker-or-not", await node.run("00-assess"));
  expect(await json(node)).toMatchObject({ exitCode: 2, role: "unknown" });
});

test("00-assess on a control plane node names the cluster's control plane nodes", async () => {
  using node = await pretendNode({
    etcd: (objects) => {
      const m1 = readM1(objects["minions/m1"]);
      objects["minions/m2"] = m1;
    },
  });
  expect((await node.run("00-assess --all")).stdout).toContain("2 control plane (m1, m2), 2 workers");
});

function readM1(m1: object | string | undefined): object {
  return JSON.parse(JSON.stringify(m1).replaceAll('"m1"', '"m2"').replaceAll(ADDRESS, "127.77.0.12"));
}
