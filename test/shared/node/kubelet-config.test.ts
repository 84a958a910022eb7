/**
 * The kubelet's files and folders as the kubelet itself would find them: by its flags, its configuration and
 * its drop-ins.
 */
import { expect, test } from "bun:test";
import { readText, writeFile } from "../../../shared/files/files.ts";
import { installersConfig, readKubelet, takeConfigOf } from "../../../shared/node/kubelet-config.ts";
import { NODE } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const read = (flags: Record<string, string> = {}) => readKubelet(new Map(Object.entries(flags)));
const MAIN = `staticPodPath: manifests
authentication: {x509: {clientCAFile: ../pki/ca.crt, note: kept}}
tlsCertFile: /etc/tls.crt
containerRuntimeEndpoint: unix:///run/crio/crio.sock
`;

test("without flags, kubeadm's paths", () => {
  using _box = sandbox();
  writeFile("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\n");
  expect(read()).toEqual({ ...NODE.kubelet, runtimeEndpoint: NODE.runtimeEndpoint });
});

test("--config elsewhere; relative paths begin beside it, those of a drop-in and of a flag in the unit's working directory", () => {
  using _box = sandbox();
  writeFile("/var/lib/kubelet/config.yaml", "staticPodPath: /etc/kubernetes/manifests\n");
  writeFile("/opt/kubelet/etc/config.yaml", MAIN);
  expect(read({ config: "/opt/kubelet/etc/config.yaml" })).toMatchObject({
    staticPodPath: "/opt/kubelet/etc/manifests",
    clientCaFile: "/opt/kubelet/pki/ca.crt",
    runtimeEndpoint: "unix:///run/crio/crio.sock",
    files: [
      { path: "/opt/kubelet/etc/config.yaml", flag: "--config" },
      { path: "/etc/tls.crt", flag: "tlsCertFile" },
    ],
  });
  writeFile("/etc/kubelet.d/10.conf", "staticPodPath: pods\n");
  const dropIns = { config: "opt/kubelet/etc/config.yaml", "config-dir": "/etc/kubelet.d" };
  expect(read(dropIns)).toMatchObject({ staticPodPath: "/pods", clientCaFile: "/opt/kubelet/pki/ca.crt" });
});

test("flags count more than the configuration; --cert-dir does not follow --root-dir", () => {
  using _box = sandbox();
  writeFile("/var/lib/kubelet/config.yaml", MAIN);
  const flags = {
    "pod-manifest-path": "/srv/pods",
    "client-ca-file": "/srv/ca.crt",
    "container-runtime-endpoint": "unix:///run/x.sock",
    "rotate-server-certificates": "true",
    "root-dir": "/data/kubelet/",
  };
  expect(read(flags)).toMatchObject({
    staticPodPath: "/srv/pods",
    clientCaFile: "/srv/ca.crt",
    runtimeEndpoint: "unix:///run/x.sock",
    serverTlsBootstrap: true,
    podsDir: "/data/kubelet/pods",
    clientPem: "/var/lib/kubelet/pki/kubelet-client-current.pem",
  });
  expect(read({ "cert-dir": "/data/pki" })).toMatchObject({
    clientPem: "/data/pki/kubelet-client-current.pem",
    serverPem: "/data/pki/kubelet-server-current.pem",
  });
});

test("a configuration that --config names and that is lost: kubeadm's own counts; without both this is no node of kubeadm's", () => {
  using _box = sandbox();
  expect(() => read({ config: "/etc/kubernetes/kubelet.yaml" })).toThrow(
    '"/etc/kubernetes/kubelet.yaml" is missing',
  );
  writeFile("/var/lib/kubelet/config.yaml", "staticPodPath: /etc/static\n");
  expect(read({ config: "/etc/kubernetes/kubelet.yaml" }).staticPodPath).toBe("/etc/static");
});

const CONFIG = "/etc/kubernetes/kubelet-config.yaml";

type Row = [what: string, text: string, nodeIp: string | undefined, written: string | undefined];

test.each<Row>([
  ["with this node's address", 'a: 1\naddress: "10.0.0.12"\n', "10.0.0.13", 'a: 1\naddress: "10.0.0.13"\n'],
  ["with every address", "address: 0.0.0.0\nb: 1\n", "10.0.0.13", "address: 0.0.0.0\nb: 1\n"],
  ...["::", '"::" # all', "0:0:0:0:0:0:0:0", "'0::0'"].map((any): Row => {
    const text = `address: ${any}\nb: 1\n`;
    return [`with every address, spelled ${any}`, text, "10.0.0.13", text];
  }),
  [
    "as it is, if this node's address is not known",
    "address: 10.0.0.12\n",
    undefined,
    "address: 10.0.0.12\n",
  ],
])("another node's configuration takes a lost one's place %s", (_, text, nodeIp, written) => {
  using _box = sandbox();
  const files = [{ path: CONFIG, flag: "--config", isKept: false }];
  const from = { path: CONFIG, text, from: "cp2" };
  expect(takeConfigOf({ ...from, path: "/etc/kubernetes/other.yaml" }, { files, nodeIp })).toBe(false);
  expect(takeConfigOf(from, { files, nodeIp })).toBe(true);
  expect(readText(CONFIG)).toBe(written);
  expect(installersConfig({ files, nodeIp })).toEqual({ path: CONFIG, text: written! });
  // one that is here stays
  expect(takeConfigOf({ ...from, text: "b: 2\n" }, { files, nodeIp })).toBe(false);
  expect(
    installersConfig({ files: [{ ...files[0]!, path: "/var/lib/kubelet/config.yaml" }], nodeIp }),
  ).toBeUndefined();
});
