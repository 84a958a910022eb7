/** What the lab changes in Calico's own manifest, without building it. */
import { expect, test } from "bun:test";
import { parseAllDocuments } from "yaml";
import { calicoObjects } from "../machine/calico.ts";

const MANIFEST = `
kind: ConfigMap
metadata: {name: calico-config, namespace: kube-system}
data: {calico_backend: bird, typha_service_name: calico-typha}
---
kind: DaemonSet
metadata: {name: calico-node, namespace: kube-system}
spec:
  template:
    spec:
      initContainers: [{name: upgrade-ipam}, {name: install-cni}, {name: mount-bpffs}]
      containers:
        - name: calico-node
          env: [{name: CALICO_IPV4POOL_IPIP, value: Always}, {name: IP, value: autodetect}]
          resources: {requests: {cpu: 250m}}
          livenessProbe: {exec: {command: [/bin/calico-node, -felix-live, -bird-live]}}
          readinessProbe: {exec: {command: [/bin/calico-node, -felix-ready, -bird-ready]}}
          volumeMounts: [{name: bpffs}, {name: cni-net-dir}]
      volumes: [{name: bpffs}, {name: cni-net-dir}]
---
kind: Deployment
metadata: {name: calico-typha, namespace: kube-system}
spec: {template: {spec: {containers: [{env: []}]}}}
---
`;

const objectsIn = (yaml: string) => parseAllDocuments(yaml).map((document) => document.toJS());

test("Calico uses VXLAN in the place of BIRD, and keeps the rest of its manifest", () => {
  const [config, daemonSet] = objectsIn(calicoObjects(MANIFEST, "kube-system"));
  expect(config.data).toEqual({ calico_backend: "vxlan", typha_service_name: "calico-typha" });
  const { initContainers, containers, volumes } = daemonSet.spec.template.spec;
  const [node] = containers;
  const env = Object.fromEntries(node.env.map(({ name, value }: Record<string, string>) => [name, value]));
  expect(env).toMatchObject({
    IP: "autodetect",
    CALICO_IPV4POOL_IPIP: "Never",
    CALICO_IPV4POOL_VXLAN: "Always",
  });
  expect(node.env).toHaveLength(Object.keys(env).length);
  expect([node.livenessProbe, node.readinessProbe].map(({ exec }) => exec.command.at(-1))).toEqual([
    "-felix-live",
    "-felix-ready",
  ]);
  expect([initContainers, volumes, node.volumeMounts].flat().map(({ name }) => name)).toEqual([
    "install-cni",
    "cni-net-dir",
    "cni-net-dir",
  ]);
});

test("as its operator has it, everything is in calico-system, and Typha and Felix are told", () => {
  const yaml = calicoObjects(MANIFEST, "calico-system");
  const [namespace, ...objects] = objectsIn(yaml);
  expect(namespace.metadata.name).toBe("calico-system");
  expect(objects.map(({ metadata }) => metadata.namespace)).toEqual([
    "calico-system",
    "calico-system",
    "calico-system",
  ]);
  expect(
    yaml.match(/name: (FELIX_TYPHAK8SNAMESPACE|TYPHA_K8SNAMESPACE)\n\s+value: calico-system/g),
  ).toHaveLength(2);
});
