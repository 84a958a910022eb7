/** A control plane node that is away, said once: what later runs on this node know of it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import { ADDRESS, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { LOST, sameEtcd, serveEtcd, serveOtherMember } from "../pretend/etcd.ts";
import { withM2 } from "../pretend/lost-cp.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { setAddress } from "../pretend/plan.ts";
import { LEASES, lease, serveRunning } from "../pretend/running.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const ready = (status: string) => ({
  metadata: { name: "m2", uid: "uid-of-m2" },
  status: { conditions: [{ type: "Ready", status }] },
});
const AWAY = { "/api/v1/nodes/m2": ready("Unknown"), [`${LEASES}/m2`]: lease(4000) };
const BACK = { "/api/v1/nodes/m2": ready("True"), [`${LEASES}/m2`]: lease(0) };
const PATIENCE = { KUBE_PKI_REPAIR_PATIENCE: "0.05" };

/** Something may answer there. */
const AT_M2 = ADDRESS.replace(/11$/, "12");

async function withMemberAway(at = AT_M2) {
  const members = [MEMBER, { ...LOST, peerURLs: [`https://${AT_M2}:2380`] }];
  const etcd = (objects: Objects) => {
    withM2(objects);
    setAddress(objects, "m2", at);
  };
  const node = here(await pretendNode({ kind: "healthy control plane node", members, etcd }));
  return { node, etcd: serveEtcd(node.root, { ...sameEtcd(node.stored), members }) };
}

test("05-verify: told once that m2 is away, it is not asked, nobody waits, exit 0; later runs know it, until it is back", async () => {
  const { node, etcd } = await withMemberAway();
  using _node = node;
  using _etcd = etcd;
  const word = () => JSON.parse(node.read("/run/kube-pki-repair-words.json"));
  {
    using _api = serveRunning(node, { objects: AWAY });
    expect(await node.run("05-verify", PATIENCE)).toMatchObject({ exitCode: 2 });
    for (const line of ["05-verify --without m2", "05-verify"]) {
      const { exitCode, stdout, stderr } = await node.run(line, PATIENCE);
      expect({ line, exitCode }).toEqual({ line, exitCode: 0 });
      expect(stdout).toMatch(/m2 is away: as said at \d\d:\d\d \(05-verify/);
      expect(stderr).toContain("all good but what you said: m2 is away");
      expect(stderr).not.toContain("still waiting");
    }
    expect(word().said).toMatchObject([{ option: "without", value: "m2", on: "m1" }]);
  }
  using _api = serveRunning(node, { objects: BACK });
  const { stdout, stderr } = await node.run("05-verify", PATIENCE);
  expect(stderr).toContain("m2 is away: not any more, it renews its Lease");
  expect(stdout).not.toContain("m2 is away");
  expect(word()).toMatchObject({ said: [], over: [{ value: "m2", why: "it renews its Lease" }] });
});

const PACK = "./bunw scripts/hand-over.ts pack";
const UNPACK = "./bunw scripts/hand-over.ts unpack";
const PARTS = "./bunw scripts/01-etcd.ts, ./bunw scripts/02-control-plane.ts";

test.each<[string, string, string, "another CA" | "a new sa.key" | undefined]>([
  [
    "a machine that is on again, and whose kubelet renews no Lease, gets its lines: first the file that only it may have; no key is new, so none goes there",
    AT_M2,
    `there ${PARTS}; only if a key is missing there, before that: here ${PACK}, there ${UNPACK} FILE`,
    undefined,
  ],
  [
    "the same, after a repair that has made a key",
    AT_M2,
    `here ${PACK}; there ${UNPACK} FILE, then ${PARTS}`,
    "a new sa.key",
  ],
  [
    "the same, where its etcd shows another CA than etcd's here: its keys are moved aside",
    AT_M2,
    `here ${PACK}; there ${UNPACK} --move-aside FILE, then ${PARTS}`,
    "another CA",
  ],
  ["a machine that is off gets none", "192.0.2.12", "", undefined],
  ["a machine that is off behind a firewall that refuses for it gets none", "127.77.9.12", "", undefined],
])("05-verify: %s", async (_, at, lines, shows) => {
  const { node, etcd } = await withMemberAway(at);
  using _node = node;
  if (shows === "a new sa.key") {
    const kid = serviceAccountKeyId(node.read("/etc/kubernetes/pki/sa.pub"));
    const mark = { made: "2026-01-01T00:00:00Z", kid };
    write(`${node.root}/etc/kubernetes/.kube-pki-repair-new-sa-key`, JSON.stringify(mark));
  }
  using _etcd = etcd;
  using _api = serveRunning(node, { objects: AWAY });
  // a kubelet listens, whatever it has of certificates; at the other address a firewall says that nobody does
  using _kubelet =
    at === AT_M2 ? Bun.serve({ hostname: at, port: 10250, fetch: () => new Response() }) : undefined;
  using _member =
    shows === "another CA"
      ? await serveOtherMember(node.root, sameEtcd(node.stored), at, await otherCa())
      : undefined;
  const path = "/etc/kubernetes/pki/sa-2024.pub";
  const word = { at: "2026-01-01T00:00:00Z", by: "plan", on: "m1" };
  const said = [
    { ...word, option: "without", value: "m2" },
    { ...word, option: "start-without", value: "service-account-key-file", files: [path] },
  ];
  write(`${node.root}/run/kube-pki-repair-words.json`, JSON.stringify({ made: word.at, said, over: [] }));
  const { exitCode, stdout } = await node.run("05-verify", PATIENCE);
  expect(exitCode).toBe(0);
  const away = "m2 is away: as said at DATE 00:00 (plan, on m1)";
  if (at !== AT_M2) return expect(stdout).toContain(`${away}\n`);
  expect(stdout).toContain(
    `${away}. Its machine is on again, and its kubelet renews no Lease: here ssh root@m2 tar -C / -cf - etc/kubernetes/pki/sa-2024.pub | tar -C / -xpkf - etc/kubernetes/pki/sa-2024.pub (what was given up, if it is there), then ./bunw scripts/02-control-plane.ts; ${lines}\n`,
  );
  expect(stdout).toContain(`${path} is given up: as said at`);
});
