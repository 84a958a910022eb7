/**
 * What a Node says of itself decides nothing, a control plane node's neither: root on any worker has the network
 * plugin's token, which may write the status and the metadata of every Node.
 */
import { expect, test } from "bun:test";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { endpointSources } from "../../../shared/facts/endpoint.ts";
import { ownNode } from "../../../shared/facts/issue-facts.ts";
import { apiAddressOf, apiEndpoint } from "../../../shared/facts/known-nodes.ts";
import { namesByHand } from "../../../shared/facts/names-before.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { ADDRESS, FACTS, healthyCp, type Objects } from "../../pretend/cluster.ts";
import { controlPlaneOf, NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { said } from "../../pretend/endpoint.ts";
import { withM2 } from "../../pretend/lost-cp.ts";
import { MEMBER } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const M2 = "127.77.0.12";
const [W1, PUBLIC, BALANCER] = ["127.77.0.21", "api.public.example", "127.77.0.50"];
const MEMBERS = [
  MEMBER,
  { id: "b2", name: "m2", peerURLs: [`https://${M2}:2380`], clientURLs: [`https://${M2}:2379`] },
];

/** Root on w1 has written m2's Node, and the annotations of its mirror pods. */
function claims(objects: Objects) {
  withM2(objects);
  const node = objects["minions/m2"] as { metadata: object; status: object };
  objects["minions/m2"] = {
    ...node,
    status: {
      addresses: [
        ...[W1, BALANCER].map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: PUBLIC },
      ],
    },
  };
  const { annotations } = (objects["pods/kube-system/kube-apiserver-m2"] as Manifest).metadata;
  annotations!["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"] = `${W1}:6443`;
}

function claimed(change: (objects: Objects) => void = () => {}) {
  const both = (objects: Objects) => {
    claims(objects);
    change(objects);
  };
  return pretendData(both, MEMBERS);
}

test("a control plane node is where its member of etcd and its API server's flags say", async () => {
  const data = await claimed();
  const m2 = readCluster(data).nodes.find(({ name }) => name === "m2")!;
  expect([m2.controlPlane, m2.places, m2.claimed.ips]).toEqual([true, [M2], [W1, BALANCER]]);
  expect(apiEndpoint("m2", data)).toEqual({ host: M2, port: 7443 });
});

test("nobody is looked for at an address that each machine has: this one would answer in its place", async () => {
  const peerURLs = ["http://localhost:2380", "https://0.0.0.0:2380", "https://[::]:2380"];
  const clientURLs = ["https://127.0.0.1:2379", "https://[::1]:2379", `https://${M2}:2379`];
  const m2 = { ...MEMBERS[1]!, peerURLs, clientURLs };
  const data = await pretendData(withM2, [MEMBER, m2]);
  expect(readCluster(data).nodes.find(({ name }) => name === "m2")!.places).toEqual([M2]);
});

test("no token goes to a worker that claims to be m2's API server, with its mirror pod or without", async () => {
  const gone = (objects: Objects) => void delete objects["pods/kube-system/kube-apiserver-m2"];
  const silent = (objects: Objects) => {
    const [container] = (objects["pods/kube-system/kube-apiserver-m2"] as Manifest).spec.containers;
    container!.command = container!.command!.filter((word) => !word.startsWith("--advertise"));
  };
  for (const change of [() => {}, gone, silent]) {
    const data = await claimed(change);
    const m2 = readCluster(data).nodes.find(({ name }) => name === "m2")!;
    expect(apiAddressOf(m2, data, 7443)).toEqual({ host: M2, port: 7443 });
  }
});

test("a name that m2's Node claims stays in m1's certificate", async () => {
  using _box = sandbox();
  const data = await claimed();
  const { cert } = await issueLeaf(certRow("apiserver"), (await healthyCp()).ca, {
    ...FACTS,
    certSANs: [PUBLIC, M2],
  });
  expect(namesByHand([cert], certRow("apiserver"), controlPlaneOf(data))).toEqual([PUBLIC]);
});

test("a balancer stays the endpoint though m2's Node claims its address", async () => {
  using _box = sandbox();
  const place = `${BALANCER}:6443`;
  const data = await claimed(said({ clusterInfo: place, kubeProxy: place }));
  const cp = controlPlaneOf(data);
  expect(
    endpointSources({ ...cp, etcd: { dir: "/var/lib/etcd", wal: undefined } }, []).map((one) => one.place),
  ).toEqual(["", place, place]);
});

test("a machine is another node's only where that is proved", async () => {
  const { nodes } = readCluster(await claimed());
  const found = (address: string) => ownNode({ ...NODE, name: "x", addresses: [address] }, { nodes }).name;
  expect([ADDRESS, M2, W1, BALANCER].map(found)).toEqual(["m1", "m2", "x", "x"]);
});
