/**
 * 00-assess --deep as operators run it: where each lost key can still be found, which rung that is, and that
 * nothing is written for it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ADDRESS, healthyCp, type Objects, write } from "../pretend/cluster.ts";
import { layOut } from "../pretend/lost-disk.ts";
import { bigInt, POD_UID, type PretendProcess, podRecord, pretendProcess } from "../pretend/memory.ts";
import { expectTranscript, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { tokenBy } from "../pretend/old-keys.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const scalar = (file: string) => bigInt(createPrivateKey(pki(file)));
const MANAGER: PretendProcess = {
  pid: 31,
  comm: "kube-controller",
  holds: [scalar("ca.key"), scalar("sa.key")],
};

const OWN = { key: pki("sa.key"), pub: pki("sa.pub") };

interface Answer {
  rung: number;
  next: string[];
  deep: { keys: { file: string; places: { where: string }[] }[]; oldTokens: boolean };
}

/** Looks deep, and holds every file against what it was: nothing is written, in /dev/shm neither. */
async function deep(
  args: string,
  options: NodeOptions & { change?: (root: string) => void; processes?: PretendProcess[] },
) {
  using node = await pretendNode(options);
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  for (const process of options.processes ?? []) pretendProcess(node.root, process);
  podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
  const volume = `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access`;
  write(`${volume}/token`, tokenBy(OWN, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 }));
  options.change?.(node.root);
  const before = node.fingerprint();
  const run = await node.run(`00-assess --deep ${args}`.trim());
  expect(node.fingerprint()).toEqual(before);
  expect(run.exitCode).toBe(2);
  return { ...run, stderr: run.stderr.replace(/in \d+\.\d s/g, "in SECONDS s") };
}

