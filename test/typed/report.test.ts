/** report, and its bundle, after a repair: what others get to see, and what not. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { readTar } from "../../shared/hand-over/tar.ts";
import { EXAMPLE, type ExampleRun, filesOf, tarOf } from "../fixtures/kept-runs-example.ts";
import { ADDRESS, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { secretsIn } from "../pretend/kept.ts";
import { pretendNode } from "../pretend/node.ts";
import { reachable, setAddress } from "../pretend/plan.ts";
import { knewCa } from "../pretend/running.ts";
import { serveStale } from "../pretend/stale.ts";
import { here } from "../pretend/typed-here.ts";
import { unnamed, writesOf } from "../repo/printed-writes.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const before = await otherCa();

/** A control plane node on which part 4 has run, and w1's transcripts beside. */
async function repaired() {
  const node = here(await pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) }));
  using _api = serveStale(node, before.cert);
  expect((await node.run("04-sa-tokens", WAITS)).exitCode).toBe(0);
  mkdirSync(`${node.root}/root/logs`);
  await Bun.write(`${node.root}/root/logs/w1.tar`, tarOf(EXAMPLE.filter(({ node }) => node === "w1")));
  return node;
}

type Node = Awaited<ReturnType<typeof repaired>>;

/** What is in the tar, by its names: unpacked by the machine's own tar. */
function unpacked(node: Node, file: string): Map<string, string> {
  const to = `${node.root}/tmp/unpacked`;
  mkdirSync(to, { recursive: true });
  expect(Bun.spawnSync(["tar", "-xf", `${node.root}${file}`, "-C", to]).exitCode).toBe(0);
  const names = readdirSync(to, { recursive: true, encoding: "utf8" }).filter((name) =>
    lstatSync(`${to}/${name}`).isFile(),
  );
  return new Map(names.sort().map((name) => [name, readFileSync(`${to}/${name}`, "utf8")]));
}

test("report writes one page, names the nodes that brought nothing, and prints the lines that bring them", async () => {
  using node = await repaired();
  const { exitCode, stdout, stderr } = await node.run("report report.html --logs logs");
  expect(exitCode).toBe(2); // the API of this pretend node is off
  const page = node.read("/root/report.html");
  expect(lstatSync(`${node.root}/root/report.html`).mode & 0o777).toBe(0o600);
  for (const said of [
    "04-sa-tokens",
    "03-join",
    "03-workers join",
    "Not all is well",
    "PUT secrets",
    "kubeconfigs of users",
  ])
    expect(page).toContain(said);
  expect(stderr).toContain("3 runs: 1 on m1; 2 by the words of w1\n");
  expect(stdout).toMatch(/^ssh -o HostKeyAlias=w2 root@\S+ 'cd \/root && find .*' > "\$d"\/w2\.tar$/m);
  expect(stdout).not.toContain("w1.tar");
  expect(stdout).toMatch(/^tar -C "\$d" -cf - \. \| ssh root@\S+ 'mkdir -p -m 700 \S+\/logs\.d && cd /m);
  expect(writesOf(stdout.trimEnd().split("\n").join(" && "))).toEqual([]);
  expect(unnamed(stdout, { w2: "10.77.0.22" })).toEqual([]);
  expect(stderr).toContain("  then: ./bunw scripts/report.ts report.html --logs logs.d\n");
  expect(stderr).toEndWith("hint: ./bunw scripts/05-verify.ts says what repairs each\n");
  expect(secretsIn([page], node.root)).toEqual([]);
});

test("the lines lead to no address that another node claims, too: its transcripts would speak for this one", async () => {
  const etcd = (objects: Objects) => {
    reachable(objects);
    setAddress(objects, "w2", "10.77.0.21");
  };
  using node = here(await pretendNode({ kind: "healthy control plane node", etcd }));
  const { stdout, stderr } = await node.run("report report.html");
  expect(stdout.match(/^ssh .*root@\S+/gm)).toEqual([
    "ssh -o HostKeyAlias=w1 root@ADDRESS-OF-w1",
    "ssh -o HostKeyAlias=w2 root@ADDRESS-OF-w2",
  ]);
  expect(stderr).toContain('w2: use the address that you know: ip "10.77.0.21" is claimed by w1 and w2');
});

test("--bundle has transcripts, assessment and checks, and no secret, host name or address; --with-names keeps the names", async () => {
  using node = await repaired();
  const { exitCode, stderr } = await node.run("report --bundle case.tar --logs logs");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("aliases") });
  const files = unpacked(node, "/root/case.tar");
  expect([...files.keys()]).toEqual([
    "kube-pki-repair/README.txt",
    "kube-pki-repair/assess.json",
    "kube-pki-repair/notes.txt",
    "kube-pki-repair/runs/0001-worker-1-03-workers-join.json",
    "kube-pki-repair/runs/0001-worker-1-03-workers-join.txt",
    "kube-pki-repair/runs/0002-worker-1-03-join.json",
    "kube-pki-repair/runs/0002-worker-1-03-join.txt",
    "kube-pki-repair/runs/0003-control-plane-1-04-sa-tokens.json",
    "kube-pki-repair/runs/0003-control-plane-1-04-sa-tokens.txt",
    "kube-pki-repair/verify.json",
  ]);
  const all = [...files].flat().join("\n");
  expect(all).toContain("control-plane-1");
  for (const name of ["m1", "w1", "w2", "lab-api", ADDRESS, "10.0.0.10", "10.96.0.1"])
    expect(all.match(new RegExp(`(?<![A-Za-z0-9])${RegExp.escape(name)}(?![A-Za-z0-9])`, "g"))).toBeNull();
  expect(secretsIn([all], node.root)).toEqual([]);
  expect(JSON.parse(files.get("kube-pki-repair/verify.json")!).checks.length).toBeGreaterThan(10);
  expect(JSON.parse(files.get("kube-pki-repair/assess.json")!).verdict).toBeString();

  await node.run("report --bundle named.tar --with-names --logs logs");
  const named = [...unpacked(node, "/root/named.tar")].flat().join("\n");
  for (const name of ["m1", "w1", "10.0.0.10"]) expect(named).toContain(name);
  expect(secretsIn([named], node.root)).toEqual([]);
});

