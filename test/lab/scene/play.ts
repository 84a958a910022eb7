/** A scenario played on a scene, line by line, to its end or to the first line that goes wrong. */
import { Fail } from "../../../shared/fail.ts";
import { reasonIn, type Scenario, type Scene } from "./scene.ts";

/** Why a scenario stops before its end is a result, like any other: it goes into the record. */
export async function play({ lines, commandsMayFail }: Scenario, scene: Scene) {
  for (const line of lines) {
    scene.say(`== ${line.title}`);
    try {
      await line.run(scene);
    } catch (err) {
      if (!(err instanceof Fail)) throw err;
      scene.checks.push({ name: line.title, ok: false, detail: err.message });
      return stop(scene, `${err.message} (hint: ${err.hint})`);
    }
    const failed = commandsMayFail ? undefined : scene.steps.find((step) => !step.ok);
    if (failed) return stop(scene, `"${failed.command}" on ${failed.node} failed: ${reasonIn(failed)}`);
  }
}

/** Nobody repairs the cluster any more, so nothing new can come: from here on each question is asked once. */
function stop(scene: Scene, why: string) {
  scene.failed = why;
  scene.say(`STOPPED, nothing is waited for any more: ${why}`);
}
