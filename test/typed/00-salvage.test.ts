/**
 * 00-salvage as operators run it: what it finds in the memory of pretend processes and in kubeadm's Secret,
 * and that it writes all or nothing.
 */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { createCipheriv, createPrivateKey, randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { publicPem } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import type { KeyPair } from "../../shared/pki/keys.ts";
import { clusterObjects, FACTS, healthyCp, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { keptOn } from "../pretend/kept.ts";
import { bigInt, POD_UID, type PretendProcess, podRecord, pretendProcess } from "../pretend/memory.ts";
import { expectTranscript, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { root: healthy, ca } = await healthyCp();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const scalar = (file: string) => bigInt(createPrivateKey(pki(file)));

const MANAGER: PretendProcess = {
  pid: 31,
  comm: "kube-controller",
  holds: [scalar("ca.key"), Buffer.from(pki("sa.key"))],
};
const APISERVER: PretendProcess = { pid: 32, comm: "kube-apiserver", holds: [scalar("sa.key")] };
const SHARED = ["ca.crt", "ca.key", "sa.key", "sa.pub"];
const INTERNAL = ["front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key"];

/**
 * A control plane node whose /etc/kubernetes is gone; these processes still run, and a pod of it holds a
 * token.
 */
async function wiped(processes: PretendProcess[], options: NodeOptions = {}) {
  const node = here(await pretendNode(options));
  for (const process of processes) pretendProcess(node.root, process);
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
  write(
    `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access/token`,
    token(OWN, 1000),
  );
  return node;
}

const OWN: KeyPair = { key: pki("sa.key"), pub: pki("sa.pub") };

function token(pair: KeyPair, issuedAt: number): string {
  return tokenBy(pair, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt });
}

/** As kubeadm init --upload-certs writes it. */
function kubeadmCerts(key: Buffer) {
  const seal = (text: string) => {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    return Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]).toString(
      "base64",
    );
  };
  const data = Object.fromEntries(
    [...SHARED, ...INTERNAL].map((file) => [file.replace("/", "-"), seal(pki(file))]),
  );
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "kubeadm-certs", namespace: "kube-system" },
    data,
  };
}

function expectOld(node: { read(path: string): string; root: string }, files: readonly string[]) {
  for (const file of files)
    expect([file, node.read(`/etc/kubernetes/pki/${file}`)]).toEqual([file, pki(file)]);
  for (const file of files.filter((name) => name.endsWith(".key")))
    expect(statSync(`${node.root}/etc/kubernetes/pki/${file}`).mode & 0o777).toBe(0o600);
}

