/**
 * This machine's old addresses by etcd's data, its current ones, whether it is the same machine at all, and
 * its files that name them.
 *
 * A worker needs no token, no CSR and no join: its certificate names no address. If its kubelet then does not
 * renew its Lease, the old files come back.
 */
import { isIP } from "node:net";
import { again } from "../again.ts";
import { KubeApi } from "../api/kube-api.ts";
import { waitForRenewal } from "../api/leases.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { memberHosts } from "../etcd-location/reach-etcd.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import { floatingAddresses } from "../facts/endpoint.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { apiEndpoint } from "../facts/known-nodes.ts";
import { attempt, Fail, failOf, Refused } from "../fail.ts";
import { refuseFixed } from "../files/file-system.ts";
import { replaceFiles } from "../files/file-tree.ts";
import { exists, type FileChange, list, readText, writeFile } from "../files/files.ts";
import { rootOwnedTexts } from "../files/untrusted-file.ts";
import { KUBELET_CONFIG } from "../node/kubelet-config.ts";
import { USUAL_FLAG_FILES } from "../node/lost-environment.ts";
import { cardsWithoutAddress, hasOtherName, kubeletActive, type Node, routedAddress } from "../node/node.ts";
import { asideOf, newRescue } from "../node/rescue-folder.ts";
import { kubeletFlags, seeKubelet } from "../node/started-with.ts";
import { refuseUnfitKubelet, systemctlKubelet } from "../node/systemctl-kubelet.ts";
import { readObject } from "../objects/stored.ts";
import { asMoved, canonicalIp, type Moved, namedHosts, ofMachines } from "../pki/addresses.ts";
import { KUBECONFIGS, leadsToEndpoint, readKubeconfig } from "../pki/kubeconfigs.ts";
import { mode, say, step } from "../run.ts";
import { orUndo } from "../this-run.ts";
import { proveServer } from "../workers/saved-trust.ts";
import { printOldAddressSearches, renewHostPodIps } from "./tell-cluster.ts";

export interface MachineFacts {
  node: Node;
  data: EtcdData;
  cluster: Cluster;
}

/** Old addresses of this machine, by etcd's data, that it no longer has; none if its API server's is here. */
export function ownBefore({ node, data }: MachineFacts): string[] {
  const api = apiEndpoint(node.name, data)?.host ?? "";
  const hosts = [api, ...ownHosts(data)].filter((host) => isIP(host)).map(canonicalIp);
  const isHere = (host: string) => node.addresses.includes(host);
  return isHere(api) ? [] : [...new Set(hosts)].filter((host) => !isHere(host));
}

function ownHosts(data: EtcdData): string[] {
  const own = data.members.find(({ id }) => id === data.memberId);
  return own ? memberHosts(own) : [];
}

/** The kubelet's --node-ip, or that of its default route. Errors: Fail if neither is known. */
export async function addressNow(
  machineFacts: MachineFacts,
  { nodeIp, like }: { nodeIp: string | undefined; like: string },
): Promise<string> {
  const { node } = machineFacts;
  if (nodeIp && node.addresses.includes(canonicalIp(nodeIp))) return canonicalIp(nodeIp);
  const found = await routedAddress(like, floatingAddresses(machineFacts));
  if (found) return found;
  throw new Fail(`This machine was at ${like}, and nothing here shows which of its addresses replaces it`, {
    hint: `give the new address: --moved ${like}=ADDRESS; this machine has ${node.addresses.join(", ")}`,
  });
}

/**
 * Errors: Refused if a control plane node has moved, and kubeadm did not make etcd: its settings and certificates, or
 * the leases of API servers in it, name the old address.
 */
