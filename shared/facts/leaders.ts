/** Says which node led, and which kubelets were alive, when etcd's data was written. */
import {
  hostOfHolder,
  LEADERS,
  type Leader,
  type LeadersSeen,
  leaderIn,
  type StoredLease,
} from "../api/kube-object.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless } from "../etcd-data/members.ts";
import { ownMember } from "../etcd-location/reach-etcd.ts";
import { oldestStart } from "../etcd-location/static-pod-here.ts";
import { attempt } from "../fail.ts";
import { list, stat } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostPathOf, podFlags } from "../manifests/command.ts";
import { manifestPath, readableManifest, whereIs } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { readObject } from "../objects/stored.ts";
import { readYaml } from "../yaml.ts";
import { caEndedAt } from "./ca-copies.ts";
import type { KnownNode } from "./known-node.ts";
import type { ControlPlaneNode } from "./node-facts.ts";
import { keptRepair, type Repair } from "./repair.ts";

/** The host whose controller-manager is the leader, by its Lease: only the leader holds ca.key in memory. */
export function leaderHost(data: EtcdData | undefined): string | undefined {
  const leader = data && storedLeader(data, "kube-controller-manager");
  return leader && hostOfHolder(leader.holder);
}

interface HereSeen {
  data: EtcdData;
  node: Pick<Node, "hostName" | "name" | "addresses">;
  cluster: { nodes: readonly Pick<KnownNode, "name" | "claimed">[] };
}

interface LastLeader {
  host: string;
  /** The control plane nodes that it may be: one, or all of them where none has the name of that host. */
  nodes: string[];
}

/**
 * Undefined where this node's controller-manager led, or nobody; and where etcd has no other member: then the machine
 * has got another name. A Lease decides which node is asked about, and no more.
 */
export function lastLeaderElsewhere({ data, node, cluster }: HereSeen): LastLeader | undefined {
  const host = leaderHost(data);
  const own = ownMember(data, node.addresses);
  const names = data.members.flatMap((member) => (member === own || isNameless(member) ? [] : [member.name]));
  if (host === undefined || [node.hostName, node.name].includes(host) || names.length === 0) return undefined;
  const namesOf = (name: string) => [
    name,
    ...(cluster.nodes.find((knownNode) => knownNode.name === name)?.claimed.names ?? []),
  ];
  const called = names.filter((name) => namesOf(name).includes(host));
  const alike = names.filter((name) => namesOf(name).some((one) => firstLabel(one) === firstLabel(host)));
  return { host, nodes: [called, alike].find((some) => some.length > 0) ?? names };
}

/** A host may say its name with a domain, and the node without, or the other way round. */
function firstLabel(name: string): string {
  return name.toLowerCase().split(".")[0]!;
}

/**
 * Nothing in this data was written later than `at`: etcd wrote to its log then, or the copy was made then, on
 * this node.
 */
export function leadersSeen({ data, dataFrom, rescue, node }: Repair & { node: Node }): LeadersSeen {
  const wal = `${dataFrom}/member/wal`;
  const written = list(wal).flatMap((name) => stat(`${wal}/${name}`)?.modified.getTime() ?? []);
  const at = new Date(Math.max(rescue.made.getTime(), ...written));
  const [leases, started, leaders] = [[] as string[], new Map<string, Date>(), new Map<string, Leader>()];
  for (const name of LEADERS) {
    const lease = leaderLease(node, name);
    if (!lease) continue;
    leases.push(lease);
    const [start, leader] = [oldestStart(name), storedLeader(data, lease)];
    if (start) started.set(lease, start);
    if (leader) leaders.set(lease, leader);
  }
  return { leases, started, leaders, at };
}

/**
 * A node's last renewal of its Lease before this repair, or before the one that has just ended: under the old
 * CA it ends while nodes still join. Undefined where no copy of then has such a Lease.
 */