test("secrets are replaced before names are, and a worker's names are replaced in its own words alone", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  const key = `-----BEGIN RSA ${"PRIVATE"} KEY-----\nMIIEow\n-----END RSA ${"PRIVATE"} KEY-----`;
  const token = ["abcdef", "0123456789abcdef"].join(".");
  const runOf = (host: string, text: string): ExampleRun => ({
    ...{ node: "x", script: "01-etcd", text },
    lines: [[0, { what: "run", format: 1, script: "01-etcd", version: "1", args: [], host }]],
  });
  for (const [name, text] of filesOf(runOf("m1", `error: ${key}\nand ${token}\n`)))
    write(`${node.root}/root/${name}`, text);
  write(
    `${node.root}/root/logs/w1.tar`,
    tarOf([runOf("private", "at https://abcdef and https://error, error: x\n")]),
  );
  await node.run("report --bundle case.tar --logs logs");
  const files = unpacked(node, "/root/case.tar");
  const said = [...files].filter(([name]) => /runs\/.*txt$/.test(name)).map(([, text]) => text);
  expect(said.toSorted()).toEqual([
    expect.stringMatching(/^at https:\/\/host-\d+ and https:\/\/host-\d+, host-\d+: x\n$/),
    "error: <a private key>\nand <a bootstrap token>\n",
  ]);
});

test("names of nodes may be as long as Kubernetes allows, and lead to no other folder", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  const long = ["n".repeat(63), Array(5).fill("d".repeat(49)).join("."), ".."];
  for (const name of long)
    write(`${node.root}/root/logs/${name}.tar`, tarOf(EXAMPLE.filter((run) => run.node === "w1")));
  for (const option of ["", " --with-names"]) {
    const { exitCode, stderr } = await node.run(`report --bundle case.tar --logs logs${option}`);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("4 runs") });
    const files = readTar(readFileSync(`${node.root}/root/case.tar`));
    const names = files.map(({ name }) => name);
    expect(names.filter((name) => name.includes("/runs/"))).toHaveLength(8);
    const notes = files.find(({ name }) => name.endsWith("/notes.txt"))!;
    expect(Buffer.from(notes.bytes).toString()).toContain("...tar: left out: its name is no node's");
    for (const name of names)
      expect(name).toMatch(
        /^kube-pki-repair\/(runs\/\d{4}-[\w.-]{1,60}-03-(workers-)?join\.(txt|json)|[a-z]+\.(json|txt))$/i,
      );
  }
});

test("a bundle is also written where the cluster cannot be read: that is when somebody helps", async () => {
  using node = here(await pretendNode());
  const started = node
    .called("systemctl restart kubelet")
    .then(() => serveEtcd(node.root, sameEtcd(node.stored)));
  expect((await node.run("01-etcd --new-cas", WAITS)).exitCode).toBe(0);
  using _etcd = await started;
  write(`${node.root}/root/passphrase`, "correct horse battery staple\n");
  const { exitCode, stderr } = await node.run("report --bundle case.tar");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 2 });
  const files = unpacked(node, "/root/case.tar");
  expect([...files.keys()].filter((name) => name.includes("01-etcd"))).toHaveLength(2);
  expect(secretsIn([[...files].flat().join("\n")], node.root)).toEqual([]);
});

test.each([
  ["--logs logs", /^\nerror: Name the file to write: FILE\.html, or --bundle\nhint: /],
  ["--with-names report.html", /^\nerror: --with-names needs --bundle\nhint: /],
])("report %s is refused before anything is looked at", async (words, says) => {
  using node = here(await pretendNode({ kind: "worker" }));
  const { exitCode, stderr } = await node.run(`report ${words}`);
  expect({ exitCode, stderr }).toEqual({ exitCode: 64, stderr: expect.stringMatching(says) });
});
