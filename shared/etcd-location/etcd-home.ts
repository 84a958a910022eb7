/**
 * The one source of etcd's facts for all scripts: where it runs, and so who owns its certificates and who may
 * restart it. kubeadm's static pod is repaired; a unit of this node, or etcd on other machines, is proved. Reads
 * only.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { findStaticPods } from "../manifests/mirror-pods.ts";
import { certificatesDirOn, manifestPath, readManifest, whereIs } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import type { PodSpec } from "../objects/objects.ts";
import { configMapIn } from "../objects/stored.ts";
import { isLoopback } from "../pki/addresses.ts";
import { infoOf, isValidNow, keyMatches, signedBy } from "../pki/certificate.ts";
import type { EtcdClientFiles, ExternalEtcd, UnitFile } from "../pki/certs.ts";
import type { LivingEtcd } from "./etcd-folders.ts";
import { type EtcdUnit, isClusters, ONLY_PROVED, readEtcdUnit, tracesOf } from "./etcd-unit.ts";
import { hostOf, OWN_ALONE, ownMember } from "./reach-etcd.ts";
import { processesOf } from "./static-pod-here.ts";

/** ClusterConfiguration's etcd.external (kubeadm v1beta4). */
export interface EtcdElsewhere {
  endpoints?: string[];
  caFile?: string;
  certFile?: string;
  keyFile?: string;
}

export interface EtcdHome {
  /**
   * `static pod`: kubeadm's, on this node, with its certificates below certificatesDir. `unit`: a systemd
   * unit of this node, with files of its own. `elsewhere`: on other machines. `unknown`: nothing shows
   * whether etcd ever was here.
   */
  runs: "static pod" | "unit" | "elsewhere" | "unknown";
  unit?: EtcdUnit;
  /** URLs in the API server's --etcd-servers, if they are known. */
  servers: string[];
  /** The API server's files for etcd: CA, certificate, key. */
  client: string[];
  /** This node's API server names them: it is a control plane node. */
  isServed: boolean;
  /** Etcd on other machines that has answered. */
  living?: LivingEtcd | undefined;
}

interface Seen {
  node: Node | undefined;
  dataDir: string;
  data?: EtcdData | undefined;
  /** From etcd's data, if it can be read. */
  cluster?: { configuration: { etcd?: { external?: EtcdElsewhere } } } | undefined;
  /** The containers, if known, exited ones included. */
  all?: readonly Container[];
  /** This node's API server, as its manifest, its process or its container has it. */
  apiServer?: { spec: PodSpec } | undefined;
  living?: LivingEtcd | undefined;
}

/** The cluster's own configuration decides if it can be read; else the files of this node. */
export function etcdHome(seen: Seen): EtcdHome {
  const { node, dataDir, cluster, living, all = [] } = seen;
  const found = etcdOptions(seen);
  const unit = readEtcdUnit(() => processesOf("etcd", all)[0]?.spec.containers[0]?.env);
  if (cluster) {
    if (cluster.configuration.etcd?.external === undefined) return { runs: "static pod", ...found };
    return unit && !living ? { runs: "unit", unit, ...found } : { runs: "elsewhere", living, ...found };
  }
  const isPod = node !== undefined && tracesOf("etcd", node, all).length > 0;
  if (!isPod && unit && isClusters(unit)) return { runs: "unit", unit, ...found };
  const own = node && found.servers.filter((url) => isOwn(url, node.addresses));
  const areOthers = own?.length === 0 && found.servers.length > 0;
  // data that cannot be read still belongs to this node's etcd
  if (exists(dataDir) || (!areOthers && (isPod || (own && own.length > 0))))
    return { runs: "static pod", ...found };
  const isElsewhere =
    found.servers.length > 0 || (node !== undefined && tracesOf("kube-apiserver", node, all).length > 0);
  return { runs: isElsewhere || living ? "elsewhere" : "unknown", living, ...found };
}

/** kubeadm's file names, for a stacked etcd and for the external one in its documentation. */
function kubeadms(node: Node | undefined): string[] {
  return ["etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"].map(
    (file) => `${certificatesDirOn(node)}/${file}`,
  );
}

/** kubespray's and KubeKey's folder: it stays on a control plane node even if etcd is elsewhere. */
export const ETCD_SSL = "/etc/ssl/etcd/ssl";

/** From the API server's manifest, its mirror pod, kubeadm's configuration, or files that are left. */
function etcdOptions({
  node,
  data,
  cluster,
  apiServer,
}: Seen): Pick<EtcdHome, "servers" | "client" | "isServed"> {
  const manifest = node && attempt(() => readManifest(whereIs(manifestPath({ node }, "kube-apiserver"))));
  const mirror =
    node &&
    data &&
    attempt(() => findStaticPods(data, node.name).proved.find(({ name }) => name === "kube-apiserver")?.pod);
  for (const pod of [manifest, apiServer, mirror]) {
    const command = flags(pod && !(pod instanceof Fail) && pod.spec ? [...commandOf(pod)] : []);
    const client = ["etcd-cafile", "etcd-certfile", "etcd-keyfile"].flatMap(
      (flag) => command.get(flag) ?? [],
    );
    const servers = command.get("etcd-servers")?.split(",") ?? [];
    if (servers.length > 0)
      return { servers, client: client.length > 0 ? client : kubeadms(node), isServed: true };
  }
  const isServed = false;
  const { endpoints = [], caFile, certFile, keyFile } = cluster?.configuration.etcd?.external ?? {};
  if (caFile && certFile && keyFile)
    return { servers: endpoints, client: [caFile, certFile, keyFile], isServed };
  const own = list(ETCD_SSL).find((name) => /^node-.*-key\.pem$/.test(name));
  const files = own ? ["ca.pem", own.replace("-key.pem", ".pem"), own] : [];
  const client = own ? files.map((name) => `${ETCD_SSL}/${name}`) : kubeadms(node);
  return { servers: endpoints, client, isServed };
}

