/** What a repair costs the API: from which step until which it is away, and whose it is. */
import type { Task } from "../facts/course.ts";
import type { PlanStep } from "./plan-steps.ts";

/** Each ends the control plane of the nodes it is typed on. */
const STOPS: readonly Task[] = ["end-etcd", "new-cas", "old-cas", "new-internal-cas", "etcd-there"];

interface Around {
  /** The cluster has other control plane nodes. */
  several: boolean;
  /** Without this node, enough members of etcd go on. */
  othersServe: boolean;
}

/** The steps, with what those that stop something cost. */
export function withOutage<S extends PlanStep>(steps: readonly S[], { several, othersServe }: Around): S[] {
  const stops = steps.filter(({ task }) => task && STOPS.includes(task));
  const back = steps.find(({ task }) => task === "control-plane");
  const [first] = stops;
  if (!first || !back) return [...steps];
  const until = `until step ${back.number} is done`;
  const whole = several && (!othersServe || stops.some(({ task }) => task === "end-etcd"));
  const api = whole ? "the API of the whole cluster, where it still answers, is" : "the API is";
  const costs = new Map<S, string>(
    stops.map((step) => [step, `nothing more: the API is unavailable ${until}`]),
  );
  costs.set(
    first,
    `${api} unavailable from here ${until}. Read the steps up to ${back.number} first, then be quick. ${NO_RESTART}`,
  );
  if (several && !whole)
    for (const step of stops)
      costs.set(
        step,
        `the control plane of this node stops ${until}; the API of the others keeps running. ${NO_RESTART}`,
      );
  return steps.map((step) => ({ ...step, costs: costs.get(step) ?? step.costs }));
}

const NO_RESTART = "No running workload stops";
