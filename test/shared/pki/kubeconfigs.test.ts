import { expect, test } from "bun:test";
import { writeFile } from "../../../shared/files/files.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueClient } from "../../../shared/pki/issue.ts";
import {
  bootstrapKubeconfig,
  KUBECONFIGS,
  KUBELET_CLIENT_PEM,
  kubeconfigRow,
  kubeconfigRows,
  kubeconfigText,
  kubeletKubeconfig,
  parseKubeconfig,
  readKubeconfig,
  withCa,
} from "../../../shared/pki/kubeconfigs.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");
const CONTENT = { ca: "CA\n", user: { cert: "CERT\n", key: "KEY\n" } };

test("super-admin.conf exists from 1.29 on, and only where it is asked for", () => {
  const names = (kubernetesVersion: string, superAdmin: boolean) =>
    kubeconfigRows(testFacts({ kubernetesVersion }), { superAdmin }).map(({ name }) => name);
  expect(names("v1.34.4", true)).toEqual([
    "admin",
    "super-admin",
    "kubelet",
    "controller-manager",
    "scheduler",
  ]);
  expect(names("v1.34.4", false)).toEqual(["admin", "kubelet", "controller-manager", "scheduler"]);
  expect(names("v1.28.0", true)).toEqual(["admin", "kubelet", "controller-manager", "scheduler"]);
});

test("a control plane node's kubelet talks to its own API server from 1.33 on, to the endpoint before", () => {
  const servers = (different: object) => KUBECONFIGS.map((row) => row.server(testFacts(different)));
  const [endpoint, local] = ["https://api.example:6443", "https://10.250.99.1:6443"];
  expect(servers({ kubernetesVersion: "v1.32.9" })).toEqual([endpoint, endpoint, endpoint, local, local]);
  expect(servers({ kubernetesVersion: "v1.33.0" })).toEqual([endpoint, endpoint, local, local, local]);
  expect(new Set(servers({ controlPlaneEndpoint: undefined }))).toEqual(new Set([local]));
});

test("the admin's group is system:masters before 1.29", () => {
  const admin = kubeconfigRow("admin");
  expect([admin.o?.(28), admin.o?.(29)]).toEqual(["system:masters", "kubeadm:cluster-admins"]);
});

test("a kubeconfig's text is kubeadm's", () => {
  expect(
    kubeconfigText(kubeconfigRow("admin"), testFacts({ clusterName: "blue" }), CONTENT),
  ).toBe(`apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: ${base64("CA\n")}
    server: https://api.example:6443
  name: blue
contexts:
- context:
    cluster: blue
    user: kubernetes-admin
  name: kubernetes-admin@blue
current-context: kubernetes-admin@blue
kind: Config
users:
- name: kubernetes-admin
  user:
    client-certificate-data: ${base64("CERT\n")}
    client-key-data: ${base64("KEY\n")}
`);
});

test("what is written is read back", async () => {
  using _box = sandbox();
  const facts = testFacts();
  const ca = await issueCa(certRow("ca"), facts);
  const user = await issueClient({ cn: "kubernetes-admin" }, ca, facts);
  writeFile(
    "/etc/kubernetes/admin.conf",
    kubeconfigText(kubeconfigRow("admin"), facts, { ca: ca.cert, user }),
  );
  expect(readKubeconfig("/etc/kubernetes/admin.conf")).toEqual({
    server: "https://api.example:6443",
    caPem: ca.cert,
    clientCertPem: user.cert,
    clientKeyPem: user.key,
    token: undefined,
  });
});

test("the kubelet's own form is written as the kubelet does, and read with the certificate it points to", () => {
  using _box = sandbox();
  const text = kubeletKubeconfig({ server: "https://api.example:6443", ca: "CA\n" });
  expect(text).toContain("    cluster: default-cluster\n    namespace: default\n    user: default-auth\n");
  writeFile("/etc/kubernetes/kubelet.conf", text);
  const config = readKubeconfig("/etc/kubernetes/kubelet.conf");
  expect(config).toMatchObject({ clientCertificatePath: KUBELET_CLIENT_PEM });
  expect(config?.clientCertPem).toBeUndefined();
  writeFile(KUBELET_CLIENT_PEM, "CERT\nKEY\n");
  expect(readKubeconfig("/etc/kubernetes/kubelet.conf")?.clientCertPem).toBe("CERT\nKEY\n");
});

