/**
 * Control plane nodes whose etcd is on other machines: where it is, and by which pair it is asked, comes from what is
 * left here, or from the operator; who answers there is believed once it has proved itself.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readlinkSync, rmSync } from "node:fs";
import { gone } from "../../shared/files/untrusted-file.ts";
import type { Manifest } from "../../shared/objects/objects.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../shared/pki/issue.ts";
import { clusterObjects, FACTS, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { type EtcdState, sameEtcd, serveUnit } from "../pretend/etcd.ts";
import { ETCD_HOST, ETCD_PKI, ETCD_URL, external, nodeOf, OTHER_MEMBER } from "../pretend/etcd-as-unit.ts";
import { agedText, YEAR_MS } from "../pretend/expired.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const FROM = `--etcd-data ${ETCD_URL}`;

const stateOf = (stored: Map<string, string>): EtcdState => ({
  ...sameEtcd(stored),
  members: [{ ...OTHER_MEMBER, clientURLs: [ETCD_URL] }],
});

/** Nothing of the API server is left that names etcd. */
const wiped = async (by: "KubeKey 3" | "kubeadm" = "KubeKey 3") =>
  here(await nodeOf(by, { wiped: true, elsewhere: true }));

/** A run that ends before it changes anything. */
async function refused(node: Awaited<ReturnType<typeof wiped>>, line: string) {
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(line);
  const after = node.fingerprint().filter((one) => !one.startsWith("run/kube-pki-repair-words.json"));
  expect({ exitCode, after }).toEqual({ exitCode: 3, after: before });
  return stderr;
}

test("where etcd runs is typed once; 00-assess then knows the cluster, and part 1 begins", async () => {
  using node = await wiped();
  using _etcd = serveUnit(ETCD_PKI, stateOf(node.stored), ETCD_HOST);
  const { stdout, stderr } = await node.run(`00-assess --all ${FROM}`);
  expect(stderr).toContain("etcd's data: https://");
  expect(stdout).toMatch(/https:\/\/\S+:2379 +ok +1 member/);
  expect(stdout).toMatch(/\n {2}\.\/bunw scripts\/01-etcd\.ts/);
  const later = await node.run("01-etcd --dry-run --new-cas");
  expect({ code: later.exitCode, said: later.stderr }).toMatchObject({
    code: 0,
    said: expect.stringMatching(/would save a snapshot of etcd at https:\/\/\S+ to /),
  });
});

