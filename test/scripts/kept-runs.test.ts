/**
 * Every run that writes leaves its transcript and what it changed in the rescue folder: as the operator saw
 * it, and without a secret.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { lstatSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { certInfo } from "../../shared/pki/certificate.ts";
import { otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { type Kept, keptOn, secretsIn } from "../pretend/kept.ts";
import { pretendNode } from "../pretend/node.ts";
import { knewCa } from "../pretend/running.ts";
import { STALE_SECRET, serveStale } from "../pretend/stale.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const CUT_OFF = `--preload ${import.meta.dir}/../pretend/cut-off.ts`;
const before = await otherCa();

type Node = Awaited<ReturnType<typeof pretendNode>>;

/** Part 1, up to an etcd that answers. */
async function part1(node: Node, env: Record<string, string> = {}) {
  const started = node
    .called("systemctl restart kubelet")
    .then(() => serveEtcd(node.root, sameEtcd(node.stored)));
  const child = node.start("01-etcd --new-cas", { ...WAITS, ...env });
  const stderr = await new Response(child.stderr).text();
  const exitCode = await child.exited;
  return { exitCode, stderr, started };
}

const what = ({ record }: Kept, kind: string) => record.filter((line) => line.what === kind);

test("01-etcd keeps what it printed, its steps and each file, with the certificates in it and no content", async () => {
  using node = await pretendNode();
  const { exitCode, stderr, started } = await part1(node);
  using _etcd = await started;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const [kept, ...others] = keptOn(node.root);
  expect(others).toEqual([]);
  expect(kept!.text).toBe(stderr);
  expect(
    [kept!.path, kept!.path.replace(/jsonl$/, "txt")].map((path) => lstatSync(node.root + path).mode & 0o777),
  ).toEqual([0o600, 0o600]);
  expect(
    [dirname(kept!.path), dirname(dirname(kept!.path))].map(
      (path) => lstatSync(node.root + path).mode & 0o777,
    ),
  ).toEqual([0o700, 0o700]);
  expect(kept!.record[0]).toMatchObject({ what: "run", format: 1, script: "01-etcd", args: ["--new-cas"] });
  expect(what(kept!, "node")).toMatchObject([{ name: "m1" }]);
  expect(kept!.record.at(-1)).toMatchObject({ what: "end", exitCode: 0 });
  const steps = what(kept!, "step").map(({ title }) => title.slice(0, 3));
  expect(steps).toEqual(["1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7"]);
  expect(what(kept!, "step end").map(({ ok }) => ok)).toEqual(steps.map(() => true));
  const files = Object.fromEntries(what(kept!, "file").map((line) => [line.path, line]));
  const ca = certInfo(node.read("/etc/kubernetes/pki/ca.crt"));
  expect(files["/etc/kubernetes/pki/ca.crt"]).toMatchObject({
    ...{ did: "wrote", mode: "0644" },
    certificates: [
      { subject: "CN=kubernetes", fingerprint: ca.publicKeyHash, until: ca.notAfter.toISOString() },
    ],
  });
  expect(files["/etc/kubernetes/pki/ca.key"]).toEqual({
    at: expect.any(String),
    what: "file",
    did: "wrote",
    path: "/etc/kubernetes/pki/ca.key",
    isNew: true,
    mode: "0600",
  });
  expect(files["/var/lib/etcd"]).toMatchObject({
    did: "copied",
    to: expect.stringMatching(/^\/root\/kube-pki-repair-\w+\/etcd$/),
  });
  expect(what(kept!, "act").map(({ line }) => line)).toContain("restarted kubelet");
  expect(what(kept!, "proved")).toMatchObject([{ subject: "etcd" }]);
});

test("a dry run, a refusal, a run that finds nothing to do, and a script that only reads leave nothing", async () => {
  using node = await pretendNode();
  expect((await node.run("01-etcd --dry-run --new-cas")).exitCode).toBe(0);
  expect((await node.run("01-etcd")).exitCode).toBe(1);
  await node.run("00-assess");
  expect(keptOn(node.root)).toEqual([]);
  using _etcd = await (await part1(node)).started;
  const after = node.fingerprint();
  expect((await node.run("01-etcd", WAITS)).exitCode).toBe(0);
  expect(node.fingerprint()).toEqual(after);
});