export function refuseBesideEtcd({ nodes }: Pick<Cluster, "nodes">, moved: Moved) {
  const places = [...moved].flat();
  const isOne = (one: KnownNode) => one.controlPlane && namedHosts(one).some((ip) => places.includes(ip));
  const names = nodes.filter(isOne).map(({ name }) => name);
  if (names.length === 0) return;
  throw new Refused(`${names.join(", ")}: has moved, and kubeadm did not make this cluster's etcd`, {
    unchanged: true,
    hint: "give that machine its old address. Or move it by hand: first etcd, by the means of its maker (kubespray: docs/operations/nodes.md). Then run there: kubeadm init phase certs apiserver, kubeconfig all, control-plane all, with --config",
  });
}

/** A machine's own addresses are configured below these. */
const NETWORK = [
  "/etc/netplan",
  "/etc/systemd/network",
  "/etc/network",
  "/etc/NetworkManager/system-connections",
  "/etc/sysconfig/network",
  "/etc/sysconfig/network-scripts",
];

/**
 * `own`: this machine's old addresses that are not here, with the new ones. Errors: Refused if one may only
 * be missing for now, such as one that comes up late: a move removes it from all files.
 */
export async function refuseAway(own: Moved) {
  if (own.size === 0) return;
  const configured = NETWORK.flatMap((path) => [...rootOwnedTexts(path)]);
  const why = [
    ...configured.flatMap(({ path, text }) => (asMoved(text, own) === text ? [] : `${path} names it`)),
    ...(await cardsWithoutAddress()).map((card) => `${card} is up, and has no address`),
  ];
  if (why.length === 0) return;
  throw new Refused(`${[...own.keys()].join(", ")} may only be missing for now: ${why.join("; ")}`, {
    unchanged: true,
    hint: `wait until ip addr shows the address, then run part 1. If this machine no longer has the address: ${again({ moved: [...own].map((pair) => pair.join("=")) })}`,
  });
}

/**
 * Errors: Refused if this is another machine with a copy of that one's disk. Data that restore.ts has made
 * names this machine's own address as its member's.
 */
export function refuseCopiedDisk({ node, data }: MachineFacts) {
  if (ownHosts(data).some((host) => node.addresses.includes(host))) return;
  type Stored = { status?: { nodeInfo?: { machineID?: string; systemUUID?: string } } };
  const oldInfo = readObject<Stored>(data, `minions/${node.name}`)?.status?.nodeInfo;
  const [then, now] = [oldInfo?.machineID, readText("/etc/machine-id")?.trim()];
  if (!then || !now || then === now) return sayOtherHardware(node.name, oldInfo?.systemUUID);
  throw new Refused(
    `etcd's data here is of "${node.name}", and this is another machine (machine-id ${now}, was ${then})`,
    {
      unchanged: true,
      hint: 'stop one of the two: with one member\'s data both damage etcd. If the other machine is lost for good: RUNBOOK-MORE "A control plane node is lost for good"',
    },
  );
}

/**
 * The disk may be in another machine, or a copy: nothing here shows it. `was`: as the kubelet reported it in
 * its Node.
 */
function sayOtherHardware(name: string, was: string | undefined) {
  const now = attempt(() => readText("/sys/class/dmi/id/product_uuid")?.trim(), undefined);
  if (!was || !now || was.toLowerCase() === now.toLowerCase()) return;
  say(
    `warning: the hardware is another one (${now}, was ${was}): the machine that was "${name}" must never start again`,
  );
}

export interface MovedFile extends FileChange {
  before: string;
  content: string;
}

/**
 * Kubeconfigs, manifests and the kubelet's flags that name an old address, or that would lose the node's
 * name.
 */
