/**
 * 03-workers approve and close as whole scripts, against whoever owns a worker: he has the token, writes what
 * he likes into his Node's status, and asks for whatever he would like to be. Approved is what is his own,
 * once.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { parse, stringify } from "yaml";
import { KubeApi } from "../../shared/api/kube-api.ts";
import { failOf } from "../../shared/fail.ts";
import { madeAt } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { waitFor } from "../../shared/wait-for.ts";
import { identities } from "../../shared/workers/identities.ts";
import { waitForNodes } from "../../shared/workers/wait.ts";
import { NO_TLS, pretendApi } from "../pretend/api.ts";
import { ADDRESS, FACTS, healthyCp, type Objects, otherCa } from "../pretend/cluster.ts";
import { writeData } from "../pretend/control-plane-node.ts";
import { approved, asObjects, CSRS, clientCsr, dns, ip, servingCsr } from "../pretend/csrs.ts";
import { pretendNode } from "../pretend/node.ts";
import { knewCa, LEASES, lease, serveRunning } from "../pretend/running.ts";
import { sandbox } from "../pretend/sandbox.ts";
import { reissue } from "../pretend/unlike-edits.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const TOKEN = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef";
const [AGO, SOON] = ["2026-01-01T00:00:00Z", new Date(Date.now() + 3_600_000).toISOString()];

/** As `open` made it. */
const token = (expiration = SOON) => ({
  type: "bootstrap.kubernetes.io/token",
  data: { description: btoa("kube-pki-repair: workers come back"), expiration: btoa(expiration) },
});

/** What etcd held: w1's kubelet had written into its Node's status whatever its owner would like to be. */
function hostile(objects: Objects) {
  knewCa(before.cert)(objects);
  const named = (name: string) =>
    objects[`minions/${name}`] as { status: { addresses: { type: string; address: string }[] } };
  const names = [
    "lab-api",
    "kubernetes.default.svc",
    "localhost",
    "w2",
    "m1",
    "api.public.example",
    "api.by-hand.example",
    "w1.cloud.example",
  ];
  const ips = ["10.97.0.1", ADDRESS, "127.0.0.1", "10.0.0.22", "203.0.113.10", "10.0.0.21"];
  named("w1").status.addresses = [
    ...names.map((address) => ({ type: "ExternalDNS", address })),
    ...ips.map((address) => ({ type: "InternalIP", address })),
  ];
  named("w2").status.addresses = [{ type: "InternalIP", address: "10.0.0.22" }];
  Object.assign(objects["configmaps/kube-system/kubelet-config"]!, {
    data: { kubelet: "serverTLSBootstrap: true\n" },
  });
  const config = (
    objects["configmaps/kube-system/kubeadm-config"] as { data: { ClusterConfiguration: string } }
  ).data;
  const own = { controlPlaneEndpoint: "lab-api:6443", apiServer: { certSANs: ["api.public.example"] } };
  config.ClusterConfiguration = stringify({ ...parse(config.ClusterConfiguration), ...own });
}

/** A control plane node between part 2 and the end of part 3: only it renews its Lease. */
async function scene(objects: Record<string, object>, etcd = hostile) {
  const node = await pretendNode({ kind: "healthy control plane node", etcd });
  await reissue(node, "apiserver", {
    certSANs: ["api.public.example", "api.by-hand.example", "203.0.113.10"],
  });
  const silent = { [`${LEASES}/w1`]: lease(4000), [`${LEASES}/w2`]: lease(4000) };
  const api = serveRunning(node, { objects: { ...silent, [TOKEN]: token(), ...objects } });
  const approvals = () =>
    api
      .changes()
      .flatMap((change) =>
        change.endsWith("/approval") ? [decodeURIComponent(change.slice(`PUT ${CSRS}/`.length, -9))] : [],
      );
  const renewLease = (name: string) =>
    api.objects.set(`${LEASES}/${name}`, { metadata: { name }, ...lease(-1) });
  return Object.assign(node, { api, approvals, renewLease });
}

