/**
 * Will this kubelet start again? Every script that restarts one asks before it changes anything, and mends what it can:
 * a kubelet.conf whose certificate has expired while the kubelet has rotated its own (kubeadm issue 1753).
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { parse, stringify } from "yaml";
import { certInfo } from "../../shared/pki/certificate.ts";
import { issueClient } from "../../shared/pki/issue.ts";
import { parseKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../shared/pki/renew.ts";
import { ADDRESS, FACTS, write } from "../pretend/cluster.ts";
import { ofCompany } from "../pretend/company-ca.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import type { PretendNode } from "../pretend/in-process.ts";
import { join, LEASE, newCa, serve, writeToken } from "../pretend/joining.ts";
import { LONG_LIFE, longLives } from "../pretend/long-lives.ts";
import { KUBEADM_UNIT, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { changesIn, expectRefusal, REFUSED } from "../pretend/wrong-hands.ts";

setDefaultTimeout(300_000);

const CONF = "/etc/kubernetes/kubelet.conf";
const BOOTSTRAP = "/etc/kubernetes/bootstrap-kubelet.conf";
const CURRENT = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const CONFIG = "/var/lib/kubelet/config.yaml";
const WITHOUT = KUBEADM_UNIT.replace(`--bootstrap-kubeconfig=${BOOTSTRAP} `, "");
const WRAPPER = "[Service]\nExecStart=/usr/local/bin/start-kubelet.sh\n";
const unit = (stdout: string) => [{ command: "systemctl cat kubelet", stdout }];
const base64 = (text: string) => Buffer.from(text).toString("base64");

/** kubelet.conf as `kubeadm init phase kubeconfig all` left it two years ago. */
async function expireInside({ root, ca }: Pick<PretendNode, "root" | "ca">, name: string) {
  const user = { cn: `system:node:${name}`, o: "system:nodes" };
  const then = new Date(Date.now() - 2 * 366 * 86_400_000);
  const { cert, key } = await issueClient(user, ca, FACTS, { now: then });
  const conf = parse(readFileSync(root + CONF, "utf8"));
  conf.users[0].user = { "client-certificate-data": base64(cert), "client-key-data": base64(key) };
  write(root + CONF, stringify(conf));
}

async function controlPlane(options: NodeOptions = {}) {
  const node = here(await pretendNode({ kind: "healthy control plane node", etcd: longLives, ...options }));
  await expireInside(node, "m1");
  const servers = [serveEtcd(node.root, sameEtcd(node.stored)), servePart2(node)];
  const end = node[Symbol.dispose];
  return Object.assign(node, {
    [Symbol.dispose]() {
      for (const one of servers) one[Symbol.dispose]();
      end();
    },
  });
}

async function worker(options: NodeOptions = {}) {
  const node = here(await pretendNode({ kind: "worker", ...options }));
  await expireInside(node, "w1");
  return node;
}

const certificateOf = (node: PretendNode) => parseKubeconfig(node.read(CONF), CONF).clientCertificatePath;
const SAID = /certificate in "\/etc\/kubernetes\/kubelet\.conf" has expired/;

test("00-assess and 05-verify say it of a node on which all else is well, with the line that mends it", async () => {
  using node = await controlPlane();
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: expect.stringMatching(SAID) });
  expect(stdout).not.toMatch(/nothing is damaged|well:/);
  expect(stdout).toMatch(/\n {2}\.\/bunw scripts\/01-etcd\.ts/);
  expect((await node.run("05-verify")).stdout).toMatch(SAID);
});

test("part 1 writes it, and nothing restarts: the kubelet that runs has its own certificate", async () => {
  using node = await controlPlane();
  const before = node.read(CONF);
  expect(await node.run("01-etcd")).toMatchObject({ exitCode: 0 });
  expect(certificateOf(node)).toBe(CURRENT);
  expect(node.read(CONF)).toContain(parse(before).clusters[0].cluster.server);
  expect(changesIn(node.calls())).toEqual([]);
  expect((await node.run("00-assess")).exitCode).toBe(0);
});

