/**
 * A plan made again after the repair: where part 5's checks here prove every node by the API, it says what is left, and
 * sends nobody to look at nodes first.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { FACTS, healthyCp } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, serveOtherMember } from "../pretend/etcd.ts";
import { lookAt } from "../pretend/in-process.ts";
import { ASKED, AT, MEMBERS, pasted } from "../pretend/plan.ts";
import { LEASES, lease, serveRunning } from "../pretend/running.ts";
import { typeHere } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const READY = { status: { conditions: [{ type: "Ready", status: "True" }] } };

/** Prints the plan on m1 of three, which is repaired. `secondsAgo`: when m3's kubelet renewed its Lease last. */
async function planAgain(secondsAgo: number) {
  return await lookAt({ ...ASKED, kind: "healthy control plane node" }, async (node) => {
    mkdirSync(`${node.root}/root/kube-pki-repair-20260101T000000/runs`, { recursive: true });
    const etcd = { ...sameEtcd(node.stored), members: [...MEMBERS] };
    using _etcd = serveEtcd(node.root, etcd);
    using _second = await serveOtherMember(node.root, etcd, AT.m2);
    using _third = await serveOtherMember(node.root, etcd, AT.m3);
    const objects = {
      "/api/v1/nodes/m2": READY,
      "/api/v1/nodes/m3": READY,
      [`${LEASES}/m2`]: lease(0),
      [`${LEASES}/m3`]: lease(secondsAgo),
    };
    using _api = serveRunning(node, { objects });
    using _api2 = serveRunning(node, { objects, hostname: AT.m2, tls: await serverAt(AT.m2) });
    using _api3 = serveRunning(node, { objects, hostname: AT.m3, tls: await serverAt(AT.m3) });
    return await typeHere("plan");
  });
}

/** An API server of the same CA at another address. */
async function serverAt(address: string) {
  return await issueLeaf(certRow("apiserver"), ca, { ...FACTS, advertiseAddress: address });
}

test("every node renews its Lease, and part 5 is all good here: the plan is what is left for people, exit 0", async () => {
  const { exitCode, stdout } = await planAgain(0);
  expect(stdout).toContain("**This plan is for what is left of the repair. Part 5's checks are all good");
  expect(exitCode).toBe(0);
  const lines = pasted(stdout).join("\n");
  expect(lines).toContain("05-verify.ts");
  expect(lines).not.toMatch(/systemctl stop|0[1-4]-/);
});

test("one node renews no Lease, and nobody has looked at it: the plan has no step, and asks for a look", async () => {
  const { exitCode, stdout } = await planAgain(600);
  expect(stdout).toContain("Look at m2, m3 first");
  expect([exitCode, pasted(stdout).join("\n")]).toEqual([3, expect.not.stringMatching(/0[1-5]-/)]);
});