/** Asks again and again, as tests do not wait for time. */
async function until(isSo: () => boolean) {
  await waitFor("the script", isSo, { seconds: 250, hint: "see what it printed until then" });
}

const as = (name: string) => `O=system:nodes, CN=system:node:${name}`;

test("03-workers approve gives each worker one certificate, and nobody else any", async () => {
  const csrs = [
    await clientCsr({ name: "a-cp", subject: as("m1") }),
    await clientCsr({ name: "b-masters", subject: "O=system:masters, CN=system:node:w1" }),
    await clientCsr({ name: "c-never", subject: as("w9") }),
    await clientCsr({ name: "d-server", sans: [dns("w1")] }),
    await clientCsr({ name: "e-other-token", spec: { username: "system:bootstrap:zzzzzz" } }),
    await clientCsr({
      name: "f-escape",
      subject: [{ O: ["system:nodes"] }, { CN: ["system:node:w1\u001b[2J\u009b31m\n  w1: back"] }],
    }),
    await clientCsr({ name: "g-w1", subject: as("w1") }),
    await clientCsr({ name: "h-w1-again", subject: as("w1") }),
    await clientCsr({ name: "i-w2", subject: as("w2") }),
  ];
  using node = await scene(asObjects(...csrs));
  using _api = node.api;
  const running = node.run("03-workers approve", WAITS);
  await until(() => node.approvals().length >= 2);
  node.renewLease("w1");
  node.renewLease("w2");
  const { exitCode, stderr } = await running;
  expect({ exitCode, approvals: node.approvals().sort() }).toEqual({
    exitCode: 0,
    approvals: ["g-w1", "i-w2"],
  });
  for (const obeyed of ["\u001b", "\u009b"]) expect(stderr).not.toContain(obeyed);
  for (const line of [
    'a-cp: not approved: "m1" is a control plane node: part 2 gives it its certificate',
    'b-masters: not approved: organisation "system:masters"',
    'c-never: not approved: etcd knew no node "w9"',
    'd-server: not approved: it asks for the name "w1"',
    'e-other-token: not approved: "system:bootstrap:zzzzzz" does not use the token of open',
    'f-escape: not approved: etcd knew no node "w1\\u001b[2J\\u009b31m\\n  w1: back"',
    "approved g-w1 for w1",
    'WARNING: h-w1-again: not approved: it asks for "w1", and so did g-w1, which was approved.',
    "approved i-w2 for w2",
  ])
    expect(stderr.split("\n").filter((said) => said.startsWith(`  ${line}`))).toHaveLength(1);
});

test("03-workers approve approves a CSR by its whole name, which the API lets a worker choose as it likes", async () => {
  const csrs = [
    await clientCsr({ name: "a?dry#run", subject: as("w1") }),
    await clientCsr({ name: "b\\..\\c d\nnext: x", subject: as("w2") }),
  ];
  using node = await scene(asObjects(...csrs));
  using _api = node.api;
  const running = node.run("03-workers approve", WAITS);
  await Promise.race([running, until(() => node.approvals().length >= 2)]);
  node.renewLease("w1");
  node.renewLease("w2");
  const { exitCode, stderr } = await running;
  const approvals = csrs.map(({ metadata }) => metadata.name);
  expect({ exitCode, approvals: node.approvals().sort() }).toEqual({ exitCode: 0, approvals });
  expect(stderr).toContain("  approved b\\..\\c d\\nnext: x for w2\n");
});

test("03-workers approve waits for a node that renewed its Lease a moment ago, and gives it nothing when it renews again", async () => {
  const csrs = [
    await clientCsr({ name: "a-w1", subject: as("w1") }),
    await clientCsr({ name: "b-w2", subject: as("w2") }),
  ];
  using node = await scene({ ...asObjects(...csrs), [`${LEASES}/w1`]: lease(0) });
  using _api = node.api;
  const running = node.run("03-workers approve", WAITS);
  await until(() => node.approvals().length >= 1);
  node.renewLease("w1");
  node.renewLease("w2");
  const { exitCode, stderr } = await running;
  expect({ exitCode, approvals: node.approvals() }).toEqual({ exitCode: 0, approvals: ["b-w2"] });
  expect(stderr).toContain('a-w1: not approved: "w1" renews its Lease: it has a certificate');
});

