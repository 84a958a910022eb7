/**
 * Is this node's clock right? One that is late makes certificates that have expired for all others, one that is ahead some
 * that are not yet valid; and no renewal of a Lease looks like one of now.
 *
 * A clock that follows a time server is right, but against two witnesses: late-clock.ts. Else what was written on the control plane nodes proves that
 * two clocks differ, and then the majority is right: the time of etcd's last write here, the Leases of
 * control plane nodes' kubelets in etcd's data (NodeRestriction: nobody else's kubelet writes them), and the
 * time of other API servers that show a certificate of the cluster's CA. Workers decide nothing.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import {
  apart,
  BY_WORD,
  clockIsSynchronized,
  duration,
  minute,
  TOLERANCE_MS,
  wrongClock,
} from "../evidence/server-clock.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import type { Node } from "../node/node.ts";
import { decodeObject } from "../objects/storage.ts";
import { registryPrefix } from "../objects/stored.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { bothCas } from "../pki/examine.ts";
import { serverTime } from "../pki/served.ts";
import { say } from "../run.ts";
import type { Cluster } from "./cluster-before.ts";
import { apiAddressOf, believedPeers } from "./known-nodes.ts";
import { lateClockEvidence } from "./late-clock.ts";

/**
 * Where nothing of the cluster is younger than this, and no time server is followed, the clock itself is in
 * doubt.
 */
const DOUBT_MS = 24 * 3600_000;

/** Another node's clock: milliseconds that it is before ours (or was, when both last wrote to etcd). */
interface Other {
  name: string;
  ahead: number;
}

interface Place {
  data: EtcdData;
  cluster: Cluster;
  facts: ClusterFacts;
  node: Node;
}

/** Errors: Fail where this node's clock is proved wrong, or one of two is. */
export async function refuseWrongClock(cp: Place, isSynchronized?: boolean) {
  const found = await clockTrouble(cp, isSynchronized);
  if (found instanceof Fail) throw found;
  for (const line of found) say(line);
}

/** A line for each other node whose clock is wrong. `isSynchronized`: where that was asked already. */
export async function clockTrouble(cp: Place, isSynchronized?: boolean): Promise<Fail | string[]> {
  if (process.env[BY_WORD] === "right") return [];
  const stored = storedClocks(cp);
  if (isSynchronized ?? (await clockIsSynchronized())) {
    const { certificatesDir } = cp.facts;
    return lateClockEvidence({ lastWrite: cp.data.lastWrite, certificatesDir, leases: stored });
  }
  const since = cp.data.lastWrite.getTime() - Date.now();
  if (since > TOLERANCE_MS)
    return wrongClock(`${duration(since)} before etcd's last write here, ${minute(cp.data.lastWrite)}`);
  const all = [...stored, ...(await livingClocks(cp))];
  const others = [...new Map(all.map((other) => [other.name, other])).values()];
  const differ = others.filter(({ ahead }) => Math.abs(ahead) > TOLERANCE_MS);
  const agree = others.length - differ.length;
  if (differ.length > agree)
    return wrongClock(differ.map(({ name, ahead }) => `${apart(-ahead)} that of ${name}`).join(", "));
  return differ.map(
    ({ name, ahead }) =>
      `warning: the clock of ${name} is ${apart(ahead)} this one. Set it before its part of the repair: there timedatectl`,
  );
}

/**
 * Before keys are made: on a single control plane node nothing proves that the clock is ahead. A new CA would not be valid
 * before its time. Errors: Refused where the last that etcd's data knows
 * is long ago, until the operator gives his word.
 */
export async function refuseDoubtfulClock(cp: Place) {
  const renewals = cp.cluster.nodes
    .filter((node) => node.controlPlane)
    .flatMap(({ name }) => renewal(cp.data, name)?.time ?? []);
  const newest = renewals.length > 0 ? Math.max(...renewals) : cp.data.lastWrite.getTime();
  const older = Date.now() - newest;
  if (older < DOUBT_MS || process.env[BY_WORD] === "right" || (await clockIsSynchronized())) return;
  const what =
    renewals.length > 0
      ? "The newest renewal of a control plane node's Lease in etcd's data"
      : "etcd's last write here";
  throw new Refused(
    `This node's clock says ${minute(new Date())}, and no time server sets it. ${what} is ${duration(older)} older`,
    {
      unchanged: true,
      hint:
        "check the time: date -u (certificates made with a clock that is ahead are not yet valid once the clock is right). " +
        `If it is: ${BY_WORD}=right before the same command. If not: timedatectl set-ntp true, or chronyc makestep, and the same command`,
    },
  );
}

async function livingClocks({ data, cluster, facts, node }: Place): Promise<Other[]> {
  const cas = bothCas(facts.certificatesDir, cluster.oldCaPem);
  const asked = believedPeers(cluster, { node }).map(async (other): Promise<Other[]> => {
    const at = apiAddressOf(other, data, facts.bindPort);
    const time = at && (await serverTime(at.host, at.port, cas));
    return time ? [{ name: other.name, ahead: time.getTime() - Date.now() }] : [];
  });
  return (await Promise.all(asked)).flat();
}

/**
 * Proved by etcd's order of writes: who wrote later has the later time, or one clock is wrong.
 * A renewal after now is wrong in any case. Two that are about the same time agree.
 */
function storedClocks({ data, cluster, node }: Place): Other[] {
  const own = renewal(data, node.name);
  return believedPeers(cluster, { node }).flatMap(({ name }) => {
    const other = renewal(data, name);
    if (!other) return [];
    const future = other.time - Date.now();
    if (future > TOLERANCE_MS) return [{ name, ahead: future }];
    const ahead = own ? other.time - own.time : undefined;
    const wrongOrder = own && ahead !== undefined && other.revision > own.revision !== ahead > 0;
    return ahead !== undefined && (wrongOrder || Math.abs(ahead) <= TOLERANCE_MS) ? [{ name, ahead }] : [];
  });
}

/** Its time is by the node's own clock, in milliseconds; undefined where that cannot be read. */
function renewal(data: EtcdData, name: string): { time: number; revision: number } | undefined {
  const stored = data.get(`${registryPrefix(data)}/leases/kube-node-lease/${name}`);
  const lease = stored && attempt(() => decodeObject(stored.value), undefined);
  if (!stored || !lease || !("spec" in lease)) return undefined;
  const time = Date.parse((lease.spec as { renewTime?: string } | null)?.renewTime ?? "");
  return Number.isNaN(time) ? undefined : { time, revision: stored.modRevision };
}
