/**
 * Where etcd runs, and so who owns its certificates and may restart it. kubeadm's static pod is repaired; a unit of this
 * node, or etcd on other machines, is proved. Reads only.
 */

import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list, readText, stat } from "../files/files.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { findStaticPods } from "../manifests/mirror-pods.ts";
import { certificatesDirOn, manifestPath, readManifest, whereIs } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import { wasDuringRun } from "../node/kept-run.ts";
import type { Node } from "../node/node.ts";
import type { PodSpec } from "../objects/objects.ts";
import { configMapIn } from "../objects/stored.ts";
import { isLoopback } from "../pki/addresses.ts";
import { infoOf, isValidNow, keyMatches, signedBy } from "../pki/certificate.ts";
import type { EtcdCa, EtcdClientFiles, ExternalEtcd, UnitFile } from "../pki/certs.ts";
import { mode } from "../run.ts";
import { shell } from "../shell-line.ts";
import type { EtcdElsewhere } from "./etcd-elsewhere.ts";
import type { LivingEtcd } from "./etcd-folders.ts";
import { type EtcdUnit, idsOf, isClusters, readEtcdUnit, textOf, tracesOf } from "./etcd-unit.ts";
import { hostOf, OWN_ALONE, ownMember } from "./reach-etcd.ts";
import { processesOf } from "./static-pod-here.ts";

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
  living?: LivingEtcd | undefined;
}

