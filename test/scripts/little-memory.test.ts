/**
 * Wrong hands: too little memory for etcd's data. Without it the kernel would end the script, perhaps in its
 * middle.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { readWal } from "../../shared/etcd-data/wal.ts";
import { type Objects, write } from "../pretend/cluster.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { writeEtcdData } from "../pretend/write-wal.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const MB = 2 ** 20;

/** What the kernel says of a machine's memory, and of a process's cgroups. */
async function nodeWith(files: Record<string, string>, options: NodeOptions = {}) {
  const node = await pretendNode(options);
  for (const [path, content] of Object.entries(files)) write(node.root + path, content);
  return node;
}

const machine = (megabytes: number) => ({
  "/proc/meminfo": `MemTotal: 2000000 kB\nMemAvailable: ${megabytes * 1024} kB\nSwapFree: 0 kB\n`,
});

const v2 = (free: number, limit = 300) => ({
  ...machine(8000),
  "/proc/self/cgroup": "0::/user.slice/session-1.scope\n",
  "/sys/fs/cgroup/user.slice/memory.max": `${limit * MB}\n`,
  "/sys/fs/cgroup/user.slice/memory.current": `${(limit - free + 50) * MB}\n`,
  "/sys/fs/cgroup/user.slice/memory.stat": `anon 1\ninactive_file ${50 * MB}\n`,
  "/sys/fs/cgroup/user.slice/session-1.scope/memory.max": "max\n",
});

const v1 = (free: number) => ({
  ...machine(8000),
  "/proc/self/cgroup": "4:memory:/kit\n0::/\n",
  "/sys/fs/cgroup/memory/kit/memory.limit_in_bytes": `${300 * MB}\n`,
  "/sys/fs/cgroup/memory/kit/memory.usage_in_bytes": `${(300 - free) * MB}\n`,
});

test.each([
  ["01-etcd --new-cas", "wiped control plane node"],
  ["02-control-plane", "healthy control plane node"],
  ["03-workers open", "healthy control plane node"],
  ["03-workers close", "healthy control plane node"],
  ["04-sa-tokens", "healthy control plane node"],
  ["00-token-key", "healthy control plane node"],
] as [string, NonNullable<NodeOptions["kind"]>][])(
  "%s with 60 MB says so before anything is stopped",
  async (line, kind) => {
    using node = await nodeWith(machine(60), { kind });
    const error =
      /^Not enough memory to read etcd's data in ".*": 118 MB are needed, 63 MB are free \(\/proc\/meminfo\)$/;
    await expectRefusal(node, line, error, /^see what takes it: ps aux/);
  },
);

test.each([
  ["v2", v2],
  ["v1", v1],
] as const)("01-etcd in a cgroup %s with a limit names the limit, and goes on outside", async (_, limit) => {
  using node = await nodeWith(limit(60));
  await expectRefusal(
    node,
    "01-etcd --new-cas",
    /63 MB are free \(\/sys\/fs\/cgroup\/.*(memory\.max|limit_in_bytes)\)$/,
    /outside that limit/,
  );
  using wide = await nodeWith(limit(120));
  expect((await wide.run("01-etcd --new-cas --dry-run")).exitCode).toBe(0);
});

/**
 * Two tokens of kube-system in etcd's data. Nothing has signed them, but they are as long as those of an RSA
 * key of so many bits.
 */
const rsaTokens =
  (bits: number) =>
  (objects: Objects): void => {
    for (const name of ["one", "other"]) {
      const words = [
        { alg: "RS256", kid: "old" },
        { iss: name, sub: "system:serviceaccount:kube-system:kube-proxy" },
      ];
      const signature = randomBytes(bits / 8).toString("base64url");
      const token = [
        ...words.map((word) => Buffer.from(JSON.stringify(word)).toString("base64url")),
        signature,
      ].join(".");
      const metadata = {
        name,
        namespace: "kube-system",
        annotations: { "kubernetes.io/service-account.name": "kube-proxy" },
      };
      const data = { token: Buffer.from(token).toString("base64") };
      objects[`secrets/kube-system/${name}`] = {
        apiVersion: "v1",
        kind: "Secret",
        type: "kubernetes.io/service-account-token",
        metadata,
        data,
      };
    }
  };

test.each([
  [
    2048,
    v2(300, 1000),
    403,
    315,
    "/sys/fs/cgroup/user.slice/memory.max",
    "Run it outside that limit, from another login",
  ],
  [
    4096,
    v2(750, 1000),
    806,
    787,
    "/sys/fs/cgroup/user.slice/memory.max",
    "Run it outside that limit, from another login",
  ],
  [
    2048,
    machine(200),
    403,
    210,
    "/proc/meminfo",
    "see what takes it: ps aux --sort=-rss | head. Make room, or add swap",
  ],
] as [number, Record<string, string>, number, number, string, string][])(
  "00-token-key of RSA-%d without the memory for its numbers says so before it computes",
  async (bits, memory, need, free, of, way) => {
    using node = await nodeWith(memory, { etcd: rsaTokens(bits) });
    await expectRefusal(
      node,
      "00-token-key",
      `Not enough memory to compute a key of RSA-${bits}: ${need} MB are needed, ${free} MB are free (${of})`,
      `${way}; then run the same line again. Or run it on another control plane node that has more: --token-file takes this node's tokens`,
    );
  },
);

test("00-assess and 05-verify say it as well", async () => {
  using node = await nodeWith(machine(60), { kind: "healthy control plane node" });
  const said = /Not enough memory to read etcd's data in ".*": 118 MB are needed/;
  expect((await node.run("00-assess")).stdout).toMatch(said);
  expect((await node.run("05-verify")).stderr).toMatch(said);
});

test("etcd's log is whole where etcd was stopped just as it began the next file", () => {
  const dir = mkdtempSync(`${tmpdir()}/etcd-`);
  const puts = Array.from({ length: 5 }, (_, i): [string, string] => [`/registry/k${i}`, "v"]);
  writeEtcdData(dir, {
    clusterId: "c1",
    members: [{ id: "a1", name: "m1", peerURLs: ["https://10.0.0.1:2380"] }],
    puts,
    cut: true,
  });
  const { last, commit, warnings } = readWal(`${dir}/member/wal`, { after: 7, isWanted: () => false });
  rmSync(dir, { recursive: true });
  expect({ last: last.index, commit, warnings }).toEqual({ last: 7, commit: 7, warnings: [] });
});
