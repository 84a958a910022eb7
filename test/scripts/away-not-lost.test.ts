/**
 * Away is not lost: who renews its Lease is never called lost, never deleted, and not waited for because of
 * what its port shows.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../shared/pki/issue.ts";
import { afterPart2, RESTARTS } from "../pretend/after-part2.ts";
import { ADDRESS, FACTS, write } from "../pretend/cluster.ts";
import { LOST, sameEtcd, serveEtcd, serveOtherMember, THIRD, THIRD_AT, THREE } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { MEMBER } from "../pretend/node.ts";
import { LEASES, lease, living, serveRunning } from "../pretend/running.ts";
import { here, nodeHere } from "../pretend/typed-here.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "0.05" };
const HEALTHY = { kind: "healthy control plane node" } as const;
const AWAY = { [`${LEASES}/w2`]: lease(4000) };
const DELETE = "kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found w2";

describe("03-workers close", () => {
  test("--without leaves the Node of a node that is away alone; --lost prints the line that deletes it", async () => {
    using node = here(await afterPart2({ commands: RESTARTS }));
    using _api = serveRunning(node, { objects: AWAY, on: living(["m1", "w1"]) });
    const away = await node.run("03-workers close --without w2", WAITS);
    expect(away).toMatchObject({ exitCode: 0 });
    expect(away.stderr).toEndWith("\ndone.  next: ./bunw scripts/04-sa-tokens.ts\n");
    const lost = await node.run("03-workers close --lost w2", WAITS);
    expect(lost.stderr).toEndWith(`\ndone.  next: ${DELETE}, then ./bunw scripts/04-sa-tokens.ts\n`);
  });

  test("refuses to call a node lost that renews its Lease, and counts one that is only named as away", async () => {
    using node = here(await afterPart2({ commands: RESTARTS }));
    using _api = serveRunning(node, { on: living(["m1", "w1", "w2"]) });
    const before = node.fingerprint();
    for (const line of [
      "03-workers close --lost w2",
      "03-workers open --lost w2",
      "04-sa-tokens --lost w2 --dry-run",
    ]) {
      const { exitCode, stderr } = await node.run(line, WAITS);
      if (line.startsWith("04")) expect(stderr).toContain("error: The controller-manager is still reduced");
      else
        expect([exitCode, stderr]).toEqual([
          3,
          expect.stringContaining("error: w2 is not lost: it renews its Lease. Nothing was changed\n"),
        ]);
    }
    expect(node.fingerprint()).toEqual(before);
    const { exitCode, stderr } = await node.run("03-workers close --without w2", WAITS);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain("  w2: it renews its Lease, so it is not left out\n");
    expect(stderr).toContain(" 3 / 3\n");
    expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/04-sa-tokens.ts\n");
  });
});

/** serverTLSBootstrap was set in the ConfigMap; m1's kubelet had joined before. */
const SERVING = {
  etcd: (objects: Record<string, object | string>) =>
    void Object.assign(objects["configmaps/kube-system/kubelet-config"]!, {
      data: { kubelet: "serverTLSBootstrap: true\n" },
    }),
};
const own = await issueCa({ ...certRow("ca"), cn: "m1-ca@1700000000" }, FACTS);
const served = await issueLeaf({ ...certRow("apiserver"), cn: "m1@1700000000" }, own, FACTS);

describe("a kubelet that signs its own serving certificate, and one whose port is firewalled", () => {
  let port: ReturnType<typeof Bun.serve>;
  beforeAll(() => {
    port = Bun.serve({ hostname: ADDRESS, port: 10250, tls: served, fetch: () => new Response("ok") });
  });
  afterAll(() => port.stop(true));

  test("open does not promise to approve what nobody asks for", async () => {
    using node = await nodeHere({ ...HEALTHY, ...SERVING });
    using _api = serveRunning(node, { on: living(["m1", "w1", "w2"]) });
    const { exitCode, stderr } = await node.run("03-workers open", WAITS);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain("  part 3 has nothing to do\n");
  });

  test("close does not wait for it: a line, and on", async () => {
    using node = here(await afterPart2({ commands: RESTARTS, ...SERVING }));
    using _api = serveRunning(node, { on: living(["m1", "w1", "w2"]) });
    const { exitCode, stderr } = await node.run("03-workers close", { KUBE_PKI_REPAIR_PATIENCE: "0.2" });
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain("  self-signed by the kubelet, so no CSR for a serving certificate comes: m1\n");
    expect(stderr).toContain(
      "port 10250 cannot be reached from here, so kubectl logs and exec may not work: w1, w2\n",
    );
  });

  test("05-verify calls it a difference, and names what changes it", async () => {
    using node = await nodeHere({ ...HEALTHY, ...SERVING });
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    using _api = serveRunning(node, { on: living(["m1", "w1", "w2"]) });
    const { stdout } = await node.run("05-verify", WAITS);
    expect(stdout).not.toMatch(/(failed|warning) +nodes/);
    expect(stdout).toMatch(/ m1 serves with a certificate of the CA +its kubelet signs its own: /);
    expect(stdout).toMatch(
      /: on m1: serverTLSBootstrap: true in its kubelet's configuration, systemctl restart kubelet/,
    );
    expect(stdout).toMatch(
      / w1 serves with a certificate of the CA +its port 10250 cannot be reached from here/,
    );
  });
});

