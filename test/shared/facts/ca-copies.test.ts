/** The fingerprint of the cluster's CA is that of etcd's data, never that of a file of this node. */
import { expect, test } from "bun:test";
import type { KubeObject } from "../../../shared/api/kube-object.ts";
import {
  caInUseSince,
  clusterCaSeen,
  holdersOf,
  managedNode,
  strangeCa,
  trustedSince,
} from "../../../shared/facts/ca-copies.ts";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { asideOf, newRescue } from "../../../shared/node/rescue-folder.ts";
import { certInfo, madeAt } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { kubeletKubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../../shared/pki/renew.ts";
import { FACTS, healthyCp, otherCa, write } from "../../pretend/cluster.ts";
import { NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { agedText } from "../../pretend/expired.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { ca } = await healthyCp();
const younger = await otherCa();
const older = await issueCa(certRow("ca"), FACTS, { now: new Date("2020-01-01") });
const cluster = readCluster(await pretendData());
const hashOf = ({ cert }: Pair) => certInfo(cert).publicKeyHash;

/** A node with this CA in its place; `begun`: part 1 has copied etcd's data here. */
function nodeWith(pair: Pair, { begun = false } = {}) {
  const box = sandbox();
  const rescue = newRescue();
  const pki = `${box.dir}/etc/kubernetes/pki`;
  write(`${pki}/ca.crt`, pair.cert, 0o644);
  write(`${pki}/ca.key`, pair.key);
  write(
    `${box.dir}/etc/kubernetes/kubelet.conf`,
    kubeletKubeconfig({ server: "https://127.77.0.11:6443", ca: ca.cert }),
  );
  if (begun) write(`${box.dir}${rescue.dir}/etcd/member`, "");
  return {
    pki,
    known: { cluster, rescue, certificatesDir: FACTS.certificatesDir },
    [Symbol.dispose]: () => box[Symbol.dispose](),
  };
}

test.each([
  ["the cluster's", ca, false, "the cluster's", undefined],
  ["a younger one", younger, false, "another CA", { hash: hashOf(younger), older: false }],
  ["the one that part 1 made here", younger, true, "new in this repair", undefined],
  ["an older one", older, false, "another CA", { hash: hashOf(older), older: true }],
] as const)("where ca.crt is %s", (_, pair, begun, is, strange) => {
  using node = nodeWith(pair, { begun });
  expect(clusterCaSeen(NODE, node.known)).toEqual({
    hashes: [hashOf(ca)],
    from: "kube-root-ca.crt in etcd's data",
    copies: [
      { what: "/etc/kubernetes/pki/ca.crt", hash: hashOf(pair), is },
      { what: "/etc/kubernetes/kubelet.conf", hash: hashOf(ca), is: "the cluster's" },
    ],
  });
  expect(strangeCa(node.known)).toEqual(strange as never);
});

test("a ca.crt that cannot be read is named, and is no strange CA", () => {
  using node = nodeWith({ ...ca, cert: "garbage" });
  expect(clusterCaSeen(NODE, node.known).copies[0]).toEqual({
    what: "/etc/kubernetes/pki/ca.crt",
    is: "unreadable",
  });
  expect(strangeCa(node.known)).toBeUndefined();
});

test("where nothing names the cluster's CA, nothing is compared", () => {
  using _node = nodeWith(younger);
  const seen = clusterCaSeen(NODE);
  expect([seen.hashes, seen.copies.map(({ is }) => is)]).toEqual([[], ["not compared", "not compared"]]);
});

test("a Lease renewal shows trust in the current CA since that was made; where it is renewed since the old one's end; where it is new since this node serves with it", async () => {
  const end = new Date(Math.floor(Date.now() / 1000) * 1000 - 30_000);
  const ended = (await agedText(ca.cert, ca.key, certInfo(ca.cert).notAfter.getTime() - end.getTime()))!;
  const since = (pair: Pair, oldCaPem: string, { apiserver = "", aside = "" } = {}) => {
    using node = nodeWith(pair);
    if (apiserver) write(`${node.pki}/apiserver.crt`, apiserver);
    if (aside) write(`${node.pki.replace("/etc/", `${asideOf(newRescue())}/etc/`)}/ca.crt`, aside);
    return trustedSince({ facts: FACTS, cluster: { ...cluster, oldCaPem } });
  };
  expect(since(ca, ca.cert)).toEqual(madeAt(ca.cert));
  const renewed = { ...ca, cert: renewCa(ended, ca.key, { hours: 8760, signed: [] }) };
  expect(since(renewed, ended)).toEqual(end);
  expect(since(renewed, renewed.cert, { aside: ended })).toEqual(end);
  const server = await issueLeaf(certRow("apiserver"), older, FACTS);
  expect(since(older, ca.cert, { apiserver: server.cert })).toEqual(madeAt(server.cert));
});

test("the current CA is in use since its oldest copy here was made, and nobody knows since when once one copy has ended", async () => {
  const days = async (ago: number) => (await agedText(ca.cert, ca.key, ago * 86_400_000))!;
  const since = (copy: string) => {
    using node = nodeWith(ca);
    const admin = kubeletKubeconfig({ server: "https://127.77.0.11:6443", ca: copy });
    write(`${node.pki}/../admin.conf`, admin);
    return caInUseSince(FACTS.certificatesDir);
  };
  const older = await days(30);
  expect(since(ca.cert)).toEqual(madeAt(ca.cert));
  expect(since(older)).toEqual(madeAt(older));
  expect(since(await days(11 * 366))).toBeUndefined();
});

test("a certificate that the current CA has signed and that has expired since ends nobody's trust in it: the CA is in use since then", async () => {
  const now = new Date(Date.now() - 2 * 365 * 86_400_000);
  const { cert } = await issueLeaf(certRow("apiserver"), ca, FACTS, { now });
  using node = nodeWith(ca);
  write(`${node.pki}/apiserver.crt`, cert);
  expect(caInUseSince(FACTS.certificatesDir)).toEqual(madeAt(cert));
});

/* Who outside of the cluster has to learn a new CA. */

const PLACE = { oldHashes: ["sha256:a", "sha256:b"], certificatesDir: "/etc/kubernetes/pki" };

test("a management cluster gets all four pairs anew, by the names of its Secrets", () => {
  const [first, ...others] = holdersOf({ managed: { namespace: "fleet", name: "shop" }, ...PLACE });
  expect(first).toContain("Replace tls.crt and tls.key of the Secrets");
  expect(first).toContain("the Secrets shop-ca, shop-etcd, shop-proxy, shop-sa in its namespace fleet");
  expect(others).toEqual(holdersOf({ managed: undefined, ...PLACE }));
  expect(others).toEqual([expect.stringContaining("Search them for sha256:a and sha256:b, ")]);
});

const OF_CLUSTER_API = {
  "cluster.x-k8s.io/cluster-name": "shop",
  "cluster.x-k8s.io/cluster-namespace": "fleet",
};

test.each<[string, Record<string, string>, ReturnType<typeof managedNode>]>([
  ["by both annotations", OF_CLUSTER_API, { namespace: "fleet", name: "shop" }],
  ["not without a namespace", { "cluster.x-k8s.io/cluster-name": "shop" }, undefined],
  ["not by a name that is none", { ...OF_CLUSTER_API, "cluster.x-k8s.io/cluster-name": "$(id)" }, undefined],
  [
    "not by a namespace that is none",
    { ...OF_CLUSTER_API, "cluster.x-k8s.io/cluster-namespace": "a;b" },
    undefined,
  ],
  ["not without annotations", {}, undefined],
])("whether Cluster API made a node is told %s", async (_, annotations, managed) => {
  using data = await pretendData((objects) => {
    Object.assign((objects["minions/m1"] as KubeObject).metadata, { annotations });
  });
  expect(managedNode(data, "m1")).toEqual(managed);
});
