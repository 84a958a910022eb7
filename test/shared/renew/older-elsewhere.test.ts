/** What of a cluster is looked at once a CA was renewed, and in the last year of one that was not. */
import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { found } from "../../../shared/checks/check.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { kubeletKubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { olderElsewhere } from "../../../shared/renew/older-elsewhere.ts";
import { CLIENT_SIGNER, SERVING_SIGNER } from "../../../shared/workers/csr.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { healthyCp, write } from "../../pretend/cluster.ts";
import { controlPlaneOf, NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { olderOf } from "../../pretend/renewed.ts";
import { knewCa } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { root, ca } = await healthyCp();
const older = await olderOf(root, "ca", 100);
const PKI = "/etc/kubernetes/pki";
const OWN = "/root/.kube/config";
const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

const csr = (node: string, signerName: string, pem?: string) => ({
  spec: { signerName, username: `system:node:${node}`, request: "" },
  status: pem ? { certificate: Buffer.from(pem).toString("base64") } : {},
});

interface Place {
  /** In ca.crt, and in etcd's data. */
  pem: string;
  /** In a rescue folder. */
  before?: string;
  objects?: Record<string, object>;
  now?: Date;
  /** The kubelet's certificate; of what else it is, nothing here depends. */
  client?: string;
  /** /root/.kube/config's CA. */
  kubeconfig?: string;
  /** Files that are named as readers already. */
  named?: string[];
}

async function look({ pem, before, objects = {}, now, client, kubeconfig, named }: Place) {
  using box = sandbox();
  write(`${box.dir}${PKI}/ca.crt`, pem);
  write(`${box.dir}${PKI}/ca.key`, ca.key);
  if (before) write(`${box.dir}/root/kube-pki-repair-20260101T000000/aside${PKI}/ca.crt`, before);
  if (kubeconfig) write(`${box.dir}${OWN}`, kubeletKubeconfig({ server: "https://a:6443", ca: kubeconfig }));
  if (client) write(`${box.dir}${NODE.kubelet.clientPem}`, client);
  const cp = controlPlaneOf(await pretendData(knewCa(pem)));
  using server = pretendApi({ objects });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const { rows, holders } = await olderElsewhere(cp, api, new Set(named), now);
  const asked = server.requests.map(({ path }) => path.replace(/\?.*/, ""));
  return {
    rows: rows.map(({ look, ...row }) => {
      const { id, result, detail } = found(row, look() as string);
      return `${id} ${result} ${detail.replaceAll(/\d{4}-\d\d-\d\d/g, "DATE")}`;
    }),
    holders,
    asked: [...new Set(asked)],
  };
}

test("a CA that nobody has renewed, years before its end: nothing is looked for, and nobody is asked", async () => {
  expect(await look({ pem: ca.cert })).toEqual({ rows: [], holders: [], asked: [] });
});

test("in its last year: whose certificates end with it, of its nodes those that are seen", async () => {
  const objects = {
    [`${CSRS}/a`]: csr("w1", CLIENT_SIGNER, older),
    [`${CSRS}/b`]: csr("w1", SERVING_SIGNER, older),
    [`${CSRS}/c`]: csr("w2", CLIENT_SIGNER),
    [`${CSRS}/d`]: csr("w2", SERVING_SIGNER, ca.cert),
  };
  const { rows } = await look({ pem: older, objects, client: older });
  expect(rows).toEqual([
    "expiry-kubelets warning on DATE all that are signed since DATE expire with the CA, in the same second; 2 of 3 nodes are seen: m1, w1",
  ]);
  expect((await look({ pem: older })).rows).toEqual([]);
});

test("renewed: what holds the one before is looked for, until that has expired", async () => {
  const objects = { "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt": { data: { "ca.crt": older } } };
  const { rows, holders } = await look({ pem: ca.cert, before: older, objects });
  expect(rows).toEqual([
    expect.stringMatching(
      /^ca-copies ok none in stored objects and files here; not seen from here: other nodes/,
    ),
    "pods-renewed ok all",
  ]);
  expect(holders).toEqual([]);
  const after = new Date(certInfo(older).notAfter.getTime() + 1000);
  expect((await look({ pem: ca.cert, before: older, now: after })).rows).toEqual([]);
});

test.each<[string, Partial<Place>, string[]]>([
  ["holds it", { kubeconfig: older }, [OWN]],
  ["holds it, and is named already", { kubeconfig: older, named: [OWN] }, []],
  ["holds today's", { kubeconfig: ca.cert }, []],
])("a kubeconfig that %s", async (_, place, names) => {
  const { holders } = await look({ pem: ca.cert, before: older, ...place });
  expect(holders).toEqual(names.map((name) => ({ kind: "file", name, until: certInfo(older).notAfter })));
});

test("what cannot be opened is said", async () => {
  using box = sandbox();
  write(`${box.dir}${PKI}/ca.crt`, ca.cert);
  write(`${box.dir}/root/kube-pki-repair-20260101T000000/aside${PKI}/ca.crt`, older);
  const data = await pretendData((objects) => {
    objects["secrets/shop/sealed"] = "k8s:enc:kms:v2:vault:sealed";
  });
  mkdirSync(`${box.dir}/home/ann/.kube/1/2/3/4/5`, { recursive: true });
  using server = pretendApi();
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const { rows } = await olderElsewhere(controlPlaneOf(data), api, new Set());
  expect(rows.map(({ look }) => look())[0]).toContain(
    "not seen from here: 1 encrypted object, /home/ann/.kube (more than 5 folders below each other), other nodes",
  );
});
