/**
 * Calico as pod network: VXLAN, Typha and kube-controllers, with the names, rules, probes and tolerations of
 * its own manifest. Where Calico's operator would put it, it is in calico-system.
 */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments, stringify } from "yaml";
import { buildGo } from "./go-build.ts";
import { type Image, shellOf, withLibraries } from "./images.ts";
import type { GoBuild } from "./pins.ts";
import type { AddOn } from "./profile.ts";

const MODULE = "github.com/projectcalico/calico";
const MANIFEST = "calico-typha.yaml";

/**
 * A tree of release 3.29, which calls its images v3.28.5. Its zip has no ./api, and the proxy has one version
 * of that module.
 */
export const CALICO: GoBuild = {
  name: "calico",
  module: MODULE,
  version: "v1.11.0-cni-plugin.0.20250813170300-a0db560f0520",
  packages: [
    "node/cmd/calico-node",
    "typha/cmd/calico-typha",
    "kube-controllers/cmd/kube-controllers",
    "kube-controllers/cmd/check-status",
    "cni-plugin/cmd/calico",
    "cni-plugin/cmd/install",
  ].map((path) => `${MODULE}/${path}`),
  replaces: { "github.com/projectcalico/api": "v0.0.0-20240708202104-e3f70b269c2c" },
  files: [`manifests/${MANIFEST}`],
};

export type CalicoNamespace = "kube-system" | "calico-system";

export interface TyphaOptions {
  /** How many; the manifest has one, and advises more. */
  typhas?: number;
}

export function calico(namespace: CalicoNamespace = "kube-system", typha: TyphaOptions = {}): AddOn {
  return {
    packages: [["/usr/sbin/ipset", "ipset"]],
    images: async () => await calicoImages(await buildGo(CALICO)),
    objects: async () =>
      calicoObjects(readFileSync(join(await buildGo(CALICO), MANIFEST), "utf8"), namespace, typha),
    writes: [/^\/var\/lib\/calico\//],
    // Its own liveness probe ends it when the API is unavailable for a minute.
    endsWithoutApi: /\/calico-kube-controllers-[^/]*\/calico-kube-controllers$/,
  };
}

async function calicoImages(programs: string): Promise<Image[]> {
  const [, tag] = /calico\/node:(\S+)/.exec(readFileSync(join(programs, MANIFEST), "utf8"))!;
  const name = (image: string) => `docker.io/calico/${image}:${tag}`;
  const program = (path: string, place: string) => ({ [place]: join(programs, path) });
  return [
    await nodeImage(name("node"), join(programs, "calico-node")),
    {
      name: name("cni"),
      // One program that looks at the name by which it is called.
      files: {
        ...program("install", "/opt/cni/bin/install"),
        ...program("calico", "/opt/cni/bin/calico"),
        ...program("calico", "/opt/cni/bin/calico-ipam"),
      },
    },
    {
      name: name("typha"),
      files: program("calico-typha", "/usr/bin/calico-typha"),
      entrypoint: ["/usr/bin/calico-typha"],
      user: "999",
    },
    {
      name: name("kube-controllers"),
      files: {
        ...program("kube-controllers", "/usr/bin/kube-controllers"),
        ...program("check-status", "/usr/bin/check-status"),
      },
      entrypoint: ["/usr/bin/kube-controllers"],
      user: "999",
      folders: ["status"],
    },
  ];
}

/**
 * What runit does in calico/node where the backend is VXLAN: two programs that end, then services, each of
 * which starts again a second after its end.
 */
const START = `exec 2>&1
calico-node -startup || exit 1
NODENAME=$(cat /var/lib/calico/nodename)
export NODENAME FELIX_FELIXHOSTNAME=$NODENAME FELIX_DATASTORETYPE=$DATASTORE_TYPE
calico-node -allocate-tunnel-addrs -allocate-tunnel-addrs-run-once || exit 1
for service in felix monitor-token monitor-addresses allocate-tunnel-addrs status-reporter; do
  (while :; do calico-node -$service; echo "service $service ended with $?"; sleep 1; done) &
done
wait`;

async function nodeImage(name: string, program: string): Promise<Image> {
  const tables = "/usr/sbin/xtables-nft-multi";
  const tools = [
    tables,
    ...["/usr/sbin/conntrack", "/usr/sbin/ipset", "/usr/sbin/nft", "/usr/bin/ip"],
    ...globSync("/usr/lib/*/xtables/*.so"),
  ];
  const names = ["iptables", "ip6tables", "iptables-nft", "ip6tables-nft"].flatMap((tool) => [
    tool,
    `${tool}-save`,
    `${tool}-restore`,
  ]);
  const shell = shellOf(["sh", "cat", "ls", "sleep", "ps", "env", "grep"]);
  return {
    name,
    files: { ...(await withLibraries(tools)), ...shell.files, "/usr/bin/calico-node": program },
    links: { ...shell.links, ...Object.fromEntries(names.map((tool) => [`/usr/sbin/${tool}`, tables])) },
    entrypoint: ["/bin/sh", "-c", START],
  };
}

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind
type Objects = any;

/** Calico's manifest, with VXLAN in the place of BIRD, in this namespace. */
export function calicoObjects(
  manifest: string,
  namespace: CalicoNamespace,
  { typhas = 1 }: TyphaOptions = {},
): string {
  const objects: Objects[] = parseAllDocuments(manifest).flatMap((document) => document.toJS() ?? []);
  for (const { kind, metadata, data, spec } of objects) {
    if (kind === "ConfigMap") data.calico_backend = "vxlan";
    if (kind === "DaemonSet") withVxlan(spec.template.spec, namespace);
    if (kind !== "Deployment" || metadata.name !== "calico-typha") continue;
    spec.replicas = typhas;
    setEnv(spec.template.spec, { TYPHA_K8SNAMESPACE: namespace });
  }
  const yaml = objects.map((object) => stringify(object)).join("---\n");
  if (namespace === "kube-system") return yaml;
  const labels = { "pod-security.kubernetes.io/enforce": "privileged" };
  const made = stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels } });
  return `${made}---\n${yaml.replaceAll("namespace: kube-system", `namespace: ${namespace}`)}`;
}

