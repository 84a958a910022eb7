/** The shape of `00-assess --json`, and of its tables on the terminal. */

import { withCauses } from "../checks/causes.ts";
import {
  type Answer,
  type Check,
  type CheckRow,
  check,
  checksAsJson,
  found,
  hasFailed,
  stateWord,
} from "../checks/check.ts";
import { endingsHere, firstEnd, forecast } from "../checks/forecast.ts";
import { ASSESS, type CheckId, KINDS } from "../checks/kinds.ts";
import type { ClusterCa } from "../facts/ca-copies.ts";
import type { Course } from "../facts/course.ts";
import type { LostFile } from "../facts/lost-file.ts";
import { backupAnswer } from "../hand-over/backup-mark.ts";
import { okAnswer } from "../json-answer.ts";
import type { Node } from "../node/node.ts";
import type { SavedOption } from "../node/words.ts";
import { day } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import type { Refusal } from "./look-here.ts";

export interface Assessment extends NodeVerdict {
  node: string;
  /** `unknown`: a worker, or a control plane node that lost everything. */
  role: "control plane" | "worker" | "unknown";
  kubernetes: string | undefined;
  cluster: string | undefined;
  /**
   * "31 files, 4 servers answer …"; set only if nothing is damaged, and this node's API server and etcd
   * answer.
   */
  well?: string | undefined;
  /** "its API server does not answer": nothing is damaged, and yet it is away. */
  silent?: string | undefined;
  ca: ClusterCa;
  damage: Check[];
  survivors: PlaceOfKeys[];
  /** Lines that bring back files which no script can make. */
  filesBack?: string[];
  /** A static pod or the kubelet does not start without them. */
  lostFiles?: (Pick<LostFile, "path" | "program" | "namedBy"> & { mounted: boolean })[];
  /** Paths of the encryption configuration without which etcd's data is not read; `isThere`: one that does not open it. */
  sealedBy?: { path: string; isThere: boolean }[];
  /** Parts 1 to 3 would refuse here; unset: nothing is damaged. */
  refusals?: Refusal[];
  words?: SavedOption[];
  /** Containers that run here beside the control plane's servers; unset: they could not be listed. */
  workloads?: number | undefined;
  /** Each lost key, and where it can still be found. */
  deep?: Deep | undefined;
  damaged: boolean;
}

/** All that depends on the kind of node. */
export type Judged = Omit<Assessment, "node" | "kubernetes" | "ca" | "damaged" | "survivors"> & {
  survivors?: PlaceOfKeys[];
};

/** A line of the damage table. `what` replaces the kind's own words. */
export function row(id: CheckId, what: string, answer: Answer): Check {
  const check = { ...found({ id, of: what }, answer), what };
  return hasFailed(check) && check.mend === ASSESS ? { ...check, mend: NEXT } : check;
}

export function bad(id: CheckId, what: string, state: string, failed = ""): Check {
  return row(id, what, { state, failed });
}

const NEXT = "what it names as next";

/** Adds what expires soon, keys without a backup and, if the CA is lost, the first expiry date. */
export function withForecast(
  damage: readonly Check[],
  node: Node,
  certificatesDir?: string,
  home?: Parameters<typeof endingsHere>[2],
): Check[] {
  const endings = endingsHere(node, certificatesDir, home);
  const caIsLost = damage.some((row) => row.id === "certificate-ca" && hasFailed(row));
  const until = caIsLost ? firstEnd(endings) : undefined;
  const dated = damage.map((one) => (until ? withDate(one, day(until)) : one));
  const backup = !damage.some(hasFailed) && certificatesDir;
  const rows = backup ? [check("backup", () => backupAnswer(backup))] : [];
  return [...dated, ...openRows([...forecast(endings), ...rows])];
}

export function openRows(rows: readonly CheckRow[]): Check[] {
  return rows
    .map(({ look, ...asked }) => found(asked, look() as Answer))
    .filter(({ result }) => result !== "ok")
    .map((one) => ({ ...one, detail: `${one.detail}: ${one.mend}` }));
}

/** If the CA is lost, damaged files wait until this day. */
function withDate(one: Check, until: string): Check {
  if (!hasFailed(one) || one.area !== "files") return one;
  return {
    ...one,
    until,
    ...(one.id === "certificate-ca" && { works: `${one.works}. ${FIRST_END} ${until}` }),
  };
}

/** A missing file does harm at once if no server has it in memory. `others`: the other control plane nodes. */
export function withoutServers(one: Check, others: readonly string[]): Check {
  if (!hasFailed(one) || one.area !== "files" || KINDS[one.id].severity !== "soon") return one;
  const stopped =
    others.length > 0 ? `${STOPPED}, and the API on ${listed(others)}, if it runs there` : STOPPED;
  const works = one.until ? `${stopped}. ${FIRST_END} ${one.until}` : stopped;
  return { ...one, serversStopped: true, severity: "outage", works };
}

const FIRST_END = "The first certificate that is still here expires on";
const STOPPED = "pods and Services as they are";

export type AssessmentJson = ReturnType<typeof assessmentAsJson>;

export function assessmentAsJson(assessment: Assessment) {
  const damage = assessment.damage.map(rowAsJson);
  return okAnswer({
    ...checksAsJson(withCauses(assessment.damage)),
    made: new Date().toISOString(),
    ...assessment,
    damage,
  });
}

/**
 * `state`: `ok`, `known` (no damage, but good to know), `differs` (works, no damage either), or in capitals
 * what is wrong.
 */
function rowAsJson({ id, what, detail, differs, until, notAfter, serversStopped, ...check }: Check) {
  const state = differs !== undefined ? "differs" : check.result === "warning" ? "known" : stateWord(check);
  return { id, what, state, detail, ...(differs && { before: differs }), serversStopped, until, notAfter };
}

export interface PlaceOfKeys {
  where: string;
  /** "found", "worth a try", "no", "none" or "unknown". */
  hope: string;
  detail: string;
}

/** A lost key that an old folder beside has, proved. */
export interface KeyBeside {
  /** The name of its row. */
  name: string;
  /** The file's whole path. */
  path: string;
}

export interface Deep {
  keys: LostKey[];
  /** Enough to compute the lost key's public half. */
  oldTokens: boolean;
  /** Its public half was computed before. */
  oldKeyHere: boolean;
  diskSearched: boolean;
  /** A lost key may be in memory that could not be read. */
  unread?: string[];
  diskOption: string;
  /** Other keys are in the way. */
  moveToRescue: boolean;
}

/** A place of a key. `found`: seen and proved there; otherwise only a place to look at. */
export interface KeyPlace {
  rung: 1 | 2 | 3;
  where: string;
  /** The argument of 00-salvage; unset: hand-over from another control plane node. */
  word?: "memory" | "secret" | "disk" | "files";
  found: boolean;
}

export interface LostKey {
  name: string;
  file: string;
  /** The most certain first. */
  places: KeyPlace[];
  detail: string;
}

export interface NodeVerdict {
  /** After `--deep` only what nothing can bring back. */
  lost?: string[];
  /** "00-token-key → 01-etcd --new-cas → …". */
  way?: string;
  /** Recovery level of RUNBOOK part 0, if known: 0 all keys are here … 5 everything new. */
  rung?: number | undefined;
  verdict: string;
  next: string[];
  /** RUNBOOK.md's tasks; unset: something else comes first, or nothing is to be done. */
  course?: Course | undefined;
}