test("a repair that has begun knows from its own copy where etcd is, when no container names it any more", async () => {
  using node = await wiped("kubeadm");
  const files = {
    "etcd/ca.crt": ETCD_PKI.ca,
    "apiserver-etcd-client.crt": ETCD_PKI.cert,
    "apiserver-etcd-client.key": ETCD_PKI.key,
  };
  for (const [name, text] of Object.entries(files)) write(`${node.root}/etc/kubernetes/pki/${name}`, text);
  using _etcd = serveUnit(ETCD_PKI, stateOf(node.stored), ETCD_HOST);
  const first = await node.run(`01-etcd --new-cas ${FROM}`);
  expect({ exitCode: first.exitCode, said: first.stderr }).toMatchObject({ exitCode: 0 });
  for (const words of new Bun.Glob("{run,root}/**/*words.json").scanSync({ cwd: node.root, dot: true }))
    rmSync(`${node.root}/${words}`);
  const { exitCode, stderr } = await node.run("02-control-plane --dry-run");
  expect(stderr).toMatch(/etcd's data: https:\S+:2379 \(on other machines: /);
  expect(exitCode).toBe(0);
});

test("a stranger's etcd at a typed address shows no certificate of this etcd's CA, and is not believed", async () => {
  using node = await wiped();
  const ca = await issueCa(certRow("etcd-ca"), FACTS);
  const pair = await issueLeaf(certRow("etcd-server"), ca, { ...FACTS, etcdServerCertSANs: [ETCD_HOST] });
  using _etcd = serveUnit({ ca: ca.cert, ...pair }, stateOf(node.stored), ETCD_HOST);
  const said = await refused(node, `01-etcd --new-cas ${FROM}`);
  expect(said).toMatch(/error: This cluster's etcd is external, and does not answer at https:\S+: /);
});

test("another cluster's data in an etcd of the same CA is not taken for this one's", async () => {
  using node = await wiped();
  const objects = clusterObjects((await otherCa()).cert);
  external(objects, "KubeKey 3", { elsewhere: true });
  const keys = new Map(
    Object.entries(objects).map(([key, one]) => [`/registry/${key}`, JSON.stringify(one)]),
  );
  using _etcd = serveUnit(ETCD_PKI, stateOf(keys), ETCD_HOST);
  const said = await refused(node, `01-etcd --new-cas ${FROM}`);
  expect(said).toMatch(
    /is not proved to hold this cluster: its cluster's CA did not sign this kubelet's certificate/,
  );
});

test("without a certificate of the kubelet nothing proves whose etcd it is", async () => {
  using node = await wiped();
  rmSync(`${node.root}/var/lib/kubelet/pki`, { recursive: true });
  using _etcd = serveUnit(ETCD_PKI, stateOf(node.stored), ETCD_HOST);
  const said = await refused(node, `01-etcd --new-cas ${FROM}`);
  expect(said).toContain("nothing here proves whose it is: no certificate of the kubelet");
});

test.each([
  ["lost", /no client pair for it is here: .*ca\.crt, .*apiserver-etcd-client\.crt, .* are missing/],
  ["not each other's", /no client pair for it is here/],
])("a client pair that is %s is made on an etcd host, by lines that are printed", async (how, why) => {
  using node = await wiped("kubeadm");
  const pki = `${node.root}/etc/kubernetes/pki`;
  if (how !== "lost") {
    write(`${pki}/etcd/ca.crt`, ETCD_PKI.ca);
    write(`${pki}/apiserver-etcd-client.crt`, ETCD_PKI.cert);
    write(`${pki}/apiserver-etcd-client.key`, (await otherCa()).key);
  }
  using _etcd = serveUnit(ETCD_PKI, stateOf(node.stored), ETCD_HOST);
  const said = await refused(node, `01-etcd --new-cas ${FROM}`);
  expect(said).toMatch(why);
  expect(said).toContain("openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key ");
});

test("a client pair that has expired, as after a year, is made on an etcd host; a healthy node is not touched", async () => {
  using node = here(await nodeOf("kubeadm", { elsewhere: true }));
  const ended = await agedText(ETCD_PKI.cert, ETCD_PKI.caKey, 2 * YEAR_MS);
  write(`${node.root}/etc/kubernetes/pki/apiserver-etcd-client.crt`, ended!);
  using _etcd = serveUnit(ETCD_PKI, stateOf(node.stored), ETCD_HOST);
  const said = await refused(node, "01-etcd");
  expect(said).toMatch(/and the API server's certificate for it has expired \(DATE\)/);
  expect(said).toContain("bring ca.crt to /etc/kubernetes/pki/etcd/ca.crt, client.crt to ");
});

const ENDED = (await agedText(ETCD_PKI.cert, ETCD_PKI.caKey, 2 * YEAR_MS))!;
const STRANGER = await issueCa(certRow("etcd-ca"), FACTS);
const OTHERS = (await agedText(ETCD_PKI.cert, STRANGER.key, 2 * YEAR_MS))!;
const RENEWED = /its own certificates have expired: https:\S+ \(DATE\)/;
const RENEW = "openssl x509 -x509toreq -in ";
const MAKE = "openssl req -new -newkey rsa:2048 ";

test.each<[string, { server: string; pair: string }, RegExp, string[]]>([
  ["etcd's own alone", { server: ENDED, pair: ETCD_PKI.cert }, RENEWED, [RENEW]],
  ["etcd's own and the pair", { server: ENDED, pair: ENDED }, RENEWED, [RENEW, MAKE]],
  ["a stranger's alone", { server: OTHERS, pair: ETCD_PKI.cert }, /does not answer at https:\S+: /, []],
  ["the pair, beside a stranger", { server: OTHERS, pair: ENDED }, /certificate for it has expired/, [MAKE]],
])(
  "certificates that have expired, %s: all that is to be made on etcd's hosts, at once",
  async (_, now, why, ways) => {
    using node = here(await nodeOf("kubeadm", { elsewhere: true }));
    write(`${node.root}/etc/kubernetes/pki/apiserver-etcd-client.crt`, now.pair);
    using _etcd = serveUnit({ ...ETCD_PKI, cert: now.server }, stateOf(node.stored), ETCD_HOST);
    const said = await refused(node, "01-etcd");
    expect(said).toMatch(why);
    expect([RENEW, MAKE].filter((way) => said.includes(way))).toEqual(ways);
  },
);

test("certificates that have expired are damage: 00-assess, part 5 and the plan say so, and the plan's lines can be copied", async () => {
  using node = here(await nodeOf("kubeadm", { elsewhere: true }));
  write(`${node.root}/etc/kubernetes/pki/apiserver-etcd-client.crt`, ENDED);
  using _etcd = serveUnit({ ...ETCD_PKI, cert: ENDED }, stateOf(node.stored), ETCD_HOST);
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(/\n {2}etcd +!UNREACHABLE! /),
  });
  const [, next = ""] = stdout.split("\nnext\n");
  const [list = ""] = next.split("\n\n");
  const lines = list
    .trimEnd()
    .split("\n")
    .map((line) => line.trim().split(/ {3}# /));
  expect(lines.map(([line, where]) => [line!.slice(0, 8), where!.split(/[,;]/)[0]])).toEqual([
    ["for c in", "on each host of etcd"],
    ["(umask 0", "on one host of etcd"],
    ["mkdir -p", "on this node"],
  ]);
  const verified = await node.run("05-verify");
  expect(verified).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(/^ {2}failed +etcd: .* have expired/m),
  });
  const plan = await node.run("plan");
  expect(plan.exitCode).toBe(2);
  for (const [line] of lines) expect(plan.stdout).toContain(`\n\`\`\`sh\n${line}\n\`\`\`\n`);
});

/** Files of this process that have no name any more, in memory. */
const copies = () =>
  readdirSync("/proc/self/fd").flatMap((fd) => {
    // the folder's own is closed by now
    const to = gone(() => readlinkSync(`/proc/self/fd/${fd}`)) ?? "";
    return /^\/(dev\/shm|run)\/.* \(deleted\)$/.test(to) ? `${fd} ${to}` : [];
  });

test("05-verify --wait holds one copy of etcd's data in memory, however often it looks", async () => {
  using node = here(await nodeOf("kubeadm", { elsewhere: true }));
  using _etcd = serveUnit(ETCD_PKI, stateOf(node.stored), ETCD_HOST);
  // what earlier tests hold may go at any time
  const before = new Set(copies());
  // no API server answers: it looks again until the time is over
  expect(await node.run("05-verify --wait 6")).toMatchObject({ exitCode: 2 });
  expect(copies().filter((one) => !before.has(one))).toHaveLength(1);
});

test("an etcd that has no quorum, as its members' certificates have expired, shows that to its peers alone", async () => {
  using node = here(await nodeOf("kubeadm", { elsewhere: true }));
  const tls = { ...ETCD_PKI, cert: ENDED };
  using _silent = Bun.listen({ hostname: ETCD_HOST, port: 2379, socket: { data: () => {} } });
  using _peer = Bun.serve({ hostname: ETCD_HOST, port: 2380, tls, fetch: () => new Response() });
  const said = await refused(node, "01-etcd");
  expect(said).toMatch(RENEWED);
  expect(said).toContain(RENEW);
});

test("what expires soon, the pair here and etcd's own there, has the lines for etcd's hosts, as kubeadm does not renew it", async () => {
  using node = here(await nodeOf("kubeadm", { elsewhere: true }));
  const soon = (await agedText(ETCD_PKI.cert, ETCD_PKI.caKey, 335 * 86_400_000))!;
  write(`${node.root}/etc/kubernetes/pki/apiserver-etcd-client.crt`, soon);
  using _etcd = serveUnit({ ...ETCD_PKI, cert: soon }, stateOf(node.stored), ETCD_HOST);
  const verified = (await node.run("05-verify")).stdout;
  expect(verified).toMatch(/apiserver-etcd-client\.crt, \S+:2379: until DATE, /);
  const assessed = (await node.run("00-assess")).stdout;
  expect(assessed).toMatch(/apiserver-etcd-client\.crt +note +until DATE, .*: on etcd's hosts, /);
  for (const stdout of [verified, assessed])
    expect([stdout.includes(RENEW), stdout.includes(MAKE), stdout.includes("certs renew all")]).toEqual([
      true,
      true,
      false,
    ]);
});

const W2_AT = "127.77.0.22";

/** w2 has the label and the mirror pod of an API server, and no lease of one. `claims`: nodes whose Node has its address. */
const labelled = (claims: string[]) => (objects: Objects) => {
  external(objects, "kubeadm", { elsewhere: true });
  const pod = structuredClone(objects["pods/kube-system/kube-apiserver-m1"]) as Manifest;
  Object.assign(pod.metadata, { name: "kube-apiserver-w2" });
  Object.assign(pod.spec, { nodeName: "w2" });
  pod.spec.containers[0]!.command = ["kube-apiserver", `--advertise-address=${W2_AT}`];
  objects["pods/kube-system/kube-apiserver-w2"] = pod;
  const labels = { "node-role.kubernetes.io/control-plane": "" };
  Object.assign((objects["minions/w2"] as Manifest).metadata, { labels });
  for (const name of claims)
    Object.assign(objects[`minions/${name}`]!, {
      status: { addresses: [{ type: "InternalIP", address: W2_AT }] },
    });
};

test.each([
  ["which every script then knows", []],
  ["though a worker's Node claims its address, too", ["w1"]],
])("a control plane node that was off counts by the operator's word, %s", async (_, claims) => {
  using node = here(await nodeOf("kubeadm", { elsewhere: true, etcd: labelled(claims) }));
  using _etcd = serveUnit(ETCD_PKI, stateOf(node.stored), ETCD_HOST);
  const before = await node.run("00-assess");
  expect(before.stdout).toMatch(
    /w2 +note +its label says .* If it is a control plane node, and was off: \.\/bunw scripts\/00-assess\.ts --control-plane w2/,
  );
  expect((await node.run("01-etcd --dry-run")).stderr).not.toMatch(/^ +w2, /m);
  const refused = await node.run("plan");
  expect([refused.exitCode, refused.stderr]).toEqual([
    3,
    expect.stringMatching(
      /^hint: say which it is, .* A worker: \.\/bunw scripts\/plan\.ts --worker w2\. .* that was off: \.\/bunw scripts\/00-assess\.ts --control-plane w2; then /m,
    ),
  ]);
  const said = await node.run("00-assess --control-plane w2");
  expect(said.stdout.includes("its label says that it is a control plane node")).toBe(false);
  const { stderr } = await node.run("01-etcd --dry-run");
  expect(stderr).toMatch(/^ +w2, 127\.\S+: no kube-apiserver answers$/m);
});

test("an etcd that nobody has named is asked for, and its silence is said", async () => {
  using node = here(await nodeOf("KubeKey 3", { elsewhere: true }));
  expect(await refused(node, "01-etcd")).toMatch(/is external, and does not answer at https:/);
  rmSync(`${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`);
  write(`${node.root}/etc/kubernetes/controller-manager.conf`, "");
  const { stdout } = await node.run("00-assess");
  expect(stdout).toContain("./bunw scripts/00-assess.ts --etcd-data https://HOST:2379");
});
