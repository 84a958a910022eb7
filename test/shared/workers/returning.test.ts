/**
 * `close` waits for nodes whose kubelets ask for serving certificates: who counts as back, what each port and
 * each request make of it, and what is said. Ports are on addresses of this machine's loopback.
 */
import { afterAll, expect, test } from "bun:test";
import { type LeftOut, NOBODY } from "../../../shared/again.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { failOf } from "../../../shared/fail.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { madeAt } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { mode } from "../../../shared/run.ts";
import { identities } from "../../../shared/workers/identities.ts";
import { approveJoining, waitForNodes, watchNodesReturn } from "../../../shared/workers/wait.ts";
import type { Return } from "../../../shared/workers/waiting-state.ts";
import { type ApiOptions, NO_TLS, pretendApi } from "../../pretend/api.ts";
import type { Objects } from "../../pretend/cluster.ts";
import { asObjects, dns, ip, servingCsr } from "../../pretend/csrs.ts";
import { testFacts } from "../../pretend/facts.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { at, servedKubelet } from "../../pretend/kubelet-ports.ts";
import { variablesHere } from "../../pretend/programs.ts";
import { LEASES, lease, living } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const facts = testFacts();
const ca = await issueCa(certRow("ca"), facts);
const own = await issueCa({ ...certRow("ca"), cn: "w4-ca@1700000000" }, facts);

/** w1 has a certificate of the CA, w2 one of another CA, w4 its own; nobody answers at w3's. */
const PORTS = [
  await servedKubelet(1, ca),
  await servedKubelet(2, await issueCa(certRow("ca"), facts)),
  await servedKubelet(4, own),
];
afterAll(() => Promise.all(PORTS.map((port) => port.stop(true))));

const node = (last: number, different: Partial<KnownNode> = {}): KnownNode => ({
  ...{
    name: `w${last}`,
    uid: `w${last}`,
    controlPlane: false,
    claimed: { names: [`w${last}`], ips: [at(last)] },
    places: [],
  },
  ...different,
});
const [W1, W2, W3, W4] = [node(1), node(2), node(3), node(4)] as const;

interface Row {
  nodes: readonly KnownNode[];
  /** Beside those that are waited for: known, and left out. */
  out?: readonly KnownNode[];
  objects?: Record<string, object>;
  /** No Lease of theirs is renewed. */
  silent?: readonly string[];
  options?: Partial<Return>;
  on?: ApiOptions["on"];
}

/** How the waiting ends, and what it says. */
async function returned({ nodes, out = [], objects = {}, silent = [], options = {}, on }: Row) {
  const leases = nodes
    .filter(({ name }) => !silent.includes(name))
    .map(({ name }) => [`${LEASES}/${name}`, lease(0)]);
  using server = pretendApi({
    objects: { ...Object.fromEntries(leases), ...objects },
    ...(on ? { on } : {}),
  });
  const known = { proved: new Map(), apiNames: [], serviceSubnets: [], services: [], nobodys: [] };
  const run = () =>
    waitForNodes({
      ...{ api: new KubeApi({ server: server.url, ca: NO_TLS }), expected: nodes, caPem: ca.cert },
      ...{ since: madeAt(ca.cert), serving: true, seconds: 30, refusedMs: 0 },
      identities: identities({ ...known, nodes: [...nodes, ...out], dnsDomain: "cluster.local" }),
      ...options,
    });
  let end: Partial<Awaited<ReturnType<typeof waitForNodes>>> = {};
  using box = sandbox();
  const failed = await failOf(async () => {
    end = await run();
  });
  return { ...end, failed: failed?.message, said: box.said, changes: server.changes() };
}

const BACK = "back, serves with a certificate of the cluster's CA";
const UNSERVED = "back, without a serving certificate of the CA";

test("a node whose port shows a certificate of the CA is back", async () => {
  const { back, said, failed } = await returned({ nodes: [W1] });
  expect([back, failed]).toEqual([1, undefined]);
  expect(said).toEqual([`w1: ${BACK}   1 / 1`]);
});

test("where no serving certificate is of the cluster's CA, a renewal of its Lease is enough", async () => {
  const { back, said } = await returned({ nodes: [W2], options: { serving: false } });
  expect([back, said]).toEqual([1, ["w2: back   1 / 1"]]);
});

test("while the token lasts, who renews its Lease is back", async () => {
  const options = { serving: false, whileTokenLasts: true } as const;
  const { back, failed } = await returned({ nodes: [W1], options, on: living(["w1"]) });
  expect([back, failed]).toEqual([1, undefined]);
});

