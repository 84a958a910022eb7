/** What the cluster was: what the data does not say is never made up. */
import { expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { etcdHome } from "../../../shared/etcd-location/etcd-home.ts";
import { lacksOnlyConfiguration, readCluster } from "../../../shared/facts/cluster.ts";
import { factsFor, ownNode } from "../../../shared/facts/issue-facts.ts";
import { refuseUnknownNodes } from "../../../shared/facts/typed-options.ts";
import { attempt, Fail } from "../../../shared/fail.ts";
import { certInfo, signedBy } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { ADDRESS, clusterObjects, FACTS, type manifest, type Objects } from "../../pretend/cluster.ts";
import { NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { MEMBER } from "../../pretend/node.ts";

const CONFIG = "configmaps/kube-system/kubeadm-config";

function replaceIn(objects: Objects, key: string, from: string | RegExp, to: string) {
  const text = JSON.stringify(objects[key]);
  expect(text).toMatch(from);
  objects[key] = text.replace(from, to);
}

test("readCluster() and factsFor() read all that certificates need", async () => {
  const data = await pretendData();
  const cluster = readCluster(data);
  expect(factsFor(NODE, cluster, data)).toEqual({
    ...FACTS,
    externalCa: false,
    externalSigner: false,
    kubeletClientBound: false,
  });
  expect(
    cluster.nodes.map(({ name, controlPlane, claimed }) => `${name} ${controlPlane} ${claimed.ips}`),
  ).toEqual([`m1 true ${ADDRESS}`, "w1 false 127.77.0.21", "w2 false 127.77.0.22"]);
  expect(cluster.kubeSystemUid).toBe("uid-of-kube-system");
});

test.each<[string, (objects: Objects) => void, string]>([
  ["kubeadm-config", (o) => delete o[CONFIG], "Cannot find the ConfigMap kube-system/kubeadm-config"],
  [
    "the version",
    (o) => replaceIn(o, CONFIG, /kubernetesVersion: [^\\]+\\n/, ""),
    "Cannot find kubernetesVersion",
  ],
  [
    "the DNS domain",
    (o) => replaceIn(o, CONFIG, /dnsDomain: [^\\]+/, "dnsDomain: ''"),
    "Cannot find networking.dnsDomain",
  ],
  [
    "the Service range",
    (o) => replaceIn(o, CONFIG, /serviceSubnet: [^\\]+\\n/, ""),
    "Cannot find networking.serviceSubnet",
  ],
  [
    "the old CA",
    (o) => delete o["configmaps/kube-system/kube-root-ca.crt"],
    "Cannot find ca.crt of the ConfigMap kube-root-ca.crt",
  ],
])("without %s readCluster() fails, and uses no default", async (_, change, message) => {
  const data = await pretendData(change);
  expect(() => readCluster(data)).toThrow(message);
});

test.each([
  ["deployments/kube-system/coredns", true],
  ["daemonsets/kube-system/kube-proxy", true],
  ["services/specs/default/kubernetes", false],
])("a cluster with %s lives without a kubeadm-config: %p", async (key, lives) => {
  const data = await pretendData((objects) => {
    for (const name of Object.keys(objects))
      if (/^(deployments|daemonsets)\//.test(name)) delete objects[name];
    objects[key] = "{}";
    delete objects[CONFIG];
  });
  expect(lacksOnlyConfiguration(data)).toBe(lives);
});

test("data without the namespace kube-system is not a Kubernetes cluster's", async () => {
  const data = await pretendData((objects) => delete objects["namespaces/kube-system"]);
  expect(() => readCluster(data)).toThrow("No Kubernetes cluster in this etcd data");
});

test("encrypted objects make it fail, with the provider's name", async () => {
  const data = await pretendData((objects) => {
    objects[CONFIG] = "k8s:enc:kms:v2:vault:x";
  });
  expect(() => readCluster(data)).toThrow("it is encrypted at rest (kms:v2:vault)");
});

test("a cluster without a balancer has no endpoint, one with external etcd says so, and two Service ranges stay two", async () => {
  const data = await pretendData((objects) => {
    replaceIn(objects, CONFIG, /controlPlaneEndpoint: [^\\]+\\n/, "");
  });
  expect(readCluster(data).endpoint).toBeUndefined();
  const other = await pretendData((objects) => {
    replaceIn(objects, CONFIG, "local:\\n    dataDir: /var/lib/etcd", "external:\\n    endpoints: [x]");
  });
  expect(etcdHome({ node: NODE, dataDir: "/nowhere", cluster: readCluster(other) })).toMatchObject({
    runs: "elsewhere",
    servers: ["x"],
  });
  expect(etcdHome({ node: NODE, dataDir: "/nowhere", cluster: readCluster(data) }).runs).toBe("static pod");
  const dual = await pretendData((objects) => {
    replaceIn(objects, CONFIG, /serviceSubnet: [^\\]+/, "serviceSubnet: 10.97.0.0/16,fd00::/112");
  });
  expect(readCluster(dual).serviceSubnets).toEqual(["10.97.0.0/16", "fd00::/112"]);
});

test.each([
  ["2160h0m0s", 2160],
  ["90m", 1.5],
  ["8760h30m", 8760.5],
])(
  "validities (%p) and key algorithm come from the configuration and the old CA",
  async (period, certificateValidityHours) => {
    const data = await pretendData((objects) => {
      replaceIn(
        objects,
        CONFIG,
        "kind: ClusterConfiguration",
        `kind: ClusterConfiguration\\ncertificateValidityPeriod: ${period}`,
      );
    });
    expect(factsFor(NODE, readCluster(data), data)).toMatchObject({
      certificateValidityHours,
      keyAlgorithm: "ECDSA-P256",
    });
  },
);

test.each([
  ["RSA-1024", { modulusLength: 1024 }, "RSA-2048"],
  ["ECDSA-P521", { namedCurve: "P-521" }, "ECDSA-P384"],
])(
  "a company's own CA of %s, which kubeadm makes not, stops nothing: keys beside it are of the nearest kind",
  async (_, options, expected) => {
    const pair =
      "namedCurve" in options ? generateKeyPairSync("ec", options) : generateKeyPairSync("rsa", options);
    const [key, pub] = [
      pair.privateKey.export({ type: "pkcs8", format: "pem" }),
      pair.publicKey.export({ type: "spki", format: "pem" }),
    ];
    const ca = await issueCa(certRow("ca"), FACTS, { key: { key: String(key), pub: String(pub) } });
    const data = await pretendData((objects) => Object.assign(objects, clusterObjects(ca.cert)));
    const facts = factsFor(NODE, readCluster(data), data);
    expect(facts.keyAlgorithm).toBe(expected as typeof facts.keyAlgorithm);
    const leaf = await issueLeaf(certRow("apiserver"), ca, facts);
    expect([signedBy(leaf.cert, ca.cert), certInfo(leaf.cert).algorithm]).toEqual([true, expected]);
  },
);

test.each([
  ["controlPlaneEndpoint", "lb example:6443"],
  ["controlPlaneEndpoint", "lb.example:99999"],
  ["controlPlaneEndpoint", "https://lb.example:6443"],
  ["serviceSubnet", "10.97.0.0"],
  ["serviceSubnet", "10.97.0.0/16,fd00::/129"],
])(
  "a %s that somebody has mistyped as %s is refused with the line that corrects it",
  async (field, value) => {
    const data = await pretendData((objects) => {
      replaceIn(objects, CONFIG, new RegExp(`${field}: [^\\\\]+`), `${field}: ${value}`);
    });
    const refused = attempt(() => readCluster(data));
    expect(refused).toMatchObject({
      message: expect.stringMatching(new RegExp(`^The ConfigMap kube-system/kubeadm-config .*${field} "`)),
      hint: expect.stringMatching(/^correct it: kubectl -n kube-system edit configmap kubeadm-config\./),
    });
  },
);

test("the API's address comes from the mirror pod's flags where its annotation is gone", async () => {
  const data = await pretendData((objects) => {
    const pod = objects["pods/kube-system/kube-apiserver-m1"] as ReturnType<typeof manifest>;
    delete pod.metadata.annotations?.["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"];
  });
  expect(factsFor(NODE, readCluster(data), data)).toMatchObject({
    advertiseAddress: ADDRESS,
    bindPort: 6443,
  });
});

test("a machine without the API's address, and a node without an API server, are refused with a hint", async () => {
  const data = await pretendData();
  const cluster = readCluster(data);
  expect(() => factsFor({ ...NODE, addresses: ["10.1.1.1"] }, cluster, data)).toThrow(
    `was at "${ADDRESS}", but this machine has 10.1.1.1`,
  );
  const gone = await pretendData((objects) => delete objects["pods/kube-system/kube-apiserver-m1"]);
  expect(() => factsFor(NODE, readCluster(gone), gone)).toThrow(Fail);
});

test("a machine is found by its address among the control plane nodes: a worker's kubelet may write any address into its own Node", async () => {
  const data = await pretendData();
  const { nodes } = readCluster(data);
  const here = { ...NODE, name: "cp.example", addresses: [ADDRESS, "10.9.9.9"] };
  const claims = (ip: string) =>
    nodes.map((node) => (node.name === "w1" ? { ...node, claimed: { ...node.claimed, ips: [ip] } } : node));
  const without = (all: typeof nodes) => all.filter(({ name }) => name !== "m1");
  expect(ownNode(here, { nodes })).toMatchObject({
    name: "m1",
    nameFrom: "its address, by etcd's data; a test says cp.example",
  });
  expect(ownNode(here, { nodes: claims(ADDRESS) }).name).toBe("m1");
  for (const ip of [ADDRESS, "10.9.9.9"]) expect(ownNode(here, { nodes: without(claims(ip)) })).toBe(here);
});

test("of the nodes that are away a member of etcd that never started is none, and the others still count", async () => {
  const nameless = { id: "b1b2c3d4e5f60718", name: "", peerURLs: ["https://127.77.0.12:2380"] };
  const data = await pretendData(undefined, [MEMBER, nameless]);
  const [dataFrom, known] = ["/var/lib/etcd", { cluster: readCluster(data), data, node: NODE }];
  const refuse =
    (...without: string[]) =>
    () =>
      refuseUnknownNodes({ without, lost: [] }, { ...known, dataFrom, etcd: { dir: dataFrom } });
  expect(refuse("w1")).not.toThrow();
  expect(refuse("w1", nameless.id)).toThrow(
    `${nameless.id} is not a node that is away, but a member of etcd`,
  );
});
