/**
 * The end of 05-verify after a repair: what has changed, what is left for people, and what to delete on which
 * node.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { BACKUP } from "../../shared/again.ts";
import { BACKUP_MARK } from "../../shared/hand-over/backup-mark.ts";
import { kits } from "../../shared/verify/wrap-up.ts";
import { clusterObjects, healthyCp, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { writeData } from "../pretend/control-plane-node.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { agedText } from "../pretend/expired.ts";
import { proxyOf } from "../pretend/joining.ts";
import { expectTranscript, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";
import { sandbox } from "../pretend/sandbox.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const RESCUE = "/root/kube-pki-repair-20260101T000000";
const AGE = "age-encryption.org/v1\n-> X25519 abc\n";

/** A repair with a new CA is over on this node, and all that it left is still here. `old`: the CA before it. */
async function repaired(
  options: NodeOptions = {},
  old: (root: string) => Promise<string> = async () => before.cert,
  then: (objects: Objects) => void = () => {},
) {
  const node = here(await pretendNode({ kind: "healthy control plane node", ...options }));
  const cert = await old(node.root);
  const lost = clusterObjects(cert);
  lost["minions/w9"] = JSON.parse(JSON.stringify(lost["minions/w1"]).replaceAll("w1", "w9"));
  then(lost);
  writeData(`${node.root}${RESCUE}/etcd`, lost);
  write(`${node.root}${RESCUE}/aside/etc/kubernetes/pki/ca.crt`, cert);
  return node;
}

async function end(
  node: Awaited<ReturnType<typeof repaired>>,
  objects: Record<string, object> = {},
  line = "05-verify",
) {
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node, { objects });
  const untouched = node.fingerprint();
  const run = await node.run(line);
  expect(node.fingerprint()).toEqual(untouched);
  return run;
}

test("after a repair 05-verify ends with one screen: what has changed, what is left, what to delete where", async () => {
  using node = await repaired();
  write(`${node.root}/etc/kubernetes/.kube-pki-repair-new-sa-key`, "{}", 0o644);
  write(`${node.root}/etc/kubernetes/.kube-pki-repair-backup`, "{}", 0o644);
  write(`${node.root}/etc/kubernetes/pki/.ca.key.7.kube-pki-repair.partial`, "half");
  write(`${node.root}/root/keys.age`, AGE);
  write(`${node.root}/root/identity`, "# created\nAGE-SECRET-KEY-1ABC\n");
  const token = `${["abcdef", "0123456789abcdef"].join(".")}\n# w1\n${before.cert}`;
  for (const file of ["token", "token.d/w1/token"]) write(`${node.root}/root/${file}`, token);
  write(`${node.root}/root/passphrase`, "WHqAAKQ2TcV6b7t8\n");
  write(`${node.root}/root/notes.txt`, "nothing secret");
  const canary = {
    metadata: { labels: { "kube-pki-repair": "canary" } },
    spec: { nodeName: "w2" },
    status: { phase: "Succeeded" },
  };
  const run = await end(node, { "/api/v1/namespaces/kube-system/pods/kube-pki-repair-canary-w2": canary });
  await expectTranscript("05-verify-wrap-up", run);
  const lines = run.stdout.split("\n");
  expect(
    lines
      .filter((line) => /^ {2}on \S+ +(rm|shred)/.test(line))
      .map((line) => line.replace(/^ {2}on (\S+) +(.*?) {3}#.*/, "$1: $2")),
  ).toEqual([
    "m1: rm -rf /root/kube-pki-repair-TIME",
    "m1: rm -f /etc/kubernetes/.kube-pki-repair-new-sa-key",
    "m1: rm -rf /etc/kubernetes/pki/.ca.key.7.kube-pki-repair.partial",
    "m1: rm -rf /root/token.d",
    "m1: shred -u /root/identity",
    "m1: shred -u /root/keys.age",
    "m1: shred -u /root/passphrase",
    "m1: shred -u /root/token",
  ]);
  const [, there] = /^ {2}on w1, w2 +(rm .*?) {3}#/m.exec(run.stdout)!;
  expect(await Bun.file(join(import.meta.dir, "../../RUNBOOK.md")).text()).toContain(`\n${there}\n`);
});

/** As its kubelet told the API before: of a Node that is deleted since, nobody misses one. */
function withProxies(objects: Objects) {
  for (const worker of ["w1", "w2"])
    objects[`pods/kube-system/nginx-proxy-${worker}`] = proxyOf(worker) as unknown as Objects[string];
}

test.each<[string, NodeOptions, boolean, string[]]>([
  ["a repair has begun with it", {}, true, ["nginx-proxy-w1"]],
  ["no repair is kept here", { etcd: withProxies }, false, []],
])("a worker's own static pod that is gone is named if %s", async (_, options, isKept, named) => {
  using node = await repaired(options, undefined, withProxies);
  if (!isKept) rmSync(`${node.root}${RESCUE}`, { recursive: true });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveRunning(node);
  api.objects.delete("/api/v1/nodes/w2");
  const { stdout } = await node.run("05-verify");
  expect(stdout.match(/nginx-proxy-w\d/g) ?? []).toEqual(named as never);
});

const CERTS = "/api/v1/namespaces/kube-system/secrets/kubeadm-certs";

test.each([
  ["is older than the repair: it holds the old keys", "2025-12-31T00:00:00Z", true],
  ["is younger: kubeadm has uploaded the current ones", "2026-01-02T00:00:00Z", false],
])("kubeadm's Secret of the keys that %s", async (_, creationTimestamp, says) => {
  using node = await repaired();
  const { stdout } = await end(node, { [CERTS]: { metadata: { creationTimestamp } } });
  const line = "on the cluster  kubectl -n kube-system delete secret kubeadm-certs   # the old keys, ";
  expect(stdout.includes(line)).toBe(says);
});

/** Milliseconds. */
const ELEVEN_YEARS = 11 * 366 * 24 * 3600_000;

test("under a CA that was renewed after its end, kubeconfigs that hold the old certificate are left for people", async () => {
  const pki = (root: string, file: string) => readFileSync(`${root}/etc/kubernetes/pki/${file}`, "utf8");
  const ended = async (root: string) =>
    (await agedText(pki(root, "ca.crt"), pki(root, "ca.key"), ELEVEN_YEARS))!;
  using node = await repaired({}, ended);
  const { stdout } = await end(node);
  expect(stdout).toMatch(/^ {2}CA: renewed with its own key, sha256:/m);
  expect(stdout).toMatch(
    /kubeconfigs of users, CI and monitoring have the CA's certificate that has expired:/,
  );
});

test("the backup and the report, which says whether there is one, are named in this order before the first line that deletes", async () => {
  using node = await repaired();
  const { stdout } = await end(node);
  const order = [
    `\n  ${BACKUP}`,
    "./bunw scripts/report.ts report.html",
    "rm -rf /root/kube-pki-repair-TIME",
    "umount",
  ];
  const places = order.map((words) => stdout.indexOf(words));
  expect(places).not.toContain(-1);
  expect(places).toEqual(places.toSorted((a, b) => a - b));
});

test("a backup of today's keys that another control plane node made is known here by its mark: it is not asked for again", async () => {
  using node = await repaired();
  const says = async () => (await end(node)).stdout;
  expect(await says()).toContain(`  ${BACKUP}`);
  const other = here(await pretendNode({ kind: "healthy control plane node" }));
  cpSync(`${node.root}/etc/kubernetes/pki`, `${other.root}/etc/kubernetes/pki`, { recursive: true });
  write(`${other.root}/root/pass`, "nine trees by the river\n");
  expect(await other.run("hand-over pack --passphrase-file pass --out /root/keys.age")).toMatchObject({
    exitCode: 0,
  });
  cpSync(`${other.root}${BACKUP_MARK}`, `${node.root}${BACKUP_MARK}`);
  expect(await says()).not.toContain("hand-over.ts pack");
});

test("at the end of the road nothing is left to warn of: the backup is known, and what the repair has kept is gone", async () => {
  using node = await repaired();
  write(`${node.root}/root/pass`, "nine trees by the river\n");
  expect(await node.run("hand-over pack --passphrase-file pass --out /root/keys.age")).toMatchObject({
    exitCode: 0,
  });
  for (const path of ["pass", "keys.age", basename(RESCUE)])
    rmSync(`${node.root}/root/${path}`, { recursive: true });
  const { exitCode, stdout, stderr } = await end(node);
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: "verdict: 49 checks, all good\n" });
  expect(stderr).toMatch(/\n\d+ checks, all good\n$/);
});