test("renew-ca writes it before it restarts the kubelet", async () => {
  using node = await controlPlane();
  expect(await node.run("renew-ca --dry-run")).toMatchObject({ exitCode: 0 });
  expect(certificateOf(node)).toBeUndefined();
  const { exitCode, stderr } = await node.run("renew-ca");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(certificateOf(node)).toBe(CURRENT);
  expect((await node.run("renew-ca --undo")).exitCode).toBe(0);
  expect(certificateOf(node)).toBe(CURRENT);
});

test("renew-ca does so on a worker", async () => {
  using other = await worker();
  using api = await serve(other.ca);
  api.objects.get(LEASE).spec.renewTime = new Date(Date.now() + 3_600_000).toISOString();
  const { cert, key } = other.ca;
  write(`${other.root}/root/new/ca.crt`, renewCa(cert, key, { hours: LONG_LIFE, signed: [] }));
  expect(await other.run("renew-ca --from /root/new")).toMatchObject({ exitCode: 0 });
  expect(certificateOf(other)).toBe(CURRENT);
});

test.each<[string, NodeOptions, (node: PretendNode) => void]>([
  ["its unit has no --bootstrap-kubeconfig", { commands: unit(WITHOUT) }, () => undefined],
  [
    "its bootstrap kubeconfig is there, with a token that has ended",
    {},
    ({ root }) => write(root + BOOTSTRAP, readFileSync(root + CONF)),
  ],
  ["nothing tells its flags", { commands: unit(WRAPPER) }, () => undefined],
])("no word of it where %s: that kubelet starts", async (_, options, change) => {
  using node = await controlPlane(options);
  change(node);
  expect(await node.run("00-assess")).toMatchObject({ exitCode: 0 });
});

/** kubelet.conf's user signs in so, and has no certificate. */
function signInBy({ root }: PretendNode, user: object) {
  const conf = parse(readFileSync(root + CONF, "utf8"));
  conf.users[0].user = user;
  write(root + CONF, stringify(conf));
}

const NONE_IN_IT =
  /There is no certificate in "\/etc\/kubernetes\/kubelet\.conf" \(its user signs in by a token\), and "\/etc\/kubernetes\/bootstrap-kubelet\.conf" is missing: the kubelet does not start again/;

test("a token in place of a certificate: 00-assess and 05-verify warn of the next start, part 1 leaves the file, and each start by the kit mends it", async () => {
  using node = await controlPlane();
  signInBy(node, { token: "a-token" });
  const before = node.read(CONF);
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: expect.stringMatching(NONE_IN_IT) });
  expect(stdout).toContain(`--client-certificate=${CURRENT} --client-key=${CURRENT}`);
  expect((await node.run("05-verify")).stdout).toMatch(NONE_IN_IT);
  expect(await node.run("01-etcd")).toMatchObject({ exitCode: 0 });
  expect(node.read(CONF)).toBe(before);
  expect(await node.run("renew-ca")).toMatchObject({ exitCode: 0 });
  expect(certificateOf(node)).toBe(CURRENT);
  expect(node.read(CONF)).not.toContain("a-token");
});

test("the same with a kubelet that is stopped: it is damage, and part 1 mends it", async () => {
  const commands = [{ command: "systemctl is-active --quiet kubelet", exit: 3 }];
  using node = await controlPlane({ commands });
  signInBy(node, { token: "a-token" });
  expect(await node.run("00-assess")).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(NONE_IN_IT),
  });
  await node.run("01-etcd");
  expect(certificateOf(node)).toBe(CURRENT);
});

test("a wrapper's kubelet that runs tells its flags", async () => {
  const shown = { command: "systemctl show -p MainPID --value kubelet", stdout: "4711\n" };
  using node = await controlPlane({ commands: [...unit(WRAPPER), shown] });
  const words = ["/usr/bin/kubelet", `--bootstrap-kubeconfig=${BOOTSTRAP}`, `--kubeconfig=${CONF}`];
  write(`${node.root}/proc/4711/cmdline`, `${words.join("\0")}\0`);
  expect(await node.run("00-assess")).toMatchObject({ exitCode: 2, stdout: expect.stringMatching(SAID) });
});