test.each([
  ["goes on", 0],
  ["has ended but for the nodes", 3],
])(
  "03-workers approve waits also for a node whose clock is late, by its Lease from before the repair, which %s",
  async (_, more) => {
    const csrs = [
      await clientCsr({ name: "a-w1", subject: as("w1") }),
      await clientCsr({ name: "b-w2", subject: as("w2") }),
    ];
    const [then, since] = [lease(7200), lease(3600)];
    let stored: Objects = {};
    using node = await scene(
      { ...asObjects(...csrs), [`${LEASES}/w1`]: since, [`${LEASES}/w2`]: then },
      (objects) => {
        hostile(objects);
        stored = objects;
        for (const name of ["w1", "w2"]) {
          const metadata = { name, namespace: "kube-node-lease" };
          objects[`leases/kube-node-lease/${name}`] = {
            apiVersion: "coordination.k8s.io/v1",
            kind: "Lease",
            metadata,
            ...then,
          };
        }
      },
    );
    using _api = node.api;
    knewCa(node.ca.cert)(stored);
    for (const [dir, puts] of [
      ["/root/kube-pki-repair-20260101T000000/etcd", 0],
      ["/var/lib/etcd", more],
    ] as const) {
      rmSync(node.root + dir, { recursive: true, force: true });
      writeData(node.root + dir, stored, { more: puts });
    }
    const running = node.run("03-workers approve", WAITS);
    await until(() => node.approvals().length >= 1);
    // long before the time is over in which a living w1 would renew
    node.api.objects.delete(TOKEN);
    expect(await running).toMatchObject({ exitCode: 0 });
    expect(node.approvals()).toEqual(["b-w2"]);
  },
);

test("03-workers approve ends when the token is revoked, and names who has not joined", async () => {
  using node = await scene({});
  using api = node.api;
  const running = node.run("03-workers approve", WAITS);
  await until(() =>
    api.requests.some(({ path }) => path.includes("client-kubelet") && path.includes("watch=true")),
  );
  api.objects.delete(TOKEN);
  api.objects.set(`${CSRS}/late`, await clientCsr({ name: "late", subject: as("w1") }));
  const { exitCode, stderr } = await running;
  expect({ exitCode, approvals: node.approvals() }).toEqual({ exitCode: 0, approvals: [] });
  expect(stderr).toContain(
    "the token is no longer valid, and these nodes have not renewed their Lease: w1, w2. open makes a new token",
  );
});

test("03-workers approve gives a node nothing that is left out, or has been given a certificate before it began", async () => {
  const given = approved(await clientCsr({ name: "a-w1", subject: as("w1") }));
  const csrs = [
    given,
    await clientCsr({ name: "b-w1-again", subject: as("w1") }),
    await clientCsr({ name: "c-w2", subject: as("w2") }),
  ];
  using node = await scene(asObjects(...csrs));
  using _api = node.api;
  const running = node.run("03-workers approve --without w2", WAITS);
  await until(() =>
    node.api.requests.some(({ path }) => path.includes("watch=true") && path.includes("client-kubelet")),
  );
  node.renewLease("w1");
  const { exitCode, stderr } = await running;
  expect({ exitCode, approvals: node.approvals() }).toEqual({ exitCode: 0, approvals: [] });
  expect(stderr).toContain('WARNING: b-w1-again: not approved: it asks for "w1", and so did a-w1');
  expect(stderr).toContain('c-w2: not approved: "w2" is left out: --without, --lost');
});

