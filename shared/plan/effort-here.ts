/**
 * The cost of a task for this cluster, now: the table of effort.ts says what it does, the look says how many containers run,
 * where etcd runs, and what of the irreversible is so here.
 */
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import type { LostNodes, Task } from "../facts/course.ts";
import { IRREVERSIBLE, irreversibleText } from "../run.ts";
import { EFFORTS, type Effort, IRREVERSIBLE_AT, NEW_ONE } from "./effort.ts";

export interface CostsHere {
  lost: LostNodes;
  /** Undefined: not known. */
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
    ...(task === "hold" && { costs: costsOfHold(here, on) }),
    ...(STARTS_ETCD.some((one) => one === task) && here.etcdRuns === "unit" && PROVES_ETCD),
    ...(task === "control-plane" &&
      controlPlanes.length > 0 && {
        does: `${effort.does}, and take ${controlPlanes.join(", ")} out of etcd's members`,
        note: NEW_ONE,
      }),
  };
}

const STARTS_ETCD: readonly Task[] = ["new-cas", "old-cas", "new-internal-cas", "etcd-there"];

/** An etcd that systemd runs is not stopped, so nothing starts it. */
const PROVES_ETCD: Pick<Effort, "does" | "longer"> = {
  does: "Prove etcd, which runs as a unit of systemd, and renew its certificates",
  longer: "it copies etcd's data once",
};

/** "no container is restarted: 11 containers run on without a kubelet (cp1 6, cp2 5). On cp3 none runs now". */
function costsOfHold({ workloads = new Map() }: CostsHere, on: readonly string[]): string {
  const seen = on.flatMap((name) => {
    const count = workloads.get(name);
    return count === undefined ? [] : [{ name, count }];
  });
  const some = seen.filter(({ count }) => count > 0);
  const sum = some.reduce((all, { count }) => all + count, 0);
  const each = some.map(({ name, count }) => `${name} ${count}`).join(", ");
  const none = seen.filter(({ count }) => count === 0).map(({ name }) => name);
  const unseen = on.filter((name) => !workloads.has(name));
  const sentences = [
    "no container is restarted",
    ...(sum > 0 ? [`${sum} containers run on without a kubelet (${each})`] : []),
    ...(none.length > 0 ? [`no workload runs now on ${none.join(", ")}`] : []),
    ...(unseen.length > 0 ? [`not looked at: ${unseen.join(", ")}`] : []),
  ];
  return sentences.join("; ");
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
    ...{ tokens: {}, restarts: {}, oldKey: { DIR: "aside/etc/kubernetes/pki of the rescue folder" } },
  };
}
