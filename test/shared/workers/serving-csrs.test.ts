/**
 * Which requests for a kubelet's serving certificate are approved: only for what is that node's own, whatever
 * its Node's status says.
 */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import { decide, isPending } from "../../../shared/workers/csr.ts";
import { servingObjection } from "../../../shared/workers/csr-rules.ts";
import { identities, RESERVED_RANGES } from "../../../shared/workers/identities.ts";
import { NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { type Asked, dns, ip, secondList, servingCsr } from "../../pretend/csrs.ts";

/** w1's kubelet has written into its Node's status all that it would like to be. */
const WISHES = {
  names: [
    ...[
      "lab-api",
      "LAB-API.",
      "kubernetes",
      "kubernetes.default",
      "kubernetes.default.svc",
      "KUBERNETES.Default.SVC.",
      "vault",
      "vault.prod",
    ],
    ...[
      "web.shop.svc.cluster.local",
      "localhost",
      "w2",
      "w2.",
      "cp1",
      "cp2.example",
      "api.public.example",
      "0x7f.1",
      "10.96.0.1",
      "shared.example",
    ],
    ...["*.example", "w-1.5"],
  ],
  ips: [
    ...[
      "10.0.0.100",
      "10.96.0.1",
      "fd00:10:96::1",
      "127.0.0.1",
      "::1",
      "169.254.169.254",
      "10.0.0.11",
      "::ffff:10.0.0.11",
      "10.0.0.12",
    ],
    ...["10.0.0.22", "203.0.113.7", "fd00::12", "0.0.0.0"],
  ],
};

const node = (
  name: string,
  {
    names = [name],
    ips = [],
    controlPlane = false,
  }: { names?: string[]; ips?: string[]; controlPlane?: boolean },
): KnownNode => ({ name, uid: name, controlPlane, claimed: { names, ips }, places: [] });

const NODES: KnownNode[] = [
  node("w1", {
    names: ["w1", "w1.example", "W1.Mixed.Example", ...WISHES.names],
    // what is no address, or one of a link, ends no run
    ips: ["10.0.0.21", "fd00:0:0:0::21", "fe80::1%eth0", "10.0.0", ...WISHES.ips],
  }),
  node("w2", { names: ["w2", "shared.example", "cp2.example"], ips: ["10.0.0.22"] }),
  node("cp1", {
    controlPlane: true,
    names: ["cp1", "cp1.example", "lab-api"],
    ips: ["10.0.0.11", "10.0.0.100"],
  }),
  node("cp2", { controlPlane: true, names: ["cp2", "cp2.example"], ips: ["10.0.0.12", "fd00::12"] }),
];

const KNOWN = {
  nodes: NODES,
  proved: new Map([
    ["cp1", ["10.0.0.11"]],
    ["cp2", ["10.0.0.12"]],
  ]),
  endpoints: ["lab-api"],
  apiNames: ["api.public.example", "203.0.113.7", "10.0.0.11", "cp1.example", "*.lb.example"],
  serviceSubnets: ["10.96.0.0/12", "fd00:10:96::/108"],
  dnsDomain: "cluster.local",
  services: ["vault.prod", "web.shop"],
  nobodys: RESERVED_RANGES,
};
const OWN = identities(KNOWN);

async function objectionTo(asked: Asked) {
  return servingObjection(await servingCsr(asked), OWN);
}

const as = (name: string, sans: Asked["sans"]): Asked => ({
  subject: `O=system:nodes, CN=system:node:${name}`,
  sans: sans ?? [],
  spec: { username: `system:node:${name}` },
});

test.each<[string, Asked]>([
  ["its address", {}],
  [
    "its names and addresses, IPv6 in another spelling",
    { sans: [dns("w1"), dns("w1.example"), ip("10.0.0.21"), ip("fd00::21")] },
  ],
  ["a name of a cloud's, in the spelling of its status", { sans: [dns("W1.Mixed.Example")] }],
  ["an ECDSA key's usages", { spec: { usages: ["digital signature", "server auth"] } }],
  ["a control plane node's address, which a worker claims, too", as("cp1", [dns("cp1"), ip("10.0.0.11")])],
  [
    "a control plane node's second address and name, which a worker claims, too",
    as("cp2", [ip("fd00::12"), dns("cp2.example")]),
  ],
  ["a control plane node's name that the API server's certificate has, too", as("cp1", [dns("cp1.example")])],
  ["a worker's address that another worker claims, which is not the other's alone", as("w2", [dns("w2")])],
])("a node that etcd knew may have a certificate for %s", async (_, asked) => {
  expect(await objectionTo(asked)).toBeUndefined();
});

const USAGES = ["digital signature", "key encipherment", "server auth"];

test.each<[string, Asked, string]>([
  [
    "a node that etcd did not know",
    { spec: { username: "system:node:w9" } },
    'etcd knew no node "system:node:w9"',
  ],
  [
    "somebody who is no node",
    { spec: { username: "kubernetes-admin" } },
    'etcd knew no node "kubernetes-admin"',
  ],
  ["a node's name without its prefix", { spec: { username: "w1" } }, 'etcd knew no node "w1"'],
  [
    "a requester outside of the nodes' group",
    { spec: { groups: ["system:authenticated"] } },
    "the requester is not in the group system:nodes",
  ],
  [
    "a client's usage",
    { spec: { usages: [...USAGES, "client auth"] } },
    `usages ${[...USAGES, "client auth"]}`,
  ],
  ["no server's usage", { spec: { usages: ["digital signature"] } }, "usages digital signature"],
  ["no usages at all", { spec: { usages: [] } }, "usages "],
  [
    "another node's name as CN",
    { subject: "O=system:nodes, CN=system:node:w2" },
    'common name "system:node:w2"',
  ],
  ["two CNs", { subject: "O=system:nodes, CN=system:node:w1, CN=x" }, 'common name "system:node:w1,x"'],
  ["another group as O", { subject: "O=system:masters, CN=system:node:w1" }, 'organisation "system:masters"'],
  [
    "a second group as O",
    { subject: "O=system:nodes, O=system:masters, CN=system:node:w1" },
    'organisation "system:nodes,system:masters"',
  ],
  ["another field in its subject", { subject: "O=system:nodes, OU=x, CN=system:node:w1" }, 'subject "OU=x"'],
  ["no names", { sans: [] }, "it names no address"],
  [
    "a name that is not the node's",
    { sans: [ip("10.0.0.21"), dns("api.example")] },
    'dns "api.example" does not belong to w1',
  ],
  ["a mail address", { sans: [{ type: "email", value: "w1" }] }, 'email "w1" does not belong to w1'],
  [
    "a URL",
    { sans: [ip("10.0.0.21"), { type: "url", value: "https://w1" }] },
    'url "https://w1" does not belong to w1',
  ],
  [
    "a second list of names, which only the API server would see",
    { more: [secondList([ip("10.0.0.11")])] },
    "the request cannot be read",
  ],
])("a CSR is not approved that has %s", async (_, asked, reason) => {
  expect(await objectionTo(asked)).toStartWith(reason);
});

/** All of it stands in w1's status. */
test.each<[string, { type: "dns" | "ip"; value: string }, string]>([
  ["the endpoint's name", dns("lab-api"), "is the API's endpoint"],
  ["the endpoint's name in capitals, with a dot", dns("LAB-API."), "is the API's endpoint"],
  ["another node's name", dns("w2"), "belongs to w2"],
  ["another node's name with a dot", dns("w2."), "belongs to w2"],
  ["a control plane node's name", dns("cp1"), "belongs to cp1"],
  ["a name that a control plane node has, too", dns("cp2.example"), "belongs to cp2"],
  ["a control plane node's address", ip("10.0.0.11"), "belongs to cp1"],
  ["a control plane node's address, IPv4 in IPv6", ip("::ffff:a00:b"), "belongs to cp1"],
  ["a control plane node's second address", ip("fd00::12"), "belongs to cp2"],
  ["an address that another worker has, too", ip("10.0.0.22"), "is claimed by w1 and w2"],
  ["a name that another worker has, too", dns("shared.example"), "is claimed by w1 and w2"],
  ["the API's own Service IP", ip("10.96.0.1"), "belongs to a Service"],
  ["a Service IP as a name", dns("10.96.0.1"), "belongs to a Service"],
  ["a Service IP, IPv6", ip("fd00:10:96::1"), "belongs to a Service"],
  ["kubernetes", dns("kubernetes"), "belongs to a Service"],
  ["kubernetes.default", dns("kubernetes.default"), "belongs to a Service"],
  ["kubernetes.default.svc", dns("kubernetes.default.svc"), "belongs to a Service"],
  ["kubernetes.default.svc in other letters", dns("KUBERNETES.Default.SVC."), "belongs to a Service"],
  ["a Service's name as pods of its namespace say it", dns("vault"), "belongs to a Service"],
  ["a Service's name as pods of other namespaces say it", dns("vault.prod"), "belongs to a Service"],
  ["a Service's whole name", dns("web.shop.svc.cluster.local"), "belongs to a Service"],
  ["localhost", dns("localhost"), "means the local machine"],
  ["loopback", ip("127.0.0.1"), "means the local machine"],
  ["loopback, IPv6", ip("::1"), "means the local machine"],
  ["loopback, as only browsers read it", dns("0x7f.1"), "means the local machine"],
  ["a cloud's metadata service", ip("169.254.169.254"), "means the local machine"],
  ["no address at all", ip("0.0.0.0"), "means the local machine"],
  ["a name of the API server's certificate", dns("api.public.example"), "is one of the API server's names"],
  ["an address of the API server's certificate", ip("203.0.113.7"), "is one of the API server's names"],
  ["a wildcard", dns("*.example"), "does not belong to w1"],
  ["what is neither a name nor an address", dns("w-1.5"), "does not belong to w1"],
])("w1's status says so, and yet w1 gets no certificate for %s", async (_, san, reason) => {
  expect(await objectionTo({ sans: [ip("10.0.0.21"), san] })).toStartWith(
    `${san.type} "${san.value}" ${reason}`,
  );
});

test.each<[string, Asked, string]>([
  ["the endpoint's name", as("cp1", [dns("lab-api")]), 'dns "lab-api" is the API\'s endpoint'],
  [
    "an address that a worker claims, too, and no better source gives it",
    as("w2", [ip("10.0.0.22")]),
    'ip "10.0.0.22" is claimed by w1 and w2',
  ],
  ["another control plane node's address", as("cp1", [ip("10.0.0.12")]), 'ip "10.0.0.12" belongs to cp2'],
])("nor do others for %s", async (_, asked, reason) => {
  expect(await objectionTo(asked)).toStartWith(reason);
});

test.each([
  ["no request at all", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"],
  ["two requests", undefined],
])("a CSR that holds %s is not approved, and does not end the run", async (_, text) => {
  const one = Buffer.from((await servingCsr()).spec.request, "base64").toString();
  const request = Buffer.from(text ?? `${one}\n${one}`).toString("base64");
  expect(await objectionTo({ spec: { request } })).toBe("the request cannot be read");
});

test("a request of a node that etcd did not know is not approved", async () => {
  const others = identities({ ...KNOWN, nodes: NODES.filter(({ name }) => name !== "w1") });
  expect(servingObjection(await servingCsr(), others)).toBe('etcd knew no node "system:node:w1"');
});

test("only requests that nobody has decided on are pending", async () => {
  const request = await servingCsr();
  expect(isPending(request)).toBe(true);
  expect(isPending({ ...request, status: {} })).toBe(true);
  expect(isPending({ ...request, status: { conditions: [{ type: "Denied" }] } })).toBe(false);
});

test("approving leaves the request as it was, and somebody who was faster is no error", async () => {
  const path = "/apis/certificates.k8s.io/v1/certificatesigningrequests/csr-1/approval";
  const request = await servingCsr();
  let code = 200;
  using api = pretendApi({ on: ({ body }) => (code === 200 ? Response.json(body) : status(code, "no")) });
  const client = new KubeApi({ server: api.url, ca: NO_TLS });
  expect(await decide(client, request, "Approved", "why")).toBe(true);
  expect(api.changes()).toEqual([`PUT ${path}`]);
  const { body } = api.requests[0]!;
  expect(body.spec).toEqual(request.spec);
  expect(body.status.conditions).toMatchObject([{ type: "Approved", status: "True", message: "why" }]);
  for (code of [409, 404]) expect(await decide(client, request, "Approved", "why")).toBe(false);
  code = 403;
  await expect(decide(client, request, "Approved", "why")).rejects.toThrow("no");
});