export async function changesHere(
  node: Node,
  moved: Moved,
  { isControlPlane = false } = {},
): Promise<MovedFile[]> {
  const { kubeconfig, staticPodPath } = node.kubelet;
  const keepsName = !(await hostRenamed(node));
  const manifests = list(staticPodPath).filter(
    (name) => /\.(ya?ml|json)$/.test(name) && !name.startsWith("."),
  );
  const paths = [
    ...KUBECONFIGS.map(({ name, path }) => (name === "kubelet" ? kubeconfig : path)),
    ...manifests.map((name) => `${staticPodPath}/${name}`),
    ...USUAL_FLAG_FILES,
    KUBELET_CONFIG,
  ];
  const toEndpoint = new Set(KUBECONFIGS.filter(leadsToEndpoint).map(({ path }) => path));
  const override = `--hostname-override=${node.name}`;
  const changes = paths.flatMap((path) => {
    const text = exists(path) ? attempt(() => readText(path), undefined) : undefined;
    if (text === undefined) return [];
    const next = asMoved(text, isControlPlane && !toEndpoint.has(path) ? ofMachines(moved) : moved);
    const content = keepsName || path !== KUBEADMS ? next : next.replace(ARGS, `$&${override} `);
    return content === text ? [] : [{ path, before: text, content, note: "with the new addresses" }];
  });
  if (keepsName || changes.some(({ content }) => content.includes(override))) return changes;
  throw new Fail(
    `This host is called "${node.hostName}" now, and "${KUBEADMS}" has no KUBELET_KUBEADM_ARGS`,
    {
      unchanged: true,
      hint: `put ${override} into the file of flags that systemctl cat kubelet names; then run the same line again`,
    },
  );
}

/** kubeadm keeps the flag in this file (cmd/kubeadm/app/phases/kubelet/flags.go). */
const [KUBEADMS] = USUAL_FLAG_FILES;
const ARGS = /^KUBELET_KUBEADM_ARGS="?/m;

/** Whether the host has another name than its node, and no flag gives the kubelet the node's. */
export async function hostRenamed(node: Node): Promise<boolean> {
  return hasOtherName(node, await kubeletFlags(await seeKubelet()));
}

export async function moveWorker(node: Node, moved: Moved) {
  const changes = await step("M.1 Look at this worker's files", async () => {
    const found = await changesHere(node, moved);
    for (const { path } of found) say(`will change ${path}`);
    if (found.length === 0) say("no file of this worker changes");
    else await refuseUnfitKubelet({ node, renames: true });
    refuseFixed(found.map(({ path }) => path));
    return found;
  });
  const putBack = async () => {
    if (mode.dryRun) return;
    for (const { path, before } of changes) writeFile(path, before, { note: "as before" });
    await systemctlKubelet("restart");
  };
  // a run may have been cut off before it started the kubelet again
  if (changes.length > 0 || !(await kubeletActive()))
    await step("M.2 Put the new addresses in, and restart the kubelet", () =>
      orUndo(() => restartWith(node, changes), putBack),
    );
  await step("M.3 See that pods in this machine's own network have its new address", async () => {
    const why = await failOf(() => renewHostPodIps(KubeApi.from(confOf(node)), node.name, moved));
    if (why) say(`not checked: ${why.message}. When the API server answers, type the same line again`);
  });
  await step("M.4 See what still names an old address here", () =>
    printOldAddressSearches(moved, { inObjects: false }),
  );
}

function confOf({ kubelet: { kubeconfig } }: Node) {
  const conf = readKubeconfig(kubeconfig);
  if (conf) return conf;
  throw new Fail(`"${kubeconfig}" cannot be read`, {
    hint: "./bunw scripts/00-assess.ts says what is lost here",
  });
}

async function restartWith(node: Node, changes: readonly MovedFile[]) {
  await systemctlKubelet("stop", " (containers keep running)");
  if (changes.length === 0) say("no file of this node has to change");
  replaceFiles(changes, asideOf(newRescue()));
  const conf = confOf(node);
  if (!mode.dryRun) await proveServer(conf.server, conf.caPem);
  const [since, hint] = [new Date(), "journalctl -u kubelet -n 50"];
  await systemctlKubelet("start");
  await waitForRenewal(KubeApi.from(conf), node.name, since, { seconds: 90, hint });
  if (!mode.dryRun) say(`${node.name}: renewed its Lease`);
}