/**
 * Why parts 1 to 4 cannot go by this etcd, in words; undefined if they can. A unit whose files are whole may run on
 * as it is; `proveUnit` asks it.
 */
export function etcdTrouble({ runs, unit, client, isServed, living }: EtcdHome): string | undefined {
  if (runs === "elsewhere") return living ? undefined : "it does not run on this node";
  if (runs !== "unit" || !unit) return undefined;
  const made = unitFiles(unit, { client, isServed });
  const copied = made.flatMap(({ copy = [] }) => copy.map(({ to }) => to));
  const lost = [...unit.lostSettings, ...[...unit.files, ...client].filter((path) => !exists(path))].filter(
    (path) => !copied.includes(path),
  );
  if (lost.length > 0) return `${[...new Set(lost)].join(", ")} is missing, and ${ONLY_PROVED}`;
  const pair = client.length === 3 && unit.files.length > 0;
  const infos = pair
    ? [...unit.files, ...client].map((path) => infoOf(attempt(() => readText(path), "")))
    : [];
  if (!pair || !infos.some(Boolean)) return `the API server's files for it are not known, and ${ONLY_PROVED}`;
  const renewed = made.flatMap(({ cert, renewal }) => (renewal ? infoOf(readText(cert)!)!.pem : []));
  const ended = infos.find((info) => info && !isValidNow(info) && !renewed.includes(info.pem));
  return ended && `its certificate "${ended.cn}" is not valid now, and ${ONLY_PROVED}`;
}

/** Files that this kit can make: see `UnitFile`. */
function unitFiles(
  { pairs, files }: EtcdUnit,
  { client, isServed }: Pick<EtcdHome, "client" | "isServed">,
): UnitFile[] {
  const [own] = pairs;
  const [ca, cert, key] = client;
  if (!own || !ca || !cert || !key || !files.every((path) => exists(path))) return [];
  const isLost = isServed && client.every((path) => !exists(path));
  const from = [own.ca, own.cert, own.key];
  const copy = isLost ? [{ cert, copy: client.map((to, i) => ({ from: from[i]!, to })) }] : [];
  const all = [...pairs, ...(isLost ? [] : [{ ca, cert, key }])];
  const once = [...new Map(all.map((pair) => [pair.cert, pair])).values()];
  return [...once.flatMap((pair) => renewalOf(pair) ?? []), ...copy];
}

/** Undefined if it is valid, or cannot be renewed here. The CA's key is beside it, by openssl's or kubeadm's name. */
function renewalOf({ ca, cert, key }: EtcdClientFiles): UnitFile | undefined {
  const [caPem, pem, keyPem] = [ca, cert, key].map((path) => attempt(() => readText(path), "") ?? "");
  const [caInfo, info] = [infoOf(caPem), infoOf(pem)];
  if (!caInfo || !info || isValidNow(info) || !isValidNow(caInfo)) return undefined;
  const caKey = ca.replace(/(\.\w+)$/, (end) => (end === ".crt" ? ".key" : `-key${end}`));
  const fits = () =>
    keyMatches(pem!, keyPem!) && signedBy(pem!, caPem!) && keyMatches(caPem!, readText(caKey) ?? "");
  return attempt(fits, false) ? { cert, renewal: { ca, caKey } } : undefined;
}

/**
 * An external etcd of this node, for what certificates and clients need of it. `data`: its members, by the names of
 * their nodes.
 */
export function externalEtcd(
  { runs, unit, servers, client, isServed, living }: EtcdHome,
  { name: ownName, addresses }: Pick<Node, "name" | "addresses">,
  data: EtcdData,
): ExternalEtcd | undefined {
  if (living && data.elsewhere) {
    const names = data.elsewhere.members.map(({ id, name }) => [id, name] as const);
    const before = configMapIn(data, "kube-system/kube-root-ca.crt")?.["ca.crt"] ?? "";
    const files = { ca: living.ca, cert: living.cert, key: living.key };
    return { ...files, server: living.endpoint, nodes: Object.fromEntries(names), elsewhere: { ca: before } };
  }
  if (runs !== "unit" || !unit || client.length !== 3) return undefined;
  const toMake = unitFiles(unit, { client, isServed });
  const isCopied = toMake.some(({ copy }) => copy);
  const [ca, cert, key] = client as [string, string, string];
  const asking = isCopied ? unit.pairs[0]! : { ca, cert, key };
  const urls = [...unit.clientUrls, ...servers].filter((url) => isOwn(url, addresses));
  const server = urls.find((url) => !isLoopback(hostOf(url))) ?? urls[0] ?? "https://127.0.0.1:2379";
  const own = ownMember(data, addresses);
  const nodes = data.members.map((one) => [one.id, one === own ? ownName : one.name] as const);
  return { ...asking, server, nodes: Object.fromEntries(nodes), ...(toMake.length > 0 && { toMake }) };
}

function isOwn(url: string, addresses: readonly string[]): boolean {
  return [...OWN_ALONE, ...addresses].includes(hostOf(url));
}
