/**
 * Which rows of RUNBOOK.md's tables "it says" belong to which step: only those that this damage can bring.
 */
import type { Course, Task } from "../facts/course.ts";
import type { IfNot } from "./runbook.ts";

export interface Damage {
  course: Course;
  /** The cluster has other control plane nodes. */
  several: boolean;
  /** Nodes are lost for good. */
  leavesOut: boolean;
}

interface Row {
  says: RegExp;
  /** It stands at the first step of these; `last`: at the last one, behind the one that carries its file. */
  at: readonly Task[];
  last?: true;
  /** Unset: it can always come. */
  if?: (damage: Damage) => boolean;
}

const ETCD: readonly Task[] = ["new-cas", "old-cas", "new-internal-cas"];
const several = (damage: Damage) => damage.several;
const joins = ({ course }: Damage) => course.includes("join");

// biome-ignore format: a table
const ROWS: readonly Row[] = [
  { says: /^etcd cannot answer without/, at: ["hold", ...ETCD], if: ({ leavesOut }) => leavesOut },
  { says: /^sa\.key: … nothing here shows/, at: ["salvage", "token-key"] },
  { says: /^Waited … for etcd to answer/, at: ETCD },
  { says: /^etcd runs on …, and the CA of etcd is not here/, at: ETCD, if: several },
  { says: /^etcd runs on …, and its CA has expired/, at: ETCD, if: several },
  { says: /^The controller-manager on … led last/, at: ["new-cas"], if: several },
  { says: /^etcd runs on …, which may still have/, at: ["new-cas", "new-internal-cas"], if: several },
  { says: /^etcd on … shows a certificate of another CA/, at: ETCD, if: several },
  { says: /sa-old\.pub/, at: ["control-plane"], if: ({ course }) => course.includes("retire") },
  { says: /^warning: Waited 20 s for https:/, at: ["control-plane"] },
  { says: /^Waited … for the kubelet to get its certificate/, at: ["join"], last: true },
  { says: /^… was started, and has exited/, at: ["open"], if: joins },
  { says: /not approved: it asks for/, at: ["join"], last: true },
  { says: /^these nodes have no serving certificate/, at: ["close"] },
  { says: /^no node gives a new pod a network/, at: ["tokens"] },
  { says: /^left: test pod on/, at: ["tokens"] },
];

/** Those that no row of the table knows. */
export function unplaced(ifNot: readonly IfNot[]): string[] {
  return ifNot.flatMap(({ says }) => (ROWS.filter((row) => row.says.test(says)).length === 1 ? [] : [says]));
}

/** Each step with its rows. */
export function withHelp<S extends { task?: Task | undefined }>(
  steps: readonly S[],
  all: readonly IfNot[],
  damage: Damage,
) {
  const placed = all.flatMap((row) => {
    const place = ROWS.find(({ says }) => says.test(row.says));
    const those = steps.filter(({ task }) => task && place?.at.includes(task));
    const step = those.at(place?.last ? -1 : 0);
    return step && (place!.if?.(damage) ?? true) ? [{ step, row }] : [];
  });
  return steps.map((step) => ({
    ...step,
    help: placed.flatMap((one) => (one.step === step ? [one.row] : [])),
  }));
}
