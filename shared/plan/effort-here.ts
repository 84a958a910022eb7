/**
 * The cost of a task for this cluster, now: the table of effort.ts says what it does, the look says how many containers run,
 * where etcd runs, and what of the irreversible is so here.
 */
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import type { LostNodes, Task } from "../facts/course.ts";
import { listed } from "../plain.ts";
import { IRREVERSIBLE, irreversibleText } from "../run.ts";
import { EFFORTS, type Effort, IRREVERSIBLE_AT, NEW_MACHINE_NOTE } from "./effort.ts";

export interface CostsHere {
  lost: LostNodes;
  /** Undefined if it is not known. */
  etcdRuns?: EtcdHome["runs"] | undefined;
  /** Name of a node → containers that run there beside the control plane's servers; only of who was looked at. */
  workloads?: ReadonlyMap<string, number> | undefined;
  /** Lost keys that the plan makes new, and that nodes or pods trust. */
  newKeys?: readonly string[] | undefined;
  /** Bundles of keys that lie in the kit's folder. */
  bundles: readonly string[];
}

/** `on`: the names of the nodes that it is typed on. */
export function effortHere(task: Task | undefined, here: CostsHere, on: readonly string[]): Effort {
  const effort: Effort = EFFORTS[task as keyof typeof EFFORTS];
  const irreversible = [...(effort.irreversible ?? []), ...irreversibleHere(task, here)];
  const { controlPlanes } = here.lost;
  return {
    ...effort,
    ...(irreversible.length > 0 && { irreversible }),
    ...(task === "hold" && {
      costs: [effort.costs, ...containersNow(here, on, " without a kubelet")].join("; "),
    }),
    ...(task === "join" && { costs: costsOfJoin(effort, here, on) }),
    ...(STARTS_ETCD.some((one) => one === task) && here.etcdRuns && PROVES_ETCD[here.etcdRuns]),
    ...(task === "control-plane" &&
      controlPlanes.length > 0 && {
        does: `${effort.does}, and take ${controlPlanes.join(", ")} out of etcd's members`,
        note: NEW_MACHINE_NOTE,
      }),
  };
}

const STARTS_ETCD: readonly Task[] = ["new-cas", "old-cas", "new-internal-cas", "etcd-there"];

/** Nothing of this kit starts an etcd that is no static pod. */
const PROVES_ETCD: Partial<Record<EtcdHome["runs"], Pick<Effort, "does">>> = {
  unit: { does: "Prove etcd, which runs as a unit of systemd, and renew its certificates" },
  elsewhere: {
    does: "Prove etcd, which runs on other machines, and renew the API server's certificate for it",
  },
};

/** "11 containers run on (w1 6, w2 5); no workload runs now on w3; not looked at: w4". */
function containersNow({ workloads = new Map() }: CostsHere, on: readonly string[], more = ""): string[] {
  const counts = on.flatMap((name) => {
    const count = workloads.get(name);
    return count === undefined ? [] : [{ name, count }];
  });
  const some = counts.filter(({ count }) => count > 0);
  const sum = some.reduce((all, { count }) => all + count, 0);
  const each = listed(some.map(({ name, count }) => `${name} ${count}`));
  const none = counts.filter(({ count }) => count === 0).map(({ name }) => name);
  const unseen = on.filter((name) => !workloads.has(name));
  return [
    ...(sum > 0 ? [`${sum} containers run on${more} (${each})`] : []),
    ...(none.length > 0 ? [`no workload runs now on ${listed(none)}`] : []),
    ...(unseen.length > 0 ? [`not looked at: ${listed(unseen)}`] : []),
  ];
}

/** Where nobody has looked yet, nothing is counted. */
function costsOfJoin({ costs }: Effort, here: CostsHere, on: readonly string[]): string {
  const counted = containersNow(
    here,
    on.filter((name) => here.workloads?.has(name)),
  );
  return counted.length > 0 ? ["its kubelet restarts", ...counted].join("; ") : costs;
}

/** The sentences by which scripts will announce here that something is irreversible. */
function irreversibleHere(task: Task | undefined, here: CostsHere): string[] {
  const values = irreversibleValues(here);
  return acts.flatMap((act) => {
    const own = values[act];
    return own && IRREVERSIBLE_AT[act].some((one) => one === task) ? [irreversibleText(act, own)] : [];
  });
}

type ForGood = keyof typeof IRREVERSIBLE;
const acts = Object.keys(IRREVERSIBLE) as ForGood[];

const BUNDLE = "shared-keys.age";

/** Act → the values of its sentence; unset: it is not so here. */
function irreversibleValues({
  lost: { controlPlanes, away },
  newKeys = [],
  bundles,
}: CostsHere): Partial<Record<ForGood, Record<string, string>>> {
  return {
    ...(newKeys.length > 0 && { newKeys: { KEYS: newKeys.join(", ") } }),
    ...(controlPlanes.length > 0 && { memberOut: { NODE: controlPlanes.join(", ") } }),
    ...(away.length > 0 && { fullManager: {} }),
    ...(bundles.includes(BUNDLE) && { bundle: { FILE: BUNDLE } }),
    ...{ tokens: {}, restarts: {}, oldKey: { DIR: "/root/kube-pki-repair-TIME/aside/etc/kubernetes/pki" } },
  };
}
