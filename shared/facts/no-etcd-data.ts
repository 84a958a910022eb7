/**
 * A control plane node on which there is no etcd data: etcd is external, or its data is lost. Told by what else only a control plane node has, some of which a
 * deletion of /etc/kubernetes leaves alone. Read only.
 */
import { attempt, Fail } from "../fail.ts";
import { exists, list } from "../files/files.ts";
import { flags } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import { type Node, readNode } from "../node/node.ts";
import { podRecords } from "../trust/pods.ts";
import { may, ofNamespace } from "../trust/sources.ts";

export interface WithoutData {
  /** `unknown`: nothing tells whether etcd ever was here. */
  etcd: "external" | "lost" | "unknown";
  /** What tells that this is a control plane node. */
  from: string[];
  /** URLs in the API server's --etcd-servers, where its manifest can be read. */
  servers: string[];
  /** Files by which the API server reaches etcd, as its manifest names them; else kubeadm's places. */
  files: string[];
}

/** Undefined where the data directory is there, and on a worker. `running`: the containers, where they have been looked at. */
export function controlPlaneWithoutData(node: Node, dataDir: string, running: readonly Container[] = []): WithoutData | undefined {
  if (exists(dataDir)) return undefined;
  const [apiServer, etcd] = [tracesOf("kube-apiserver", node, running), tracesOf("etcd", node, running)];
  const from = [...apiServer, ...etcd, ...CONTROL_PLANE_FILES.filter((path) => exists(path))];
  if (from.length === 0) return undefined;
  const { servers, files } = etcdOptions(node);
  const isLocal = servers.some((url) => isOwn(url, node.addresses)) || etcd.length > 0;
  const isElsewhere = servers.length > 0 || apiServer.length > 0;
  return { etcd: isLocal ? "lost" : isElsewhere ? "external" : "unknown", from, servers, files };
}

/** The refusal of everything that needs the data, with the commands that come next. */
export function withoutDataFail(found: WithoutData, node: Node, dataDir: string): Fail {
  const commands = withoutDataSteps(found, node).map((line) => line.replace(/ +# .*/, ""));
  const about = found.etcd === "external" ? "If etcd is external" : "If a member has no data";
  return new Fail(whyWithoutData(found, dataDir), { hint: `${commands.join("; ")}: RUNBOOK 1, "${about}"` });
}

/** The same where etcd's data itself says that it is not the control plane nodes' (somebody has brought a copy here). */
export function refuseExternalEtcd({ node, dataDir, cluster }: { node: Node; dataDir: string; cluster: { externalEtcd: boolean } }) {
  if (cluster.externalEtcd) throw withoutDataFail({ etcd: "external", from: [], ...etcdOptions(node) }, node, dataDir);
}

export function whyWithoutData({ etcd, from, servers }: WithoutData, dataDir: string): string {
  if (etcd === "external")
    return `This cluster's etcd is external: it is not on the control plane nodes${servers.length > 0 ? `, but at ${servers.join(", ")}` : ""}`;
  const reason = etcd === "lost" ? "its etcd data is lost" : "its etcd data is lost, or its etcd is external";
  return `This is a control plane node (${from.slice(0, 2).join(", ")}), and there is no "${dataDir}": ${reason}`;
}

/** Whether the API server of this control plane node goes to an etcd that is elsewhere; false also where nothing tells. */
export async function hasExternalEtcd(dataDir: string): Promise<boolean> {
  try {
    return controlPlaneWithoutData(await readNode(), dataDir)?.etcd === "external";
  } catch (err) {
    if (err instanceof Fail) return false;
    throw err;
  }
}

/** What takes the place of part 1 where etcd is not on the control plane nodes. */
export const KUBEADM_CERTS = `kubeadm init phase certs all --config FILE   # and what follows in RUNBOOK 1, "If etcd is external"`;

/** Parts 1 to 4 go by etcd on the control plane nodes. Where it is external, it is mended there, and kubeadm's own phases do the rest. */
export function withoutDataSteps({ etcd, files }: WithoutData, node: Node): string[] {
  if (etcd === "external")
    return [
      `mend etcd where it runs, and put back what the API server reaches it by: ${files.join(", ")}`,
      "./bunw scripts/00-salvage.ts memory   # lost CA keys; or from another control plane node, by scp -p: ca.*, front-proxy-ca.*, sa.* in /etc/kubernetes/pki",
      KUBEADM_CERTS,
    ];
  return [
    "find / -xdev -path '*/member/snap/db'   # in another folder: --etcd-data DIR; on a disk that is not mounted: mount it",
    `./bunw scripts/02-control-plane.ts --without ${node.name}   # on another control plane node, if it is gone: RUNBOOK 1, "If a member has no data"`,
  ];
}

/** Files that kubeadm makes on control plane nodes only; a copy of admin.conf is found on workers, too. */
const CONTROL_PLANE_FILES = ["controller-manager.conf", "pki/ca.key", "pki/sa.key", "pki/apiserver.crt"].map(
  (file) => `/etc/kubernetes/${file}`,
);

const ETCD_FILES = ["etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"].map((file) => `/etc/kubernetes/pki/${file}`);

/** Of a static pod: its manifest, the kubelet's folder of it, which stays while the kubelet does not run, and its container. */
function tracesOf(name: string, node: Node, running: readonly Container[]): string[] {
  const manifest = manifestPath({ node }, name);
  const { podsDir } = node.kubelet;
  // any pod may call its container so
  const others = new Set(podRecords().flatMap(({ namespace, uid }) => (may(ofNamespace(namespace), "static pods") ? [] : [uid])));
  const uids = list(podsDir).filter((uid) => !others.has(uid));
  const folders = uids.map((uid) => `${podsDir}/${uid}/containers/${name}`);
  return [
    ...[manifest, ...folders].filter((path) => exists(path)),
    ...(running.some((one) => one.name === name && one.namespace === "kube-system") ? [`the container ${name}`] : []),
  ];
}

function etcdOptions(node: Node): Pick<WithoutData, "servers" | "files"> {
  const manifest = attempt(() => readManifest(manifestPath({ node }, "kube-apiserver")));
  const command = flags(manifest instanceof Fail ? [] : (manifest?.spec?.containers?.[0]?.command ?? []));
  const named = ["etcd-cafile", "etcd-certfile", "etcd-keyfile"].flatMap((flag) => command.get(flag) ?? []);
  return { servers: command.get("etcd-servers")?.split(",") ?? [], files: named.length > 0 ? named : ETCD_FILES };
}

function isOwn(url: string, addresses: readonly string[]): boolean {
  const host = URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, "") : "";
  return host === "localhost" || host === "::1" || host.startsWith("127.") || addresses.includes(host);
}
