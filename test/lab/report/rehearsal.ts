/**
 * What a rehearsal leaves behind: the shape of rehearsal.json, which the two reports draw.
 *
 * Times are seconds since the damage, unless a name says otherwise; null means "not before the end of the
 * rehearsal".
 */
export interface Rehearsal {
  scenario: string;
  title: string;
  tool: string;
  /** When the damage was done, ISO 8601. */
  date: string;
  kubernetes: string;
  machine: string;
  nodes: { name: string; role: "control-plane" | "worker" }[];
  /** True only if every check below is. */
  recovered: boolean;
  checks: Check[];
  seconds: {
    damageToEtcd: number | null;
    damageToApi: number | null;
    damageToNodesReady: number | null;
    damageToWorkloadsOk: number | null;
    /** From the first command until all nodes are Ready again. */
    repairCommands: number | null;
    /** From the first command until every pod is Ready and every client is answered. */
    commandsToWorkloadsOk: number | null;
  };
  freshInitAndJoinSeconds: number;
  /** repairCommands / freshInitAndJoinSeconds */
  ratio: number | null;
  /** Workload containers that were replaced before part 4 began; part 4 restarts pods on purpose. */
  workloadContainersRestarted: number;
  workloadContainersRestartedInPart4: number;
  podsEvicted: number;
  /** Seconds in which a Service from before the damage had no endpoint, as far as the API could say. */
  endpointsLostSeconds: number;
  /** Calls from pod to Service that failed: before part 4 begins, and in all. */
  dataPlaneFailures: number;
  dataPlaneFailuresInPart4: number;
  secretsLost: string[];
  configMapsChanged: string[];
  oldTokens: number;
  oldTokensValid: number;
  filesNotRestored: string[];
  /** All other differences: manifests, SANs, kubelet configuration, UIDs. */
  differences: string[];
  moments: Moment[];
  lanes: Lane[];
  steps: Step[];
  heartbeats: Heartbeat[];
  /** Only where the cluster has pods that ask each other. */
  pings: Pings[];
  newPods: NewPod[];
  /** Seconds in which the cluster's DNS had no ready endpoint, part 4 included. */
  dnsLostSeconds: number;
  /** The scenario of --compare. */
  article?: Rehearsal;
}

export interface Check {
  name: string;
  ok: boolean;
  detail: string;
}

export interface Moment {
  at: number;
  what: string;
  detail: string;
}

/** Something of the cluster, and when it was away. */
export interface Lane {
  name: string;
  away: { from: number; to: number | null }[];
  note: string;
}

/** One command as it was typed, with all that it printed. */
export interface Step {
  part: number | undefined;
  node: string;
  command: string;
  start: number;
  seconds: number;
  exitCode: number;
  /** The exit code is one that the runbook expects. */
  ok: boolean;
  /** It did not end by itself, so the lab killed it. */
  hung: boolean;
  stdout: string;
  stderr: string;
}

export interface Heartbeat {
  name: string;
  what: string;
  calls: number;
  failed: number;
  gaps: Gap[];
  phases: { name: string; calls: number; failed: number }[];
}

/** From the last good answer to the next one; `to` is null when there was none. */
export interface Gap {
  from: number;
  to: number | null;
  failed: number;
  error: string;
}

/** What pods asked each other every quarter of a second. */
export interface Pings {
  name: string;
  what: string;
  sent: number;
  lost: number;
  /** That the pair which lost most was without an answer, and which pair that was. */
  seconds: number;
  worst: string;
  /** In which any was lost. */
  spans: { from: number; to: number; lost: number }[];
}

/** A pod that started after the damage. */
export interface NewPod {
  name: string;
  node: string;
  start: number;
  /** Seconds from then until another pod answered it. */
  firstAnswer: number | null;
}