test("00-salvage takes ca.key and sa.key out of memory, and 01-etcd --new-internal-cas goes on with them", async () => {
  const conf = readFileSync(`${healthy}/etc/kubernetes/controller-manager.conf`, "utf8");
  using node = await wiped([
    { ...MANAGER, mounts: { "/etc/kubernetes/controller-manager.conf": conf } },
    APISERVER,
  ]);
  const found = await node.run("00-salvage");
  expect(found.exitCode).toBe(0);
  expectOld(node, SHARED);
  expect(node.read("/etc/kubernetes/controller-manager.conf")).toBe(conf);
  expect(node.exists("/dev/shm/kube-pki-repair-salvage")).toBe(false);
  await expectTranscript("00-salvage-memory", timeless(found));

  const before = node.fingerprint();
  expect((await node.run("00-salvage")).exitCode).toBe(0);
  expect(node.fingerprint()).toEqual(before);

  const part1 = node.run("01-etcd --new-internal-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  await expectTranscript("01-etcd-salvaged", await part1);
  expectOld(node, SHARED);
});

test("no search is needed for an expired CA whose key is here: 00-assess --deep and 00-salvage name part 1, which renews it", async () => {
  const row = certRow("ca");
  const expired = await issueCa(row, FACTS, {
    key: { key: pki("ca.key"), pub: publicPem(pki("ca.key")) },
    now: new Date("2010-01-01"),
  });
  using node = here(
    await pretendNode({
      kind: "healthy control plane node",
      etcd: (objects) => Object.assign(objects, clusterObjects(expired.cert)),
    }),
  );
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  write(`${node.root}/etc/kubernetes/pki/ca.crt`, expired.cert);
  const { next, verdict } = JSON.parse((await node.run("00-assess --deep --json")).stdout);
  expect(next).toEqual(["./bunw scripts/01-etcd.ts", "./bunw scripts/02-control-plane.ts"]);
  expect(verdict).toContain("renew");
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([0, expect.stringContaining("next: ./bunw scripts/01-etcd.ts\n")]);
  expect(node.fingerprint()).toEqual(before);
});

test("01-etcd --new-cas refuses where a process that it would stop still holds a lost key, and changes nothing", async () => {
  using node = await wiped([MANAGER]);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(
    /error: ca\.key is still in the memory of kube-controller-manager \(pid \d+\), sa\.key is still in .*: no new one is needed/,
  );
  expect(stderr).toContain("hint: ./bunw scripts/00-salvage.ts memory puts them back");
  expect(node.fingerprint()).toEqual(before);
});

test("00-salvage on a control plane node with external etcd misses no CA of etcd, and leads to 00-assess", async () => {
  using node = await wiped([MANAGER, APISERVER]);
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  write(`${node.root}/etc/kubernetes/pki/ca.crt`, pki("ca.crt"));
  write(`${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`, API_SERVER_OF_EXTERNAL_ETCD);
  const { exitCode, stderr } = await node.run("00-salvage memory");
  expect(exitCode).toBe(0);
  expectOld(node, SHARED);
  expect(stderr).not.toMatch(/etcd\/ca\.key|lost: .*etcd\/ca/);
  expect(stderr).toContain("\ndone.  next: ./bunw scripts/00-assess.ts   # says how etcd can be reached");
});

const API_SERVER_OF_EXTERNAL_ETCD =
  "spec: {containers: [{command: [--etcd-servers=https://127.0.0.31:2379]}]}";

test("00-salvage on a control plane node where nothing is left says so, and on which control plane node to look, and writes nothing", async () => {
  const spec = {
    holderIdentity: "m2_7d6b5a5c-1c1d-4c52-9d5e-0a8a8a8a8a8a",
    renewTime: "2026-01-01T00:00:00.000000Z",
  };
  const etcd = (objects: Objects) => {
    objects["leases/kube-system/kube-controller-manager"] = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: {},
      spec,
    };
  };
  using node = await wiped([{ pid: 33, comm: "etcd" }], { etcd });
  const before = node.fingerprint();
  const run = await node.run("00-salvage");
  expect(node.fingerprint()).toEqual(before);
  await expectTranscript("00-salvage-nothing", timeless(run));
});

test("00-salvage --dry-run says what it would write, and writes nothing", async () => {
  using node = await wiped([MANAGER]);
  const before = node.fingerprint();
  const run = await node.run("00-salvage --dry-run");
  expect(node.fingerprint()).toEqual(before);
  await expectTranscript("00-salvage-dry-run", timeless(run));
});

test("00-salvage on a healthy control plane node finds nothing lost, and changes no byte", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  pretendProcess(node.root, MANAGER);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([0, expect.stringContaining("/etc/kubernetes/pki: nothing is lost")]);
  expect(node.fingerprint()).toEqual(before);
});

test("00-salvage says where it has looked in vain: a disk that was read is among them, a Secret that was not opened is not", async () => {
  using node = await wiped([], { etcd: addSecret(randomBytes(32)) });
  write(`${node.root}/root/image`, "\0".repeat(1 << 20));
  const { exitCode, stderr } = await node.run(`00-salvage --image ${node.root}/root/image`);
  expect(exitCode).toBe(2);
  expect(stderr).toContain(
    "\nstill lost: ca.key, front-proxy-ca.key, etcd/ca.key, sa.key: not found in memory, the disk; look on the other control plane nodes",
  );
});

test("00-salvage secret opens kubeadm-certs with the certificate key: all comes back, etcd's CA as well", async () => {
  const key = randomBytes(32);
  using node = await wiped([], { etcd: addSecret(key) });
  write(`${node.root}/root/certificate-key`, `${key.toString("hex")}\n`);
  const run = await node.run("00-salvage secret --certificate-key-file certificate-key");
  expect(run.exitCode).toBe(0);
  expectOld(node, [...SHARED, ...INTERNAL]);
  await expectTranscript("00-salvage-secret", run);
});

