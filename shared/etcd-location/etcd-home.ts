/**
 * Where this cluster's etcd runs, and so who owns its certificates: one value, decided here and asked by
 * everybody. Parts 1 to 4 repair the static pod that kubeadm makes. Reads only.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list } from "../files/files.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { findStaticPods } from "../manifests/mirror-pods.ts";
import { certificatesDirOn, manifestPath, readManifest, whereIs } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { isLoopback } from "../pki/addresses.ts";
import { tracesOf } from "./control-plane-traces.ts";
import { type EtcdUnit, isClusters, readEtcdUnit } from "./etcd-unit.ts";
import { hostOf } from "./reach-etcd.ts";

/** ClusterConfiguration's etcd.external (kubeadm v1beta4). */
export interface ExternalEtcd {
  endpoints?: string[];
  caFile?: string;
  certFile?: string;
  keyFile?: string;
}

export interface EtcdHome {
  /**
   * `static pod`: kubeadm's, of this node; its certificates are kubeadm's as well, below certificatesDir.
   * `unit`: a systemd unit of this node, with files of its own. `elsewhere`: on other machines. `unknown`:
   * nothing shows whether it ever was here.
   */
  runs: "static pod" | "unit" | "elsewhere" | "unknown";
  /** Where it is a unit. */
  unit?: EtcdUnit;
  /** URLs in the API server's --etcd-servers, where they are known. */
  servers: string[];
  /** Files by which the API server reaches it: CA, certificate, key. */
  client: string[];
}

interface Seen {
  node: Node | undefined;
  dataDir: string;
  data?: EtcdData | undefined;
  /** Read from the data, where it can be read. */
  cluster?: { configuration: { etcd?: { external?: ExternalEtcd } } } | undefined;
  /** The containers, if they are known, also those that have ended. */
  all?: readonly Container[];
}

/** The cluster's own word counts where it can be read; else what is on this node. */
export function etcdHome(seen: Seen): EtcdHome {
  const { node, dataDir, cluster, all = [] } = seen;
  const found = etcdOptions(seen);
  const unit = readEtcdUnit();
  if (cluster) {
    if (cluster.configuration.etcd?.external === undefined) return { runs: "static pod", ...found };
    return unit ? { runs: "unit", unit, ...found } : { runs: "elsewhere", ...found };
  }
  const isPod = node !== undefined && tracesOf("etcd", node, all).length > 0;
  if (!isPod && unit && isClusters(unit)) return { runs: "unit", unit, ...found };
  // data that cannot be read is of this node's etcd all the same
  if (isPod || exists(dataDir) || (node && found.servers.some((url) => isOwn(url, node.addresses))))
    return { runs: "static pod", ...found };
  const isElsewhere =
    found.servers.length > 0 || (node !== undefined && tracesOf("kube-apiserver", node, all).length > 0);
  return { runs: isElsewhere ? "elsewhere" : "unknown", ...found };
}

/** kubeadm's own, for a stacked etcd and for one of its documentation's external set-up. */
function kubeadms(node: Node | undefined): string[] {
  return ["etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"].map(
    (file) => `${certificatesDirOn(node)}/${file}`,
  );
}

/** kubespray's and KubeKey's folder: it survives on a control plane node, also where etcd is elsewhere. */
const ETCD_SSL = "/etc/ssl/etcd/ssl";

/** By the API server's manifest, by its mirror pod, by kubeadm's configuration, by files that are left. */
function etcdOptions({ node, data, cluster }: Seen): Pick<EtcdHome, "servers" | "client"> {
  const manifest = node && attempt(() => readManifest(whereIs(manifestPath({ node }, "kube-apiserver"))));
  const mirror =
    node &&
    data &&
    attempt(() => findStaticPods(data, node.name).proved.find(({ name }) => name === "kube-apiserver")?.pod);
  for (const pod of [manifest, mirror]) {
    const command = flags(pod && !(pod instanceof Fail) && pod.spec ? [...commandOf(pod)] : []);
    const client = ["etcd-cafile", "etcd-certfile", "etcd-keyfile"].flatMap(
      (flag) => command.get(flag) ?? [],
    );
    const servers = command.get("etcd-servers")?.split(",") ?? [];
    if (servers.length > 0) return { servers, client: client.length > 0 ? client : kubeadms(node) };
  }
  const { endpoints = [], caFile, certFile, keyFile } = cluster?.configuration.etcd?.external ?? {};
  if (caFile && certFile && keyFile) return { servers: endpoints, client: [caFile, certFile, keyFile] };
  const left = list(ETCD_SSL).filter((name) => name === "ca.pem" || name.startsWith("node-"));
  return {
    servers: endpoints,
    client: left.length > 2 ? left.map((name) => `${ETCD_SSL}/${name}`) : kubeadms(node),
  };
}

function isOwn(url: string, addresses: readonly string[]): boolean {
  return isLoopback(hostOf(url)) || addresses.includes(hostOf(url));
}