test("a run that is killed leaves the step in which it was", async () => {
  using node = await pretendNode();
  const child = node.start("01-etcd --new-cas", { BUN_OPTIONS: CUT_OFF, PRETEND_CUT_AFTER: "60" });
  await child.exited;
  expect(child.signalCode).toBe("SIGKILL");
  const [kept] = keptOn(node.root);
  const [begun, ended] = [what(kept!, "step"), what(kept!, "step end")];
  expect(begun.length).toBe(ended.length + 1);
  expect(begun.at(-1)!.title).not.toBe(ended.at(-1)!.title);
  expect(what(kept!, "end")).toEqual([]);
  expect(kept!.text).toContain(`== ${begun.at(-1)!.title}`);
});

test("a failed step, its error and its hint are kept, and so is the exit code", async () => {
  using node = await pretendNode();
  expect((await node.run("01-etcd --new-cas")).exitCode).toBe(1);
  const [kept] = keptOn(node.root);
  expect(what(kept!, "step end").at(-1)).toMatchObject({ ok: false });
  expect(what(kept!, "failed")).toMatchObject([
    { message: expect.stringContaining("Waited"), hint: expect.any(String) },
  ]);
  expect(kept!.record.at(-1)).toMatchObject({ what: "end", exitCode: 1 });
  expect(kept!.text).toContain("error: Waited");
});

test("where it cannot be written the repair goes on, and says so once", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
  using api = serveStale(node, before.cert);
  rmSync(`${node.root}/root`, { recursive: true });
  writeFileSync(`${node.root}/root`, "");
  const child = node.start("04-sa-tokens", WAITS);
  const stderr = await new Response(child.stderr).text();
  const exitCode = await child.exited;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr.match(/its transcript is not saved: .*/g)).toEqual([expect.stringContaining("ENOTDIR")]);
  expect(api.changes().length).toBeGreaterThan(3);
});

test("a run that changes only the cluster keeps which objects; a backup on a good day makes no rescue folder", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
  using _api = serveStale(node, before.cert);
  write(`${node.root}/root/passphrase`, "correct horse battery staple\n");
  expect((await node.run("hand-over pack --passphrase-file passphrase --out keys.age")).exitCode).toBe(0);
  expect(keptOn(node.root)).toEqual([]);
  expect((await node.run("04-sa-tokens", WAITS)).exitCode).toBe(0);
  const [kept] = keptOn(node.root);
  expect(kept!.run).toBe("04-sa-tokens");
  expect(what(kept!, "object")).toContainEqual(expect.objectContaining({ verb: "PUT", path: STALE_SECRET }));
  expect(kept!.record.at(-1)!.objects).toMatchObject({ "PUT secrets": 1, "POST eviction": 1 });
});

test("a bundle that is packed in a repair is part of it, also one in memory", async () => {
  using node = await pretendNode();
  using _etcd = await (await part1(node)).started;
  write(`${node.root}/root/passphrase`, "correct horse battery staple\n");
  write(`${node.root}/run/kube-pki-repair/README.md`, "the kit");
  write(`${node.root}/proc/self/mountinfo`, "23 22 0:30 / /run rw,nosuid,nodev - tmpfs tmpfs rw\n");
  const pack = "hand-over pack --passphrase-file passphrase --out /run/kube-pki-repair/shared-keys.age";
  expect((await node.run(pack, WAITS)).exitCode).toBe(0);
  expect(keptOn(node.root).map(({ run }) => run)).toEqual(["01-etcd", "hand-over-pack"]);
});

test("a secret in a transcript would be seen, of each kind", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  write(`${node.root}/root/token`, `${["abcdef", "0123456789abcdef"].join(".")}\n`);
  write(`${node.root}/root/passphrase`, "correct horse battery staple\n");
  const key = node.read("/etc/kubernetes/pki/ca.key").split("\n")[1]!;
  const conf = /client-key-data: (\S+)/.exec(node.read("/etc/kubernetes/admin.conf"))![1]!;
  const seen = (text: string) => secretsIn([text], node.root).map(([what]) => what);
  expect(seen(`x ${key} y`)).toContain("a private key");
  expect(seen(conf)).toContain("a private key");
  expect(seen(`token: ${node.read("/root/token")}`)).toContain("a bootstrap token");
  expect(seen("it is correct horse battery staple")).toContain("a passphrase");
  expect(seen("nothing")).toEqual([]);
});