test("00-salvage secret takes what is typed at the terminal as the certificate key", async () => {
  const key = randomBytes(32);
  using node = await wiped([], { etcd: addSecret(key) });
  const { spawnSync } = Bun;
  using asked = spyOn(Bun, "spawnSync").mockImplementation(((...args: Parameters<typeof spawnSync>) =>
    String(args[0]).endsWith("Certificate key: ")
      ? { stdout: Buffer.from(key.toString("hex")), exitCode: 0 }
      : spawnSync(...args)) as typeof spawnSync);
  expect((await node.run("00-salvage secret")).exitCode).toBe(0);
  expect(asked).toHaveBeenCalled();
  expectOld(node, [...SHARED, ...INTERNAL]);
});

test("00-salvage says that kubeadm-certs is there, and asks for its key only with the argument secret", async () => {
  using node = await wiped([], { etcd: addSecret(randomBytes(32)) });
  const { exitCode, stderr } = await node.run("00-salvage");
  expect(exitCode).toBe(2);
  expect(stderr).toContain(
    "  the Secret is there: ./bunw scripts/00-salvage.ts secret decrypts it with its certificate key\n",
  );
});

test.each([
  [
    "another certificate key",
    randomBytes(32).toString("hex"),
    "The certificate key does not open ca.key of the Secret kubeadm-certs",
  ],
  ["something else", "not a key", "This is not a certificate key"],
])("00-salvage secret with %s writes nothing", async (_, given, error) => {
  using node = await wiped([], { etcd: addSecret(randomBytes(32)) });
  write(`${node.root}/root/certificate-key`, given);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(
    "00-salvage secret --certificate-key-file /root/certificate-key",
  );
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining(`error: ${error}\n`)]);
  expect(node.fingerprint()).toEqual(before);
});

test("00-salvage secret takes no certificate key from the environment, which every program that it starts would have", async () => {
  const key = randomBytes(32);
  using node = await wiped([], { etcd: addSecret(key) });
  const { exitCode, stderr } = await node.run("00-salvage secret", {
    KUBE_PKI_REPAIR_CERTIFICATE_KEY: key.toString("hex"),
  });
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringContaining("hint: give --certificate-key-file FILE\n  Or run this script in a terminal"),
  ]);
});

test("00-salvage leaves other keys that are here alone, unless they are to be moved aside", async () => {
  using node = await wiped([MANAGER]);
  const other = await otherCa();
  write(`${node.root}/etc/kubernetes/pki/ca.crt`, other.cert, 0o644);
  write(`${node.root}/etc/kubernetes/pki/ca.key`, other.key);
  const kept = await node.run("00-salvage");
  expect(kept.stderr).not.toContain("pki/ca.key: found");
  expect(node.read("/etc/kubernetes/pki/ca.key")).toBe(other.key);

  const { exitCode, stderr } = await node.run("00-salvage --move-aside");
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining(
      "ca.key: the one on this node is of another CA (sha256:HASH); the salvage has sha256:HASH\n",
    ),
  ]);
  expectOld(node, SHARED);
});

test("00-salvage --move-aside replaces what cannot be read where sa.key is lost", async () => {
  using node = await wiped([MANAGER]);
  write(`${node.root}/etc/kubernetes/pki/sa.pub`, pki("sa.pub").slice(0, 60));
  const { exitCode, stderr } = await node.run("00-salvage memory --move-aside");
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining("sa.pub: the one on this node is unreadable; the salvage has sha256:"),
  ]);
  expectOld(node, SHARED);
});

test("00-salvage leaves what belongs to a sound key to part 1: it is no other key, whatever became of it", async () => {
  using node = await wiped([MANAGER]);
  write(`${node.root}/etc/kubernetes/pki/ca.key`, pki("ca.key"));
  write(`${node.root}/etc/kubernetes/pki/ca.crt`, pki("ca.crt").slice(0, 200));
  const { exitCode, stderr } = await node.run("00-salvage memory");
  expect([exitCode, stderr]).toEqual([0, expect.not.stringContaining("ca.crt: here")]);
  expectOld(node, ["sa.key", "sa.pub"]);
  expect(node.read("/etc/kubernetes/pki/ca.crt")).toBe(pki("ca.crt").slice(0, 200));
});

test("00-salvage refuses to put a key beside a certificate that is not its own", async () => {
  using node = await wiped([MANAGER]);
  write(`${node.root}/etc/kubernetes/pki/ca.crt`, (await otherCa()).cert, 0o644);
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringContaining("error: This node has other keys than the salvage: ca.crt"),
  ]);
  expect(node.exists("/etc/kubernetes/pki/sa.key")).toBe(false);
});

