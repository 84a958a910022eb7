/** What a kubelet's port shows, on addresses of this machine's loopback. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { askKubeletPort, KUBELET_PORT, listeningOn } from "../../../shared/workers/node-status.ts";
import { testFacts } from "../../pretend/facts.ts";
import { at } from "../../pretend/kubelet-ports.ts";

/** Addresses of this test file's own network. */

const facts = testFacts();
const ca = await issueCa(certRow("ca"), facts);
const otherCa = await issueCa(certRow("ca"), facts);

function issueServing(ip: string, by: Pair) {
  return issueLeaf({ ...certRow("apiserver"), names: () => ({ dns: [], ips: [ip] }) }, by, facts);
}

function node(ip: string): KnownNode {
  return { name: "w1", uid: "1", controlPlane: false, claimed: { names: ["w1"], ips: [ip] }, places: [] };
}

function serve(hostname: string, { cert, key }: Pair) {
  return Bun.serve({
    hostname,
    port: KUBELET_PORT,
    tls: { cert, key },
    fetch: () => new Response("Unauthorized", { status: 401 }),
  });
}

test("a port with a certificate of the CA serves, whatever it answers", async () => {
  await using _ = serve(at(1), await issueServing(at(1), ca));
  expect(await askKubeletPort(node(at(1)), ca.cert)).toBe("serves");
});

test("a port with a certificate of another CA, or for another address, is no firewall", async () => {
  await using _ = serve(at(2), await issueServing(at(2), otherCa));
  await using __ = serve(at(3), await issueServing(at(9), ca));
  expect(await askKubeletPort(node(at(2)), ca.cert)).toBe("other");
  expect(await askKubeletPort(node(at(3)), ca.cert)).toBe("other");
});

test("a port that nobody answers is unreachable", async () => {
  expect(await askKubeletPort(node(at(4)), ca.cert)).toBe("unreachable");
});

test("a port is open, closed, or its node has no address", async () => {
  await using _ = serve(at(5), await issueServing(at(5), ca));
  const nodes = [
    { ...node(at(5)), name: "open" },
    { ...node(at(6)), name: "closed" },
    { ...node(at(7)), name: "homeless", claimed: { names: [], ips: [] } },
    { ...node(at(8)), name: "not asked" },
  ];
  expect([...(await listeningOn(nodes)(["open", "closed", "homeless"]))].sort()).toEqual([
    ["closed", false],
    ["homeless", undefined],
    ["open", true],
  ]);
});

test("a node to which there is no route says nothing: Bun's node:net calls that refused, too", async () => {
  const script = `import { listeningOn } from "${join(import.meta.dir, "../../../shared/workers/node-status.ts")}";
const known = await listeningOn([{ name: "w1", claimed: { ips: ["192.0.2.9"] } }])(["w1"]);
console.log(String(known.get("w1")));`;
  // In a network of its own, in which there is none.
  const { stdout, stderr } = Bun.spawnSync(["unshare", "--net", process.execPath, "-e", script], {
    stderr: "pipe",
  });
  expect({ stdout: stdout.toString(), stderr: stderr.toString() }).toEqual({
    stdout: "undefined\n",
    stderr: "",
  });
});
