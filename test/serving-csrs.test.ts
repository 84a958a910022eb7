/** Which requests for a kubelet's serving certificate are approved: only those that ask for what etcd knew. */
import "reflect-metadata";
import { beforeAll, expect, test } from "bun:test";
import * as x509 from "@peculiar/x509";
import { KubeApi } from "../shared/api/kube-api.ts";
import type { KnownNode } from "../shared/cluster.ts";
import { approve, type Csr, isPending, nodeAsking, objection, SERVING_SIGNER } from "../shared/nodes/serving-csrs.ts";
import { pretendApi, status } from "./pretend-api.ts";

const NODES: KnownNode[] = [
  { name: "w1", uid: "1", controlPlane: false, names: ["w1", "w1.example"], ips: ["10.0.0.21", "fd00:0:0:0::21"] },
  { name: "w2", uid: "2", controlPlane: false, names: ["w2"], ips: ["10.0.0.22"] },
];

const USAGES = ["digital signature", "key encipherment", "server auth"];
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
let keys: CryptoKeyPair;
beforeAll(async () => {
  keys = (await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"])) as CryptoKeyPair;
});

interface Asked {
  subject?: string;
  sans?: x509.JsonGeneralNames;
  spec?: Partial<Csr["spec"]>;
}

/** A request as w1's kubelet makes it, with whatever a test wants different. */
async function csr({
  subject = "O=system:nodes, CN=system:node:w1",
  sans = [{ type: "ip", value: "10.0.0.21" }],
  spec = {},
}: Asked = {}): Promise<Csr> {
  const extensions = sans.length > 0 ? [new x509.SubjectAlternativeNameExtension(sans)] : [];
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ name: subject, keys, signingAlgorithm: ALGORITHM, extensions });
  return {
    metadata: { name: "csr-1" },
    spec: {
      request: Buffer.from(request.toString("pem")).toString("base64"),
      signerName: SERVING_SIGNER,
      username: "system:node:w1",
      groups: ["system:nodes", "system:authenticated"],
      usages: USAGES,
      ...spec,
    },
  };
}

/** As part 3 asks: with the node that the request names. */
function objectionTo(request: Csr) {
  return objection(
    request,
    NODES.find(({ name }) => name === nodeAsking(request)),
  );
}

const dns = (value: string) => ({ type: "dns" as const, value });
const ip = (value: string) => ({ type: "ip" as const, value });

test.each<[string, Asked]>([
  ["its address", {}],
  ["its names and addresses, IPv6 in another spelling", { sans: [dns("w1"), dns("w1.example"), ip("10.0.0.21"), ip("fd00::21")] }],
  ["an ECDSA key's usages", { spec: { usages: ["digital signature", "server auth"] } }],
])("a node that etcd knew may have a certificate for %s", async (_, asked) => {
  expect(objectionTo(await csr(asked))).toBeUndefined();
});

test.each<[string, Asked, string]>([
  ["a node that etcd did not know", { spec: { username: "system:node:w9" } }, '"system:node:w9" is no node that etcd knew'],
  ["somebody who is no node", { spec: { username: "kubernetes-admin" } }, '"kubernetes-admin" is no node that etcd knew'],
  [
    "a requester outside of the nodes' group",
    { spec: { groups: ["system:authenticated"] } },
    "the requester is not in the group system:nodes",
  ],
  ["a client's usage", { spec: { usages: [...USAGES, "client auth"] } }, `usages ${[...USAGES, "client auth"]}`],
  ["no server's usage", { spec: { usages: ["digital signature"] } }, "usages digital signature"],
  ["no usages at all", { spec: { usages: [] } }, "usages "],
  ["another node's name as CN", { subject: "O=system:nodes, CN=system:node:w2" }, 'common name "system:node:w2"'],
  ["two CNs", { subject: "O=system:nodes, CN=system:node:w1, CN=x" }, 'common name "system:node:w1,x"'],
  ["another group as O", { subject: "O=system:masters, CN=system:node:w1" }, 'organisation "system:masters"'],
  ["a second group as O", { subject: "O=system:nodes, O=system:masters, CN=system:node:w1" }, 'organisation "system:nodes,system:masters"'],
  ["no names", { sans: [] }, "it names no address"],
  ["a name that is not the node's", { sans: [ip("10.0.0.21"), dns("api.example")] }, 'dns "api.example" is not of w1'],
  ["another node's address", { sans: [ip("10.0.0.22")] }, 'ip "10.0.0.22" is not of w1'],
  ["an address in a DNS name", { sans: [dns("10.0.0.21")] }, 'dns "10.0.0.21" is not of w1'],
  ["a mail address", { sans: [{ type: "email", value: "w1" }] }, 'email "w1" is not of w1'],
  ["a URL", { sans: [ip("10.0.0.21"), { type: "url", value: "https://w1" }] }, 'url "https://w1" is not of w1'],
])("a request is left alone that has %s", async (_, asked, reason) => {
  expect(objectionTo(await csr(asked))).toStartWith(reason);
});

test("a request that is no request is left alone, and does not end the run", async () => {
  const request = Buffer.from("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n").toString("base64");
  expect(objectionTo(await csr({ spec: { request } }))).toBe("the request cannot be read");
});

test("a request is not judged by another node than the one that asks", async () => {
  expect(objection(await csr(), NODES[1])).toBe('"system:node:w1" is no node that etcd knew');
});

test("only requests that nobody has decided on are pending", async () => {
  const request = await csr();
  expect(isPending(request)).toBe(true);
  expect(isPending({ ...request, status: {} })).toBe(true);
  expect(isPending({ ...request, status: { conditions: [{ type: "Denied" }] } })).toBe(false);
});

test("approving leaves the request as it was, and somebody who was faster is no error", async () => {
  const path = "/apis/certificates.k8s.io/v1/certificatesigningrequests/csr-1/approval";
  const request = await csr();
  let code = 200;
  using api = pretendApi({ on: ({ body }) => (code === 200 ? Response.json(body) : status(code, "no")) });
  const client = new KubeApi({ server: api.url, ca: undefined });
  expect(await approve(client, request)).toBe(true);
  expect(api.changes()).toEqual([`PUT ${path}`]);
  const { body } = api.requests[0]!;
  expect(body.spec).toEqual(request.spec);
  expect(body.status.conditions).toMatchObject([{ type: "Approved", status: "True" }]);
  for (code of [409, 404]) expect(await approve(client, request)).toBe(false);
  code = 403;
  await expect(approve(client, request)).rejects.toThrow("no");
});
