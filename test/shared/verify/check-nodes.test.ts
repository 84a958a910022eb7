/** What part 5 says of each node: its Lease, its port, and of one that was lost, whether it is as it was. */
import { afterAll, afterEach, expect, setSystemTime, spyOn, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { Answer, CheckRow } from "../../../shared/checks/check.ts";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { keepLostNode, lostNodes } from "../../../shared/static-pods/lost-nodes.ts";
import { returnedChecks } from "../../../shared/verify/check-cluster.ts";
import { nodeChecks } from "../../../shared/verify/check-nodes.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { FACTS } from "../../pretend/cluster.ts";
import { NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { testFacts } from "../../pretend/facts.ts";
import { at, servedKubelet } from "../../pretend/kubelet-ports.ts";
import { AT_M2, HAND_EDIT, M2, mirrorPodOfM2, withM2 } from "../../pretend/lost-cp.ts";
import { MEMBER } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const facts = testFacts();
const ca = await issueCa(certRow("ca"), facts);
const ready = (status: string, message?: string) => ({
  status: { conditions: [{ type: "Ready", status, message }] },
});

const PORTS = [
  await servedKubelet(1, ca),
  await servedKubelet(2, await issueCa(certRow("ca"), facts)),
  await servedKubelet(4, await issueCa({ ...certRow("ca"), cn: "w4-ca@1700000000" }, facts)),
];
afterEach(() => void setSystemTime());
afterAll(() => Promise.all(PORTS.map((port) => port.stop(true))));

interface Seen {
  node?: { metadata?: object; status?: object };
  /** As the API has it by now; unset: the same. */
  now?: object;
  /** Seconds since its Lease was renewed; unset: never. */
  renewed?: number;
  late?: true;
  serving?: false;
}

/** Each check's answer, of a node with the address `last`. */
async function answersOf(last: number, { node = ready("True"), now = node, renewed, late, serving }: Seen) {
  const knownNode: KnownNode = {
    name: "w1",
    uid: "w1",
    controlPlane: false,
    claimed: { names: ["w1"], ips: [at(last)] },
    places: [],
  };
  const data = await pretendData();
  const cp = {
    ...{ cluster: { nodes: [knownNode] }, data },
    node: { ...NODE, kubelet: { ...NODE.kubelet, serverTlsBootstrap: serving ?? true } },
  };
  using server = pretendApi({ objects: { "/api/v1/nodes/w1": now } });
  // a busy machine looks some seconds later
  setSystemTime(new Date());
  const seen = {
    there: new Map([["w1", { ...node, metadata: { name: "w1", ...node.metadata } }]]),
    renewals: new Map(renewed === undefined ? [] : [["w1", new Date(Date.now() - renewed * 1000)]]),
    notRenewed: late ? ["w1"] : [],
  };
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const all = await nodeChecks(cp as never, api, seen as never, { caPem: ca.cert, well: new Map() });
  const rows = all.filter(({ id }) => id !== "node-reached");
  return Object.fromEntries(await Promise.all(rows.map(async ({ id, look }) => [id, await look()])));
}

const SELF = {
  differs: "its kubelet signs its own: it joined before the cluster set serverTLSBootstrap",
  before: expect.stringContaining("serverTLSBootstrap: true"),
};

test.each<[string, number, Seen, Record<string, unknown>]>([
  [
    "all is well",
    1,
    { renewed: 3 },
    { "node-lease": "3 s ago", "node-ready": "yes", "node-serving-certificate": "yes" },
  ],
  ["its port shows another certificate", 2, { renewed: 3 }, { "node-serving-certificate": { failed: "no" } }],
  [
    "its port is behind a firewall",
    3,
    { renewed: 3 },
    {
      "node-serving-certificate": {
        differs: "its port 10250 cannot be reached from here, as behind a firewall",
      },
    },
  ],
  ["its kubelet signs its own", 4, { renewed: 3 }, { "node-serving-certificate": SELF }],
  ["nobody looks at ports", 2, { renewed: 3, serving: false }, { "node-serving-certificate": undefined }],
  ["it never renewed its Lease", 1, {}, { "node-lease": { failed: "never" } }],
  [
    "it does not renew it now",
    1,
    { renewed: 90, late: true },
    { "node-lease": { failed: "last 90 s ago" }, "node-serving-certificate": undefined },
  ],
  [
    "its clock is ahead",
    1,
    { renewed: -300 },
    {
      "node-lease": { warning: expect.stringMatching(/^yes, but its clock is \d+ s ahead of this node's$/) },
    },
  ],
  [
    "it runs no pod",
    1,
    { renewed: 3, node: ready("False", "no network") },
    { "node-ready": { failed: expect.stringMatching(/^Ready is False: .*no network/) } },
  ],
  [
    "it was never ready",
    1,
    { renewed: 3, node: { status: {} } },
    { "node-ready": { failed: "it never was" } },
  ],
])("a node's checks: %s", async (_, last, nodes, expected) => {
  const answers = await answersOf(last, nodes);
  expect(Object.fromEntries(Object.keys(expected).map((id) => [id, answers[id]]))).toEqual(expected as never);
});

test.each([
  ["has just joined", 60, "yes"],
  ["is older", 3600, { failed: "Ready is False: its network is not there" }],
])("a Node that %s and is not Ready", async (_, seconds, answer) => {
  const creationTimestamp = new Date(Date.now() - seconds * 1000).toISOString();
  const node = { metadata: { creationTimestamp }, ...ready("False", "its network is not there") };
  // the API is asked only for one that may be Ready in a moment, and it is then
  const seen = await answersOf(1, { node, now: ready("True"), renewed: 3 });
  expect(seen["node-ready"]).toEqual(answer);
});

test("a Node that is gone is told, and asked for nothing", async () => {
  const cp = { cluster: { nodes: [{ name: "w9" }] }, data: await pretendData(), node: NODE };
  const seen = { there: new Map(), notRenewed: [] };
  const asked = { caPem: ca.cert, well: new Map() };
  const rows = await nodeChecks(cp as never, {} as never, seen as never, asked);
  expect(await Promise.all(rows.map(({ look }) => look()))).toEqual([
    { warning: "there is no such Node any more" },
  ]);
});

test("a node that was reached is not asked again for a minute, and then it is; one that was not is asked each time", async () => {
  const now = spyOn(performance, "now");
  using _clock = { [Symbol.dispose]: () => now.mockRestore() };
  const data = await pretendData();
  const cp = { cluster: { nodes: [{ name: "w1" }] }, data, node: NODE };
  const seen = {
    there: new Map([["w1", { ...ready("True"), metadata: { name: "w1" } }]]),
    renewals: new Map(),
    notRenewed: [],
  };
  const well = new Map();
  let reached = true;
  using server = pretendApi({
    on: ({ path }) =>
      path.endsWith("/healthz") ? new Response("", { status: reached ? 200 : 502 }) : undefined,
  });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const isReached = async (seconds: number) => {
    now.mockReturnValue(seconds * 1000);
    const rows = await nodeChecks(cp as never, api, seen as never, { caPem: ca.cert, well });
    const look = rows.find(({ id }) => id === "node-reached")!.look;
    return await Promise.try(look).then(
      () => true,
      () => false,
    );
  };
  expect(await isReached(0)).toBe(true);
  reached = false;
  expect([await isReached(59), await isReached(61)]).toEqual([true, false]);
  reached = true;
  expect(await isReached(62)).toBe(true);
});

const RESCUE = { dir: "/root/kube-pki-repair-20260101T000000", made: new Date("2026-01-01T00:00:00Z") };
const SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
type Pods = Record<string, object>;

/** m2 was lost, and kept here; then the API shows this of it. */
async function returned(
  node: object | undefined,
  change: (pods: Pods) => void = () => undefined,
  memberAt = AT_M2,
) {
  using _box = sandbox();
  const data = await pretendData(withM2);
  const known = { ...MEMBER, name: "m2", peerURLs: [`https://${memberAt}:2380`], clientURLs: [] };
  keepLostNode("m2", { data, rescue: RESCUE });
  const pods: Pods = Object.fromEntries(
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"].map((name) => [
      `/api/v1/namespaces/kube-system/pods/${name}-m2`,
      mirrorPodOfM2(name, ...(name === "kube-apiserver" ? ["--event-ttl=2h"] : [])),
    ]),
  );
  change(pods);
  using server = pretendApi({ objects: { ...(node ? { "/api/v1/nodes/m2": node } : {}), ...pods } });
  const rows: CheckRow[] = [];
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  for await (const row of returnedChecks(
    { node: NODE, facts: FACTS, data: { members: [known] } } as never,
    api,
  ))
    rows.push(row);
  const answers: [string, Answer][] = [];
  for (const { of, look } of rows)
    answers.push([of!.replace("m2, which has joined again: ", ""), await look()]);
  return Object.fromEntries(answers);
}

const ELSEWHERE = "127.77.0.112";

/** As after a join on a machine with another address: kubeadm's, without people's edits. */
function movedPods(pods: Pods, edits: string[] = []) {
  for (const name of SERVERS) {
    const path = `/api/v1/namespaces/kube-system/pods/${name}-m2`;
    const pod = mirrorPodOfM2(name, ...(name === "kube-apiserver" ? edits : []));
    pods[path] = JSON.parse(JSON.stringify(pod).replaceAll(AT_M2, ELSEWHERE));
  }
}

const again = { ...M2, metadata: { ...M2.metadata, uid: "another" } };
const SAME = Object.fromEntries(
  ["labels, taints, annotations", ...SERVERS].map((what) => [what, "as before"]),
);
const API_POD = "/api/v1/namespaces/kube-system/pods/kube-apiserver-m2";

test.each<[string, object | undefined, ((pods: Pods) => void) | undefined, object]>([
  ["its Node is gone: nothing to ask", undefined, undefined, {}],
  ["its Node is the one of before: it is still to be deleted", M2, undefined, {}],
  ["all is as it was", again, undefined, SAME],
  [
    "a label is gone",
    { ...again, metadata: { ...again.metadata, labels: {} } },
    undefined,
    {
      ...SAME,
      "labels, taints, annotations": {
        state: "changed",
        failed: expect.stringMatching(
          /^kubectl .* label --overwrite node m2 .*disk=nvme.*; or, if it is to be so: rm -r .*lost-nodes\/m2$/,
        ),
      },
    },
  ],
  [
    "a static pod is gone",
    again,
    (pods) => void delete pods[API_POD],
    {
      ...SAME,
      "kube-apiserver": {
        state: "missing",
        failed: expect.stringMatching(
          /^scp -p .*lost-nodes\/m2\/kube-apiserver\.yaml root@m2:.*; or, if it is to be so/,
        ),
      },
    },
  ],
  [
    "its hand edit is gone",
    again,
    (pods) => Object.assign(pods, { [API_POD]: mirrorPodOfM2("kube-apiserver") }),
    {
      ...SAME,
      "kube-apiserver": { state: "changed", failed: expect.stringMatching(/--event-ttl.*: scp -p /) },
    },
  ],
  [
    "another node says that it has its static pod",
    again,
    (pods) => {
      const pod = mirrorPodOfM2("kube-apiserver", "--event-ttl=2h");
      pods[API_POD] = { ...pod, spec: { ...pod.spec, nodeName: "w1" } };
    },
    { ...SAME, "kube-apiserver": { state: "missing", failed: expect.stringMatching(/^scp -p /) } },
  ],
])("a control plane node that was lost has joined again: %s", async (_, node, change, expected) => {
  expect(await returned(node, change)).toEqual(expected as never);
});

test("on a machine with another address its static pods are compared and put back with that one: etcd cannot listen on the old one", async () => {
  expect(await returned(again, (pods) => movedPods(pods, [HAND_EDIT]), ELSEWHERE)).toEqual(SAME as never);
  expect(await returned(again, movedPods, ELSEWHERE)).toEqual({
    ...SAME,
    "kube-apiserver": {
      state: "changed",
      failed: expect.stringMatching(
        /^-+event-ttl=2h: sed 's\/\\b127\\\.77\\\.0\\\.12\\b\/127\.77\.0\.112\/g' \S+\/m2\/kube-apiserver\.yaml \| ssh root@m2 'umask 077; cat > \/etc\/kubernetes\/manifests\/kube-apiserver\.yaml'; or/,
      ),
    },
  } as never);
});

test("what was kept of a lost node stays, as long as it is the same Node; a Node that nobody knew is not kept", async () => {
  using box = sandbox();
  const data = await pretendData(withM2);
  const [kept, again] = [1, 2].map(() => keepLostNode("m2", { data, rescue: RESCUE }));
  const said = box.said.length;
  expect(kept!.pods.map(({ name }) => name).sort()).toEqual(SERVERS);
  expect(again!.object).toEqual(kept!.object);
  expect([said, box.said.length]).toEqual([said, said]);
  const other = await pretendData((objects) => {
    withM2(objects);
    objects["minions/m2"] = { ...M2, metadata: { ...M2.metadata, uid: "another" } };
  });
  const later = { dir: "/root/kube-pki-repair-20260102T000000", made: new Date("2026-01-02T00:00:00Z") };
  expect(keepLostNode("m2", { data: other, rescue: later })!.object.metadata.uid).toBe("another");
  expect(lostNodes().map(({ name, object }) => [name, object.metadata.uid])).toEqual([["m2", "another"]]);
  expect(keepLostNode("m9", { data, rescue: RESCUE })).toBeUndefined();
});
