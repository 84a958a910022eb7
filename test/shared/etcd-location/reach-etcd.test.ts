/**
 * Which member of etcd's data is this machine's: by its id and an address, or a lone one that a restore has
 * left at localhost.
 */
import { expect, test } from "bun:test";
import {
  gatewayUrl,
  memberHosts,
  nodelessMembers,
  ownMember,
  withControlPlanes,
  withNodeNames,
} from "../../../shared/etcd-location/reach-etcd.ts";
import { noTypedOptions, useTypedOptions } from "../../../shared/node/words.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import type { Objects } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { external } from "../../pretend/etcd-as-unit.ts";

const HERE = ["10.0.0.1", "fd00::1"];
const member = (id: string, peerURL: string, ...clientURLs: string[]) => ({
  id,
  name: id,
  peerURLs: [peerURL],
  clientURLs,
  isLearner: false,
});
const LOCALHOST = "http://localhost:2380";
const OTHER = member("b", "https://10.0.0.2:2380");

test.each([
  ["its peer URL is here", [member("a", "https://10.0.0.1:2380"), OTHER], true],
  ["its peer URL is here, as IPv6", [member("a", "https://[fd00::1]:2380"), OTHER], true],
  ["restored alone, not yet started", [member("a", LOCALHOST)], true],
  ["restored alone, started here", [member("a", LOCALHOST, "https://10.0.0.1:2379")], true],
  [
    "restored alone, others have joined it since",
    [member("a", LOCALHOST, "https://10.0.0.1:2379"), OTHER],
    true,
  ],
  ["restored alone, started on another machine", [member("a", LOCALHOST, "https://10.0.0.2:2379")], false],
  ["at localhost beside others, not yet started", [member("a", LOCALHOST), OTHER], false],
  ["at another machine", [member("a", "https://10.0.0.2:2380")], false],
  [
    "another member's data, which knows this machine's too",
    [OTHER, member("c", "https://10.0.0.1:2380")],
    false,
  ],
  ["no URL", [member("a", "nonsense")], false],
])("%s", (_, members, isOwn) => {
  const memberId = members[0]!.id;
  expect(ownMember({ members, memberId }, HERE)).toBe(isOwn ? members[0] : undefined);
});

/* An etcd beside kubeadm: members have names of their own. */

const AT = { m1: "10.0.0.11", w1: "10.0.0.12", w2: "10.0.0.21" } as const;
const MEMBERS = ["10.0.0.11", "10.0.0.12"].map((at, i) => ({
  ...{ id: `a${i}b2c3d4e5f60718`, name: `etcd${i + 1}`, peerURLs: [`https://${at}:2380`] },
}));

/** What a node says of itself: its Node's address, and what its API server's mirror pod advertises. */
type Claims = Partial<Record<keyof typeof AT, { status?: string; pod?: string }>>;

function pretended(claims: Claims, change: (objects: Objects) => void) {
  const made = (objects: Objects) => {
    external(objects, "kubespray");
    const pod = objects["pods/kube-system/kube-apiserver-m1"];
    delete objects["pods/kube-system/kube-apiserver-m1"];
    for (const [name, { status, pod: at }] of Object.entries(claims)) {
      const node = objects[`minions/${name}`] as { status: object };
      if (status) node.status = { addresses: [{ type: "InternalIP", address: status }] };
      const own = structuredClone(pod) as Manifest;
      Object.assign(own.metadata, { name: `kube-apiserver-${name}` });
      Object.assign(own.spec, { nodeName: name });
      own.spec.containers[0]!.command = ["kube-apiserver", `--advertise-address=${at}`];
      if (at) objects[`pods/kube-system/kube-apiserver-${name}`] = own;
    }
    change(objects);
  };
  return pretendData(made, MEMBERS);
}

async function named(claims: Claims, change: (objects: Objects) => void = () => {}) {
  using data = await pretended(claims, change);
  const seen = withNodeNames(data);
  return {
    names: seen.members.map(({ name }) => name).sort(),
    nodeless: nodelessMembers(seen, [AT.m1]).map(({ name }) => name),
  };
}

const M1 = { status: AT.m1, pod: AT.m1 };

