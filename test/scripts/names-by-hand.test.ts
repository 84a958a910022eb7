/**
 * Names in the API server's certificate that somebody gave to kubeadm by hand: kubeadm-config does not have
 * them, and `kubeadm certs renew` keeps them. So does a repair, on pretend control plane nodes.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { certInfo } from "../../shared/pki/certificate.ts";
import { type ClusterFacts, certRow } from "../../shared/pki/certs.ts";
import { issueLeaf, type Pair } from "../../shared/pki/issue.ts";
import { pretendApi } from "../pretend/api.ts";
import { ADDRESS, FACTS, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expireCertificates } from "../pretend/expired.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import type { pretendNode } from "../pretend/node.ts";
import { nodeHere } from "../pretend/typed-here.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

type Node = Awaited<ReturnType<typeof pretendNode>>;

const PKI = "/etc/kubernetes/pki";
const BY_HAND = ["api.public.example", "127.0.0.1", "203.0.113.7"];
const YEARS_AGO = new Date(Date.now() - 2 * 366 * 24 * 3600_000);

/** A second control plane node, with a name and two addresses of its own. */
const M2 = { type: "InternalIP", address: "127.77.0.12" };
const withM2 = (objects: Objects) => {
  objects["minions/m2"] = {
    ...{ apiVersion: "v1", kind: "Node" },
    metadata: { name: "m2", uid: "uid-of-m2", labels: { "node-role.kubernetes.io/control-plane": "" } },
    status: { addresses: [M2, { type: "Hostname", address: "m2.example" }] },
  };
};

const namesOf = (pem: string) => Object.values(certInfo(pem).sans).flat();

/** Writes an API server's certificate of these facts, signed by the cluster's CA. */
async function writeServed(
  root: string,
  facts: Partial<ClusterFacts>,
  { now = new Date(), ca = own(root) } = {},
) {
  const pair = await issueLeaf(certRow("apiserver"), ca, { ...FACTS, ...facts }, { now });
  write(`${root}${PKI}/apiserver.crt`, pair.cert, 0o644);
  write(`${root}${PKI}/apiserver.key`, pair.key);
  return pair;
}

function own(root: string) {
  const [cert, key] = ["crt", "key"].map((end) => readFileSync(`${root}${PKI}/ca.${end}`, "utf8"));
  return { cert: cert!, key: key! };
}

/**
 * Part 1, then part 2 up to an API that answers with the certificate on disk. `between`: after part 1.
 * Returns part 2's words, and its names.
 */
async function repaired(node: Node, part1: string, between = () => {}) {
  const first = node.run(part1, { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.called("systemctl restart kubelet"), first]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  expect(await first).toMatchObject({ exitCode: 0 });
  between();
  const second = node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.written(SERVER), second]);
  using api = servePart2(node);
  api.objects.set("/api/v1/nodes/m2", { metadata: { name: "m2", uid: "uid-of-m2" } });
  const { exitCode, stderr } = await second;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return { names: namesOf(node.read(`${PKI}/apiserver.crt`)), stderr };
}

const SERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/** All certificates of a stopped node have expired; its API server's is of these facts. */
async function expired(facts: Partial<ClusterFacts>, ca?: Pair) {
  const node = await nodeHere({ kind: "healthy control plane node", containers: [], etcd: withM2 });
  await expireCertificates(node.root);
  await writeServed(node.root, facts, { now: YEARS_AGO, ...(ca && { ca }) });
  write(`${node.env.FAKE}/stopped`, "");
  return node;
}

test("they stay where all certificates have expired, as with kubeadm certs renew; another control plane node's do not", async () => {
  using node = await expired({ certSANs: [...BY_HAND, "m2", "m2.example", M2.address] });
  const { names, stderr } = await repaired(node, "01-etcd");
  expect(names.filter((name) => BY_HAND.includes(name)).sort()).toEqual(BY_HAND.toSorted());
  expect(names).toEqual(expect.arrayContaining(["m1", "kubernetes", ADDRESS]));
  // its host name is only what its Node claims
  expect(names.filter((name) => ["m2", "m2.example", M2.address].includes(name))).toEqual(["m2.example"]);
  expect(stderr).toMatch(
    /apiserver\.crt .*for api\.public\.example, m2\.example, 127\.0\.0\.1, 203\.0\.113\.7, too, as before: kubeadm-config does not have/,
  );
});

test("they stay where the certificate is moved aside, or gone, before part 2 has made another", async () => {
  using node = await expired({ certSANs: BY_HAND });
  const { names } = await repaired(node, "01-etcd", () => rmSync(`${node.root}${PKI}/apiserver.crt`));
  expect(names).toEqual(expect.arrayContaining(BY_HAND));
});

test("they stay under a new CA", async () => {
  using node = await nodeHere({ kind: "healthy control plane node", containers: [] });
  await writeServed(node.root, { certSANs: BY_HAND });
  for (const file of ["ca.key", "etcd/ca.key", "front-proxy-ca.key", "sa.key"])
    rmSync(`${node.root}${PKI}/${file}`);
  rmSync(node.root + SERVER);
  const { names } = await repaired(node, "01-etcd --new-cas");
  expect(names).toEqual(expect.arrayContaining(BY_HAND));
});

test("names in a certificate of another CA than the cluster's are nobody's", async () => {
  using node = await expired({ certSANs: BY_HAND }, await otherCa());
  const { names } = await repaired(node, "01-etcd");
  expect(names.filter((name) => BY_HAND.includes(name))).toEqual([]);
});

test("a living API server still shows them where all of /etc/kubernetes is gone", async () => {
  using node = await nodeHere({ containers: ["etcd", "kube-apiserver"] });
  const tls = await issueLeaf(certRow("apiserver"), node.ca, { ...FACTS, certSANs: BY_HAND });
  const alive = pretendApi({ hostname: ADDRESS, port: 6443, tls });
  const { names } = await repaired(node, "01-etcd --new-cas", () => alive[Symbol.dispose]());
  expect(names).toEqual(expect.arrayContaining(BY_HAND));
});
