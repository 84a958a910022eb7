/**
 * 03-workers open and close on a control plane node, as operators run them: going through, and what keeps
 * them from it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { parse } from "yaml";
import { REDUCED } from "../../shared/manifests/repair-changes.ts";
import { certificatesIn } from "../../shared/pki/certificate.ts";
import { afterPart2, MANAGER, RESTARTS } from "../pretend/after-part2.ts";
import { healthyCp, manifest, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, TAKEN_OUT } from "../pretend/etcd.ts";
import { expectTranscript, MEMBER, staticUid } from "../pretend/node.ts";
import { knewCa, LEASES, lease, MANAGER_LEASE, serveRunning } from "../pretend/running.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const SECRETS = "/api/v1/namespaces/kube-system/secrets";
const BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const BINDING = `${BINDINGS}/kube-pki-repair:kubelet-bootstrap`;
const OURS = {
  type: "bootstrap.kubernetes.io/token",
  data: { description: btoa("kube-pki-repair: workers come back") },
};
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };

const DELETE = "kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found w2";

test("03-workers open writes to each worker a token of its own that only root can read, and prints the line for the workers without it", async () => {
  using node = await afterPart2();
  using api = serveRunning(node);
  for (const stale of ["token", "token.d/w9/token"]) write(`${node.root}/root/${stale}`, "an earlier one");
  const opened = await node.run("03-workers open");
  await expectTranscript("03-workers-open", opened);
  expect(api.changes()).toEqual([`POST ${BINDINGS}`, `POST ${SECRETS}`, `POST ${SECRETS}`]);
  const tokens = ["w1", "w2"].map((name) => {
    const path = `/root/token.d/${name}/token`;
    const [token, whose] = node.read(path).split("\n");
    expect([token, whose]).toEqual([expect.stringMatching(/^[a-z0-9]{6}\.[a-z0-9]{16}$/), `# ${name}`]);
    expect([path, dirname(path)].map((one) => statSync(node.root + one).mode & 0o777)).toEqual([
      0o600, 0o700,
    ]);
    expect(opened.stdout + opened.stderr).not.toContain(token!.split(".")[1]!);
    expect(certificatesIn(node.read(path))).toEqual([node.read("/etc/kubernetes/pki/ca.crt")]);
    const made = api.objects.get(`${SECRETS}/bootstrap-token-${token!.split(".")[0]}`).stringData;
    expect([`${made["token-id"]}.${made["token-secret"]}`, made.description]).toEqual([
      token!,
      `kube-pki-repair: ${name} comes back`,
    ]);
    return token;
  });
  expect(new Set(tokens).size).toBe(2);
  expect(["/root/token", "/root/token.d/w9/token"].map((path) => node.exists(path))).toEqual([false, false]);
  expect(node.calls().find((call) => call.startsWith("systemd-run"))).toMatch(
    /^systemd-run .*--unit=kube-pki-repair-approve .*bunw scripts\/03-workers.ts approve$/,
  );
});

test("03-workers open --one-token writes one for all, and says what that means; a node that is left out has none", async () => {
  using node = await afterPart2();
  using api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  const one = await node.run("03-workers open --one-token");
  expect([one.exitCode, one.stderr]).toEqual([
    0,
    expect.stringContaining("Each can ask in another's name with it)"),
  ]);
  expect(node.read("/root/token")).toMatch(/^[a-z0-9]{6}\.[a-z0-9]{16}\n# at https:\/\/\S+:6443\n-----BEGIN/);
  const left = await node.run("03-workers open --without w2");
  expect(left.exitCode).toBe(0);
  expect(
    ["/root/token", "/root/token.d/w1/token", "/root/token.d/w2/token"].map((path) => node.exists(path)),
  ).toEqual([false, true, false]);
  const all = [...api.objects].flatMap(([path, { stringData }]) =>
    path.includes("/bootstrap-token-") ? [stringData.description] : [],
  );
  expect(all).toEqual(["kube-pki-repair: w1 comes back"]);
});

test("03-workers open --dry-run writes no token and makes none", async () => {
  using node = await afterPart2();
  using api = serveRunning(node);
  const untouched = node.fingerprint();
  const { exitCode, stderr } = await node.run("03-workers open --dry-run");
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining(
      "would write token.d/NODE/token for w1, w2 (to each its own bootstrap token, valid for 2 h, and the CA: ",
    ),
  ]);
  expect(node.fingerprint()).toEqual(untouched);
  expect(api.changes()).toEqual([]);
});

test("03-workers open makes no token before a controller-manager with the new CA leads", async () => {
  using node = await afterPart2();
  const old = { data: { "ca.crt": before.cert } };
  using api = serveRunning(node, {
    objects: { "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt": old },
  });
  const { exitCode, stdout, stderr } = await node.run("03-workers open");
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
  expect(stderr).toContain(
    "error: Waited 120 s for the controller-manager to give kube-system the current CA: no answer yet\nhint: see whether it leads:",
  );
  expect(node.exists("/root/token.d")).toBe(false);
  expect(api.changes()).toEqual([]);
});

test("03-workers close lets the controller-manager run in full, revokes the kit's own token, and again changes no byte", async () => {
  using node = await afterPart2({ commands: RESTARTS });
  const objects = {
    [BINDING]: {},
    [`${SECRETS}/bootstrap-token-aaaaaa`]: OURS,
    [`${SECRETS}/bootstrap-token-bbbbbb`]: { ...OURS, data: {} },
    // of a worker that has not joined, and of others
    [`${SECRETS}/bootstrap-token-cccccc`]: {
      ...OURS,
      data: { description: btoa("kube-pki-repair: w9 comes back") },
    },
    [`${SECRETS}/bootstrap-token-dddddd`]: { ...OURS, data: { description: btoa("w9 comes back") } },
  };
  using api = serveRunning(node, { objects });
  await expectTranscript("03-workers-close", await node.run("03-workers close", WAITS));
  expect(parse(node.read(MANAGER))).toEqual(manifest("kube-controller-manager"));
  expect(api.changes()).toEqual([
    `DELETE ${MANAGER_LEASE}`,
    ...["aaaaaa", "cccccc"].map((id) => `DELETE ${SECRETS}/bootstrap-token-${id}`),
    `DELETE ${BINDING}`,
  ]);

  const closed = node.fingerprint();
  await expectTranscript("03-workers-close-again", await node.run("03-workers close", WAITS));
  expect(node.fingerprint()).toEqual(closed);
});

test("03-workers close takes out of the Nodes what join has left there", async () => {
  using node = await afterPart2({ commands: RESTARTS });
  const annotations = { "kube-pki-repair/serving-certificate-before": "a certificate", other: "stays" };
  using api = serveRunning(node, {
    objects: { "/api/v1/nodes/w1": { metadata: { name: "w1", annotations } } },
  });
  const { exitCode, stderr } = await node.run("03-workers close", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "\n  removed annotation kube-pki-repair/serving-certificate-before from Nodes (1)\n",
  );
  expect(api.objects.get("/api/v1/nodes/w1").metadata.annotations).toEqual({ other: "stays" });
});

test("03-workers close stops what open has started", async () => {
  using node = await afterPart2({ commands: RESTARTS });
  using _api = serveRunning(node);
  await node.run("03-workers open");
  const { exitCode, stderr } = await node.run("03-workers close", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("\n  stopped kube-pki-repair-approve\n  revoked bootstrap-token-");
  expect(node.calls()).toContain("systemctl stop kube-pki-repair-approve");
});

test("03-workers close puts the new manifest in only when the kubelet is done with the old pod, and goes on where it was cut off", async () => {
  using node = await afterPart2({ commands: RESTARTS });
  using _api = serveRunning(node);
  const pod = `${node.root}/var/lib/kubelet/pods/${staticUid("kube-controller-manager")}`;
  mkdirSync(pod, { recursive: true });
  // Long enough for the pretend API to be asked again, and next to nothing of the 90 s.
  const early = await node.run("03-workers close", { KUBE_PKI_REPAIR_PATIENCE: "0.02" });
  expect([early.exitCode, early.stderr]).toEqual([
    1,
    expect.stringContaining("Waited 90 s for the old kube-controller-manager to end"),
  ]);
  expect(node.exists(MANAGER)).toBe(false);
  const part4 = await node.run("04-sa-tokens");
  expect([part4.exitCode, part4.stderr]).toEqual([
    1,
    expect.stringContaining("error: The controller-manager is not there\nhint: close part 3"),
  ]);

  rmSync(pod, { recursive: true });
  const { exitCode, stderr } = await node.run("03-workers close", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(parse(node.read(MANAGER))).toEqual(manifest("kube-controller-manager"));
  expect(node.exists(MANAGER.replace("/kube-c", "/.kube-c"))).toBe(false);
});

test("03-workers close says after ten seconds which nodes it waits for, until when, and how to go on without them", async () => {
  using node = await afterPart2();
  using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  // With a tenth of the patience it says so after a second.
  const { stderr } = await node.run("03-workers close --wait 0.5 --without w1", {
    KUBE_PKI_REPAIR_PATIENCE: "0.1",
  });
  expect(stderr).toMatch(
    /\n {2}still waiting for 1 of 2 nodes to come back: w2 \(since [\d:]{8}, until [\d:]{8} at most\)\. If it takes too long: see whether 03-join\.ts has run on w2; if not: \.\/bunw scripts\/03-workers\.ts open, then there the line that it prints\. If one of them cannot come now: \.\/bunw scripts\/03-workers\.ts close --wait 0\.5 --without w1,w2\. If it is lost for good: --lost\n/,
  );
});

test("03-workers close is not silent while a slow API gives it all Leases and CSRs", async () => {
  using node = await afterPart2({ commands: RESTARTS });
  const held = Promise.withResolvers<undefined>();
  using _api = serveRunning(node, {
    on: ({ path }) => (path.startsWith(`${LEASES}?limit`) ? held.promise : undefined),
  });
  // With a tenth of the patience it says so after a second.
  const child = node.start("03-workers close", { KUBE_PKI_REPAIR_PATIENCE: "0.1" });
  let stderr = "";
  for await (const piece of child.stderr) {
    stderr += Buffer.from(piece).toString();
    if (stderr.includes("still waiting for")) held.resolve(undefined);
  }
  expect({ exitCode: await child.exited, stderr }).toEqual({
    exitCode: 0,
    stderr: expect.stringMatching(
      /^ {2}still waiting for all Leases and CSRs to be read \(since [\d:]{8}\)\. If it takes too long: crictl ps/m,
    ),
  });
});

test("03-workers close --without goes on without the node, but not without one that etcd never knew", async () => {
  using node = await afterPart2({ commands: RESTARTS });
  using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  cpSync(`${node.root}/var/lib/etcd`, `${node.root}/root/kube-pki-repair-20260101T000000/etcd`, {
    recursive: true,
  });
  const untouched = node.fingerprint();
  const strange = await node.run("03-workers close --without w3");
  expect([strange.exitCode, strange.stderr]).toEqual([
    3,
    expect.stringContaining('error: etcd knew no node "w3"\nhint: name one of its nodes: m1, w1, w2\n'),
  ]);
  expect(node.fingerprint()).toEqual(untouched);

  const away = await node.run("03-workers close --wait 0.05 --without w1", WAITS);
  expect([away.exitCode, away.stderr]).toEqual([
    1,
    expect.stringContaining(
      "03-workers.ts close --wait 0.05 --without w1,w2\n  If it is lost for good: --lost\n",
    ),
  ]);

  const { exitCode, stderr } = await node.run("03-workers close --without w2", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(parse(node.read(MANAGER)).metadata.annotations?.[REDUCED]).toBeUndefined();
  expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/04-sa-tokens.ts\n");
});

test("03-workers leaves out a control plane node that part 2 took out of etcd, without being told again, and prints that on", async () => {
  using node = await afterPart2({ commands: RESTARTS, members: [MEMBER, TAKEN_OUT] });
  using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const opened = await node.run("03-workers open");
  expect(opened.stderr).toContain(
    "  w2: no member of etcd any more (02-control-plane --lost): left out here, too\n",
  );
  expect(opened.stderr).toEndWith("then on each control plane node: ./bunw scripts/03-workers.ts close\n");
  expect(opened.stdout).toEndWith(" --token-file token --lost w2\n");
  expect(node.calls().find((call) => call.startsWith("systemd-run"))).toEndWith(" approve --lost w2");
  const { exitCode, stderr } = await node.run("03-workers close", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toEndWith(`\ndone.  next: ${DELETE}, then ./bunw scripts/04-sa-tokens.ts\n`);
});

test("03-workers waits for a machine that has joined again under the name of one that was taken out of etcd", async () => {
  using node = await afterPart2({ members: [MEMBER, TAKEN_OUT] });
  using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  const keys = new Map(node.stored);
  const [key] = [...keys.keys()].filter((name) => name.endsWith("/minions/w2"));
  keys.set(key!, JSON.stringify({ kind: "Node", metadata: { name: "w2", uid: "another" } }));
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), keys });
  const { exitCode, stderr } = await node.run("03-workers close --wait 0.02", WAITS);
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringContaining("error: 1 of 3 nodes have not come back: w2\n"),
  ]);
});

/** Of etcd's data: w2 says of itself that it runs Windows. */
const w2IsWindows = (objects: Objects) => {
  knewCa(before.cert)(objects);
  const node = objects["minions/w2"] as { metadata: { labels?: Record<string, string> } };
  node.metadata.labels = { ...node.metadata.labels, "kubernetes.io/os": "windows" };
};
const BY_HAND = 'RUNBOOK-MORE "A Windows node"';