async function json(args: string, options: Parameters<typeof deep>[1]) {
  const { stdout } = await deep(`--json ${args}`.trim(), options);
  const { rung, next, deep: found } = JSON.parse(stdout) as Answer;
  const where = Object.fromEntries(found.keys.map(({ file, places }) => [file, places[0]?.where]));
  return { rung, next: next.map((line) => line.replace(/ {2,}#.*/, "")), where, oldTokens: found.oldTokens };
}

test("--deep: keys in memory are row 2, and the two CAs that no process holds are made new", async () => {
  await expectTranscript("00-assess-deep-memory", await deep("--no-disk", { processes: [MANAGER] }));
});

test("--deep where nothing is left is row 5, and says so of each key", async () => {
  // without a token of kube-system's, whose key could be computed
  const change = (root: string) => rmSync(`${root}/var/lib/kubelet/pods`, { recursive: true });
  await expectTranscript("00-assess-deep-nowhere", await deep("--no-disk", { change }));
});

test("where sa.key alone is lost, no node is said to join again and no new CA to be made", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  for (const file of ["sa.key", "sa.pub"]) rmSync(`${node.root}/etc/kubernetes/pki/${file}`);
  const verdicts = [
    await node.run("00-assess --json"),
    await node.run("00-assess --deep --no-disk --json"),
  ].map(({ stdout }) => JSON.parse(stdout).verdict);
  expect(verdicts).toEqual([
    "keys lost on this node: sa. Are they stored offline, or on another control plane node? Bring them. Else look for the old ones (00-salvage). If they are gone: a new service-account key, pods restart",
    "sa.key is nowhere to be found: a new one is made, tokens are renewed and pods restart (part 4); the disk was not searched (RUNBOOK 0.1, row 5)",
  ]);
});

test("--deep finds keys in free blocks of an image: row 3, with the image in the command", async () => {
  const path = `${mkdtempSync(join(tmpdir(), "deep-"))}/disk.img`;
  writeFileSync(
    path,
    layOut({ a: pki("ca.key"), b: pki("sa.key"), c: pki("etcd/ca.crt"), d: pki("etcd/ca.key") }, 4096),
  );
  const { rung, next, where } = await json(`--image ${path}`, {}).finally(() =>
    rmSync(dirname(path), { recursive: true }),
  );
  expect(where).toEqual({
    "ca.key": `blocks of ${path}`,
    "front-proxy-ca.key": undefined,
    "etcd/ca.key": undefined,
    "sa.key": `blocks of ${path}`,
  });
  expect([rung, next]).toEqual([
    3,
    [
      "systemctl stop kubelet",
      `./bunw scripts/00-salvage.ts disk --image ${path}`,
      "./bunw scripts/01-etcd.ts --new-internal-cas",
      "./bunw scripts/02-control-plane.ts",
    ],
  ]);
});

test("--deep with the Secret kubeadm-certs is row 1, without its certificate key", async () => {
  const files = ["ca", "front-proxy-ca", "etcd-ca", "sa"].map((name) => [
    `${name}.key`,
    Buffer.alloc(64).toString("base64"),
  ]);
  const etcd = (objects: Objects) => {
    objects["secrets/kube-system/kubeadm-certs"] = {
      ...{ apiVersion: "v1", kind: "Secret", metadata: { name: "kubeadm-certs", namespace: "kube-system" } },
      data: Object.fromEntries(files),
    };
  };
  const { rung, next } = await json("--no-disk", { etcd });
  expect([rung, next[1], next[2]]).toEqual([
    1,
    "./bunw scripts/00-salvage.ts secret",
    "./bunw scripts/01-etcd.ts",
  ]);
  expect(next.at(-1)).toBe(
    "if nobody has that key: ./bunw scripts/00-token-key.ts, then ./bunw scripts/01-etcd.ts --new-cas",
  );
});

test("--deep on one of several control plane nodes is row 1: the others are named, and the hand-over", async () => {
  const etcd = (objects: Objects) => {
    const m1 = objects["minions/m1"] as { metadata: object };
    objects["minions/m2"] = JSON.parse(
      JSON.stringify(m1).replaceAll('"m1"', '"m2"').replaceAll(ADDRESS, "127.77.0.12"),
    );
  };
  const { rung, next } = await json("--no-disk", { etcd });
  expect([rung, next[1], next[2]]).toEqual([
    1,
    "on m2: ./bunw scripts/00-assess.ts --deep, then ./bunw scripts/hand-over.ts pack where the keys are",
    "./bunw scripts/hand-over.ts unpack FILE",
  ]);
});

test("--deep with old tokens of kube-system is row 4", async () => {
  const etcd = (objects: Objects) => {
    const token = tokenBy(OWN, { alg: "ES256", of: "kube-system:default" });
    objects["secrets/kube-system/t"] = {
      ...{ apiVersion: "v1", kind: "Secret", type: "kubernetes.io/service-account-token" },
      ...{
        metadata: { name: "t", namespace: "kube-system" },
        data: { token: Buffer.from(token).toString("base64") },
      },
    };
  };
  const { rung, next, oldTokens } = await json("--no-disk", { etcd });
  expect([rung, oldTokens, next]).toEqual([
    4,
    true,
    [
      "systemctl stop kubelet",
      "./bunw scripts/00-token-key.ts",
      "./bunw scripts/01-etcd.ts --new-cas",
      "./bunw scripts/02-control-plane.ts",
    ],
  ]);
});

test("--deep prints --move-aside where another CA's ca.key is in the place of the lost one", async () => {
  const change = (root: string) => writeFileSync(`${root}/etc/kubernetes/pki/ca.key`, pki("etcd/ca.key"));
  const { rung, next } = await json("--no-disk", {
    kind: "healthy control plane node",
    processes: [MANAGER],
    change,
  });
  expect([rung, next[2], next[3]]).toEqual([
    2,
    "./bunw scripts/00-salvage.ts memory --move-aside",
    "./bunw scripts/01-etcd.ts",
  ]);
});

test("--deep sees another key's public half in the way of the lost key's", async () => {
  const change = (root: string) => {
    rmSync(`${root}/etc/kubernetes/pki/ca.key`);
    writeFileSync(`${root}/etc/kubernetes/pki/ca.crt`, pki("etcd/ca.crt"));
  };
  const { next } = await json("--no-disk", {
    kind: "healthy control plane node",
    processes: [MANAGER],
    change,
  });
  expect(next[2]).toBe("./bunw scripts/00-salvage.ts memory --move-aside");
});

test("--image without --deep is refused", async () => {
  using node = await pretendNode({ kind: "no node" });
  const { exitCode, stderr } = await node.run("00-assess --image x");
  expect([exitCode, stderr]).toEqual([
    64,
    expect.stringContaining("need --deep: they say where it searches"),
  ]);
});
