/** What a kubelet's port shows, on addresses of this machine's loopback. */
import { expect, test } from "bun:test";
import type { KnownNode } from "../../../shared/facts/cluster.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { askKubeletPort, KUBELET_PORT, listeningOn } from "../../../shared/workers/kubelet-port.ts";
import { testFacts } from "../../pretend/facts.ts";

const facts = testFacts();
const ca = await issueCa(certRow("ca"), facts);
const otherCa = await issueCa(certRow("ca"), facts);

function issueServing(ip: string, by: Pair) {
  return issueLeaf({ ...certRow("apiserver"), names: () => ({ dns: [], ips: [ip] }) }, by, facts);
}

function node(ip: string): KnownNode {
  return { name: "w1", uid: "1", controlPlane: false, names: ["w1"], ips: [ip] };
}

function serve(hostname: string, { cert, key }: Pair) {
  return Bun.serve({ hostname, port: KUBELET_PORT, tls: { cert, key }, fetch: () => new Response("Unauthorized", { status: 401 }) });
}

test("a port with a certificate of the CA serves, whatever it answers", async () => {
  await using _ = serve("127.77.0.1", await issueServing("127.77.0.1", ca));
  expect(await askKubeletPort(node("127.77.0.1"), ca.cert)).toBe("serves");
});

test("a port with a certificate of another CA, or for another address, is no firewall", async () => {
  await using _ = serve("127.77.0.2", await issueServing("127.77.0.2", otherCa));
  await using __ = serve("127.77.0.3", await issueServing("127.77.0.9", ca));
  expect(await askKubeletPort(node("127.77.0.2"), ca.cert)).toBe("other");
  expect(await askKubeletPort(node("127.77.0.3"), ca.cert)).toBe("other");
});

test("a port that nobody answers is unreachable", async () => {
  expect(await askKubeletPort(node("127.77.0.4"), ca.cert)).toBe("unreachable");
});

test("a port is open, closed, or its node has no address", async () => {
  await using _ = serve("127.77.0.5", await issueServing("127.77.0.5", ca));
  const nodes = [
    { ...node("127.77.0.5"), name: "open" },
    { ...node("127.77.0.6"), name: "closed" },
    { ...node("127.77.0.7"), name: "homeless", ips: [] },
    { ...node("127.77.0.8"), name: "not asked" },
  ];
  expect([...(await listeningOn(nodes)(["open", "closed", "homeless"]))].sort()).toEqual([
    ["closed", false],
    ["homeless", undefined],
    ["open", true],
  ]);
});