export function renewalBefore(repair: Repair, node: string): Date | undefined {
  const copy = keptRepair(repair)?.data;
  const renewTime = copy && storedLease(copy, `kube-node-lease/${node}`)?.spec?.renewTime;
  return renewTime === undefined ? undefined : new Date(renewTime);
}

/** Milliseconds. A kubelet renews its Lease every ten seconds, by a clock of its own. */
const HEARD = 60_000;

/**
 * When the certificate expired that the current CA had before, if this node's kubelet has not been heard since, by
 * etcd's data: then none has that trusts the old one, whatever stands in its files now.
 */
export function caExpiryIfKubeletsAreSilent(
  cp: Pick<ControlPlaneNode, "facts" | "cluster" | "data" | "node">,
): Date | undefined {
  const endedAt = caEndedAt(cp);
  const renewTime = endedAt && storedLease(cp.data, `kube-node-lease/${cp.node.name}`)?.spec?.renewTime;
  const heard = new Date(renewTime ?? Number.NaN).getTime() + HEARD;
  return endedAt && heard < Math.min(endedAt.getTime() + 2 * HEARD, Date.now()) ? endedAt : undefined;
}

/**
 * Whether this node's component led when etcd last wrote: so it works, with whatever credentials it has read.
 * A copy of before proves nothing.
 */
export function leadsHere(
  place: Repair & { node: Node; etcd: { dir: string } },
  component: (typeof LEADERS)[number],
): boolean {
  const name = leaderLease(place.node, component);
  const lease = name === undefined ? undefined : leaderLeaseIn(place.data, name);
  const leader = leaderIn(lease);
  if (!leader || place.dataFrom !== place.etcd.dir) return false;
  // the others may take it when it has not been renewed for so long: Kubernetes' default
  const { leaseDurationSeconds = 15 } = lease!.spec!;
  return (
    hostOfHolder(leader.holder) === place.node.hostName &&
    leadersSeen(place).at.getTime() - Date.parse(leader.renewTime) < leaseDurationSeconds * 1000
  );
}

function storedLeader(data: EtcdData, name: string): Leader | undefined {
  return leaderIn(leaderLeaseIn(data, name));
}

function leaderLeaseIn(data: EtcdData, name: string): StoredLease | undefined {
  return storedLease(data, name.includes("/") ? name : `kube-system/${name}`);
}

/**
 * The Lease by which a component of this node elects its leader, as `--leader-elect-resource-…` of its
 * manifest says, or the scheduler's `--config`, whose leaderElection counts alone; undefined where it elects
 * none. Source: k8s.io/component-base/config/options.
 */
export function leaderLease(node: Node, component: (typeof LEADERS)[number]): string | undefined {
  const manifest = readableManifest(whereIs(manifestPath({ node }, component)));
  const command = podFlags(manifest);
  const path = command.get("config") && hostPathOf(manifest!, command.get("config")!);
  const readConfig = () => readYaml(smallText(path!) ?? "") as ElectionConfig | undefined;
  // a file that cannot be read says nothing
  const config = path ? attempt(readConfig, undefined) : undefined;
  const { leaderElection: { leaderElect, resourceName, resourceNamespace } = {} } = config ?? {
    leaderElection: {
      leaderElect: command.get("leader-elect") !== "false",
      resourceName: command.get("leader-elect-resource-name"),
      resourceNamespace: command.get("leader-elect-resource-namespace"),
    },
  };
  if (leaderElect === false) return undefined;
  return resourceNamespace
    ? `${resourceNamespace}/${resourceName ?? component}`
    : (resourceName ?? component);
}

interface ElectionConfig {
  leaderElection?: {
    leaderElect?: boolean;
    resourceName?: string | undefined;
    resourceNamespace?: string | undefined;
  };
}

function storedLease(data: EtcdData, name: string) {
  return attempt(() => readObject<StoredLease>(data, `leases/${name}`), undefined);
}
