/** What a Lease says of a component's leader. Source: client-go leaderelection. */

/** The components that elect a leader. */
export const LEADERS = ["kube-controller-manager", "kube-scheduler"] as const;

interface LeaderLease {
  spec?: { holderIdentity?: string; renewTime?: string };
}

/**
 * Who holds a leader's Lease, for instance `cp1_1b2c…`, and its renewal. Two that differ prove that somebody
 * led in between.
 */
export interface Leader {
  holder: string;
  renewTime: string;
}

/**
 * The holder is HOST_UUID, with the host's name as its kernel has it (os.Hostname in
 * cmd/kube-controller-manager/app and cmd/kube-scheduler/app).
 */
export function hostOfHolder(holder: string): string {
  return holder.replace(/_[^_]*$/, "");
}

/** Undefined: nobody has taken the Lease, or it is gone. */
export function leaderIn(lease: LeaderLease | undefined): Leader | undefined {
  const { holderIdentity: holder, renewTime } = lease?.spec ?? {};
  return holder && renewTime ? { holder, renewTime } : undefined;
}

/** The leaders' Leases as somebody saw them before, by name, and when that was, by our own clock. */
export interface LeadersSeen {
  /** Those by which this cluster elects leaders. */
  leases: readonly string[];
  /** Since when this host's oldest process runs that may hold each; of none that runs, nothing. */
  started: ReadonlyMap<string, Date>;
  leaders: ReadonlyMap<string, Leader>;
  at: Date;
}