test("03-workers approve ends well when systemd stops it", async () => {
  using node = await scene({});
  using api = node.api;
  const env = {
    ...WAITS,
    ...node.env,
    PWD: "/root",
    KUBE_PKI_REPAIR_ROOT: node.root,
  };
  const child = Bun.spawn([process.execPath, "scripts/03-workers.ts", "approve"], {
    cwd: `${import.meta.dir}/../..`,
    env,
    stderr: "pipe",
  });
  await until(() =>
    api.requests.some(({ path }) => path.includes("client-kubelet") && path.includes("watch=true")),
  );
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
  expect(await new Response(child.stderr).text()).toEndWith("\nstopped: from now on nothing is approved\n");
});

test("03-workers approve does not begin without a token that is valid", async () => {
  using node = await scene({ ...asObjects(await clientCsr()), [TOKEN]: token(AGO) });
  using _api = node.api;
  const { exitCode, stderr } = await node.run("03-workers approve", WAITS);
  expect(exitCode).toBe(1);
  expect(stderr).toEndWith(
    "\nerror: There is no token of this kit\nhint: ./bunw scripts/03-workers.ts open makes one\n",
  );
  expect(node.approvals()).toEqual([]);
});

test("03-workers approve --dry-run approves nothing", async () => {
  using node = await scene(asObjects(await clientCsr()));
  using _api = node.api;
  const { exitCode, stderr } = await node.run("03-workers approve --dry-run", WAITS);
  expect(exitCode).toBe(0);
  expect(stderr).toContain("  would approve the client certificates of: w1, w2; each once\n");
  expect(node.api.changes()).toEqual([]);
});

test("03-workers open says what to do where systemd-run does not work, with the token made and the line for the workers printed", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    etcd: hostile,
    commands: [{ command: "systemd-run *", stderr: "no bus", exit: 1 }],
  });
  using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  const { exitCode, stdout, stderr } = await node.run("03-workers open --without w2");
  expect(exitCode).toBe(1);
  expect(stdout).toStartWith("./bunw scripts/03-join.ts --server https://lab-api:6443 ");
  expect(stderr).toContain(
    "error: systemd-run exited 1: no bus\nhint: run this in a second window on this node, until all workers have joined: ",
  );
  expect(stderr).toEndWith(
    ": ./bunw scripts/03-workers.ts approve --without w2. The token is made, but nothing approves the certificates of workers yet\n",
  );
});

test("03-workers approve gives nobody a certificate in another worker's name, with the token of his own", async () => {
  const of = (node: string) => ({
    ...token(),
    data: { ...token().data, description: btoa(`kube-pki-repair: ${node} comes back`) },
  });
  const tokens = { [TOKEN]: of("w1"), [TOKEN.replace("abcdef", "ghijkl")]: of("w2") };
  const csrs = [
    await clientCsr({ name: "a-w2-by-w1", subject: as("w2") }),
    await clientCsr({ name: "b-w2", subject: as("w2"), spec: { username: "system:bootstrap:ghijkl" } }),
    await clientCsr({ name: "c-w1", subject: as("w1") }),
  ];
  using node = await scene({ ...tokens, ...asObjects(...csrs) });
  using _api = node.api;
  const running = node.run("03-workers approve", WAITS);
  await until(() => node.approvals().length >= 2);
  for (const name of ["w1", "w2"]) node.renewLease(name);
  const { exitCode, stderr } = await running;
  expect({ exitCode, approvals: node.approvals().sort() }).toEqual({
    exitCode: 0,
    approvals: ["b-w2", "c-w1"],
  });
  expect(stderr).toContain(
    'a-w2-by-w1: not approved: it asks for "w2" with the token of "w1": look at both nodes',
  );
});