test("on a worker the report is named, and where it is written", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  write(`${node.root}${RESCUE}/runs/x.txt`, "it said this\n");
  const { stdout } = await node.run("05-verify");
  expect(stdout).toContain("on a control plane node: ./bunw scripts/report.ts report.html ");
  expect(stdout.indexOf("report.ts")).toBeLessThan(stdout.indexOf("rm -rf"));
});

test("what of the kit's folder opens a bundle, or is one, is named", () => {
  using box = sandbox();
  for (const [name, text] of Object.entries({
    passphrase: "WHqAAKQ2TcV6b7t8\n",
    "shared-keys.age": AGE,
    "RUNBOOK.md": "# Runbook\n",
  }))
    write(`${box.dir}/kit/${name}`, text);
  write(`${box.dir}/kit/token`, `${["abcdef", "0123456789abcdef"].join(".")}\n# w1\n`);
  expect(kits(`${box.dir}/kit`).why).toEndWith("here: passphrase, shared-keys.age, token");
});

test("while a node is away the kit stays, too: its return needs it", () => {
  using box = sandbox();
  const said = [{ option: "without", value: "m2", at: "2026-01-01T00:00:00Z", by: "plan" }];
  write(`${box.dir}/run/kube-pki-repair-words.json`, JSON.stringify({ said, over: [] }));
  expect(kits(`${box.dir}/kit`).why).toEndWith("; KEEP IT while this holds: m2 is away");
});

test("where no repair has left anything, 05-verify ends as before", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  expect((await end(node)).stdout).not.toContain("To delete");
});

test("on a worker it names what lies there", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  write(`${node.root}/root/kube-pki-repair-20260101T000000/kubelet/join.yaml`, "kind: JoinConfiguration\n");
  const { stdout } = await node.run("05-verify");
  expect(stdout).toContain("  rm -rf /root/kube-pki-repair-TIME   # no key and no Secret, only join.yaml\n");
  expect(stdout).not.toContain("What has changed");
});

test("its JSON has the same in fields: what has changed, what is left, and the commands by node", async () => {
  using node = await repaired();
  const { repair } = JSON.parse((await end(node, {}, "05-verify --output json")).stdout);
  expect(repair.changed[0]).toStartWith("CA: ");
  expect(repair.left[0]).toStartWith("kubeconfigs of users, CI and monitoring still have the old CA");
  expect(repair.remove[0]).toEqual({
    on: "m1",
    command: "rm -rf /root/kube-pki-repair-TIME",
    why: expect.stringContaining("etcd's data with all Secrets"),
  });
});
