/**
 * 03-join that is ended in its middle, on a worker, with the real `approve` on the control plane node: it
 * gives each node one certificate for a token. So what a run leaves has to be such that the next one needs no
 * second.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { certInfo } from "../../shared/pki/certificate.ts";
import { waitFor } from "../../shared/wait-for.ts";
import { ADDRESS, healthyCp, otherCa, write, writeKubelet } from "../pretend/cluster.ts";
import { bootstrap, join, kubeletFiles, LEASE, writeToken } from "../pretend/joining.ts";
import { askingKubelet, type Stage } from "../pretend/kubelet-asks.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { knewCa, LEASES, lease, serveRunning } from "../pretend/running.ts";
import { expectStop, interrupted } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const before = await otherCa();
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
/** The certificate has 12 s to come, and the Lease 6 s. */
const BRIEF = { KUBE_PKI_REPAIR_PATIENCE: "0.1" };
/** Less than three seconds. */
const VAIN = { KUBE_PKI_REPAIR_PATIENCE: "0.02" };
const SECRET = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef";
const token = {
  type: "bootstrap.kubernetes.io/token",
  data: {
    description: btoa("kube-pki-repair: workers come back"),
    expiration: btoa(new Date(Date.now() + 3_600_000).toISOString()),
  },
};
const LINE = join(certInfo(ca.cert).publicKeyHash);

const until = (what: string, isSo: () => boolean) =>
  waitFor(what, isSo, { seconds: 250, hint: "see what the script printed" });

/** A control plane node with its API after `open`, and a worker whose kubelet gets as far as `upTo`. */
async function cluster(upTo: Stage, commands: NodeOptions["commands"] = []) {
  const cp = await pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
  const worker = await pretendNode({ kind: "worker", commands });
  rmSync(`${worker.root}/var/lib/kubelet/pki`, { recursive: true });
  await writeKubelet(worker.root, "w1", { ca: before, server: `https://${ADDRESS}:6443` });
  write(`${worker.root}/etc/kubernetes/pki/ca.crt`, before.cert, 0o644);
  writeToken(worker.root, ca.cert);
  const api = serveRunning(cp, {
    objects: { [`${LEASES}/w1`]: lease(4000), [`${LEASES}/w2`]: lease(4000), [SECRET]: token },
  });
  const disposable = { [Symbol.dispose]: worker[Symbol.dispose] };
  const kubelet = askingKubelet({ node: worker, api, ca }, upTo);
  const approvals = () => api.changes().filter((change) => change.endsWith("/approval"));
  const lists = () =>
    api.requests.filter(({ path }) => path.includes("client-kubelet") && !path.includes("watch=true")).length;
  return Object.assign(worker, {
    api,
    kubelet,
    approvals,
    /** Ends with what it said. */
    approve: () => cp.run("03-workers approve --without w2", WAITS),
    /** Ends when approve has begun to look. */
    watched: () => until("approve to look", () => lists() > 1),
    /** Ends when approve has looked at all that was asked until now. */
    looked: (from = lists()) => until("approve to look", () => lists() >= from + 2),
    came: (stage: Stage) => until(stage, () => kubelet.is(stage)),
    [Symbol.dispose]: () => [kubelet, api, cp, disposable].forEach((one) => void one[Symbol.dispose]()),
  });
}

/** [what the kubelet has done when the signal comes, how far it gets, whether approve runs by then] */
const CUTS: [what: string, stage: Stage, approves: boolean][] = [
  ["has not asked yet", "nothing", true],
  ["has asked, and approve does not run", "asks", false],
  ["is approved, and has no certificate yet", "is approved", true],
  ["has its certificate, and has not renewed its Lease", "has its certificate", true],
];

