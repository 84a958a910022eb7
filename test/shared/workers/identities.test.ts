/** Whose a name or an address is, out of etcd's data: by whom what is known there can have been written. */
import { expect, test } from "bun:test";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { addressToType, identitiesOf, nameObjection, prove } from "../../../shared/workers/identities.ts";
import { ADDRESS, mirrorPod, type Objects } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { dns, ip } from "../../pretend/csrs.ts";

async function read(change: (objects: Objects) => void = () => {}) {
  const data = await pretendData(change);
  return identitiesOf({ cluster: readCluster(data), data });
}

/** An API server's mirror pod on w1, which w1's kubelet may make, also in kube-system. */
function pretender(objects: Objects) {
  const pod = mirrorPod("kube-apiserver");
  const annotations = {
    ...pod.metadata.annotations,
    "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": "10.0.0.21:6443",
  };
  const metadata = { ...pod.metadata, name: "kube-apiserver-w1", annotations };
  objects["pods/kube-system/kube-apiserver-w1"] = { ...pod, metadata, spec: { ...pod.spec, nodeName: "w1" } };
}

test("a control plane node's addresses are those of etcd's members and of its API server; a worker proves none", async () => {
  const { proved } = await read(pretender);
  expect(proved.get("m1")).toEqual([ADDRESS]);
  expect(proved.get("w1")).toEqual([]);
});

test("a member of etcd is a control plane node, whatever its labels say", async () => {
  const { nodes } = await read((objects) => {
    (objects["minions/m1"] as { metadata: { labels?: object } }).metadata.labels = {};
  });
  expect(nodes.map(({ name, controlPlane }) => [name, controlPlane])).toEqual([
    ["m1", true],
    ["w1", false],
    ["w2", false],
  ]);
});

test("a Service's names are nobody's, and what looks like one is", async () => {
  const identities = await read((objects) => {
    objects["services/specs/shop/web"] = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", namespace: "shop" },
    };
    const status = {
      addresses: ["web", "web.shop", "web.example"].map((address) => ({ type: "ExternalDNS", address })),
    };
    Object.assign(objects["minions/w1"]!, { status });
  });
  expect(nameObjection(dns("web"), "w1", identities)).toBe('dns "web" belongs to a Service');
  expect(nameObjection(dns("web.shop"), "w1", identities)).toBe('dns "web.shop" belongs to a Service');
  expect(nameObjection(dns("web.example"), "w1", identities)).toBeUndefined();
});

/** m2 is lost, and restore.ts left it behind. Root on w1 has the network plugin's token: he says where m2 was, and m2 is nowhere. */
test.each(["its Node says so", "its Node says another address", "it has no Node"])(
  "a worker that says a lost control plane node's address has no address to type: %s",
  async (its) => {
    const [was, nowhere] = ["10.0.0.12", "10.250.9.9"];
    const says = (address: string) => ({ status: { addresses: [{ type: "InternalIP", address }] } });
    const data = await pretendData((objects) => {
      const pod = mirrorPod("kube-apiserver");
      const containers = [
        { name: "kube-apiserver", command: ["kube-apiserver", `--advertise-address=${was}`] },
      ];
      objects["pods/kube-system/kube-apiserver-m2"] = {
        ...pod,
        metadata: { ...pod.metadata, name: "kube-apiserver-m2" },
        spec: { ...pod.spec, nodeName: "m2", containers },
      };
      const node = objects["minions/m1"] as { metadata: object };
      if (its !== "it has no Node")
        objects["minions/m2"] = {
          ...node,
          metadata: { ...node.metadata, name: "m2", uid: "uid-of-m2", labels: {} },
          ...says(its === "its Node says so" ? was : nowhere),
        };
      Object.assign(objects["minions/w1"]!, says(was));
    });
    const restored = Object.create(data, { formerMembers: { value: ["m2"] } }) as typeof data;
    const nodesByName = identitiesOf({ cluster: readCluster(restored), data: restored });
    const w1 = nodesByName.byName.get("w1")!;
    expect(addressToType(w1, nodesByName)).toEqual({
      address: "ADDRESS-OF-w1",
      why: `ip "${was}" belongs to m2`,
    });
  },
);

