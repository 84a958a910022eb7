/** What `close` does with each request for a serving certificate while nodes come back. */

import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { KubeObject } from "../../../shared/api/kube-object.ts";
import { renewed } from "../../../shared/api/leases.ts";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import { madeAt } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { decideAgain, followClients, followServing } from "../../../shared/workers/deciding.ts";
import { identities, prove } from "../../../shared/workers/identities.ts";
import { FORMER_SERVING } from "../../../shared/workers/token-file.ts";
import { type Return, setScene } from "../../../shared/workers/waiting-state.ts";
import { type ApiOptions, NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { asObjects, clientCsr, ip, servingCsr, TOKEN_USER } from "../../pretend/csrs.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const HOUR = 3_600_000;
const facts = testFacts();
const [ca, before] = [await issueCa(certRow("ca"), facts), await issueCa(certRow("ca"), facts)];
const MADE = madeAt(ca.cert).getTime();

const SHARED = "10.0.0.22";
/** w2 and w3 claim one address. */
const NODES: KnownNode[] = [
  ["w1", "10.0.0.21"],
  ["w2", SHARED],
  ["w3", SHARED],
].map(([name, address]) => ({
  name: name!,
  uid: name!,
  controlPlane: false,
  claimed: { names: [name!], ips: [address!] },
  places: [],
}));

interface Row {
  csr: KubeObject;
  /** The nodes that are waited for, and not back. */
  away?: readonly string[];
  objects?: Record<string, object>;
  options?: Partial<Return>;
  /** How often all requests are looked at. */
  looks?: number;
}

function knownNames() {
  const none = { proved: new Map(), apiNames: [], serviceSubnets: [], services: [], nobodys: [] };
  return identities({ ...none, nodes: NODES, dnsDomain: "cluster.local" });
}

async function decided({ csr, away = ["w1", "w2", "w3"], objects = {}, options = {}, looks = 1 }: Row) {
  using box = sandbox();
  using server = pretendApi({ objects: { ...asObjects(csr as never), ...objects } });
  const scene = setScene(
    {
      ...{ api: new KubeApi({ server: server.url, ca: NO_TLS }), expected: NODES, caPem: ca.cert },
      // this node's own certificate is an hour younger than the CA
      ...{ since: new Date(MADE + HOUR), serving: true, seconds: 0 },
      identities: knownNames(),
      ...options,
    },
    new Map(),
  );
  for (const { name } of NODES) if (!away.includes(name)) scene.away.delete(name);
  const refusals: unknown[] = [];
  for (let look = 0; look < looks; look++) {
    const ending = new AbortController();
    await followServing(scene, { signal: ending.signal, onListed: () => ending.abort() });
    refusals.push(scene.away.get("w1")?.refused);
  }
  return {
    scene,
    refusals,
    said: box.said,
    approved: server.changes().length,
    decisions: decisionsIn(server.requests),
  };
}

/** What was written to the approval of requests. */
function decisionsIn(requests: readonly { method: string; body?: unknown }[]): string[] {
  type Decided = { status: { conditions: { type: string }[] } };
  return requests
    .filter(({ method }) => method === "PUT")
    .flatMap(({ body }) => (body as Decided).status.conditions.map(({ type }) => type));
}

async function asking(name: string, address: string): Promise<KubeObject> {
  const subject = `O=system:nodes, CN=system:node:${name}`;
  return await servingCsr({ subject, sans: [ip(address)], spec: { username: `system:node:${name}` } });
}

test.each<[string, { asked: number; certificate?: string; counts: boolean }]>([
  [
    "between the CA's making and this node's own certificate: another node served it first",
    { asked: 0.5, certificate: "signed", counts: true },
  ],
  ["within the second in which the CA was made", { asked: 0, certificate: "signed", counts: true }],
  ["before the CA was made", { asked: -0.5, certificate: "signed", counts: false }],
  ["and is not signed yet", { asked: 0.5, counts: false }],
])("whether close counts a certificate as issued that was asked for %s", async (_, row) => {
  const { asked, certificate, counts } = row;
  const csr = await asking("w1", "10.0.0.21");
  csr.metadata.creationTimestamp = new Date(MADE + asked * HOUR).toISOString();
  const status = { conditions: [{ type: "Approved" }], ...(certificate ? { certificate } : {}) };
  const { scene } = await decided({ csr: { ...csr, status } as never });
  expect([scene.issued, scene.away.get("w1")!.issuedAt !== undefined]).toEqual([counts ? 1 : 0, counts]);
});

test("a certificate that was issued is asked for at its port at once, by all who wait for that node and no others", async () => {
  const status = { conditions: [{ type: "Approved" }], certificate: "signed" };
  const { scene } = await decided({
    csr: { ...(await asking("w1", "10.0.0.21")), status } as never,
    away: ["w2"],
  });
  expect([scene.issued, scene.away.get("w2")!.issuedAt]).toEqual([0, undefined]);
});

test("what is asked for is approved, and its node is asked for nothing more until the certificate is there", async () => {
  const { scene, approved } = await decided({ csr: await asking("w1", "10.0.0.21") });
  expect([approved, scene.approved, scene.away.get("w1")!.approved]).toEqual([1, 1, true]);
});

test("what is refused is told once, with why, and the node remembers it, and since when", async () => {
  const { scene, refusals, said, approved } = await decided({
    csr: await asking("w1", "10.0.0.99"),
    looks: 2,
  });
  expect(refusals[1]).toBe(refusals[0]);
  const why = 'ip "10.0.0.99" does not belong to w1, which had w1, 10.0.0.21';
  expect([approved, said, scene.away.get("w1")!.refused]).toMatchObject([
    0,
    [`csr-1: not approved: ${why}`],
    { csr: "csr-1", why },
  ]);
});

test.each<[string, Partial<Row>, number, string[]]>([
  [
    "a node that is back and serves gets no second one",
    { away: [] },
    0,
    ['csr-1: not approved: "w1" serves with a certificate of the cluster\'s CA already'],
  ],
  [
    "a node that is back, where nobody looks at ports, may ask",
    { away: [], options: { serving: false } },
    1,
    [],
  ],
  [
    "a node that nobody waits for is left out",
    { away: [], options: { expected: NODES.slice(1) } },
    0,
    ['csr-1: not approved: "w1" is left out: --without, --lost'],
  ],
  ["without knowledge of the names nothing is looked at", { options: { identities: undefined } }, 0, []],
])("%s", async (_, row, approved, lines) => {
  const end = await decided({ csr: await asking("w1", "10.0.0.21"), ...row });
  expect(end.approved).toBe(approved);
  expect(end.said.filter((line) => line.includes("not approved"))).toEqual(lines);
});

const MOVED = { moved: new Map([["10.0.0.11", "10.0.0.21"]]) };

test.each<[string, string, string, Partial<Return>, string[]]>([
  ["it has moved from", "w1", "10.0.0.11", MOVED, ["Denied"]],
  ["nobody is known to have moved from", "w1", "10.0.0.11", {}, []],
  ["another one has moved from", "w3", "10.0.0.11", MOVED, []],
  ["it is at now", "w1", "10.0.0.21", MOVED, ["Approved"]],
])(
  "asked for an address that %s: a kubelet waits for an answer, and then asks anew",
  async (_, name, address, options, decisions) => {
    const end = await decided({ csr: await asking(name, address), options });
    expect(end.decisions).toEqual(decisions);
    expect(end.scene.away.get(name)!.approved ?? false).toBe(decisions.includes("Approved"));
    const { said } = end;
    if (decisions.includes("Denied"))
      expect(said).toEqual([
        `denied csr-1: ip "10.0.0.11" does not belong to w1, which had w1, 10.0.0.21: its kubelet asks again, with its new address`,
      ]);
  },
);

/** w2 has left its serving certificate of before in its Node, as `join` does. */
async function left(by: Pair, cn = "system:node:w2", usages: readonly ("server" | "client")[] = ["server"]) {
  const row = { ...certRow("apiserver"), cn, usages, names: () => ({ dns: [], ips: [SHARED] }) };
  const { cert } = await issueLeaf(row as never, by, facts);
  return {
    "/api/v1/nodes/w2": { metadata: { annotations: { [FORMER_SERVING]: cert } } },
    "/api/v1/nodes/w3": {},
  };
}

const CAS = { casBefore: [before.cert] };
const CLAIMED = `ip "${SHARED}" is claimed by w2 and w3`;

test.each<[string, () => Promise<Partial<Row>>, string | undefined]>([
  [
    "and a certificate from before proves whose it was",
    async () => ({ objects: await left(before), options: CAS }),
    undefined,
  ],
  ["and nobody has one from before", async () => ({ options: CAS }), CLAIMED],
  ["and that certificate is of another CA", async () => ({ objects: await left(ca), options: CAS }), CLAIMED],
  [
    "and that certificate is another node's",
    async () => ({ objects: await left(before, "system:node:w3"), options: CAS }),
    CLAIMED,
  ],
  [
    "and that certificate is a client's",
    async () => ({ objects: await left(before, "system:node:w2", ["client"]), options: CAS }),
    CLAIMED,
  ],
  ["and the CAs from before are not known", async () => ({ objects: await left(before) }), CLAIMED],
])("two nodes claim one address, %s", async (_, row, why) => {
  const end = await decided({ csr: await asking("w2", SHARED), ...(await row()) });
  expect([end.approved, end.scene.away.get("w2")!.refused?.why]).toEqual([why ? 0 : 1, why]);
});

test("who was believed by an older certificate gives way to the one who shows a newer", async () => {
  const nodesByName = knownNames();
  prove(nodesByName, "w2", [SHARED], new Date(0));
  const [newer] = Object.values(await left(before, "system:node:w3"));
  const objects = { "/api/v1/nodes/w2": {}, "/api/v1/nodes/w3": newer! };
  const options = { ...CAS, identities: nodesByName };
  const end = await decided({ csr: await asking("w3", SHARED), objects, options });
  expect([end.approved, end.scene.away.get("w3")!.refused?.why]).toEqual([1, undefined]);
  const again = await decided({ csr: await asking("w2", SHARED), objects, options });
  expect([again.approved, again.scene.away.get("w2")!.refused?.why]).toEqual([
    0,
    `ip "${SHARED}" belongs to w3`,
  ]);
});

const SECRET = `/api/v1/namespaces/kube-system/secrets/bootstrap-token-${TOKEN_USER.split(":").at(-1)}`;
const APPROVED = { status: { conditions: [{ type: "Approved" }], certificate: "signed" } };
const soon = new Date(Date.now() + HOUR).toISOString();
const TOKEN = {
  type: "bootstrap.kubernetes.io/token",
  data: { description: btoa("kube-pki-repair: workers come back"), expiration: btoa(soon) },
};

interface Asking {
  /** Requests for a client certificate, each of w1; of the same key where `key` says so. */
  csrs?: { name: string; approved?: true; renewal?: true; as?: string }[];
  renewed?: () => Date;
  /** How long ago the waiting began, in seconds. */
  began?: number;
  looks?: number;
  renewalBefore?: Return["renewalBefore"];
  token?: object | undefined;
  without?: string[];
  on?: ApiOptions["on"];
  /** While the API still answers; `changes`: what was approved so far. */
  meanwhile?: (scene: ReturnType<typeof setScene>, changes: () => readonly unknown[]) => Promise<unknown>;
}

/** One look at all requests for client certificates. */
async function given({
  csrs = [{ name: "a" }],
  renewed,
  began = 0,
  looks = 1,
  renewalBefore,
  meanwhile,
  on,
  ...row
}: Asking) {
  using box = sandbox();
  const token = "token" in row ? row.token : TOKEN;
  const objects = await Promise.all(
    csrs.map(async ({ name, approved, renewal, as = "w1" }) => {
      const spec = renewal ? { username: `system:node:${as}` } : {};
      const csr = await clientCsr({ subject: `O=system:nodes, CN=system:node:${as}`, name, spec });
      return asObjects({ ...csr, ...(approved ? APPROVED : {}) } as never);
    }),
  );
  using server = pretendApi({
    objects: Object.assign({}, ...objects, token ? { [SECRET]: token } : {}),
    ...(on ? { on } : {}),
  });
  const nodesByName = new Map(NODES.map((node) => [node.name, node]));
  const scene = setScene(
    {
      ...{ api: new KubeApi({ server: server.url, ca: NO_TLS }), expected: NODES, caPem: ca.cert },
      ...{ since: new Date(MADE), serving: false, seconds: 0, ...(renewalBefore ? { renewalBefore } : {}) },
      joining: {
        ...{ tokenUsers: new Map([[TOKEN_USER, ""]]), nodesByName, without: row.without ?? [] },
        ...{ renewing: new Set<string>(), given: new Map<string, string>() },
      },
    },
    new Map(renewed ? [["w1", renewed()]] : []),
  );
  scene.began -= began * 1000;
  for (let look = 0; look < looks; look++) {
    const ending = new AbortController();
    await followClients(scene, { signal: ending.signal, onListed: () => ending.abort() });
  }
  await meanwhile?.(scene, server.changes);
  return { scene, said: box.said, approved: server.changes() };
}

const LATER = new Date(Date.now() + HOUR);
const now = () => new Date();
const later = () => LATER;

test.each<[string, Asking, { approved?: number; undecided?: number; said?: string[] }]>([
  ["a worker asks with the kit's token", {}, { approved: 1, said: ["approved a for w1"] }],
  ["a kubelet renews its own certificate", { csrs: [{ name: "a", renewal: true }] }, {}],
  [
    "a worker that is left out",
    { without: ["w1"] },
    { said: ['a: not approved: "w1" is left out: --without, --lost'] },
  ],
  [
    "the token is gone meanwhile",
    { token: undefined },
    { said: [`a: not approved: the token of "${TOKEN_USER}" is no longer valid`] },
  ],
  ["its Lease was renewed since the CA was made", { renewed: now }, { undecided: 1 }],
  ["that was before the CA was made", { renewed: () => new Date(MADE - HOUR) }, { approved: 1 }],
  ["nobody has renewed it for a while", { renewed: now, began: 3600 }, { approved: 1 }],
  [
    "its kubelet is set to renew it less often",
    {
      renewed: () => {
        const spec = { renewTime: new Date().toISOString(), leaseDurationSeconds: 300 };
        return renewed({ metadata: { name: "w1" }, spec });
      },
      began: 60,
    },
    { undecided: 1 },
  ],
  ["it is the renewal from before the repair", { renewed: later, renewalBefore: later }, { approved: 1 }],
  [
    "it was renewed since the repair began",
    { renewed: now, renewalBefore: () => new Date(MADE) },
    { undecided: 1 },
  ],
  ["no Lease is there, and one was", { renewalBefore: () => new Date(MADE) }, { approved: 1 }],
])("a client certificate: %s", async (_, asking, { approved = 0, undecided = 0, said }) => {
  const end = await given(asking);
  expect([end.approved.length, end.scene.undecided.size]).toEqual([approved, undecided]);
  if (said) expect(end.said).toEqual(said);
});

test("a second request in the same name is told once, and not approved; the first one may ask again", async () => {
  const end = await given({ csrs: [{ name: "a" }, { name: "b" }], looks: 2 });
  const [first] = end.approved;
  expect(end.approved).toEqual([first!]);
  expect(end.scene.doubles.size).toBe(1);
  expect(end.said.filter((line) => line.includes("kubectl get csr"))).toHaveLength(1);
});

test("a request that somebody else wrote to while it was approved is approved when it is seen again: it is no second one", async () => {
  let first = true;
  const end = await given({
    looks: 2,
    on: ({ method }) => {
      if (method !== "PUT" || !first) return undefined;
      first = false;
      return status(409, "the object has been modified");
    },
  });
  expect([end.approved.length, end.scene.doubles.size, end.said]).toEqual([2, 0, ["approved a for w1"]]);
});

test("what another control plane node has approved counts, and a second one in that name does not", async () => {
  const end = await given({ csrs: [{ name: "a", approved: true }], looks: 2 });
  expect([end.approved, [...end.scene.joining!.given.values()]]).toEqual([[], ["a"]]);
  expect(end.scene.doubles.size).toBe(0);
  const two = await given({
    csrs: [
      { name: "a", approved: true },
      { name: "b", approved: true },
    ],
  });
  expect([two.approved, two.scene.doubles.size]).toEqual([[], 1]);
});

test("who waited for a sign of life is decided on again, and is approved", async () => {
  const end = await given({
    renewed: now,
    meanwhile: async (scene, changes) => {
      expect([scene.undecided.size, changes()]).toEqual([1, []]);
      scene.began -= HOUR;
      decideAgain(scene);
      await waitFor("its certificate to be approved", () => changes().length > 0, {
        seconds: 60,
        hint: "none",
      });
    },
  });
  expect([end.scene.undecided.size, end.approved.length]).toEqual([0, 1]);
});
