/** Who led when etcd's data was read. */
import { LEADERS, type Leader, type LeadersSeen, leaderIn } from "../api/leader-leases.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { list, stat } from "../files/files.ts";
import { readObject } from "../k8s/stored.ts";
import type { Repair } from "./repair.ts";

/** The host whose controller-manager is the leader, by its Lease: only the leader holds ca.key in memory (holderIdentity is HOST_UUID). */
export function leaderHost(data: EtcdData | undefined): string | undefined {
  return data && storedLeader(data, "kube-controller-manager")?.holder.replace(/_[^_]*$/, "");
}

/** Nothing in this data was written later than `at`: etcd wrote to its log then, or the copy was made then, on this node. */
export function leadersSeen({ data, dataFrom, rescue }: Repair): LeadersSeen {
  const wal = `${dataFrom}/member/wal`;
  const written = list(wal).flatMap((name) => stat(`${wal}/${name}`)?.modified.getTime() ?? []);
  const leaders = LEADERS.flatMap((name): [string, Leader][] => {
    const leader = storedLeader(data, name);
    return leader ? [[name, leader]] : [];
  });
  return { leaders: new Map(leaders), at: new Date(Math.max(rescue.made.getTime(), ...written)) };
}

function storedLeader(data: EtcdData, name: string): Leader | undefined {
  const lease = attempt(() => readObject<{ spec: { holderIdentity?: string; renewTime?: string } }>(data, `leases/kube-system/${name}`));
  return lease instanceof Fail ? undefined : leaderIn(lease);
}