test.each<[string, Claims, string[], string[]]>([
  ["each of its own", { m1: M1, w1: { status: AT.w1, pod: AT.w1 } }, ["m1", "w1"], []],
  ["one without an API server", { m1: M1, w1: { status: AT.w1 } }, ["etcd2", "m1"], ["etcd2"]],
  [
    "a worker that has its pod, too",
    { m1: M1, w1: { status: AT.w1, pod: AT.w1 }, w2: { pod: AT.w1 } },
    ["etcd2", "m1"],
    ["etcd2"],
  ],
  [
    "a worker whose Node says so",
    { m1: M1, w1: { status: AT.w1, pod: AT.w1 }, w2: { status: AT.w1 } },
    ["etcd2", "m1"],
    ["etcd2"],
  ],
  [
    "a worker alone, as the pod of the other is gone",
    { m1: M1, w1: { status: AT.w1 }, w2: { pod: AT.w1 } },
    ["etcd2", "m1"],
    ["etcd2"],
  ],
  ["this machine's own is known by its address", { w1: { status: AT.w1, pod: AT.w1 } }, ["etcd1", "w1"], []],
])("the nodes of members that kubeadm did not name: %s", async (_, claims, names, nodeless) => {
  expect(await named(claims)).toEqual({ names, nodeless });
});

test("a member whose address others claim, too, is of the node that the operator names", async () => {
  const claims = { m1: M1, w1: { status: AT.w1, pod: AT.w1 }, w2: { status: AT.w1 } };
  useTypedOptions({ "control-plane": ["w1"] });
  try {
    expect(await named(claims)).toEqual({ names: ["m1", "w1"], nodeless: [] });
  } finally {
    noTypedOptions();
  }
});

test.each<[string, Claims, string[], string[]]>([
  [
    "an API server's lease in etcd proves a node, this machine proves itself",
    { m1: M1, w1: { status: AT.w1, pod: AT.w1 } },
    ["w1"],
    ["m1", "w1"],
  ],
  [
    "a worker with a mirror pod of an API server, and no lease",
    { m1: M1, w1: { status: AT.w1, pod: AT.w1 } },
    [],
    ["m1"],
  ],
  [
    "a worker whose pod names another's address",
    { m1: M1, w1: { status: AT.w1, pod: AT.w1 }, w2: { pod: AT.w1 } },
    ["w1"],
    ["m1"],
  ],
  ["a lease of an address that no node serves at", { m1: M1 }, ["w1"], ["m1"]],
  [
    "a worker whose Node claims this machine's address, and whose pod does",
    { m1: M1, w2: { status: AT.m1, pod: AT.m1 } },
    ["m1"],
    ["m1"],
  ],
])("control plane nodes where etcd is on other machines: %s", async (_, claims, leases, names) => {
  using data = await pretended(claims, (objects) => {
    for (const key of Object.keys(objects)) if (key.includes("/masterleases/")) delete objects[key];
    for (const name of leases) objects[`masterleases/${AT[name as keyof typeof AT]}`] = { metadata: {} };
  });
  const seen = withControlPlanes(
    Object.assign(data, { elsewhere: { members: [], addresses: [AT.m1], name: "m1" } }),
  );
  expect(seen.members.map(({ name }) => name)).toEqual(names);
  expect(ownMember(seen, [AT.m1])?.peerURLs).toEqual([`https://${AT.m1}:6443`]);
});

test("where etcd is on other machines, a lease that has just ended still proves a control plane node: its API server has stopped", async () => {
  const lease = `/registry/masterleases/${AT.w1}`;
  using data = await pretended({ m1: M1, w1: { status: AT.w1, pod: AT.w1 } }, () => {});
  const names = (deleted: readonly string[]) =>
    withControlPlanes(
      Object.assign(data, {
        elsewhere: { members: [], addresses: [AT.m1], name: "m1" },
        deletedKeys: (prefix: string) => deleted.filter((key) => key.startsWith(prefix)),
      }),
    ).members.map(({ name }) => name);
  expect([names([]), names([lease])]).toEqual([["m1"], ["m1", "w1"]]);
});

test("members of kubeadm's own etcd keep their names, whoever claims an address", async () => {
  const local = (objects: Objects) => {
    const map = objects["configmaps/kube-system/kubeadm-config"] as { data: Record<string, string> };
    map.data.ClusterConfiguration = map.data.ClusterConfiguration!.replace("external:", "local:");
  };
  expect((await named({ m1: M1 }, local)).names).toEqual(["etcd1", "etcd2"]);
});

test("where other machines reach a member is never this machine's loopback", () => {
  const hosts = memberHosts(member("a", LOCALHOST, "https://127.0.0.1:2379", "https://10.0.0.1:2379"));
  expect(hosts).toEqual(["10.0.0.1"]);
});

test.each([
  ["https://0.0.0.0:2381", "https://10.0.0.1:2381"],
  ["https://0.0.0.0:443", "https://10.0.0.1:443"],
  ["https://10.0.0.2:2381", "https://10.0.0.2:2381"],
  ["http://0.0.0.0:2381", undefined],
])("an etcd whose gateway listens at %s is asked at %p", (url, expected) => {
  const container = { name: "etcd", image: "x", command: ["etcd", `--listen-client-http-urls=${url}`] };
  expect(gatewayUrl({ spec: { containers: [container] } }, "10.0.0.1")).toBe(expected);
});
