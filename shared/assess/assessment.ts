/** What 00-assess says of a node: the shape of `--json`, and of the tables on the terminal. */
import { type Check, found, severityOf } from "../checks/check.ts";
import { ASSESS, type CheckId } from "../checks/kinds.ts";
import type { ClusterCa } from "../facts/ca-copies.ts";
import type { Course } from "../facts/course.ts";
import type { Difference } from "../pki/judge.ts";

export interface Assessment extends NodeVerdict {
  node: string;
  /** `unknown`: a worker, or a control plane node that lost everything. */
  role: "control plane" | "worker" | "unknown";
  kubernetes: string | undefined;
  cluster: string | undefined;
  /** "31 files, 4 servers answer …": unset unless nothing is damaged, and this node's API server and etcd answer. */
  well?: string | undefined;
  /** The cluster's CA, and each CA on this node beside it. */
  ca: ClusterCa;
  damage: Row[];
  survivors: Survivor[];
  /** The lines that bring lost files back which no script can make; unset or empty: none is lost. */
  filesBack?: string[];
  /** What `--deep` found: each lost key, and where it can still be found. */
  deep?: Deep | undefined;
  damaged: boolean;
}

/** A line of the damage table: a check, by its own words for a file or several. */
export interface Row {
  id: CheckId;
  what: string;
  /**
   * `ok`, `known` (no damage, but good to know), `differs` (it works, and is not as kubeadm-config would have it: no damage), or in capitals
   * what is wrong.
   */
  state: string;
  detail: string;
  /** Of `differs`: what to type before the next kubeadm upgrade. */
  before?: string;
  /** Servers have it in memory, and none of the control plane's runs on this node. */
  serversStopped?: true;
  /** Where the CA is lost: the day on which the first certificate ends that is still in use. */
  until?: string;
}

export function isDamage({ state }: Row): boolean {
  return !["ok", "known", "differs"].includes(state);
}

/** The row of a file or a server that works, and is not as kubeadm-config would have it. */
export function differsRow(id: CheckId, what: string, { differs, before }: Difference): Row {
  return { id, what, state: "differs", detail: differs, ...(before && { before }) };
}

/** The row as every script shows a check. */
export function checkOf({ id, what, state, detail, serversStopped, until, before }: Row): Check {
  if (state === "differs") return { ...found({ id, of: what }, { differs: detail, before }), what };
  if (state === "ok") return { ...found({ id }, detail), what };
  if (state === "known") return { ...found({ id, of: what }, { warning: detail }), what };
  const failed = [state, detail].filter(Boolean).join(": ");
  const { mend, ...bad } = found({ id, of: what }, { failed, severity: severityOf(id, state.replaceAll("!", "")) });
  const check = { ...bad, mend: mend === ASSESS ? NEXT : mend!, what };
  if (serversStopped) return { ...check, severity: "outage", works: until ? `${STOPPED}. ${FIRST_END} ${until}` : STOPPED };
  return until && id === "certificate-ca" ? { ...check, works: `${check.works}. ${FIRST_END} ${until}` } : check;
}

/** Not 00-assess, which says it. */
const NEXT = "what it names as next";
const FIRST_END = "The first certificate that is still here ends on";
const STOPPED = "pods and Services as they are, and the API where another control plane node runs it";

export interface Survivor {
  where: string;
  /** "worth a try", "no", "none", or "unknown". */
  hope: string;
  detail: string;
}

/** What `--deep` adds. */
export interface Deep {
  keys: LostKey[];
  /** Tokens of the lost service-account key, enough to compute its public half. */
  oldTokens: boolean;
  /** Somebody has computed it: it is here. */
  oldKeyHere: boolean;
  diskSearched: boolean;
  diskOption: string;
  /** Other keys are in the places of the lost ones. */
  moveToRescue: boolean;
}

/** Where a key can be found: `found` has been seen and proved, the others are places to look at. */
export interface KeyPlace {
  rung: 1 | 2 | 3;
  where: string;
  /** The word of 00-salvage that brings it back; unset: another control plane node's hand-over. */
  word?: "memory" | "secret" | "disk";
  found: boolean;
}

export interface LostKey {
  name: string;
  /** Below pki/. */
  file: string;
  /** What has been found first; none: nowhere. */
  places: KeyPlace[];
  detail: string;
}

/** The conclusion, and the commands that come next. */
export interface NodeVerdict {
  /** Files of lost keys: after `--deep` those that are nowhere to be found. */
  lost?: string[];
  /** The whole way from here, in one line: "00-token-key → 01-etcd --new-cas → …". */
  way?: string;
  /** Of the ladder (RUNBOOK part 0), where it is known: 0 all keys are here … 5 everything new. */
  rung?: number | undefined;
  verdict: string;
  next: string[];
  /** The same way through RUNBOOK.md; unset: something else comes first, or nothing is to be done. */
  course?: Course;
}

/** The state of a finding, as a row shows it. */
export function shown(state: string): string {
  return state === "ok" ? "ok" : `!${state.toUpperCase()}!`;
}
