/**
 * No answer to our own client proves nothing: what runs, with sound files, is not stopped. It is asked in
 * another way, or named.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, rmSync, utimesSync } from "node:fs";
import { ADDRESS, otherCa } from "../pretend/cluster.ts";
import { type EtcdState, sameEtcd, serveEtcd, THREE } from "../pretend/etcd.ts";
import { CHANGES, expectNothingDone, livingNode, renewing } from "../pretend/living.ts";
import { serveRunning } from "../pretend/running.ts";
import { here } from "../pretend/typed-here.ts";
import { expectRefusal, REFUSED } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const healthyNode = async (options: Parameters<typeof livingNode>[0] = {}) => here(await livingNode(options));

test("etcd without its JSON gateway is not stopped: 01 and 02 name the flag, and what to do", async () => {
  using node = await healthyNode({ flag: "--enable-grpc-gateway=false" });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), gateway: "off" });
  using _api = serveRunning(node, { on: renewing });
  for (const line of ["01-etcd", "02-control-plane", "01-etcd --dry-run"])
    await expectRefusal(
      node,
      line,
      /etcd .*--enable-grpc-gateway=false/,
      /manifests\/etcd\.yaml.*then run the same line again/,
      REFUSED,
    );
});

test("etcd with its gateway at a URL of its own is asked there", async () => {
  const port = 2378;
  using node = await healthyNode({
    flag: `--listen-client-http-urls=https://127.0.0.1:${port},https://${ADDRESS}:${port}`,
  });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), gateway: port });
  using _api = serveRunning(node, { on: renewing });
  for (const line of ["01-etcd", "02-control-plane"]) await expectNothingDone(node, line);
});

test("etcd whose gateway is plain HTTP is named: nothing proves who answers there", async () => {
  using node = await healthyNode({ flag: "--listen-client-http-urls=http://127.0.0.1:2378" });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), gateway: "off" });
  for (const line of ["01-etcd", "02-control-plane"])
    await expectRefusal(
      node,
      line,
      /--listen-client-http-urls=http:\/\/127\.0\.0\.1:2378/,
      /https:/,
      REFUSED,
    );
});

test("etcd with its own authentication is not stopped: 01 and 02 name it", async () => {
  using node = await healthyNode();
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), auth: true });
  using _api = serveRunning(node, { on: renewing });
  for (const line of ["01-etcd", "02-control-plane"])
    await expectRefusal(
      node,
      line,
      /etcd's own authentication/,
      /auth disable.*then run the same line again/,
      REFUSED,
    );
});

test("an etcd that says no for a reason that nobody knows is not stopped", async () => {
  using node = await healthyNode();
  using _etcd = serveEtcd(node.root, {
    ...sameEtcd(node.stored),
    refuses: () => new Response("no", { status: 403 }),
  });
  for (const line of ["01-etcd", "02-control-plane"])
    await expectRefusal(node, line, /etcd runs .*HTTP 403 no/, /crictl logs/, REFUSED);
});

test.each([
  ["no JSON gateway", "--enable-grpc-gateway=false", { gateway: "off" }],
  [
    "its JSON gateway at a URL without TLS",
    "--listen-client-http-urls=http://127.0.0.1:2378",
    { gateway: "deaf" },
  ],
  ["own authentication", undefined, { auth: true }],
  ["HTTP 403", undefined, { refuses: () => new Response("no", { status: 403 }) }],
] as const)(
  "05-verify: an etcd that lives and keeps this kit out by %s is no outage",
  async (words, flag, state) => {
    using node = await healthyNode(flag ? { flag } : {});
    using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), ...state });
    using _api = serveRunning(node, { on: renewing });
    const { exitCode, stdout } = await node.run("05-verify");
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
    expect(stdout).not.toContain("failed   etcd");
    for (const what of ["answers with the current certificates", "members"])
      expect(stdout.split("\n").find((line) => line.startsWith(`  ${what} `))).toContain(words);
  },
);

test("05-verify: an etcd that says no is an outage where the API server says that it is not ready", async () => {
  using node = await healthyNode();
  using _etcd = serveEtcd(node.root, {
    ...sameEtcd(node.stored),
    refuses: () => new Response("no", { status: 503 }),
  });
  const notReady = ({ path }: { path: string }) =>
    path === "/readyz" ? new Response("[-]etcd failed", { status: 500 }) : undefined;
  using _api = serveRunning(node, { on: (request, api) => notReady(request) ?? renewing(request, api) });
  const { exitCode, stdout } = await node.run("05-verify");
  expect(exitCode).toBe(2);
  expect(stdout).toContain("  failed   etcd: answers with the current certificates: ");
});

test("an etcd that runs and has too few members is not stopped: it waits for them", async () => {
  using node = await healthyNode({ members: THREE });
  const refuses = () => Response.json({ error: "etcdserver: request timed out", code: 14 }, { status: 503 });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: THREE, refuses });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("etcd runs here. It answers when 2 of its 3 members run; now 1\n");
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls().filter((call) => CHANGES.test(call))).toEqual([]);
});

test.each([
  ["", {}],
  [", nor where the runtime lists no container of it", { containers: [] }],
])("an etcd that is another one is not stopped either%s", async (_, options) => {
  using node = await healthyNode(options);
  const empty: EtcdState = { ...sameEtcd(node.stored), keys: new Map(), revision: 1 };
  using _etcd = serveEtcd(node.root, empty);
  await expectRefusal(
    node,
    "01-etcd",
    "etcd answers, but it is not the old one",
    "nothing was written to this etcd",
  );
});

test("an etcd that has read another CA than the one on disk is stopped: it can answer nobody who has that one", async () => {
  using node = await healthyNode();
  const later = new Date(Date.now() + 3600_000);
  utimesSync(`${node.root}/etc/kubernetes/pki/etcd/ca.crt`, later, later);
  const hasRead = (await otherCa()).cert;
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), hasRead });
  const { stderr } = await node.run("01-etcd");
  expect(stderr).toContain("  stopped etcd\n");
});

test("an etcd whose CA was only copied there again is not stopped, also where the certificate that asks it is lost", async () => {
  using node = await healthyNode();
  const pki = `${node.root}/etc/kubernetes/pki/etcd`;
  const later = new Date(Date.now() + 3600_000);
  utimesSync(`${pki}/ca.crt`, later, later);
  rmSync(`${pki}/healthcheck-client.key`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await node.run("01-etcd");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.calls().filter((call) => CHANGES.test(call))).toEqual([]);
});

test("an etcd whose container runs, and whose port shows nothing yet, may be reading its data: it is named", async () => {
  using node = await healthyNode();
  await expectRefusal(
    node,
    "01-etcd",
    /etcd's container runs .*no certificate/,
    /crictl logs .*systemctl stop kubelet/,
    REFUSED,
  );
});

test("where only the certificate is lost that asks etcd, etcd is not stopped: it is issued, and etcd asked with it", async () => {
  using node = await healthyNode();
  const path = `${node.root}/etc/kubernetes/pki/etcd/healthcheck-client.key`;
  rmSync(path);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await node.run("01-etcd");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("same cluster, revision 13");
  expect([existsSync(path), node.calls().filter((call) => CHANGES.test(call))]).toEqual([true, []]);
});

test("an API server that runs and is not ready is not taken for a dead one: part 2 refuses, and has changed nothing", async () => {
  using node = await healthyNode();
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const on = ({ path }: { path: string }) =>
    path === "/readyz" ? new Response("[-]kms-provider-0 failed", { status: 500 }) : undefined;
  using _api = serveRunning(node, { on });
  await expectRefusal(
    node,
    "02-control-plane",
    /kube-apiserver runs here, .*kms-provider-0 failed/,
    /readyz\?verbose/,
    REFUSED,
  );
});