test("03-workers: a Windows node is named with the way by hand, and close ends without waiting for it: nobody has said that it is away", async () => {
  using node = await afterPart2({ commands: RESTARTS, etcd: w2IsWindows });
  using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  const opened = await node.run("03-workers open", WAITS);
  expect(opened.stderr).toContain(`w2: Windows, by its label: join is for Linux. By hand: ${BY_HAND}\n`);
  const { exitCode, stderr } = await node.run("03-workers close", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain("w1: back");
  expect(stderr).toContain(
    `error: Not back, and not waited for: w2 (Windows, by its label: join is for Linux. By hand: ${BY_HAND})\n`,
  );
  expect(stderr).toEndWith(
    " Without them (their pods are evicted after five minutes): ./bunw scripts/03-workers.ts close --without w2\n",
  );
});

test("03-workers close: a node that says that it runs Windows, and renews its Lease, is one like others", async () => {
  using node = await afterPart2({ commands: RESTARTS, etcd: w2IsWindows });
  using _api = serveRunning(node);
  const { exitCode, stderr } = await node.run("03-workers close", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("w2: back");
  expect(stderr).toEndWith("next: ./bunw scripts/04-sa-tokens.ts\n");
});

test("a plan between parts 2 and 3 ends the old key of tokens, too, where that is kept beside the new one", async () => {
  using node = await afterPart2();
  using _api = serveRunning(node);
  const lines = async () =>
    (await node.run("plan")).stdout.match(/(?<=scripts\/)04-sa-tokens\.ts( retire)?$/gm);
  expect(await lines()).toEqual(["04-sa-tokens.ts"]);
  cpSync(`${node.root}/etc/kubernetes/pki/sa.pub`, `${node.root}/etc/kubernetes/pki/sa-old.pub`);
  expect(await lines()).toEqual(["04-sa-tokens.ts", "04-sa-tokens.ts retire"]);
});
