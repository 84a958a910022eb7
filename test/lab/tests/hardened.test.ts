/**
 * The hardened cluster's files, flags and volumes fit together; a scenario with it takes ten minutes to say
 * that they do not.
 */
import { expect, test } from "bun:test";
import { parse, parseAllDocuments } from "yaml";
import { hardened } from "../machine/hardened.ts";
import { apiServerPatch, initConfig, joinConfig } from "../machine/kubeadm-config.ts";
import type { Machine } from "../machine/machine.ts";
import { USUAL } from "../machine/profile.ts";
import { hardenedScenarios } from "../scenarios/hardened.ts";

const node = { name: "cp1", nodeName: "cp1.lab.example", ip: "10.250.0.11" } as Machine;
const profile = hardened();

test("each file that a flag of the API server names is laid down, and is in a volume at the same path", () => {
  const paths = profile.apiServerFlags.map(([, value]) => value).filter((value) => value.startsWith("/"));
  const own = paths.filter((path) => !path.startsWith(profile.certificatesDir));
  expect(own).toHaveLength(5);
  const isMounted = (path: string) =>
    profile.apiServerVolumes.some(({ hostPath }) => path === hostPath || path.startsWith(`${hostPath}/`));
  expect(own.filter((path) => !(path in profile.controlPlaneFiles) || !isMounted(path))).toEqual([]);
  for (const path of own) expect(parse(profile.controlPlaneFiles[path]!)).toHaveProperty("kind");
});

test("every cluster has encryption keys of its own", () => {
  const path = profile.apiServerFlags.find(([flag]) => flag === "encryption-provider-config")![1];
  expect(hardened().controlPlaneFiles[path]).not.toBe(profile.controlPlaneFiles[path]);
});

test("kubeadm is told of both issuers, in their order, and of the folders; the usual cluster has none of it", () => {
  const [, cluster] = parseAllDocuments(initConfig(node, profile)).map((document) => document.toJS());
  const issuers = cluster.apiServer.extraArgs.filter(
    ({ name }: { name: string }) => name === "service-account-issuer",
  );
  expect(issuers.map(({ value }: { value: string }) => value)).toEqual([
    "https://issuer.lab.example",
    "https://kubernetes.default.svc.cluster.local",
  ]);
  expect([cluster.certificatesDir, cluster.etcd.local.dataDir]).toEqual([
    "/etc/kubernetes/ssl",
    "/data/etcd",
  ]);
  expect(initConfig(node, USUAL)).not.toMatch(/issuer|ssl|config-dir|ECDSA/);
});

test("where the API answers nobody without credentials, a node joins with a discovery file", () => {
  const join = { token: "the token", caCertHash: "sha256:1" };
  expect(
    parse(joinConfig(node, profile, { ...join, discoveryFile: "/root/discovery.conf" })).discovery,
  ).toEqual({
    file: { kubeConfigPath: "/root/discovery.conf" },
    tlsBootstrapToken: "the token",
  });
  expect(parse(joinConfig(node, USUAL, join)).discovery).toHaveProperty("bootstrapToken");
});

test("the sidecar comes after the API server's own container, with its file", () => {
  const operations = parse(apiServerPatch(profile)) as { path: string; value: { name?: string } }[];
  expect(operations.map(({ path }) => path)).toEqual([
    "/spec/containers/0/command/-",
    "/spec/containers/0/env",
    "/spec/containers/-",
    "/spec/volumes/-",
  ]);
});

test("the disasters on one and on three control plane nodes", () => {
  expect(
    hardenedScenarios.map(({ name, controlPlanes, workers }) => `${name} ${controlPlanes}+${workers}`),
  ).toEqual([
    ...[
      "hardened 1+1",
      "hardened-folder 1+1",
      "hardened-files-lost 1+1",
      "hardened-pki-lost-alive 1+1",
      "hardened-expired 1+1",
    ],
    ...[
      "ha-hardened 3+2",
      "ha-hardened-folder 3+2",
      "ha-hardened-files-lost 3+2",
      "ha-hardened-pki-lost-alive 3+2",
      "ha-hardened-expired 3+2",
    ],
  ]);
});
