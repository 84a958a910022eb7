/**
 * kubespray's layout after a colleague's kubeadm: 00-assess, the plan and 05-verify say whose folder it is, part 1 mends
 * it on a cluster that runs, and 05-verify is well again.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readlinkSync } from "node:fs";
import { ADDRESS, healthyCp } from "../pretend/cluster.ts";
import { sameEtcd, serveUnit } from "../pretend/etcd.ts";
import { ETCD_PKI, nodeOf, UNIT_MEMBER } from "../pretend/etcd-as-unit.ts";
import { serveRunning } from "../pretend/running.ts";
import { strangersFolder, USUAL } from "../pretend/strangers-folder.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

await healthyCp();
const SAYS = /somebody made a new CA at .* UTC in \/etc\/kubernetes\/pki: not this cluster's/;

test("a stranger's CA in kubeadm's usual folder: each screen says so, part 1 moves it aside, part 5 is well again", async () => {
  using node = here(
    await nodeOf("kubespray", {
      containers: ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"],
    }),
  );
  using _etcd = serveUnit(ETCD_PKI, { ...sameEtcd(node.stored), members: [UNIT_MEMBER] }, ADDRESS);
  using _api = serveRunning(node);
  const checks = async (script: string) => {
    const { stdout, exitCode } = await node.run(`${script} --output json`);
    const all: { id: string; result: string; mend?: string }[] =
      JSON.parse(stdout).checks ?? JSON.parse(stdout).damage;
    return {
      exitCode,
      row: all.find(({ id }) => id === "usual-folder"),
      failed: all.filter(({ result }) => result === "failed"),
    };
  };
  const before = { assess: await checks("00-assess"), verify: await checks("05-verify") };
  expect([before.assess.row, before.verify.row]).toEqual([undefined, undefined]);
  strangersFolder(node.root);
  for (const script of ["00-assess", "05-verify"]) {
    const { exitCode, row } = await checks(script);
    expect({ script, exitCode, row }).toMatchObject({
      ...{ script, exitCode: 2 },
      row: {
        result: "failed",
        detail: expect.stringMatching(SAYS),
        mend: expect.stringContaining("01-etcd"),
      },
    });
  }
  const assess = await node.run("00-assess");
  expect(assess.stdout).toMatch(/minor, by \/etc\/kubernetes\/pki\. /);
  expect(assess.stdout).toMatch(
    /^verdict: the files of this node are well, but kubeadm's usual folder [\s\S]*\n {2}\.\/bunw scripts\/01-etcd\.ts\n(?!.*02-)/,
  );
  const plan = await node.run("plan");
  expect(plan.stdout).toMatch(
    /Somebody made a new CA at .* UTC in \/etc\/kubernetes\/pki: not this cluster's/,
  );
  expect(plan.stdout).not.toMatch(/systemctl stop kubelet/);
  const dry = node.fingerprint();
  expect((await node.run("01-etcd --dry-run")).stderr).toMatch(
    /would move \/etc\/kubernetes\/pki[\s\S]*would point/,
  );
  expect(node.fingerprint()).toEqual(dry);
  const part1 = await node.run("01-etcd");
  expect([part1.exitCode, part1.stderr]).toEqual([0, expect.stringMatching(SAYS)]);
  expect(readlinkSync(node.root + USUAL)).toBe("ssl");
  expect([(await checks("00-assess")).row, (await checks("05-verify")).row]).toEqual([undefined, undefined]);
});