interface HomeInput {
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
export function etcdHome(input: HomeInput): EtcdHome {
  const { node, dataDir, cluster, living, all = [] } = input;
  const found = etcdOptions(input);
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
}: HomeInput): Pick<EtcdHome, "servers" | "client" | "isServed"> {
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

/** Undefined if they can. A unit whose files are whole may run on as it is; `proveUnit` asks it. */
export function etcdTrouble({ runs, unit, client, isServed, living }: EtcdHome): string | undefined {
  if (runs === "elsewhere") return living ? undefined : "it does not run on this node";
  if (runs !== "unit" || !unit) return undefined;
  const made = unitFiles(unit, { client, isServed });
  const coming = made.flatMap(comingFiles);
  const lost = [...unit.lostSettings, ...[...unit.files, ...client].filter((path) => !exists(path))].filter(
    (path) => !coming.includes(path),
  );
  if (lost.length > 0) return `${[...new Set(lost)].join(", ")} is missing, and no script makes it`;
  const unfit = made.some(({ issue }) => issue) && unreadable(unit);
  if (unfit) return unfit;
  const pair = client.length === 3 && unit.files.length > 0;
  const infos = pair
    ? [...unit.files, ...client].map((path) => infoOf(attempt(() => readText(path), "")))
    : [];
  if (!pair || (coming.length === 0 && !infos.some(Boolean)))
    return "the API server's files for it are not known";
  const paths = made.flatMap(({ cert, copy, issue }) => (copy ? [] : [cert, ...(issue ? [issue.ca] : [])]));
  const renewed = paths.flatMap((path) => infoOf(textOf(path))?.pem ?? []);
  const ended = infos.find((info) => info && !isValidNow(info) && !renewed.includes(info.pem));
  return ended && `its certificate "${ended.cn}" is not valid now`;
}

/** Why etcd's own user could not read what is made for it, or the CA that somebody has put there. */
function unreadable({ user, pairs: [own] }: EtcdUnit): string | undefined {
  const [info, ids] = [stat(own!.ca), idsOf(user)];
  if (!ids) return `it runs as "${user}", and this machine has no such user: getent passwd`;
  const shift = !info || info.uid === ids.uid ? 6 : info.gid === ids.gid ? 3 : 0;
  const isReadable = !info || ids.uid === 0 || ((info.mode >> shift) & 4) !== 0;
  return isReadable
    ? undefined
    : shell`it runs as ${user}, which cannot read ${own!.ca}: chmod 644 ${own!.ca}`;
}

/** Files that these bring into their places. */
export function comingFiles({ copy = [], issue }: UnitFile): string[] {
  return [...copy.map(({ to }) => to), ...(issue ? [issue.ca, issue.cert, issue.key] : [])];
}

/**
 * Files that this kit can make: see `UnitFile`. If etcd's own certificate is left, but not the key of its CA, it will do
 * for the API server, too.
 */
function unitFiles(unit: EtcdUnit, { client, isServed }: Pick<EtcdHome, "client" | "isServed">): UnitFile[] {
  const { pairs, files } = unit;
  const [own] = pairs;
  const [ca, cert, key] = client;
  if (!own || !ca || !cert || !key) return [];
  const all = onePerCertificate([...pairs, { ca, cert, key }]);
  const authority = { cert: own.ca, key: keyBeside(own.ca), user: unit.user };
  const lost = isServed ? pairsToIssue({ ...authority, pairs: all }) : [];
  const renewed = all.filter((pair) => !lost.includes(pair)).flatMap((pair) => renewalOf(pair) ?? []);
  const isOwnLost = lost.some((pair) => pairs.some((one) => one.cert === pair.cert));
  const hasKey = attempt(() => keyMatches(textOf(authority.cert), textOf(authority.key)), false);
  if ((hasKey || isOwnLost) && etcdCaOf({ runs: "unit", unit, client }))
    return [...renewed, ...lost.map((issue) => ({ cert: issue.cert, issue }))];
  if (isOwnLost || !files.every((path) => exists(path))) return [];
  const isLost = lost.length > 0;
  const from = [own.ca, own.cert, own.key];
  const copy = isLost ? [{ cert, copy: client.map((to, i) => ({ from: from[i]!, to })) }] : [];
  return [...renewed, ...copy];
}

const onePerCertificate = (pairs: readonly EtcdClientFiles[]) => [
  ...new Map(pairs.map((pair) => [pair.cert, pair])).values(),
];

/** Undefined if etcd is no unit of this node, or trusts its peers by another CA than its clients. */
export function etcdCaOf({
  runs,
  unit,
  client: [ca, cert, key],
}: Pick<EtcdHome, "runs" | "unit" | "client">): EtcdCa | undefined {
  const own = unit?.pairs[0];
  if (runs !== "unit" || !unit || !own || !ca || !cert || !key) return undefined;
  if (unit.pairs.some((pair) => pair.ca !== own.ca)) return undefined;
  const pairs = onePerCertificate([...unit.pairs, { ca, cert, key }]);
  const etcdCa = { cert: own.ca, key: keyBeside(own.ca), pairs, user: unit.user };
  const [caPem, caKey, pem] = [etcdCa.cert, etcdCa.key, own.cert].map(textOf);
  const isOfIt = () => keyMatches(caPem!, caKey!) && signedBy(pem!, caPem!) && isValidNow(infoOf(caPem)!);
  const isNeeded = pairsToIssue({ ...etcdCa, pairs: unit.pairs }).length > 0;
  return isNeeded || (caPem && caKey && pem && attempt(isOfIt, false)) ? etcdCa : undefined;
}

/**
 * Certificates that are lost, with or without their keys, or that have expired with nothing here that renews them;
 * and those of another CA, if this kit has put the CA there: what somebody else has put there may be right.
 */
export function pairsToIssue({ cert, key, pairs }: EtcdCa): EtcdClientFiles[] {
  const [caPem, caKey] = [textOf(cert), textOf(key)];
  const caInfo = infoOf(caPem);
  const renews = caInfo && isValidNow(caInfo) && attempt(() => keyMatches(caPem, caKey), false);
  const mustFit = caPem !== "" && isByKit(cert);
  return pairs.filter((pair) => {
    const [pem, keyPem] = [pair.cert, pair.key].map(textOf);
    const info = infoOf(pem);
    if (!info || !keyPem || !exists(pair.ca) || (!isValidNow(info) && !renews)) return true;
    return !attempt(() => keyMatches(pem!, keyPem) && (!mustFit || signedBy(pem!, caPem)), false);
  });
}

/** Whether a run of this kit has put it there, this one or an earlier one. */
export function isByKit(path: string): boolean {
  const modified = stat(path)?.modified;
  return modified !== undefined && (modified > mode.began || wasDuringRun(modified));
}

/** The CA's key is beside it, by openssl's or kubeadm's name. */
function keyBeside(ca: string): string {
  return ca.replace(/(\.\w+)$/, (end) => (end === ".crt" ? ".key" : `-key${end}`));
}

/** Undefined if it is valid, or cannot be renewed here. */
function renewalOf({ ca, cert, key }: EtcdClientFiles): UnitFile | undefined {
  const [caPem, pem, keyPem] = [ca, cert, key].map((path) => attempt(() => readText(path), "") ?? "");
  const [caInfo, info] = [infoOf(caPem), infoOf(pem)];
  if (!caInfo || !info || isValidNow(info) || !isValidNow(caInfo)) return undefined;
  const caKey = keyBeside(ca);
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
