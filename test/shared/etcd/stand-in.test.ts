/** All machines have moved: whose old address the others are reached by. */
import { expect, test } from "bun:test";
import { standIn } from "../../../shared/etcd/tell-members.ts";
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
  expect(standIn([cp1, cp2], MOVED, [])).toEqual({ peer: cp1, from: "10.0.0.1" });
  expect(standIn([cp1, cp2], MOVED, ["10.0.0.1"])).toEqual({ peer: cp2, from: "10.0.0.2" });
  expect(standIn([withoutOld, cp2], MOVED, [])).toEqual({ peer: cp2, from: "10.0.0.2" });
  expect(standIn([{ ...cp1, servedPem: undefined }, cp2], MOVED, [])).toEqual({
    peer: cp2,
    from: "10.0.0.2",
  });
});

test("where there is none it says so", () => {
  for (const [running, taken] of [
    [
      [cp1, cp2],
      ["10.0.0.1", "10.0.0.2"],
    ],
    [[withoutOld], []],
    [[{ ...cp1, host: "10.9.9.9" }], []],
  ] as const)
    expect(() => standIn(running, MOVED, taken)).toThrow("can stand for its machine");
});
