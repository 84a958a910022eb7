/**
 * A control plane node's facts, read from made-up data, for tests of shared/: nothing is read from this
 * machine.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EtcdData, readEtcdData } from "../../shared/etcd-data/data.ts";
import { readCluster } from "../../shared/facts/cluster.ts";
import { factsFor } from "../../shared/facts/issue-facts.ts";
import type { ControlPlaneNode } from "../../shared/facts/node-facts.ts";
import type { Node } from "../../shared/node/node.ts";
import { newRescue } from "../../shared/node/rescue-folder.ts";
import { ADDRESS, clusterObjects, healthyCp, type Objects, otherMembers } from "./cluster.ts";
import { CLUSTER_ID, MEMBER } from "./node.ts";
import { type WrittenMember, writeEtcdData } from "./write-wal.ts";

export const NODE: Node = {
  name: "m1",
  nameFrom: "a test",
  hostName: "m1",
  addresses: [ADDRESS],
  kubelet: {
    kubeconfig: "/etc/kubernetes/kubelet.conf",
    bootstrapKubeconfig: "/etc/kubernetes/bootstrap-kubelet.conf",
    namedCa: undefined,
    clientCaFile: "/etc/kubernetes/pki/ca.crt",
    staticPodPath: "/etc/kubernetes/manifests",
    serverTlsBootstrap: false,
    keepsCertificate: false,
    clientPem: "/var/lib/kubelet/pki/kubelet-client-current.pem",
    serverPem: "/var/lib/kubelet/pki/kubelet-server-current.pem",
    files: [],
    nodeIp: undefined,
    address: undefined,
    resolvConf: undefined,
    containerRuntime: undefined,
    podsDir: "/var/lib/kubelet/pods",
  },
  systemd: { unit: "", running: undefined },
  runtimeEndpoint: "unix:///run/containerd/containerd.sock",
};

/**
 * etcd's data of the pretend cluster, with the changes of a test. `members`: unset: every labelled Node is
 * one.
 */
export async function pretendData(
  change: (objects: Objects) => void = () => {},
  members?: WrittenMember[],
): Promise<EtcdData> {
  const dir = mkdtempSync(join(tmpdir(), "etcd-"));
  const objects = clusterObjects((await healthyCp()).ca.cert);
  change(objects);
  writeData(dir, objects, { members });
  process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
  return readEtcdData(dir);
}

interface Written {
  /** So many puts follow, and the revision is higher by as many. */
  more?: number;
  members?: WrittenMember[] | undefined;
}

/** Writes an etcd data directory with these objects. */
export function writeData(
  dir: string,
  objects: Objects,
  { more = 0, members = [MEMBER, ...otherMembers(objects)] }: Written = {},
) {
  const puts = Object.entries(objects).map(([key, object]): [string, string | Uint8Array] => [
    `/registry/${key}`,
    typeof object === "string" || object instanceof Uint8Array ? object : JSON.stringify(object),
  ]);
  const extra = Array.from({ length: more }, (_, i): [string, string] => ["/registry/extra", String(i)]);
  writeEtcdData(dir, { clusterId: CLUSTER_ID, members, puts: [...puts, ...extra] });
}

export function controlPlaneOf(data: EtcdData): ControlPlaneNode {
  const cluster = readCluster(data);
  const rescue = newRescue();
  return {
    rescue,
    data,
    dataFrom: "/var/lib/etcd",
    node: NODE,
    etcd: { dir: "/var/lib/etcd", wal: undefined },
    cluster,
    facts: factsFor(NODE, cluster, data),
    endpoint: { witnesses: [], configs: [], value: cluster.endpoint, undecided: false, answers: new Map() },
    asideDir: `${rescue.dir}/aside`,
  };
}