test("03-workers close approves of a worker's serving certificate what is its own, whatever its Node's status says", async () => {
  const wishes = {
    endpoint: dns("lab-api"),
    service: dns("kubernetes.default.svc"),
    "service-ip": ip("10.97.0.1"),
    localhost: dns("localhost"),
    loopback: ip("127.0.0.1"),
    "other-node": dns("w2"),
    "other-ip": ip("10.0.0.22"),
    "cp-name": dns("m1"),
    "cp-ip": ip(ADDRESS),
    "cert-san": dns("api.public.example"),
    "by-hand": dns("api.by-hand.example"),
    "by-hand-ip": ip("203.0.113.10"),
  };
  const csrs = await Promise.all(
    Object.entries(wishes).map(([name, san]) => servingCsr({ name, sans: [ip("10.0.0.21"), san] })),
  );
  const own = await servingCsr({ name: "own", sans: [dns("w1"), dns("w1.cloud.example"), ip("10.0.0.21")] });
  const left = await servingCsr({
    name: "left-out",
    subject: as("w2"),
    sans: [dns("w2")],
    spec: { username: "system:node:w2" },
  });
  const client = await clientCsr({ name: "client-w1", subject: as("w1") });
  using node = await scene(asObjects(...csrs, own, left, client));
  using _api = node.api;
  const running = node.run("03-workers close --without w2 --wait 0.1", WAITS);
  await until(() => node.approvals().length >= 2);
  const { stderr } = await running;
  expect(node.approvals().sort()).toEqual(["client-w1", "own"]);
  for (const name of Object.keys(wishes))
    expect(stderr).toContain(`${name}: not approved: ${wishes[name as keyof typeof wishes].type} "`);
  expect(stderr).toContain('left-out: not approved: "w2" is left out: --without, --lost');
  expect(stderr).toContain(
    "If you know that one is right: kubectl certificate approve CSR\n  If one of them cannot come now: ",
  );
});

test("a node whose address another one claims is not waited for without end: it counts as back, and the output says what to look at", async () => {
  const node = (name: string, ...ips: string[]) => ({
    name,
    uid: name,
    controlPlane: false,
    claimed: { names: [name], ips },
    places: [],
  });
  // nobody answers at these ports; the liar claims the honest one's address
  const [honest, liar] = [node("w2", "127.77.0.22"), node("w1", "127.77.0.21", "127.77.0.22")];
  const known = {
    proved: new Map(),
    apiNames: [],
    serviceSubnets: [],
    dnsDomain: "cluster.local",
    services: [],
    nobodys: [],
  };
  const spec = { username: "system:node:w2" };
  const csr = await servingCsr({
    name: "csr-w2",
    subject: as("w2"),
    sans: [dns("w2"), ip("127.77.0.22")],
    spec,
  });
  using api = pretendApi({ objects: { ...asObjects(csr), [`${LEASES}/w2`]: lease(-1) } });
  using box = sandbox();
  const returned = await waitForNodes({
    api: new KubeApi({ server: api.url, ca: NO_TLS }),
    ...{
      expected: [honest],
      caPem: before.cert,
      since: madeAt(before.cert),
      serving: true,
      seconds: 60,
      refusedMs: 100,
    },
    identities: identities({ ...known, nodes: [honest, liar] }),
  });
  expect({ returned, approvals: api.changes() }).toEqual({
    returned: { back: 1, away: [], approved: 0, refused: ["csr-w2"], unreachable: [] },
    approvals: [],
  });
  expect(box.said).toContain('w2: csr-w2: ip "127.77.0.22" is claimed by w2 and w1');
  expect(box.said.at(-1)).toContain("kubectl certificate approve CSR");
});

/** A kubelet's serving certificate from before, as `join` leaves it in the Node. */
async function nodeWith(name: string, ips: string[], cn = name) {
  const row = { ...certRow("apiserver"), cn: `system:node:${cn}`, names: () => ({ dns: [cn], ips }) };
  const { cert } = await issueLeaf(row, before, FACTS);
  return {
    [`/api/v1/nodes/${name}`]: {
      metadata: { name, annotations: { "kube-pki-repair/serving-certificate-before": cert } },
    },
  };
}