test.each([
  ["one is left, it counts as late", [["system:bootstrap:abcdef", "w1"]], "1 of 1 nodes have not come back"],
  ["none is left, it is not waited for", [], undefined],
] as const)(
  "where a node does not renew its Lease, and of the kit's tokens %s",
  async (_, tokens, message) => {
    const joining = {
      ...{ tokenUsers: new Map(tokens), nodesByName: new Map(), without: [], renewing: new Set<string>() },
      given: new Map<string, string>(),
    };
    const options = { serving: false, whileTokenLasts: true, seconds: 0.1, joining } as const;
    const { away, failed } = await returned({ nodes: [W1], silent: ["w1"], options });
    expect([away, failed?.split(":")[0]]).toEqual([message ? undefined : ["w1"], message]);
  },
);

test.each<[string, Row, string[]]>([
  [
    "another certificate, and the kubelet asks for none",
    { nodes: [W2] },
    [`w2: ${UNSERVED}   1 / 1`, "w2: its port 10250 shows another certificate, and it asks for none"],
  ],
  [
    "nothing: a firewall",
    { nodes: [W3] },
    [
      "w3: back, but its port 10250 cannot be reached from here   1 / 1",
      "warning: port 10250 cannot be reached from here, so kubectl logs and exec may not work: w3",
    ],
  ],
  [
    "a certificate that the kubelet has signed itself",
    { nodes: [W4], options: { refusedMs: 60_000 } },
    [`w4: ${UNSERVED}   1 / 1`, "self-signed by the kubelet, so no CSR for a serving certificate comes: w4"],
  ],
])("a node counts as back, with a warning, whose port shows %s", async (_, row, lines) => {
  const { back, said, failed } = await returned(row);
  expect([back, failed]).toEqual([1, undefined]);
  expect(said).toEqual(expect.arrayContaining(lines));
});

test("a request for more than the node's own is not approved, is named once, and keeps nobody waiting", async () => {
  const csr = await servingCsr({
    name: "csr-bad",
    sans: [ip(at(2)), dns("w1")],
    subject: "O=system:nodes, CN=system:node:w2",
    spec: { username: "system:node:w2" },
  });
  const { refused, approved, said } = await returned({ nodes: [W2, W1], objects: asObjects(csr) });
  expect([refused, approved]).toEqual([["csr-bad"], 0]);
  expect(said.filter((line) => line.startsWith("csr-bad: not approved: "))).toEqual([
    'csr-bad: not approved: dns "w1" belongs to w1',
  ]);
  expect(said).toContain('w2: csr-bad: dns "w1" belongs to w1');
});

const asks = (name: string, sans: Parameters<typeof servingCsr>[0]) =>
  servingCsr({
    name: `csr-${name}`,
    subject: `O=system:nodes, CN=system:node:${name}`,
    spec: { username: `system:node:${name}` },
    ...sans,
  });

test("a good request is approved; until its certificate is there, the node is waited for, and then it counts with a warning", async () => {
  const isApproved = Promise.withResolvers<void>();
  const { approved, changes, said } = await returned({
    nodes: [W2],
    objects: asObjects(await asks("w2", { sans: [ip(at(2))] })),
    options: { seconds: 1 },
    // the time counts from when all Leases are read
    on: async ({ method, path }) => {
      if (method === "PUT") isApproved.resolve();
      if (path.startsWith(LEASES)) await isApproved.promise;
      return undefined;
    },
  });
  expect(approved).toBe(1);
  expect(changes).toEqual(["PUT /apis/certificates.k8s.io/v1/certificatesigningrequests/csr-w2/approval"]);
  expect(said).toContain("approved csr-w2 for system:node:w2");
  expect(said).toContain("w2: its request is approved, and its certificate is not there yet");
});

test.each<[string, Partial<Row> & { asking: string; last: number }, string]>([
  [
    "that is left out",
    { out: [W3], asking: "w3", last: 3 },
    'csr-w3: not approved: "w3" is left out: --without, --lost',
  ],
  [
    "that etcd never knew",
    { asking: "w9", last: 9 },
    'csr-w9: not approved: etcd knew no node "system:node:w9"',
  ],
])("the request of a node is not approved %s", async (_, { asking, last, ...row }, line) => {
  const objects = asObjects(await asks(asking, { sans: [ip(at(last))] }));
  const { approved, said } = await returned({ nodes: [W1], ...row, objects });
  expect([approved, said]).toEqual([0, expect.arrayContaining([line])]);
});

test("a node that does not renew its Lease is not back, whatever its port shows", async () => {
  const { failed, said } = await returned({ nodes: [W1], silent: ["w1"], options: { seconds: 0 } });
  expect([failed, said]).toEqual(["1 of 1 nodes have not come back: w1", []]);
});

