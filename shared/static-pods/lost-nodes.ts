/**
 * A control plane node that is lost for good, and the machine that takes its place: a new one, or the same one,
 * empty.
 *
 * Part 2 with --lost keeps what the node was in the rescue folder, below lost-nodes/NAME, before its Node is
 * deleted: labels, taints and annotations, and its static pods. kubeadm brings none of it back when a machine
 * joins under that name.
 */
import { isIP } from "node:net";
import { basename } from "node:path";
import { command } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { memberName } from "../etcd-data/members.ts";
import { hostOf, placeOf } from "../etcd-location/reach-etcd.ts";
import { filesMadeByParts } from "../facts/lost-files.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { list, readKeptJson, writeFile } from "../files/files.ts";
import { hostFiles, podFlags } from "../manifests/command.ts";
import { manifestAsItRan, manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { isKubeadms, manifestPath, manifestText, readManifest } from "../manifests/on-disk.ts";
import { LAST_JOIN_CONFIG, rescueFolders } from "../node/rescue-folder.ts";
import type { Manifest } from "../objects/objects.ts";
import { readObject } from "../objects/stored.ts";
import { asMoved, canonicalIp, type Moved } from "../pki/addresses.ts";
import { KUBECTL, shell } from "../shell-line.ts";
import { otherStaticPods } from "./wanted-manifests.ts";

interface Taint {
  key: string;
  value?: string;
  effect: string;
}

/** The fields that people set. */
export interface NodeObject {
  metadata: { uid?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: { taints?: Taint[] };
}

export interface LostNode {
  name: string;
  folder: string;
  object: NodeObject;
  pods: { name: string; file: string; manifest: Manifest }[];
}

const FOLDER = "lost-nodes";
const OBJECT = "node.json";

/** Keeps what etcd's data says of this node; what an earlier run has kept of the same Node stays. */
export function keepLostNode(
  name: string,
  { data, rescue }: Pick<ControlPlaneNode, "data" | "rescue">,
): LostNode | undefined {
  const lostNode = lostNodes().find((node) => node.name === name);
  const object = readObject<NodeObject>(data, `minions/${name}`);
  if (!object || (lostNode && lostNode.object.metadata.uid === object.metadata.uid)) return lostNode;
  const folder = `${rescue.dir}/${FOLDER}/${name}`;
  const keep = (file: string, text: string, note?: string) =>
    writeFile(file, text, { mode: 0o600, folderMode: 0o700, ...(note && { note }) });
  const mirrors = findMirrorPods(data, name).filter(({ from }) => from === "live");
  const pods = mirrors.map((mirror) => ({
    name: mirror.name,
    file: `${folder}/${mirror.name}.yaml`,
    manifest: manifestAsItRan(manifestFromMirrorPod(mirror.pod, name), mirror.pod).manifest,
  }));
  for (const { file, manifest } of pods)
    keep(file, manifestText(manifest), `as it was on ${name}, from its mirror pod`);
  const { uid = "", labels = {}, annotations = {} } = object.metadata;
  const marks = { metadata: { uid, labels, annotations }, spec: { taints: object.spec?.taints ?? [] } };
  for (const [key, value] of Object.entries(userDefined(annotations)))
    keep(patchFile(folder, key), `${JSON.stringify({ metadata: { annotations: { [key]: value } } })}\n`);
  // last: a folder that has it has everything
  const text = `${JSON.stringify(marks, null, 2)}\n`;
  keep(`${folder}/${OBJECT}`, text, "its Node's labels, taints and annotations");
  return { name, folder, object: marks, pods };
}

/** The newest of a name. */
export function lostNodes(): LostNode[] {
  const found = rescueFolders().flatMap(({ dir }) =>
    list(`${dir}/${FOLDER}`).flatMap((name) => readKept(name, `${dir}/${FOLDER}/${name}`) ?? []),
  );
  return found.filter(({ name }, index) => found.findIndex((other) => other.name === name) === index);
}

function readKept(name: string, folder: string): LostNode | undefined {
  const object = readKeptJson<NodeObject>(`${folder}/${OBJECT}`);
  if (object === undefined) return undefined;
  const pods = list(folder).flatMap((file) => {
    const manifest = file.endsWith(".yaml") ? readManifest(`${folder}/${file}`) : undefined;
    return manifest ? [{ name: file.replace(/\.yaml$/, ""), file: `${folder}/${file}`, manifest }] : [];
  });
  return { name, folder, object, pods };
}

function addressThen(lost: Pick<LostNode, "pods">): string | undefined {
  const url = flagThen(lost, "etcd", "initial-advertise-peer-urls") ?? "";
  const own = flagThen(lost, "kube-apiserver", "advertise-address");
  const found = own ?? (URL.canParse(url) ? hostOf(url) : "");
  return isIP(found) ? canonicalIp(found) : undefined;
}

function flagThen({ pods }: Pick<LostNode, "pods">, pod: string, flag: string): string | undefined {
  const manifest = pods.find(({ name }) => name === pod)?.manifest;
  return manifest && podFlags(manifest).get(flag);
}

/**
 * Old address → new one, where a machine with another address has its place now: its member of etcd says so, which
 * only an owner of etcd's keys can add.
 */
export function movedSince(lost: LostNode, { members }: Pick<EtcdData, "members">): Moved {
  const then = addressThen(lost);
  const member = members.find((one) => memberName(one) === lost.name);
  const now = member && placeOf(member).host;
  return then && now && isIP(now) && canonicalIp(now) !== then
    ? new Map([[then, canonicalIp(now)]])
    : new Map();
}

/** Labels and taints that kubeadm and the kubelet give to a control plane node that joins. */
const AFTER_JOIN: NodeObject = {
  metadata: {
    labels: {
      "node-role.kubernetes.io/control-plane": "",
      "node.kubernetes.io/exclude-from-external-load-balancers": "",
    },
    annotations: {},
  },
  spec: { taints: [{ key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule" }] },
};

/** The kubelet, the cluster's controllers and its drivers write these themselves. */
const SYSTEM_LABELS =
  /^(kubernetes\.io\/(arch|os|hostname)|beta\.kubernetes\.io\/(arch|os|instance-type)|kubeadm\.alpha\.kubernetes\.io\/cri-socket|node\.alpha\.kubernetes\.io\/ttl|volumes\.kubernetes\.io\/controller-managed-attach-detach|csi\.volume\.kubernetes\.io\/nodeid|alpha\.kubernetes\.io\/provided-node-ip)$/;

/** They come and go with the node's health. */
const STATE = /^node\.(kubernetes|cloudprovider\.kubernetes)\.io\//;

/**
 * The commands that make the Node again what it was. Only annotations that are gone come back: programs change
 * theirs. An annotation may be a secret, so a file has it, and no command.
 */
export function putBackCommands(
  { name, object: was, folder }: Omit<LostNode, "pods">,
  is: NodeObject = AFTER_JOIN,
): string[] {
  const [labels, now] = [userDefined(was.metadata.labels), userDefined(is.metadata.labels)];
  const changes = {
    label: [
      ...Object.entries(labels).flatMap(([key, value]) => (now[key] === value ? [] : [`${key}=${value}`])),
      ...Object.keys(now).flatMap((key) => (key in labels ? [] : [`${key}-`])),
    ],
    taint: taintsChanged(was.spec?.taints ?? [], is.spec?.taints ?? []),
  };
  const lines = Object.entries(changes).flatMap(([verb, words]) =>
    words.length > 0 ? [`${KUBECTL} ${shell`${verb} --overwrite node ${name} ${words}`}`] : [],
  );
  const files = Object.keys(userDefined(was.metadata.annotations))
    .filter((key) => is.metadata.annotations?.[key] === undefined)
    .map((key) => patchFile(folder, key));
  return [
    ...lines,
    ...files.map((file) => `${KUBECTL} ${shell`patch --type merge --patch-file ${file} node ${name}`}`),
  ];
}

function patchFile(folder: string, key: string): string {
  return `${folder}/annotation-${key
    .replaceAll("_", "__")
    .replaceAll("/", "_")
    .replaceAll(/[^\w.-]/g, "-")}.json`;
}

function userDefined(marks: Record<string, string> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(marks).filter(([key]) => !SYSTEM_LABELS.test(key)));
}

function taintsChanged(was: readonly Taint[], is: readonly Taint[]): string[] {
  const word = ({ key, value, effect }: Taint) => `${key}${value ? `=${value}` : ""}:${effect}`;
  const only = (of: readonly Taint[], others: readonly Taint[]) =>
    of.filter((taint) => !STATE.test(taint.key) && !others.some((other) => word(other) === word(taint)));
  const surplus = only(is, was).filter(
    (taint) => !was.some(({ key, effect }) => key === taint.key && effect === taint.effect),
  );
  return [...only(was, is).map(word), ...surplus.map(({ key, effect }) => `${key}:${effect}-`)];
}

/** The manifest is as it was on the lost node; `moved`: with the new address, as etcd cannot listen on the old one. */
export function putManifest(
  file: string,
  nodeName: string,
  { node }: Pick<ControlPlaneNode, "node">,
  moved: Moved = new Map(),
): string {
  const folder = node.kubelet.staticPodPath;
  const [pair] = moved;
  if (!pair) return shell`scp -p ${file} root@${nodeName}:${folder}/`;
  const writeThere = shell`umask 077; cat > ${folder}/${basename(file)}`;
  return `${shell`sed ${addressEdit(...pair)} ${file}`} | ${shell`ssh root@${nodeName} ${writeThere}`}`;
}

/** A colon ends no IPv6 address: another one may begin or end like it. */
function addressEdit(was: string, now: string): string {
  if (isIP(was) === 4) return `s/\\b${was.replaceAll(".", "\\.")}\\b/${now}/g`;
  const edge = "[^[:alnum:]:]";
  return `s/\\(^\\|${edge}\\)${was}\\($\\|${edge}\\)/\\1${now}\\2/gI`;
}

/**
 * An empty machine is joined by kubeadm, after the cluster is repaired. kubeadm uses shared keys that are in
 * their places, and admin.conf for discovery. So nobody has to make and type a bootstrap token or a
 * certificate key (kubeadm's cmd/join.go, discovery/file; SharedCertificateExists in phases/certs).
 */
export function howToReplace(cp: ControlPlaneNode, names: readonly string[]): string[] {
  const { kubernetesVersion } = cp.cluster;
  const files = ["/etc/kubernetes/admin.conf", ...filesToCopy(cp)];
  const lost = names.flatMap((name) => keepLostNode(name, cp) ?? []);
  const lines = [
    "",
    "After part 3, before part 4:",
    `  ${KUBECTL} ${shell`delete node ${names}`}`,
    `When part 5 is green, an empty machine with the same kubeadm (${kubernetesVersion}) takes the place of ${names.join(", ")}.`,
  ];
  // a join writes its kubelet's flags again, and its Node begins with kubeadm's defaults
  if (lost.length > 0)
    lines.push(
      "Is it the same machine? There, in the kit's folder, save its kubelet's flags. Only then empty it:",
      ...lost.map((node) => `  ${command("join-again")} ${joinOptions(node, cp)}`),
      "  kubeadm reset --force",
    );
  lines.push("Copy the shared keys to it, from this folder:");
  for (const name of names)
    lines.push(
      shell`  tar -cPf - $(./bunw scripts/hand-over.ts files) ${files} | ssh root@${name} tar -xpPf -`,
    );
  return [...lines, ...howToJoin(cp, lost), ...afterJoin(cp, lost)];
}

function howToJoin({ node }: ControlPlaneNode, lost: readonly LostNode[]): string[] {
  const lines = [
    "On a new machine:",
    "  kubeadm join --control-plane --discovery-file /etc/kubernetes/admin.conf",
  ];
  const same = `  kubeadm join --config ${LAST_JOIN_CONFIG}`;
  if (lost.length > 0) lines.push("On the same machine, with what was saved there:", same);
  const close = `  ${command("03-workers close")}`;
  if (node.kubelet.serverTlsBootstrap)
    lines.push("Then, from this folder, approve its serving certificate:", close);
  return lines;
}

function joinOptions(lost: LostNode, { cluster }: ControlPlaneNode): string {
  const place = cluster.nodes.find(({ name }) => name === lost.name)?.places[0];
  const host = flagThen(lost, "kube-apiserver", "advertise-address") ?? place ?? `ADDRESS-OF-${lost.name}`;
  const address = `${host}:${flagThen(lost, "kube-apiserver", "secure-port") ?? 6443}`;
  return shell`--address ${address} --kubernetes ${cluster.kubernetesVersion}`;
}

/** Commands for all that a join does not bring, and the comparison that shows what is still missing. */
function afterJoin(cp: ControlPlaneNode, lost: readonly LostNode[]): string[] {
  // 05-verify prints the manifests with the lost machine's address: it knows the new one
  const own = lost.flatMap((node) =>
    node.pods
      .filter((pod) => !isKubeadms(pod.name) && !namesAddress(node, pod))
      .map(({ file }) => putManifest(file, node.name, cp)),
  );
  const back = [...own, ...lost.flatMap((node) => putBackCommands(node))];
  const others =
    own.length > 0 ? [] : otherStaticPods(cp).map(({ name, namespace }) => manifestPath(cp, name, namespace));
  const lines: string[] = [];
  if (others.length > 0)
    lines.push(`kubeadm makes only its own static pods. Copy the others from here: ${others.join(", ")}`);
  if (back.length > 0) lines.push("After the join, here: what kubeadm does not bring back:");
  for (const line of back) lines.push(`  ${line}`);
  for (const { name, folder } of lost)
    lines.push(`Then ${command("05-verify")} here compares ${name} with what it was (${folder})`);
  return lines;
}

function namesAddress(node: LostNode, { manifest }: LostNode["pods"][number]): boolean {
  const then = addressThen(node);
  const text = JSON.stringify(manifest);
  return then !== undefined && asMoved(text, new Map([[then, "0.0.0.0"]])) !== text;
}

/** Files that the API server here needs and that kubeadm does not make on a new node. */
function filesToCopy({ node, facts }: ControlPlaneNode): string[] {
  const manifest = readManifest(manifestPath({ node }, "kube-apiserver"));
  const made = filesMadeByParts(facts);
  const paths = (manifest ? hostFiles(manifest) : []).flatMap(({ type, namedBy, path }) =>
    type === "File" && namedBy.startsWith("--") && !made.has(path) ? [path] : [],
  );
  return [...new Set(paths)];
}