test("two workers that say the same prove nothing, and take nothing from a third", async () => {
  const says = (objects: Objects, name: string, address: string) =>
    Object.assign(objects[`minions/${name}`]!, { status: { addresses: [{ type: "InternalIP", address }] } });
  const identities = await read((objects) => {
    says(objects, "w1", "10.0.0.99");
    says(objects, "w2", "10.0.0.99");
  });
  for (const name of ["w1", "w2"])
    expect(nameObjection(ip("10.0.0.99"), name, identities)).toBe('ip "10.0.0.99" is claimed by w1 and w2');
  expect(nameObjection(dns("w1"), "w1", identities)).toBeUndefined();
});

/** Of certificates from before. */
const [EARLY, LATE] = [new Date("2025-01-01"), new Date("2026-01-01")];

test("who had a name once does not prove it against its owner of today: the newest certificate counts", async () => {
  const name = "rack7.example";
  for (const order of [
    ["w1", "w2"],
    ["w2", "w1"],
  ]) {
    const identities = await read();
    for (const node of order) prove(identities, node, [name], node === "w1" ? EARLY : LATE);
    expect(nameObjection(dns(name), "w1", identities)).toBe(`dns "${name}" belongs to w2`);
    expect(nameObjection(dns(name), "w2", identities)).toBeUndefined();
  }
});

test("a name that two workers had in certificates of one moment belongs to neither, whoever has shown his first", async () => {
  const identities = await read();
  const name = "rack7.example";
  prove(identities, "w1", [name], LATE);
  expect(nameObjection(dns(name), "w1", identities)).toBeUndefined();
  prove(identities, "w2", [name], LATE);
  for (const node of ["w1", "w2"])
    expect(nameObjection(dns(name), node, identities)).toBe(`dns "${name}" is claimed by w1 and w2`);
});

test("the host of a webhook belongs to no worker that only says so: the API server sends it objects", async () => {
  const HOSTS = ["hook.example", "10.0.0.98", "crd.example", "w2"];
  const identities = await read((objects) => {
    const webhook = (host: string) => ({ name: "a.b.c", clientConfig: { url: `https://${host}:8443/x` } });
    const made = { apiVersion: "admissionregistration.k8s.io/v1", metadata: { name: "a" } };
    const [first, second, third, own] = HOSTS.map(webhook);
    Object.assign(objects, {
      "validatingwebhookconfigurations/a": {
        ...made,
        kind: "ValidatingWebhookConfiguration",
        webhooks: [first, { name: "d.e.f", clientConfig: { service: { namespace: "a", name: "b" } } }],
      },
      "mutatingwebhookconfigurations/a": {
        ...made,
        kind: "MutatingWebhookConfiguration",
        webhooks: [second, own, { name: "g.h.i", clientConfig: { url: "no URL" } }],
      },
      "apiextensions.k8s.io/customresourcedefinitions/a": {
        ...{
          apiVersion: "apiextensions.k8s.io/v1",
          kind: "CustomResourceDefinition",
          metadata: { name: "a" },
        },
        spec: { conversion: { strategy: "Webhook", webhook: third } },
      },
    });
    const addresses = [...HOSTS.slice(0, 3), "rack.example"].map((address) => ({
      type: "ExternalDNS",
      address,
    }));
    Object.assign(objects["minions/w1"]!, { status: { addresses } });
  });
  for (const san of [dns("hook.example"), dns("HOOK.example."), ip("10.0.0.98"), dns("crd.example")])
    expect(nameObjection(san, "w1", identities)).toEndWith("is where the API server calls a webhook");
  // a node's own name, any other that it says, and what the cluster's CA has signed for it before
  expect(nameObjection(dns("w2"), "w2", identities)).toBeUndefined();
  expect(nameObjection(dns("rack.example"), "w1", identities)).toBeUndefined();
  prove(identities, "w1", ["10.0.0.98"], LATE);
  expect(nameObjection(ip("10.0.0.98"), "w1", identities)).toBeUndefined();
});
