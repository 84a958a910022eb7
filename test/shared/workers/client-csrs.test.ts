/**
 * Which requests for a kubelet's client certificate, made with the token that is on every worker, are
 * approved: each worker's, once.
 */

import { expect, test } from "bun:test";
import { ANY_WORKER, openJoining, tokenUsers } from "../../../shared/api/bootstrap-tokens.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import { madeAt } from "../../../shared/pki/certificate.ts";
import { clientObjection, isRenewal, type Joining, sayDouble } from "../../../shared/workers/csr-rules.ts";
import { waitForNodes } from "../../../shared/workers/wait.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { otherCa } from "../../pretend/cluster.ts";
import { type Asked, asObjects, CLIENT, clientCsr, dns, secondList, TOKEN_USER } from "../../pretend/csrs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const ca = await otherCa();
const node = (name: string, controlPlane = false): [string, KnownNode] => [
  name,
  { name, uid: name, controlPlane, claimed: { names: [name], ips: [] }, places: [] },
];

function joining(): Joining {
  return {
    tokenUsers: new Map([[TOKEN_USER, ""]]),
    nodesByName: new Map([node("w1"), node("w2"), node("w3"), node("cp1", true)]),
    without: ["w3"],
    renewing: new Set(["w2"]),
    given: new Map(),
  };
}

const as = (name: string): Asked => ({ subject: `O=system:nodes, CN=system:node:${name}` });
const USAGES = ["digital signature", "client auth"];

test.each<[string, Asked]>([
  ["an ECDSA key", {}],
  ["an RSA key", { spec: { usages: ["key encipherment", ...USAGES] } }],
])("a worker that does not renew its Lease may have a certificate for %s", async (_, asked) => {
  expect(clientObjection(await clientCsr(asked), joining())).toBeUndefined();
});

test.each<[string, Asked, string]>([
  [
    "another token",
    { spec: { username: "system:bootstrap:zzzzzz" } },
    '"system:bootstrap:zzzzzz" does not use the token of open',
  ],
  [
    "a token of kubeadm's group",
    { spec: { groups: ["system:bootstrappers"] } },
    `"${TOKEN_USER}" does not use the token of open`,
  ],
  [
    "a worker's own certificate, in another's name",
    { ...as("w1"), spec: { username: "system:node:w2" } },
    '"system:node:w2" does not use',
  ],
  [
    "a name of a control plane node",
    as("cp1"),
    '"cp1" is a control plane node: part 2 gives it its certificate',
  ],
  ["a node that etcd never knew", as("w9"), 'etcd knew no node "w9"'],
  ["a node's name in capitals", as("W1"), 'etcd knew no node "W1"'],
  ["a node's name with a dot", as("w1."), 'etcd knew no node "w1."'],
  ["a name with an escape sequence", as("w1\u001b[2J"), 'etcd knew no node "w1\u001b[2J"'],
  ["a property of every object", as("constructor"), 'etcd knew no node "constructor"'],
  ["a node that is left out", as("w3"), '"w3" is left out: --without, --lost'],
  ["a node that renews its Lease", as("w2"), '"w2" renews its Lease: it has a certificate'],
  [
    "a user that is no node",
    { subject: "O=system:nodes, CN=kubernetes-admin" },
    'common name "kubernetes-admin"',
  ],
  [
    "administrators' group",
    { subject: "O=system:masters, CN=system:node:w1" },
    'organisation "system:masters"',
  ],
  [
    "a second group",
    { subject: "O=system:nodes, O=system:masters, CN=system:node:w1" },
    'organisation "system:nodes,system:masters"',
  ],
  ["no group", { subject: "CN=system:node:w1" }, 'organisation ""'],
  [
    "two common names",
    { subject: "O=system:nodes, CN=system:node:w1, CN=system:node:cp1" },
    'etcd knew no node "w1,system:node:cp1"',
  ],
  ["another field in its subject", { subject: "O=system:nodes, OU=x, CN=system:node:w1" }, 'subject "OU=x"'],
  [
    "a server's usage",
    { spec: { usages: [...USAGES, "server auth"] } },
    `usages ${[...USAGES, "server auth"]}`,
  ],
  ["a CA's usage", { spec: { usages: [...USAGES, "cert sign"] } }, `usages ${[...USAGES, "cert sign"]}`],
  ["no usage", { spec: { usages: [] } }, "usages "],
  ["a name for a server", { sans: [dns("w1")] }, 'it asks for the name "w1"'],
  [
    "a name in a second list",
    { more: [secondList([dns("lab-api")])], sans: [dns("w1")] },
    "the request cannot be read",
  ],
  ["no request", { spec: { request: Buffer.from("AAAA").toString("base64") } }, "the request cannot be read"],
])("a CSR is not approved that comes with %s", async (_, asked, reason) => {
  expect(clientObjection(await clientCsr(asked), joining())).toStartWith(reason);
});