describe("02-control-plane", () => {
  test("--without leaves a control plane node that is away in etcd, and says the word for one that is lost", async () => {
    using node = await nodeHere({ ...HEALTHY, members: THREE });
    const state = { ...sameEtcd(node.stored), members: [...THREE] };
    using _etcd = serveEtcd(node.root, state);
    using _third = await serveOtherMember(node.root, state, THIRD_AT);
    using _api = servePart2(node);
    const at = "2026-01-01T04:50:00Z";
    const said = ["m2", "m3"].map((value) => ({ option: "lost-on", value, at, by: "01-etcd", on: "m1" }));
    write(`${node.root}/run/kube-pki-repair-words.json`, JSON.stringify({ made: at, said, over: [] }));
    const { exitCode, stderr } = await node.run("02-control-plane --without m2", WAITS);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    const ended = stderr.match(/on \S+ the keys are lost, too.*: not any more, .*/g);
    expect(ended).toEqual([
      "on m3 the keys are lost, too, or another machine answers there: not any more, its etcd has the same keys",
    ]);
    expect(stderr).toContain(
      "  m2: away, so not asked; it stays a member of etcd. If it is lost for good: ./bunw scripts/02-control-plane.ts --lost m2\n",
    );
    expect(state.members).toEqual([MEMBER, LOST, THIRD]);
  });

  test("--lost is refused where that node's kubelet renews its Lease in etcd", async () => {
    using node = await nodeHere({ ...HEALTHY, members: THREE });
    const keys = new Map(node.stored);
    const key = [...keys.keys()]
      .find((name) => name.includes("/minions/"))!
      .replace(/minions\/.*/, "leases/kube-node-lease/m2");
    let renewals = 0;
    const get = keys.get.bind(keys);
    keys.get = (name) => (name === key ? String(renewals++) : get(name));
    const state = { ...sameEtcd(node.stored), keys, members: [...THREE] };
    using _etcd = serveEtcd(node.root, state);
    using _third = await serveOtherMember(node.root, state, THIRD_AT);
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run("02-control-plane --lost m2", WAITS);
    expect([exitCode, stderr]).toEqual([
      3,
      expect.stringContaining("error: m2 is not lost: its kubelet renews its Lease. Nothing was changed\n"),
    ]);
    expect(state.members).toEqual([MEMBER, LOST, THIRD]);
    expect(node.fingerprint()).toEqual(before);
  });
});

test("04-sa-tokens goes on past a node that is away; one that is lost has to be deleted first", async () => {
  using node = await nodeHere({ ...HEALTHY, containers: ["kube-proxy"] });
  using _api = serveRunning(node, { objects: AWAY, on: living(["m1", "w1"]) });
  const none = await node.run("04-sa-tokens --dry-run", WAITS);
  expect(none.stderr).toContain(
    "04-sa-tokens.ts --dry-run --without w2\n  If they are lost for good: --lost\n",
  );
  const away = await node.run("04-sa-tokens --dry-run --without w2", WAITS);
  expect(away).toMatchObject({ exitCode: 0 });
  expect(away.stderr).toContain("  away: w2. Their pods stay, and no rollout waits for them\n");
  const lost = await node.run("04-sa-tokens --dry-run --lost w2", WAITS);
  expect(lost.stderr).toContain('error: The Node "w2" is still there, and it is lost for good\n');
});

describe("03-workers open looks whether its approver runs", () => {
  const LOG = "error: This node's clock says 2026, that is 60 minutes ahead";
  const dies = [
    { command: "systemd-run *" },
    { command: "journalctl --quiet *", stdout: `== Something\n${LOG}\n` },
  ];

  test("one that ends at once: its reason, and the line by hand", async () => {
    using node = here(await afterPart2({ commands: dies }));
    using _api = serveRunning(node);
    const { exitCode, stderr } = await node.run("03-workers open", WAITS);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`error: kube-pki-repair-approve was started, and has exited: ${LOG}\n`);
    expect(stderr).toEndWith(
      ": ./bunw scripts/03-workers.ts approve. The token is made, but nothing approves the certificates of workers yet\n",
    );
  });

  test("it is started so that a failed exec is told, and with the operator's word about the clock", async () => {
    using node = here(await afterPart2());
    using _api = serveRunning(node);
    expect((await node.run("03-workers open", { KUBE_PKI_REPAIR_CLOCK: "right" })).exitCode).toBe(0);
    const started = node.calls().find((call) => call.startsWith("systemd-run "))!;
    expect(started).toContain(" --property=Type=exec ");
    expect(started).toContain(" --setenv=KUBE_PKI_REPAIR_CLOCK=right ");
    expect(started).toContain(" --setenv=KUBE_PKI_REPAIR_PATIENCE=");
  });

  test("a systemd before 240 knows no Type=exec: it is started without", async () => {
    const old = {
      command: "systemd-run *",
      does: 'case "$*" in *Type=exec*) echo "Failed to set property Type" >&2; exit 1;; esac; echo > "$FAKE/approving"',
    };
    using node = here(await afterPart2({ commands: [old] }));
    using _api = serveRunning(node);
    expect((await node.run("03-workers open")).exitCode).toBe(0);
    expect(node.calls().filter((call) => call.startsWith("systemd-run "))).toHaveLength(2);
  });
});
