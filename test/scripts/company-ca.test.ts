/**
 * The cluster's CAs are intermediate ones: the company's root has signed them, and ca.crt holds each alone.
 * Go's programs trust such a certificate by itself; OpenSSL wants the root as well, and that is on no node.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { KubeApi } from "../../shared/api/kube-api.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { askKubeletPort, KUBELET_PORT } from "../../shared/workers/node-status.ts";
import { pretendApi } from "../pretend/api.ts";
import { ADDRESS, clusterObjects, FACTS, healthyCp, otherCa } from "../pretend/cluster.ts";
import { giveToCompany, ofCompany } from "../pretend/company-ca.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { pretendNode } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const PATIENCE = { KUBE_PKI_REPAIR_PATIENCE: "1" };

test("parts 1 and 2 repair a cluster whose CAs a company has signed, and keep them", async () => {
  const { ca } = await healthyCp();
  const own = await ofCompany(ca.cert);
  using node = await pretendNode({
    kind: "healthy control plane node",
    containers: [],
    etcd: (objects) => Object.assign(objects, clusterObjects(own)),
  });
  await giveToCompany(node.root);
  const before = node.read("/etc/kubernetes/pki/ca.crt");
  const first = node.run("01-etcd", PATIENCE);
  await Promise.race([node.called("systemctl restart kubelet"), first]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const part1 = await first;
  expect({ part1 }).toMatchObject({ part1: { exitCode: 0 } });
  const second = node.run("02-control-plane", PATIENCE);
  using _api = servePart2(node);
  const part2 = await second;
  expect({ part2 }).toMatchObject({ part2: { exitCode: 0 } });
  expect(node.read("/etc/kubernetes/pki/ca.crt")).toBe(before);
});

/**
 * Whether the API's client and the one of kubelets' ports trust a server of the cluster's CA by this
 * certificate of it.
 */
async function trusts(caPem: string): Promise<[boolean, string]> {
  const { ca } = await healthyCp();
  const pair = await issueLeaf(certRow("apiserver"), ca, FACTS);
  using api = pretendApi({ hostname: ADDRESS, port: 6443, tls: pair });
  await using _kubelet = Bun.serve({
    hostname: ADDRESS,
    port: KUBELET_PORT,
    tls: pair,
    fetch: () => new Response(),
  });
  const ready = new KubeApi({ server: api.url, ca: caPem }).ready().catch(() => false);
  return [
    await ready,
    await askKubeletPort(
      { name: "m1", uid: "", controlPlane: true, claimed: { names: [], ips: [ADDRESS] }, places: [] },
      caPem,
    ),
  ];
}

test("each certificate of the bundle is trusted by itself, as by Go's programs; one that has expired is not, nor a stranger's", async () => {
  const { ca } = await healthyCp();
  expect(await trusts(await ofCompany(ca.cert))).toEqual([true, "serves"]);
  expect(await trusts((await otherCa()).cert + (await ofCompany(ca.cert)))).toEqual([true, "serves"]);
  expect(await trusts(await ofCompany(ca.cert, new Date(Date.now() - 1000)))).toEqual([false, "other"]);
  expect(await trusts(await ofCompany((await otherCa()).cert))).toEqual([false, "other"]);
});
