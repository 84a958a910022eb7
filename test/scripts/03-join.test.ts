/** 03-join as operators run it, on a worker, against a pretend API server. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, statSync, symlinkSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { FACTS, otherCa, write } from "../pretend/cluster.ts";
import {
  bootstrap,
  join,
  joinToItsEnd,
  kubeletFiles,
  LEASE,
  newCa,
  serve,
  TOKEN,
  writeToken,
} from "../pretend/joining.ts";
import { keptOn } from "../pretend/kept.ts";
import { expectTranscript, pretendNode, SHOWN_ADDRESS } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const CLIENT = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const FORMER = "kube-pki-repair/serving-certificate-before";

test("03-join without the printed words stops and says what is missing", async () => {
  using node = await pretendNode({ kind: "worker" });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("03-join");
  expect(exitCode).toBe(64);
  expect(stderr).toEndWith(
    "\nerror: 03-join needs --server and --ca-hash\nhint: paste the line that ./bunw scripts/03-workers.ts open printed\n",
  );
  expect(node.fingerprint()).toEqual(before);
});

test.each([
  [undefined, 'There is no token file "token"'],
  [`${TOKEN}\n# w2\n${newCa.cert}`, '"token" holds the token of "w2", and this node is "w1"'],
  ["not a token\n", '"token" holds no bootstrap token'],
])("03-join with the token file %j refuses, and changes nothing", async (content, error) => {
  using node = await pretendNode({ kind: "worker" });
  if (content) write(`${node.root}/root/token`, content);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(join());
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(
    new RegExp(
      `error: ${error}(\\. Nothing was changed)?\\nhint: copy it from the first control plane node.*/token\\.d/w1/token \\.`,
    ),
  );
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls()).not.toContain("systemctl stop kubelet");
});

test.each([
  ["of another CA", "03-join-wrong-ca", async () => (await otherCa()).cert],
  ["without one", "03-join-no-ca", async () => ""],
])("03-join refuses a token file %s, asks no server, and changes nothing", async (_, transcript, ca) => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root, await ca());
  using api = await serve(newCa);
  const before = node.fingerprint();
  await expectTranscript(transcript, await node.run(join()));
  expect(node.fingerprint()).toEqual(before);
  expect(api.requests).toEqual([]);
});

test("03-join with a token that has expired says so before the kubelet stops, and changes nothing", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  using _api = await serve(newCa, "another.0123456789abcdef");
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(join());
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(
    /error: "https:\S+" does not take this worker's bootstrap token: it has expired, or open ran again\. Nothing was changed\nhint: type on the first control plane node: \.\/bunw scripts\/03-workers\.ts open\. Then copy the new token of w1 here/,
  );
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls()).not.toContain("systemctl stop kubelet");
});

test("03-join on a worker that open was told not to wait for is refused: nobody would approve its certificate", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(`${join()} --without w2,w1`);
  expect([exitCode, stderr]).toEqual([
    3,
    expect.stringContaining(
      'error: "w1" is this node, but the line says that it is away or lost. Nothing was changed\n',
    ),
  ]);
  expect(stderr).toEndWith(
    "\nhint: type on the first control plane node: ./bunw scripts/03-workers.ts open --without w2; then the line that it prints\n",
  );
  expect(node.fingerprint()).toEqual(before);
});

test("03-join refuses a server of another CA, and changes nothing", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  using api = await serve(await otherCa());
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(join());
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`error: Cannot reach "https://${SHOWN_ADDRESS}:6443" with that CA: `);
  expect(node.fingerprint()).toEqual(before);
  expect(api.requests).toEqual([]);
});

test("03-join lets no byte of a stranger's on the terminal", async () => {
  using node = await pretendNode({ kind: "worker" });
  write(`${node.root}/root/token`, `${TOKEN}\n${newCa.cert}`);
  const attack = "\u001b[2J\u001b]0;pwned\u0007";
  const { exitCode, stderr } = await node.run(join().replace("token-file token", `token-file ${attack}`));
  expect(exitCode).toBe(1);
  expect(stderr).toContain('There is no token file "\\u001b[2J\\u001b]0;pwned\\u0007"');
  expect(stderr).not.toContain("\u001b");
});

test("03-join puts every file back when the kubelet never gets its certificate", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  using _api = await serve(newCa);
  const before = kubeletFiles(node);
  // a disk may be mounted there, and no folder with one can be moved
  const place = () => statSync(`${node.root}/var/lib/kubelet/pki`).ino;
  const placeBefore = place();
  await expectTranscript("03-join-rolled-back", await node.run(join()));
  expect({ files: kubeletFiles(node), place: place() }).toEqual({ files: before, place: placeBefore });
  expect(node.exists("/etc/kubernetes/bootstrap-kubelet.conf")).toBe(false);
  expect(node.exists("/root/token")).toBe(true);
  expect(node.calls().filter((call) => /start|stop/.test(call))).toEqual(
    Array(2).fill(["systemctl stop kubelet", "systemctl start kubelet"]).flat(),
  );
});

test("the record of a join says what was wrong with the kubelet.conf that it moved aside: here its certificate was missing", async () => {
  using node = await pretendNode({ kind: "worker" });
  rmSync(`${node.root}${CLIENT}`);
  writeToken(node.root);
  using api = await serve(newCa);
  expect(await joinToItsEnd(node, api)).toMatchObject({ exitCode: 0 });
  const moved = keptOn(node.root).flatMap(({ record }) => record.filter(({ did }) => did === "moved"));
  expect(moved.find(({ path }) => path === "/etc/kubernetes/kubelet.conf")).toMatchObject({
    why: `the client certificate of this kubelet, ${CLIENT}, was missing`,
  });
});

test("03-join brings a worker back, leaves no token behind, and run again does nothing", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  using api = await serve(newCa);
  const config = statSync(`${node.root}/var/lib/kubelet/config.yaml`).mtimeMs;
  const running = node.run(join(), { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl start kubelet");
  expect(node.read("/etc/kubernetes/bootstrap-kubelet.conf")).toContain(TOKEN);
  await bootstrap(node);
  api.objects.get(LEASE).spec.renewTime = new Date(Date.now() + 60_000).toISOString();
  await expectTranscript("03-join", await running);
  expect(node.exists("/etc/kubernetes/bootstrap-kubelet.conf")).toBe(false);
  expect(node.exists("/root/token")).toBe(false);
  expect(node.read("/etc/kubernetes/pki/ca.crt")).toBe(newCa.cert);
  expect(statSync(`${node.root}/var/lib/kubelet/config.yaml`).mtimeMs).toBe(config);

  const before = node.fingerprint();
  const again = await node.run(`${join()} --without w2,w3`);
  expect(again.exitCode).toBe(0);
  expect(again.stderr).toEndWith(
    "w1: has a certificate of this CA already, nothing to do\n\ndone.  next: the same on the other workers that open has named, then on each control plane node: ./bunw scripts/03-workers.ts close\n",
  );
  expect(node.fingerprint()).toEqual(before);
  writeToken(node.root);
  await node.run(join());
  expect(node.exists("/root/token")).toBe(false);
});

test("03-join leaves the kubelet's serving certificate from before in its Node, without its key", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  const { cert, key } = await issueLeaf(certRow("apiserver"), newCa, FACTS);
  const [former, current] = ["2025-01-01-00-00-00", "current"].map(
    (end) => `${node.root}/var/lib/kubelet/pki/kubelet-server-${end}.pem`,
  );
  write(former!, cert + key);
  symlinkSync(former!.slice(node.root.length), current!);
  using api = await serve(newCa);
  const { exitCode, stderr } = await joinToItsEnd(node, api);
  const patch = api.requests.find(({ method }) => method === "PATCH");
  expect(patch).toMatchObject({
    path: "/api/v1/nodes/w1",
    body: { metadata: { annotations: { [FORMER]: cert } } },
  });
  // this API lets nobody in for that
  expect({ exitCode, stderr }).toEqual({
    exitCode: 0,
    stderr: expect.stringContaining("  warning: could not save the old serving certificate"),
  });
});

test.each(["/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/kubelet.conf"])(
  "03-join goes on where the certificate is of this CA, but %s is lost",
  async (file) => {
    using node = await pretendNode({ kind: "worker" });
    writeToken(node.root);
    rmSync(`${node.root}/var/lib/kubelet/pki`, { recursive: true });
    await bootstrap(node);
    write(`${node.root}/etc/kubernetes/pki/ca.crt`, newCa.cert);
    using _api = await serve(newCa);
    expect((await node.run(`${join()} --dry-run`)).stderr).toContain(
      "has a certificate of this CA already, nothing to do",
    );
    rmSync(node.root + file);
    const { stderr } = await node.run(`${join()} --dry-run`);
    expect(stderr).toContain("== 3.4 Swap the trust and restart the kubelet");
  },
);
