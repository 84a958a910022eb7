/** All machines have moved: whose old address the others are reached by. */
import { expect, test } from "bun:test";
import { createServer } from "node:net";
import { answeringOldAddresses, relayMember } from "../../../shared/etcd/tell-members.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { FACTS, healthyCp } from "../../pretend/cluster.ts";

const { ca } = await healthyCp();
const MOVED = new Map([
  ["10.0.0.1", "10.1.0.1"],
  ["10.0.0.2", "10.1.0.2"],
]);

async function peer(name: string, host: string, etcdPeerCertSANs: string[]) {
  const { cert } = await issueLeaf(certRow("etcd-peer"), ca, {
    ...FACTS,
    advertiseAddress: host,
    etcdPeerCertSANs,
  });
  return { id: name, name, host, servedPem: cert };
}

const cp1 = await peer("cp1", "10.1.0.1", ["10.0.0.1"]);
const cp2 = await peer("cp2", "10.1.0.2", ["10.0.0.2"]);
const withoutOld = await peer("cp1", "10.1.0.1", []);

test("the first whose old address is nobody's, and whose certificate is for it", () => {
  expect(relayMember([cp1, cp2], MOVED, [])).toEqual({ peer: cp1, from: "10.0.0.1" });
  expect(relayMember([cp1, cp2], MOVED, ["10.0.0.1"])).toEqual({ peer: cp2, from: "10.0.0.2" });
  expect(relayMember([withoutOld, cp2], MOVED, [])).toEqual({ peer: cp2, from: "10.0.0.2" });
  expect(relayMember([{ ...cp1, servedPem: undefined }, cp2], MOVED, [])).toEqual({
    peer: cp2,
    from: "10.0.0.2",
  });
});

test("an old address at which a machine answers today is not taken: it would be pushed aside", async () => {
  const [answers, today] = ["127.88.0.11", "127.88.0.12"];
  // one that says nothing is one, too
  const machine = createServer(() => undefined);
  await new Promise<void>((resolve) => machine.listen(0, answers, resolve));
  const { port } = machine.address() as { port: number };
  const moved = new Map([
    [answers, "10.1.0.1"],
    [today, "10.1.0.2"],
  ]);
  const running = ["10.1.0.1", "10.1.0.2", "10.9.9.9"].map((host) => ({ host, port }));
  expect(await answeringOldAddresses(running, moved)).toEqual([answers]);
  machine.close();
});

/** As a machine at which nobody listens at that port answers: only in a network of its own. */
const inOwnNetwork = [
  "unshare",
  "--net",
  "sh",
  "-c",
  'ip link set lo up && ip addr add 10.66.1.1/32 dev lo && exec "$@"',
  "sh",
];
const hasNetworks = Bun.spawnSync([...inOwnNetwork, "true"], { stderr: "ignore" }).success;

test.skipIf(!hasNetworks)(
  "a machine that says that nobody listens there is one, too; one that is nowhere is not",
  () => {
    const code = `
    const { answeringOldAddresses } = await import(${JSON.stringify(`${import.meta.dir}/../../../shared/etcd/tell-members.ts`)});
    const moved = new Map([["10.66.1.1", "10.1.0.1"], ["10.66.1.2", "10.1.0.2"]]);
    const running = [...moved.values()].map((host) => ({ host, port: 2380 }));
    console.log(JSON.stringify(await answeringOldAddresses(running, moved)));`;
    const { stdout, stderr } = Bun.spawnSync([...inOwnNetwork, process.execPath, "-e", code]);
    expect([String(stdout).trim(), String(stderr)]).toEqual(['["10.66.1.1"]', ""]);
  },
);

test("where there is none it says so", () => {
  for (const [running, taken] of [
    [
      [cp1, cp2],
      ["10.0.0.1", "10.0.0.2"],
    ],
    [[withoutOld], []],
    [[{ ...cp1, host: "10.9.9.9" }], []],
  ] as const)
    expect(() => relayMember(running, MOVED, taken)).toThrow("can be used for its machine");
});
