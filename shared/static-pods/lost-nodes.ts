/**
 * What a control plane node was that is lost for good: its Node's labels, taints and annotations, and its
 * static pods. Part 2 with --lost keeps it in the rescue folder, below lost-nodes/NAME, before the Node is
 * deleted. kubeadm brings none of it back when the machine, or a new one, joins under that name.
 */

import { isIP } from "node:net";
import { basename } from "node:path";
import type { EtcdData } from "../etcd-data/data.ts";
import { memberName } from "../etcd-data/members.ts";
import { hostOf, placeOf } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { exists, list, readKeptJson, writeFile } from "../files/files.ts";
import { asItRan } from "../manifests/as-it-ran.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { manifestText, readManifest } from "../manifests/on-disk.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import type { Manifest } from "../objects/objects.ts";
import { readObject } from "../objects/stored.ts";
import { canonicalIp, type Moved } from "../pki/addresses.ts";
import { shell } from "../shell-line.ts";

interface Taint {
  key: string;
  value?: string;
  effect: string;
}

/** As much of a Node as people set. */
export interface NodeObject {
  metadata: { uid?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: { taints?: Taint[] };
}

export interface LostNode {
  name: string;
  /** Its folder. */
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
  const kept = lostNodes().find((node) => node.name === name);
  const object = readObject<NodeObject>(data, `minions/${name}`);
  if (!object || (kept && kept.object.metadata.uid === object.metadata.uid)) return kept;
  const folder = `${rescue.dir}/${FOLDER}/${name}`;
  const options = { mode: 0o600, folderMode: 0o700 };
  const mirrors = findMirrorPods(data, name).filter(({ from }) => from === "live");
  const pods = mirrors.map((pod) => ({
    name: pod.name,
    file: `${folder}/${pod.name}.yaml`,
    manifest: asItRan(manifestFromMirrorPod(pod.pod, name), pod.pod).manifest,
  }));
  for (const { file, manifest } of pods)
    writeFile(file, manifestText(manifest), {
      ...options,
      note: `as it was on ${name}, from its mirror pod`,
    });
  const { metadata, spec } = object;
  const marks: NodeObject = {
    metadata: {
      uid: metadata.uid ?? "",
      labels: metadata.labels ?? {},
      annotations: metadata.annotations ?? {},
    },
    spec: { taints: spec?.taints ?? [] },
  };
  for (const [key, value] of Object.entries(userDefined(marks.metadata.annotations)))
    writeFile(
      patchFile(folder, key),
      `${JSON.stringify({ metadata: { annotations: { [key]: value } } })}\n`,
      options,
    );
  // last: a folder that has it has everything
  writeFile(`${folder}/${OBJECT}`, `${JSON.stringify(marks, null, 2)}\n`, {
    ...options,
    note: "its Node's labels, taints and annotations",
  });
  return { name, folder, object: marks, pods };
}

/** All that were kept on this control plane node; of a name, the newest. */
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

/** What kubeadm and the kubelet give to a control plane node that joins. */
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

export const KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf";

/**
 * The commands that make the Node again what it was. Of annotations only those that are gone: programs change
 * theirs; what an annotation says may be a secret, so a file has it, and no command.
 */
export function putBackCommands(
  { name, object: was, folder }: Omit<LostNode, "pods">,
  is: NodeObject = AFTER_JOIN,
): string[] {
  const [labels, now] = [userDefined(was.metadata.labels), userDefined(is.metadata.labels)];
  const gone = Object.entries(userDefined(was.metadata.annotations)).filter(
    ([key]) => is.metadata.annotations?.[key] === undefined,
  );
  const changes = {
    label: [...Object.entries(labels).filter(([key, value]) => now[key] !== value), ...added(labels, now)],
    taint: taintsChanged(was.spec?.taints ?? [], is.spec?.taints ?? []),
  };
  const marks = Object.entries(changes).flatMap(([verb, words]) => {
    const typed = words.map((word) => (typeof word === "string" ? word : word.join("=")));
    return typed.length > 0 ? [`${KUBECTL} ${shell`${verb} --overwrite node ${name} ${typed}`}`] : [];
  });
  const files = gone.map(([key]) => patchFile(folder, key));
  const patches = files
    .filter(exists)
    .map((file) => `${KUBECTL} ${shell`patch --type merge --patch-file ${file} node ${name}`}`);
  // an earlier kit has made no files
  return [...marks, ...patches, ...(patches.length < files.length ? [shell`cat ${folder}/${OBJECT}`] : [])];
}

/** Where its etcd or its API server was; undefined where no kept manifest says that. */
export function addressThen({ pods }: Pick<LostNode, "pods">): string | undefined {
  const flagOf = (pod: string, flag: string) => {
    const manifest = pods.find(({ name }) => name === pod)?.manifest;
    return manifest && flags(commandOf(manifest)).get(flag);
  };
  const url = flagOf("etcd", "initial-advertise-peer-urls") ?? "";
  const found = flagOf("kube-apiserver", "advertise-address") ?? (URL.canParse(url) ? hostOf(url) : "");
  return isIP(found) ? canonicalIp(found) : undefined;
}

/**
 * Old address → new one, where a machine with another address has its place now: by its member of etcd, which only
 * who has etcd's keys can add.
 */
export function movedSince(lost: LostNode, { members }: Pick<EtcdData, "members">): Moved {
  const then = addressThen(lost);
  const member = members.find((one) => memberName(one) === lost.name);
  const now = member && placeOf(member).host;
  return then && now && isIP(now) && canonicalIp(now) !== then
    ? new Map([[then, canonicalIp(now)]])
    : new Map();
}

/** Its files are as they were on the lost node; `moved`: with another address, which etcd could not listen on. */
export function putManifest(
  file: string,
  nodeName: string,
  { node }: Pick<ControlPlaneNode, "node">,
  moved: Moved = new Map(),
): string {
  const folder = node.kubelet.staticPodPath;
  const [pair] = moved;
  if (!pair) return shell`scp -p ${file} root@${nodeName}:${folder}/`;
  const edit = `s/\\b${pair[0].replaceAll(".", "\\.")}\\b/${pair[1]}/g`;
  const there = shell`umask 077; cat > ${folder}/${basename(file)}`;
  return `${shell`sed ${edit} ${file}`} | ${shell`ssh root@${nodeName} ${there}`}`;
}

/** For `kubectl patch`: one annotation. */
function patchFile(folder: string, key: string): string {
  return `${folder}/annotation-${key
    .replaceAll("_", "__")
    .replaceAll("/", "_")
    .replaceAll(/[^\w.-]/g, "-")}.json`;
}

function added(was: Record<string, string>, is: Record<string, string>): string[] {
  return Object.keys(is).flatMap((key) => (key in was ? [] : [`${key}-`]));
}

function userDefined(marks: Record<string, string> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(marks).filter(([key]) => !SYSTEM_LABELS.test(key)));
}

function taintsChanged(was: readonly Taint[], is: readonly Taint[]): string[] {
  const word = ({ key, value, effect }: Taint) => `${key}${value ? `=${value}` : ""}:${effect}`;
  const only = (of: readonly Taint[], others: readonly Taint[]) =>
    of.filter((taint) => !STATE.test(taint.key) && !others.some((other) => word(other) === word(taint)));
  const gone = only(is, was).filter(
    (taint) => !was.some(({ key, effect }) => key === taint.key && effect === taint.effect),
  );
  return [...only(was, is).map(word), ...gone.map(({ key, effect }) => `${key}:${effect}-`)];
}