test.each<[string, object, string[]]>([
  ["the certificate that its kubelet had before has it", await nodeWith("w2", ["127.77.0.22"]), ["csr-w2"]],
  ["nobody had it in a certificate", await nodeWith("w2", ["127.77.0.29"]), []],
  ["another node's certificate from before has it", await nodeWith("w2", ["127.77.0.22"], "w1"), []],
  [
    "both had it",
    { ...(await nodeWith("w2", ["127.77.0.22"])), ...(await nodeWith("w1", ["127.77.0.22"])) },
    [],
  ],
])(
  "an address that a liar claims first is the honest node's, or nobody's: %s",
  async (_, nodes, approvals) => {
    const node = (name: string, ...ips: string[]) => ({
      name,
      uid: name,
      controlPlane: false,
      claimed: { names: [name], ips },
      places: [],
    });
    const [liar, honest] = [node("w1", "127.77.0.21", "127.77.0.22"), node("w2", "127.77.0.22")];
    const known = {
      proved: new Map(),
      apiNames: [],
      serviceSubnets: [],
      dnsDomain: "cluster.local",
      services: [],
      nobodys: [],
    };
    const ask = (name: string) =>
      servingCsr({
        name: `csr-${name}`,
        subject: as(name),
        sans: [dns(name), ip("127.77.0.22")],
        spec: { username: `system:node:${name}` },
      });
    using api = pretendApi({
      objects: { ...asObjects(await ask("w1"), await ask("w2")), [`${LEASES}/w2`]: lease(-1), ...nodes },
    });
    using _box = sandbox();
    await waitForNodes({
      api: new KubeApi({ server: api.url, ca: NO_TLS }),
      ...{ expected: [honest], caPem: before.cert, since: madeAt(before.cert), serving: false, seconds: 60 },
      identities: identities({ ...known, nodes: [liar, honest] }),
      casBefore: [before.cert],
    });
    expect(api.changes()).toEqual(approvals.map((name) => `PUT ${CSRS}/${name}/approval`));
  },
);

test("what is there when the waiting begins is looked at, and decided on, however little time there is", async () => {
  const node = (name: string, ip: string) => ({
    name,
    uid: name,
    controlPlane: false,
    claimed: { names: [name], ips: [ip] },
    places: [],
  });
  const nodes = [node("w1", "127.77.0.21"), node("w2", "127.77.0.22")];
  const known = {
    proved: new Map(),
    apiNames: [],
    serviceSubnets: [],
    dnsDomain: "cluster.local",
    services: [],
    nobodys: [],
  };
  const csr = await servingCsr({ name: "csr-w1", subject: as("w1"), sans: [dns("w1")] });
  using api = pretendApi({ objects: { ...asObjects(csr), [`${LEASES}/w2`]: lease(-1) } });
  using _box = sandbox();
  const returned = waitForNodes({
    api: new KubeApi({ server: api.url, ca: NO_TLS }),
    ...{ expected: nodes, caPem: before.cert, since: madeAt(before.cert), serving: false, seconds: 0 },
    identities: identities({ ...known, nodes }),
  });
  await expect(returned).rejects.toThrow("1 of 2 nodes have not come back: w1");
  expect(api.changes()).toEqual([`PUT ${CSRS}/csr-w1/approval`]);
});

test.each([
  ["before it trusted the new CA", 5, "1 of 1 nodes have not come back: w2"],
  ["since then", -5, undefined],
])("a kubelet that last renewed its Lease %s", async (_, secondsBefore, error) => {
  const node = {
    name: "w2",
    uid: "w2",
    controlPlane: false,
    claimed: { names: ["w2"], ips: ["127.77.0.22"] },
    places: [],
  };
  using api = pretendApi({ objects: { [`${LEASES}/w2`]: lease(10) } });
  using _box = sandbox();
  const since = new Date(Date.now() - 10_000 + secondsBefore * 1000);
  const failed = await failOf(() =>
    waitForNodes({
      api: new KubeApi({ server: api.url, ca: NO_TLS }),
      ...{ expected: [node], caPem: before.cert, since, serving: false, seconds: 0 },
    }),
  );
  expect(failed?.message).toBe(error);
});
