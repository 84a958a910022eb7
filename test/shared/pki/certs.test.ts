import { expect, test } from "bun:test";
import {
  canonicalIp,
  endpointHost,
  endpointUrl,
  firstAddress,
  ipBytes,
  names,
} from "../../../shared/pki/addresses.ts";
import {
  algorithmLike,
  CERTS,
  certRow,
  minorOf,
  SERVICE_ACCOUNT_KEYS,
  subjectOf,
} from "../../../shared/pki/certs.ts";
import { testFacts } from "../../pretend/facts.ts";

test("every CA stands above what it signs, and names and files are unique", () => {
  CERTS.forEach((row, i) => {
    if (row.ca) expect(CERTS.slice(0, i).map(({ name }) => name as string)).toContain(row.ca);
  });
  expect(new Set(CERTS.map(({ name }) => name)).size).toBe(CERTS.length);
  expect(new Set([...CERTS.map(({ file }) => file), SERVICE_ACCOUNT_KEYS.file as string]).size).toBe(
    CERTS.length + 1,
  );
});

test("what travels between control plane nodes is exactly the roots and sa; only leaves have usages", () => {
  for (const row of CERTS)
    expect([row.name, row.shared === true, row.usages.length === 0]).toEqual([row.name, !row.ca, !row.ca]);
});

test.each([
  ["RSA-1024", "RSA-2048"],
  ["RSA-2048", "RSA-2048"],
  ["RSA-3072", "RSA-3072"],
  ["RSA-3500", "RSA-4096"],
  ["RSA-4608", "RSA-4096"],
  ["ECDSA-P256", "ECDSA-P256"],
  ["ECDSA-P384", "ECDSA-P384"],
  ["ECDSA-P521", "ECDSA-P384"],
  ["Ed25519", undefined],
])(
  "beside a CA of %s new keys are of %p: the next larger that kubeadm makes, or its largest",
  (name, like) => {
    expect(algorithmLike(name)).toBe(like as ReturnType<typeof algorithmLike>);
  },
);

// kubernetes/kubernetes#119859, #120521, #121837 (1.29), #138957 (1.37) and its cherry-picks into 1.33 to
// 1.36
test.each([
  ["v1.28.15", "system:masters", "system:masters"],
  ["v1.29.0", "kubeadm:cluster-admins", undefined],
  ["v1.32.13", "kubeadm:cluster-admins", undefined],
  ["v1.33.11", "kubeadm:cluster-admins", undefined],
  ["v1.33.12", undefined, undefined],
  ["v1.35.4", "kubeadm:cluster-admins", undefined],
  ["v1.36.0", "kubeadm:cluster-admins", undefined],
  ["v1.36.1", undefined, undefined],
  ["v1.37.2", undefined, undefined],
])("in %s the kubelet client's group is %p, the etcd clients' %p", (kubernetesVersion, kubelet, etcd) => {
  const facts = testFacts({ kubernetesVersion });
  const groups = ["apiserver-kubelet-client", "apiserver-etcd-client", "etcd-healthcheck-client"].map(
    (name) => subjectOf(certRow(name), facts).o,
  );
  expect(groups).toEqual([kubelet, etcd, etcd]);
});

test("the API server's names are kubeadm's: names sorted, addresses in order, each once, endpoint and extra ones included", () => {
  const facts = testFacts({
    certSANs: ["Z.example", "10.250.99.1", "*.wild.example", "192.0.2.7", "not_a_name"],
    serviceSubnets: ["10.96.0.0/12"],
  });
  expect(certRow("apiserver").names?.(facts)).toEqual({
    dns: [
      "*.wild.example",
      "api.example",
      "kubernetes",
      "kubernetes.default",
      "kubernetes.default.svc",
      "kubernetes.default.svc.cluster.local",
      "m1",
      "z.example",
    ],
    ips: ["10.96.0.1", "10.250.99.1", "192.0.2.7"],
  });
});

test("etcd's server and peer are valid for the node, localhost and their own extra names", () => {
  const facts = testFacts({ etcdServerCertSANs: ["etcd.example"], etcdPeerCertSANs: ["192.0.2.8"] });
  expect(certRow("etcd-server").names?.(facts)).toEqual({
    dns: ["etcd.example", "localhost", "m1"],
    ips: ["10.250.99.1", "127.0.0.1", "::1"],
  });
  expect(certRow("etcd-peer").names?.(facts)).toEqual({
    dns: ["localhost", "m1"],
    ips: ["10.250.99.1", "127.0.0.1", "::1", "192.0.2.8"],
  });
});

test.each([
  ["10.96.0.0/12", "10.96.0.1"],
  ["10.97.3.4/16", "10.97.0.1"],
  ["192.168.7.128/25", "192.168.7.129"],
  ["fd00:10:96::/112", "fd00:10:96::1"],
  ["2001:db8:0:1:2::/80", "2001:db8:0:1:2::1"],
])("the first address of %s is %s", (cidr, address) => {
  expect(firstAddress(cidr)).toBe(address);
});

test.each(["", "10.96.0.0", "10.96.0.0/32", "10.96.0.0/x", "fd00::/128", "api.example/12"])(
  "%p is refused as a service subnet",
  (cidr) => {
    expect(() => firstAddress(cidr)).toThrow("is not a service subnet");
  },
);

test.each([
  ["api.example:8443", "api.example", "https://api.example:8443"],
  ["api.example", "api.example", "https://api.example:6443"],
  ["10.0.0.1:8443", "10.0.0.1", "https://10.0.0.1:8443"],
  ["[fd00::1]:8443", "fd00::1", "https://[fd00::1]:8443"],
  ["fd00::1", "fd00::1", "https://[fd00::1]:6443"],
  ["[fd00::1]", "fd00::1", "https://[fd00::1]:6443"],
])("the endpoint %s has host %s and URL %s", (endpoint, host, url) => {
  expect([endpointHost(endpoint), endpointUrl(endpoint, 6443)]).toEqual([host, url]);
});

test("an address has one form, whatever it was written like", () => {
  expect(["0:0:0:0:0:0:0:1", "FD00:0::0A", "::ffff:10.0.0.1", "10.0.0.1", "::"].map(canonicalIp)).toEqual([
    "::1",
    "fd00::a",
    "10.0.0.1",
    "10.0.0.1",
    "::",
  ]);
  expect([...ipBytes("fd00::1:2")]).toEqual([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);
  expect(names(["::1", "0:0:0:0:0:0:0:1", "a", "A"])).toEqual({ dns: ["a"], ips: ["::1"] });
  expect(() => ipBytes("fe80::1%eth0")).toThrow('"fe80::1%eth0" is not an IP address');
});

test("a version's minor is read with or without the v, and nonsense is a bug", () => {
  expect([minorOf("v1.34.4"), minorOf("1.29.0-rc.1")]).toEqual([34, 29]);
  expect(() => minorOf("stable-1")).toThrow("not a Kubernetes version");
});
