/** What workloads felt of a repair, before it restarted pods itself, as part 4 and the end of a move say that they do. */
import { keptOn } from "../../pretend/kept.ts";
import type { Lab } from "../machine/machine.ts";
import { addOnsOf } from "../machine/profile.ts";
import { controlPlaneSamples, type Scene } from "../scene/scene.ts";
import { containersGone, endpointsLost, podsEvicted } from "./watch.ts";

/** Steps that restart pods, by their titles. */
const RESTARTS = /^(?:4\.\d|M\.6) /;

/** Milliseconds. */
interface Restarts {
  from: number;
  to: number;
}

/**
 * When runs restarted pods since this moment, by the transcripts that they left on the nodes: a run that was cut is in
 * no list of what was typed.
 */
export function restartsByRuns({ nodes }: Pick<Lab, "nodes">, since: number): Restarts | undefined {
  const runs = nodes
    .flatMap((node) => keptOn(node.path("/")))
    .flatMap(({ record }) => {
      const first = record.find(
        ({ what, title, at }) => what === "step" && RESTARTS.test(title) && Date.parse(at) >= since,
      );
      return first ? { began: Date.parse(first.at), ended: Date.parse(record.at(-1)!.at) } : [];
    });
  if (runs.length === 0) return undefined;
  return {
    from: Math.min(...runs.map(({ began }) => began)),
    to: Math.max(...runs.map(({ ended }) => ended)),
  };
}

/** Names of workload containers that ended between these moments (ms), and not by themselves. */
export function restartedIn({ lab, watchers, away }: Scene, from: number, to: number): string[] {
  const byThemselves = addOnsOf(lab.profile).flatMap(({ endsWithoutApi }) => endsWithoutApi ?? []);
  // A machine that was off has ended all that it had.
  return watchers
    .filter(({ machine }) => !away.includes(machine.name))
    .flatMap(({ watcher }) => containersGone(watcher.samples(), from, to))
    .filter((name) => !byThemselves.some((pattern) => pattern.test(name)));
}

/** What is gone, between these moments (ms), that was well at the first one. */
export function disturbedIn(scene: Scene, from: number, to: number) {
  const [first] = controlPlaneSamples(scene);
  const lost = scene.lab.nodes.flatMap(({ name, nodeName }) =>
    scene.replaced.includes(name) ? nodeName : [],
  );
  return {
    restarted: restartedIn(scene, from, to),
    evicted: podsEvicted(first!, from, to, lost),
    endpointsLost: endpointsLost(first!, from, to),
  };
}
