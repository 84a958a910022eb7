/**
 * The heartbeats of the lab's workloads (workloads.yaml): each writes a file NAMESPACE-CALLER.log on its
 * node.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { undefinedOnTimeout } from "../../../shared/wait-for.ts";
import type { Lab } from "../machine/machine.ts";
import { type Scene, sayAndWait } from "../scene/scene.ts";
import { type Beat, readBeats } from "./heartbeat.ts";

const FOLDER = "/var/log/heartbeat";

const CALLERS: Record<string, string> = {
  caller: "a pod that calls a Service by its IP every 200 ms",
  asker: "a pod that asks the API and reads its token before each call",
  "asker-cached": "a pod that asks the API with the token it read when it started",
};

/** The callers that measure the data plane. */
export const SERVICE_CALLER = "caller";

export function readHeartbeats(lab: Lab): { name: string; what: string; beats: Beat[] }[] {
  const beats = new Map<string, Beat[]>();
  for (const node of lab.nodes) {
    const folder = node.path(FOLDER);
    for (const file of existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".log")) : [])
      beats.set(file, [...(beats.get(file) ?? []), ...readBeats(readFileSync(`${folder}/${file}`, "utf8"))]);
  }
  const order = Object.keys(CALLERS);
  return [...beats]
    .map(([file, all]) => {
      const [, namespace, caller] = file.match(/^(.+?)-(.+)\.log$/) ?? ["", "", file];
      return {
        name: `${caller} in ${namespace}`,
        caller: caller!,
        what: CALLERS[caller!] ?? "",
        beats: all.sort((a, b) => a.t - b.t),
      };
    })
    .sort((a, b) => order.indexOf(a.caller) - order.indexOf(b.caller) || a.name.localeCompare(b.name))
    .map(({ name, what, beats: all }) => ({ name, what, beats: all }));
}

/**
 * A call that is only late is no damage: each heartbeat has time for one more. The record shows which never
 * beats again.
 */
export async function waitForBeats(scene: Scene) {
  const asked = Date.now();
  const beat = () =>
    readHeartbeats(scene.lab).every(({ beats }) => beats.some(({ t, ok }) => ok && t > asked));
  await undefinedOnTimeout(
    sayAndWait(scene, "every heartbeat to beat", beat, {
      seconds: 60,
      hint: "/var/log/heartbeat in the nodes",
    }),
  );
}