test("a bootstrap kubeconfig carries the token and nothing else", () => {
  const config = parseKubeconfig(
    bootstrapKubeconfig({ server: "https://api.example:6443", ca: "CA\n", token: "abcdef.0123456789abcdef" }),
    "x",
  );
  expect(config).toMatchObject({
    server: "https://api.example:6443",
    caPem: "CA\n",
    token: "abcdef.0123456789abcdef",
  });
  expect(config.clientCertPem).toBeUndefined();
});

test.each([
  [{ exec: { command: "aws" } }, "the program aws"],
  [{ token: "t" }, "a token"],
  [{ tokenFile: "/t" }, "a token"],
  [{ "auth-provider": { name: "oidc" } }, "the plugin oidc"],
  [{ username: "u", password: "p" }, "a password"],
  [{ "client-certificate": "/c", token: "t" }, undefined],
  [{}, undefined],
])("a user with %j signs in by %p beside a certificate", (user, by) => {
  const config = {
    "current-context": "c",
    clusters: [{ name: "k", cluster: { server: "https://a:6443" } }],
    contexts: [{ name: "c", context: { cluster: "k", user: "u" } }],
    users: [{ name: "u", user }],
  };
  expect(parseKubeconfig(JSON.stringify(config), "x").signsInBy).toBe(by);
});

test("only the current context counts", () => {
  const two = kubeconfigText(kubeconfigRow("scheduler"), testFacts(), CONTENT).replace(
    "clusters:\n",
    "clusters:\n- cluster: {server: 'https://other:6443'}\n  name: other\n",
  );
  expect(parseKubeconfig(two, "x").server).toBe("https://10.250.99.1:6443");
});

const BY_PATHS = `apiVersion: v1
clusters:
- cluster:
    certificate-authority: pki/ca.crt
    server: https://10.0.0.1:6443
  name: c
contexts:
- context: {cluster: c, user: u}
  name: a
current-context: a
users:
- name: u
  user: {client-certificate: pki/user.crt, client-key: /etc/kubernetes/pki/user.key}
`;

test("a relative path begins in the kubeconfig's own folder, as in client-go", () => {
  using _box = sandbox();
  for (const file of ["ca.crt", "user.crt", "user.key"]) writeFile(`/etc/kubernetes/pki/${file}`, file);
  writeFile("/etc/kubernetes/x.conf", BY_PATHS);
  expect(readKubeconfig("/etc/kubernetes/x.conf")).toMatchObject({
    ...{ caPem: "ca.crt", caPath: "/etc/kubernetes/pki/ca.crt" },
    ...{ clientCertPem: "user.crt", clientCertificatePath: "/etc/kubernetes/pki/user.crt" },
    clientKeyPem: "user.key",
  });
});

test.each([
  ["a number as a certificate", "certificate-authority: pki/ca.crt", "certificate-authority-data: 12345678"],
  ["a list as a path", "certificate-authority: pki/ca.crt", "certificate-authority: [a]"],
  ["a number as a server", "https://10.0.0.1:6443", "6443"],
  ["a list as a key", "client-key: /etc/kubernetes/pki/user.key", "client-key-data: [a]"],
])("%s makes a kubeconfig that cannot be read, as for client-go", (_, from, to) => {
  expect(() => parseKubeconfig(BY_PATHS.replace(from, to), "/f")).toThrow("Cannot use the kubeconfig /f: ");
});

test("a CA that is put in takes the word out that no CA counts: client-go refuses a kubeconfig with both", () => {
  const insecure = BY_PATHS.replace("certificate-authority: pki/ca.crt", "insecure-skip-tls-verify: true");
  const text = withCa(insecure, "CA\n")!;
  expect(parseKubeconfig(text, "/f").caPem).toBe("CA\n");
  expect(text).not.toContain("insecure");
});

test("a missing kubeconfig is undefined; an empty or broken one is a failure that shows none of its text", () => {
  using _box = sandbox();
  expect(readKubeconfig("/etc/kubernetes/admin.conf")).toBeUndefined();
  expect(() => parseKubeconfig("", "/f")).toThrow("Cannot use the kubeconfig /f: it is empty");
  expect(() => parseKubeconfig("kind: Config\n", "/f")).toThrow("its current context names no server");
  expect(() => parseKubeconfig("token: [s3cret", "/f")).toThrow(
    "Cannot use the kubeconfig /f: it is not YAML",
  );
});