test("once the token has expired nothing is approved", async () => {
  expect(clientObjection(await clientCsr(), { ...joining(), tokenUsers: new Map() })).toContain(
    "does not use the token of open",
  );
});

test("a kubelet that renews its own certificate is the cluster's business, and nobody else's renewal is", async () => {
  const spec = { signerName: CLIENT, username: "system:node:w1" };
  expect(isRenewal(await clientCsr({ spec }))).toBe(true);
  expect(isRenewal(await clientCsr({ ...as("cp1"), spec }))).toBe(false);
  expect(isRenewal(await clientCsr())).toBe(false);
});

test("the line to look at two requests is one, whatever they are called", async () => {
  const csr = await clientCsr({});
  csr.metadata.name = "--profile-output=shared-keys.age";
  expect(sayDouble(csr, "--profile=heap")).toContain(
    "(kubectl get csr -o yaml -- --profile=heap --profile-output=shared-keys.age)",
  );
});

test("a worker's own token is for its own name alone", async () => {
  const own = { ...joining(), tokenUsers: new Map([[TOKEN_USER, "w1"]]) };
  expect(clientObjection(await clientCsr(as("w1")), own)).toBeUndefined();
  const his = { ...joining(), renewing: new Set<string>(), tokenUsers: new Map([[TOKEN_USER, "w2"]]) };
  expect(clientObjection(await clientCsr(as("w1")), his)).toBe(
    'it asks for "w1" with the token of "w2": look at both nodes',
  );
});

/** All of them ask at once; returns how often the API was asked, and how often for all tokens. */
async function joinOf(names: readonly string[], tokensFor: readonly string[]) {
  using _box = sandbox();
  using server = pretendApi();
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const tokens = await openJoining(api, tokensFor);
  for (const name of names) {
    const id = (tokens.get(name) ?? tokens.get(ANY_WORKER))!.slice(0, 6);
    const csr = await clientCsr({
      ...as(name),
      name: `csr-${name}`,
      spec: { username: `system:bootstrap:${id}` },
    });
    for (const [path, object] of Object.entries(asObjects(csr))) server.objects.set(path, object);
  }
  const nodes = names.map((name) => node(name)[1]);
  const own = {
    tokenUsers: await tokenUsers(api),
    nodesByName: new Map(names.map((name) => node(name))),
    without: [],
    given: new Map<string, string>(),
  };
  const made = server.requests.length;
  const returned = waitForNodes({
    api,
    expected: nodes,
    caPem: ca.cert,
    since: madeAt(ca.cert),
    serving: false,
    seconds: 0,
    joining: { ...own, renewing: new Set() },
  });
  await expect(returned).rejects.toThrow(`${names.length} of ${names.length} nodes have not come back`);
  const asked = server.requests.slice(made).map(({ method, path }) => `${method} ${path}`);
  const count = (pattern: RegExp) => asked.filter((one) => pattern.test(one)).length;
  return {
    approved: count(/^PUT .*\/approval$/),
    tokens: count(/\/secrets\/bootstrap-token-/),
    lists: count(/\/secrets\?/),
  };
}

test("with a token for each of many workers the API is asked as often as with one token, and nobody reads all of them for one", async () => {
  const names = Array.from({ length: 100 }, (_, index) => `w${index}`);
  const [each, one] = [await joinOf(names, names), await joinOf(names, [ANY_WORKER])];
  expect(each).toMatchObject({ approved: 100, tokens: 100 });
  expect(one).toMatchObject({ approved: 100, tokens: 100 });
  // now and then, by the clock: on a slow machine some more
  expect(Math.max(each.lists, one.lists)).toBeLessThan(50);
});