test("of two service-account keys 00-salvage takes the one that signed what pods hold, not the one of a forgotten Secret", async () => {
  const earlier = newKeyOf("ECDSA-P256");
  const secret = {
    ...{ apiVersion: "v1", kind: "Secret", type: "kubernetes.io/service-account-token" },
    ...{
      metadata: { name: "old", namespace: "kube-system" },
      data: { token: Buffer.from(token(earlier, 2000)).toString("base64") },
    },
  };
  const etcd = (objects: Objects) => {
    objects["secrets/kube-system/old"] = secret;
  };
  using node = await wiped(
    [{ ...MANAGER, holds: [bigInt(createPrivateKey(earlier.key)), ...MANAGER.holds!] }],
    { etcd },
  );
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining(
      "proved by kube-system's token Secrets: it verifies 1 of 1 tokens; the cluster uses a later one",
    ),
  ]);
  expectOld(node, SHARED);
});

test("00-salvage puts back keys of certificates that are still here, so that nothing has to be issued anew", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  const old = node.fingerprint().filter((line) => /^etc\/kubernetes\//.test(line)).length;
  for (const file of ["ca.key", "apiserver.key", "sa.key"]) rmSync(`${node.root}/etc/kubernetes/pki/${file}`);
  pretendProcess(node.root, MANAGER);
  pretendProcess(node.root, { ...APISERVER, holds: [scalar("apiserver.key")] });
  expect((await node.run("00-salvage")).exitCode).toBe(0);
  expectOld(node, [...SHARED, "apiserver.key", "apiserver.crt"]);
  expect(node.fingerprint().filter((line) => /^etc\/kubernetes\//.test(line)).length).toBe(old);
});

test("00-salvage takes up what a run that was cut off has left in memory", async () => {
  using node = await wiped([]);
  mkdirSync(`${node.root}/dev/shm/kube-pki-repair-salvage`, { mode: 0o700 });
  write(`${node.root}/dev/shm/kube-pki-repair-salvage/ca-1234.key`, ca.key);
  write(`${node.root}/dev/shm/kube-pki-repair-salvage/sa-1234.key`, pki("sa.key"));
  expect((await node.run("00-salvage")).exitCode).toBe(0);
  expectOld(node, SHARED);
  expect(node.exists("/dev/shm/kube-pki-repair-salvage")).toBe(false);
});

test("00-salvage keeps out of a folder in /dev/shm that is not its own, and saves what it found nevertheless", async () => {
  using node = await wiped([MANAGER]);
  symlinkSync("/root", `${node.root}/dev/shm/kube-pki-repair-salvage`);
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining("/dev/shm/kube-pki-repair-salvage belongs to another user: not used"),
  ]);
  expectOld(node, SHARED);
  expect(readdirSync(`${node.root}/root`)).toEqual([expect.stringMatching(/^kube-pki-repair-/)]);
  expect(keptOn(node.root).map(({ run }) => run)).toEqual(["00-salvage"]);
});

test("00-salvage goes on where a process may not be read", async () => {
  using node = await wiped([MANAGER, APISERVER]);
  rmSync(`${node.root}/proc/31/mem`);
  symlinkSync("mem", `${node.root}/proc/31/mem`);
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringMatching(
      /kube-controller-manager \(pid 31\): not read to its end: Cannot read its memory: ELOOP/,
    ),
  ]);
  expectOld(node, ["sa.key", "sa.pub"]);
});

test("00-salvage on a worker says that it is none of its nodes", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  pretendProcess(node.root, { pid: 35, comm: "kubelet" });
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    3,
    expect.stringContaining('error: This is no control plane node: there is no "/var/lib/etcd"'),
  ]);
});

test("00-salvage does not know other places", async () => {
  using node = here(await pretendNode({ kind: "no node" }));
  const { exitCode, stderr } = await node.run("00-salvage attic");
  expect([exitCode, stderr]).toEqual([
    64,
    expect.stringContaining('error: 00-salvage has no sub-command "attic"'),
  ]);
});

function addSecret(key: Buffer) {
  return (objects: Objects) => {
    objects["secrets/kube-system/kubeadm-certs"] = kubeadmCerts(key);
  };
}

/** Seconds differ from run to run. */
function timeless<T extends { stderr: string }>(run: T): T {
  return { ...run, stderr: run.stderr.replace(/in \d+\.\d s/g, "in SECONDS s") };
}
