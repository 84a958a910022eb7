import { expect, spyOn, test } from "bun:test";
import type { EtcdData } from "../../../shared/etcd-data/data.ts";
import type { Cluster } from "../../../shared/facts/cluster-before.ts";
import { newlyTypedMoves, pairsOf, refuseBadMoves } from "../../../shared/moved/pairs.ts";
import { refuseBesideEtcd } from "../../../shared/moved/this-machine.ts";

test("pairs are read in canonical form; what has not moved is none", () => {
  expect([...pairsOf(["10.0.0.1=10.0.1.1", "FD00:0::1=fd00::2", "10.0.0.9=10.0.0.9"])]).toEqual([
    ["10.0.0.1", "10.0.1.1"],
    ["fd00::1", "fd00::2"],
  ]);
});

test("a name is no matter of capitals", () => {
  expect([...pairsOf(["API.old.example=api.example", "api.example=API.example"])]).toEqual([
    ["api.old.example", "api.example"],
  ]);
});

test("servers are a pair: the same new one for each control plane node", () => {
  const words = [
    "https://10.0.0.1:6443=https://API.example:6443",
    "https://10.0.0.2:6443=https://api.example:6443",
  ];
  expect([...pairsOf(words).values()]).toEqual(["https://api.example:6443", "https://api.example:6443"]);
});

for (const [words, why] of [
  [["10.0.0.1"], "is no pair"],
  [["https://10.0.0.1:6443=api.example"], "is no pair"],
  [["https://10.0.0.1:6443=https://api.example"], "is no pair"],
  [["https://10.0.0.1:6443=https://api.example:6443/x"], "is no pair"],
  [["https://10.0.0.1:6443=https://u@api.example:6443"], "is no pair"],
  [["https://10.0.0.1:6443=https://-:6443"], "is no pair"],
  [["api.example=10.0.0.1"], "is no pair"],
  [["api.example=https://api.example"], "is no pair"],
  [["10.0.0.1=fd00::1"], "is no pair"],
  [["cp1=10.0.0.1"], "is no pair"],
  [["10.0.0.1=10.0.0.2=10.0.0.3"], "is no pair"],
  [["10.0.0.1=10.0.1.1", "10.0.0.2=10.0.1.1"], "the same new address"],
] as const)
  test(`${words.join(",")} is refused: ${why}`, () => expect(() => pairsOf(words)).toThrow(why));

const node = (name: string, ip: string) => ({
  name,
  claimed: { names: [name], ips: [ip] },
  places: name.startsWith("cp") ? [ip] : [],
});
const clusterData = {
  cluster: {
    nodes: [
      node("cp1", "10.0.0.1"),
      node("cp2", "10.0.0.2"),
      node("w1", "10.0.0.21"),
      node("w2", "fe80::1%eth0"),
    ],
    serviceSubnets: ["10.96.0.0/12"],
    podSubnet: "10.244.0.0/16,fd00:10::/56",
    endpoint: "10.0.0.100:6443",
  } as unknown as Cluster,
  data: { members: [{ peerURLs: ["https://10.9.0.1:2380"], clientURLs: [] }] } as unknown as EtcdData,
};

for (const moved of [
  { "10.0.0.1": "10.0.1.1" },
  { "10.0.0.100": "10.0.1.100" },
  { "10.9.0.1": "10.9.0.2" },
  { "https://10.0.0.100:6443": "https://api.example:6443" },
  { "10.0.0.100": "10.0.1.100", "https://10.0.1.100:6443": "https://api.example:6443" },
])
  test(`${JSON.stringify(moved)} may be`, () => refuseBadMoves(new Map(Object.entries(moved)), clusterData));

for (const [moved, why] of [
  [{ "10.0.0.7": "10.0.1.7" }, "nothing of this cluster was there"],
  [{ "10.0.0.1": "10.100.0.1" }, "in 10.96.0.0/12"],
  [{ "10.0.0.1": "10.244.3.1" }, "in 10.244.0.0/16"],
  [{ "10.0.0.1": "10.0.0.2", "10.0.0.2": "10.0.0.1" }, "that is the address of cp2, or was"],
  [{ "10.0.0.1": "10.0.0.2", "10.0.0.2": "10.0.0.3" }, "that is the address of cp2, or was"],
  [{ "10.0.0.100": "10.9.0.1", "10.9.0.1": "10.9.0.2" }, "that is the address of another machine, or was"],
  [{ "https://10.0.0.1:6443": "https://api.example:6443" }, "no kubeconfig of this cluster leads there"],
  [{ "https://10.0.0.100:6443": "https://10.100.0.1:6443" }, "in 10.96.0.0/12"],
] as const)
  test(`${JSON.stringify(moved)} is refused: ${why}`, () =>
    expect(() => refuseBadMoves(new Map(Object.entries(moved)), clusterData)).toThrow(why));

test("beside an etcd that kubeadm did not make a worker may move, a control plane node not, to whichever address", () => {
  const nodes = clusterData.cluster.nodes.map((one) => ({ ...one, controlPlane: one.places.length > 0 }));
  refuseBesideEtcd({ nodes }, new Map([["10.0.0.21", "10.0.1.21"]]));
  for (const pair of [
    ["10.0.0.2", "10.0.1.2"],
    ["10.0.0.9", "10.0.0.2"],
  ] as const)
    expect(() => refuseBesideEtcd({ nodes }, new Map([pair]))).toThrow("cp2: has moved, and kubeadm did not");
});

test("what a worker claims is a warning where the operator says otherwise", () => {
  const told: string[] = [];
  const ear = spyOn(console, "error").mockImplementation((line: string) => void told.push(line));
  refuseBadMoves(new Map([["10.0.0.1", "10.0.0.21"]]), clusterData);
  // what is proved is refused, and no word is asked to count
  expect(() => refuseBadMoves(new Map([["10.0.0.1", "10.0.0.2"]]), clusterData)).toThrow(
    "the address of cp2",
  );
  ear.mockRestore();
  expect(told).toHaveLength(1);
  expect(told.join("\n")).toContain(
    "warning: 10.0.0.21 is also an address of w1, says its Node; your word counts",
  );
});

test("a move that goes on is not changed by saying something else; what is new of other machines is taken", () => {
  const goesOn = new Map([["10.0.0.1", "10.0.1.1"]]);
  const since = (...said: [string, string][]) => [...newlyTypedMoves(new Map(said), goesOn)];
  expect(since()).toEqual([]);
  expect(since(...goesOn)).toEqual([]);
  expect(since(...goesOn, ["10.0.0.2", "10.0.1.2"])).toEqual([["10.0.0.2", "10.0.1.2"]]);
  expect(() => since(["10.0.0.1", "10.0.1.2"])).toThrow("says otherwise");
  // it has moved once more: from where it was first, nobody could tell
  expect(() => since(["10.0.1.1", "10.0.2.1"])).toThrow("says otherwise");
  const another = new Map([["10.0.0.2", "10.9.0.1"]]);
  const first = new Map([["10.9.0.1", "10.9.0.9"]]);
  expect(() => refuseBadMoves(another, clusterData, first)).toThrow(
    "that is the address of another machine, or was",
  );
});