test.each(CUTS)(
  "an ssh that drops when the kubelet of a join %s: the same command again goes through",
  async (_, stage, approves) => {
    using node = await cluster(stage);
    const first = approves ? node.approve() : undefined;
    const stopped = await interrupted(node, LINE, node.came(stage), "SIGHUP");
    expectStop(
      stopped,
      /^Stopped by SIGHUP/,
      /^run the same line again: what was written is whole, and finished steps are skipped$/,
      130,
    );
    expect(stopped.stderr).toContain(
      "\nnote: this worker's kubelet has the new trust and continues by itself",
    );
    expect(stopped.stderr).not.toContain("== Roll back");
    const approve = first ?? node.approve();
    node.kubelet.goOn("renews its Lease");
    const again = await node.run(LINE, WAITS);
    expect(again).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining("w1: renewed its Lease with the new certificate\n"),
    });
    const { stderr } = await approve;
    expect({ approvals: node.approvals().length, asked: node.kubelet.asked() }).toEqual({
      approvals: 1,
      asked: 1,
    });
    expect(stderr).not.toContain("WARNING");
    expect(node.exists("/etc/kubernetes/bootstrap-kubelet.conf")).toBe(false);
    expect(node.fingerprint().filter((line) => /join-unfinished/.test(line))).toEqual([]);
  },
);

test.each(["the first time", "after a signal"])(
  "03-join that waits in vain for the Lease (%s) keeps the certificate, and the same command again goes through",
  async (when) => {
    using node = await cluster("has its certificate");
    const approve = node.approve();
    await node.watched();
    if (when === "after a signal") await interrupted(node, LINE, node.came("has its certificate"), "SIGINT");
    const failed = await node.run(LINE, BRIEF);
    expectStop(
      failed,
      /^Waited 60 s for the Lease of w1 to be renewed/,
      /nothing is rolled back\. .* run the same line again/,
    );
    expect(failed.stderr).not.toContain("== Roll back");
    node.kubelet.goOn("renews its Lease");
    expect(await node.run(LINE, WAITS)).toMatchObject({ exitCode: 0 });
    expect(await approve).toMatchObject({ exitCode: 0, stderr: expect.not.stringContaining("WARNING") });
    expect({ approvals: node.approvals().length, asked: node.kubelet.asked() }).toEqual({
      approvals: 1,
      asked: 1,
    });
    expect(node.calls().filter((call) => call === "systemctl stop kubelet")).toHaveLength(1);
  },
);

test("03-join whose certificate does not come in time puts the old files back, and names open: approve gives no second one", async () => {
  using node = await cluster("is approved");
  const before = kubeletFiles(node);
  const approve = node.approve();
  await node.watched();
  const failed = await node.run(LINE, BRIEF);
  expectStop(
    failed,
    /^Waited 120 s for the kubelet to get its certificate/,
    /The old files are back\. .*\.\/bunw scripts\/03-workers\.ts open/,
  );
  expect(kubeletFiles(node)).toEqual(before);
  node.kubelet.goOn("renews its Lease");
  expectStop(await node.run(LINE, VAIN), /^Waited 120 s/, /03-workers\.ts open/);
  await node.looked();
  node.api.objects.delete(SECRET);
  expect((await approve).stderr).toContain('it asks for "w1", and so did csr-1, which was approved');
});

test("03-join whose certificate comes while it rolls back keeps it", async () => {
  const commands = ["", 'while ! test -e "$FAKE/go"; do :; done; '].map((first) => ({
    command: "systemctl stop kubelet",
    does: `${first}echo > "$FAKE/stopped"`,
  }));
  using node = await cluster("nothing", commands);
  const child = node.start(LINE, VAIN);
  let stderr = "";
  for await (const piece of child.stderr) {
    stderr += Buffer.from(piece).toString();
    if (!stderr.includes("== Roll back") || node.exists("/etc/kubernetes/kubelet.conf")) continue;
    await bootstrap(node, ca);
    node.api.objects.set(LEASE, { metadata: { name: "w1" }, ...lease(-60) });
    write(`${node.env.FAKE}/go`, "");
  }
  expect({ exitCode: await child.exited, stderr }).toEqual({
    exitCode: 0,
    stderr: expect.stringContaining("nothing is put back"),
  });
});