/** A node without an address counts as serving. */
const MANY = Array.from({ length: 21 }, (_, i) =>
  node(i, { name: `n${i}`, claimed: { names: [], ips: [] } }),
);

test.each<[string, Partial<Return>, string]>([
  ["with what was asked for", {}, "21 of 21 nodes are back; serving CSRs: 0 approved, 0 issued"],
  ["where nobody asks for certificates", { serving: false }, "21 of 21 nodes are back"],
])("of many nodes one line says that they are back, %s", async (_, options, line) => {
  const { back, said } = await returned({ nodes: MANY, options });
  expect([back, said.at(-1)]).toEqual([21, line]);
  expect(said.filter((one) => one.startsWith("n"))).toEqual(
    said.filter((one) => one.startsWith("nodes back")),
  );
});

test("of many requests that are refused the first are told, and how many more there were", async () => {
  const csrs = await Promise.all(MANY.map((_, i) => asks("w1", { name: `csr-${i}`, sans: [ip(at(99))] })));
  const { refused, said } = await returned({
    nodes: [W1, W2],
    objects: asObjects(...csrs),
    options: { refusedMs: 1500 },
  });
  expect(refused).toHaveLength(21);
  expect(said.filter((line) => line.includes(": not approved: "))).toHaveLength(20);
  expect(said).toContain("1 more CSRs were not approved: kubectl get csr");
});

const TOKEN = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef";
const OURS = {
  type: "bootstrap.kubernetes.io/token",
  data: { description: btoa("kube-pki-repair: workers come back"), expiration: btoa("2999-01-01T00:00:00Z") },
};
const LATE = lease(4_000_000);

test.each<
  [
    what: string,
    out: LeftOut,
    objects: Record<string, object>,
    says: string,
    options?: { dryRun?: true; revoked?: true },
  ]
>([
  ["a dry run", NOBODY, {}, "would approve the client certificates of: w1, w2; each once", { dryRun: true }],
  [
    "a dry run without w2",
    { without: ["w2"], lost: [] },
    {},
    "certificates of: w1; each once",
    { dryRun: true },
  ],
  [
    "the token is revoked, and nobody is back",
    NOBODY,
    { [TOKEN]: OURS, [`${LEASES}/w1`]: LATE, [`${LEASES}/w2`]: LATE },
    "these nodes have not renewed their Lease: w1, w2",
    { revoked: true },
  ],
])(
  "approve, which waits for workers as long as their token lasts: %s",
  async (_, out, objects, says, { dryRun, revoked } = {}) => {
    await lookAt({ kind: "healthy control plane node" }, async (_, said) => {
      const cp = await controlPlaneToRepair(undefined);
      using _waits = variablesHere({ KUBE_PKI_REPAIR_PATIENCE: "0.1" });
      using server = pretendApi({
        objects,
        on: ({ path }, { objects }) => {
          if (revoked && path.includes("watch=true")) objects.delete(TOKEN);
          return undefined;
        },
      });
      mode.dryRun = dryRun ?? false;
      const fail = await failOf(() =>
        approveJoining(cp, new KubeApi({ server: server.url, ca: NO_TLS }), out),
      );
      mode.dryRun = false;
      expect([...said, ...(fail ? [fail.message] : [])].join("\n")).toContain(says);
    });
  },
);

test.each<[what: string, leases: () => Record<string, object>, waits: string]>([
  ["that is not back is joined by hand", () => ({ [`${LEASES}/w2`]: LATE }), "would wait for: m1, w1;"],
  ["that has never been seen, too", () => ({}), "would wait for: m1, w1;"],
  [
    "that came back by hand is like others",
    () => ({ [`${LEASES}/w2`]: lease(-1) }),
    "would wait for: m1, w1, w2;",
  ],
])("close waits for nodes of Linux; a Windows node %s", async (_, objects, waits) => {
  const etcd = (all: Objects) => {
    Object.assign((all["minions/w2"] as Manifest).metadata, { labels: { "kubernetes.io/os": "windows" } });
  };
  await lookAt({ kind: "healthy control plane node", etcd }, async (_, said) => {
    const cp = await controlPlaneToRepair(undefined);
    using server = pretendApi({ objects: objects() });
    mode.dryRun = true;
    await watchNodesReturn(cp, new KubeApi({ server: server.url, ca: NO_TLS }), { out: NOBODY, minutes: 1 });
    mode.dryRun = false;
    expect(said.join("\n")).toContain(waits);
  });
});