/**
 * Without BIRD, and without what a node of the lab lacks: BPF's file system, and addresses of an older
 * plugin.
 */
function withVxlan(spec: Objects, namespace: CalicoNamespace) {
  setEnv(spec, {
    CALICO_IPV4POOL_IPIP: "Never",
    // CrossSubnet would make no tunnel: all nodes are in one subnet.
    CALICO_IPV4POOL_VXLAN: "Always",
    CALICO_IPV4POOL_CIDR: "10.244.0.0/16",
    CLUSTER_TYPE: "k8s",
    FELIX_IPTABLESBACKEND: "NFT",
    FELIX_LOGSEVERITYSYS: "none",
    FELIX_TYPHAK8SNAMESPACE: namespace,
  });
  const [node] = spec.containers;
  for (const probe of [node.livenessProbe, node.readinessProbe])
    probe.exec.command = probe.exec.command.filter((word: string) => !word.startsWith("-bird-"));
  delete node.resources;
  const gone = ["bpffs", "sys-fs", "nodeproc", "host-local-net-dir"];
  const stays = ({ name }: { name: string }) => !gone.includes(name);
  spec.initContainers = spec.initContainers.filter(({ name }: Objects) => name === "install-cni");
  spec.volumes = spec.volumes.filter(stays);
  node.volumeMounts = node.volumeMounts.filter(stays);
}

function setEnv(spec: Objects, values: Record<string, string>) {
  const [container] = spec.containers;
  const kept = container.env.filter(({ name }: Objects) => !(name in values));
  container.env = [...kept, ...Object.entries(values).map(([name, value]) => ({ name, value }))];
}