test("without a certificate of its own the kubelet would not start: a worker is refused before anything changes", async () => {
  using node = await worker();
  rmSync(node.root + CURRENT);
  using _api = await serve(node.ca);
  write(`${node.root}/root/new/ca.crt`, renewCa(node.ca.cert, node.ca.key, { hours: LONG_LIFE, signed: [] }));
  await expectRefusal(node, "renew-ca --from /root/new", SAID, /00-assess/);
  await expectRefusal(node, `move --moved ${ADDRESS}=127.66.0.11`, SAID, /00-assess/);
});

test("00-assess on a worker names a line that mends it, and no join", async () => {
  using node = await worker();
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2, stdout: expect.stringMatching(SAID) });
  expect(stdout).toContain(`--client-certificate=${CURRENT} --client-key=${CURRENT}`);
  expect(stdout).not.toContain("has to join");
});

test("a join that is rolled back starts the kubelet of before, which would have ended", async () => {
  using node = await worker();
  writeToken(node.root);
  using _api = await serve(newCa);
  expect((await node.run(join())).stderr).toContain("Waited 120 s for the kubelet to get its certificate");
  expect(certificateOf(node)).toBe(CURRENT);
  expect(node.calls().at(-1)).toBe("systemctl start kubelet");
});

const TLS = { tlsCertFile: "/etc/kubelet/tls.crt", tlsPrivateKeyFile: "/etc/kubelet/tls.key" };
const LOST = /^The kubelet cannot start: "\/etc\/kubelet\/tls\.crt" is missing, which tlsCertFile names/;

function nameTls({ root }: PretendNode) {
  write(root + CONFIG, stringify({ ...parse(readFileSync(root + CONFIG, "utf8")), ...TLS }), 0o644);
}

test.each([
  ["01-etcd --new-cas", "wiped control plane node"],
  ["02-control-plane", "healthy control plane node"],
  ["renew-ca", "healthy control plane node"],
  [join(), "worker"],
  ["renew-ca", "worker"],
  [`move --moved ${ADDRESS}=127.66.0.11`, "worker"],
] as const)(
  "files that the kubelet's configuration names are lost: %s refuses on a %s",
  async (line, kind) => {
    using node = here(await pretendNode({ kind, etcd: longLives }));
    nameTls(node);
    if (kind === "worker") writeToken(node.root);
    await expectRefusal(node, line, LOST, /^bring it back first/, 1);
  },
);

test("a worker whose kubelet has no --bootstrap-kubeconfig cannot join: refused before 3.3, with the drop-in to write", async () => {
  using node = here(await pretendNode({ kind: "worker", commands: unit(WITHOUT) }));
  writeToken(node.root);
  using _api = await serve(newCa);
  const drop =
    /printf '%s\\n' .*--bootstrap-kubeconfig=\/etc\/kubernetes\/bootstrap-kubelet\.conf' > \/etc\/systemd\/system\/kubelet\.service\.d\/zz-bootstrap-kubeconfig\.conf && systemctl daemon-reload/;
  await expectRefusal(node, join(), /^The kubelet's unit has no --bootstrap-kubeconfig/, drop, REFUSED);
});

test("one that has this CA already is left alone", async () => {
  using node = here(await pretendNode({ kind: "worker", commands: unit(WITHOUT) }));
  writeToken(node.root, node.ca.cert);
  const { exitCode, stderr } = await node.run(join(certInfo(node.ca.cert).publicKeyHash));
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("nothing to do"),
  });
});

test("a wrapper joins", async () => {
  using node = here(await pretendNode({ kind: "worker", commands: unit(WRAPPER) }));
  writeToken(node.root);
  using _api = await serve(newCa);
  expect((await node.run(join())).stderr).toContain("\n  started kubelet\n\n== 3.5 ");
});

test("where the CA has ended on the disk, renew-ca restarts nothing: an expired certificate of the kubelet stops nothing", async () => {
  using node = await controlPlane();
  rmSync(node.root + CURRENT);
  const path = "/etc/kubernetes/pki/ca.crt";
  write(node.root + path, await ofCompany(node.ca.cert, new Date(Date.now() - 60_000)), 0o644);
  const back = await ofCompany(node.ca.cert);
  write(`${node.root}/root/new/ca.crt`, back);
  expect((await node.run("renew-ca --only ca --from /root/new")).exitCode).toBe(0);
  expect(node.read(path)).toBe(back);
});
