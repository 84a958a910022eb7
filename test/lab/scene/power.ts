/** Machines that are switched off and on. */
import type { Machine } from "../machine/machine.ts";
import { watch } from "../report/watch.ts";
import { note, roleIn, type Scene, unpackKit } from "./scene.ts";

/** Those that were not switched off before the damage. */
export function nodesOn({ lab, away }: Pick<Scene, "lab" | "away">): Machine[] {
  return lab.nodes.filter(({ name }) => !away.includes(name));
}

/** Cuts the power of these nodes; nothing is written any more. */
export async function cutPower(scene: Scene, nodes: Machine[]) {
  await Promise.all(nodes.map((node) => node.kill()));
  note(scene, `${nodes.map((node) => node.name).join(", ")} lost power`);
}

/** Boots nodes and gives them again what was in their memory: the kit and our watchers. */
export async function powerOn(scene: Scene, nodes: Machine[]) {
  await Promise.all(nodes.map((node) => node.boot()));
  note(scene, `${nodes.map((node) => node.name).join(", ")} booted`);
  await Promise.all(nodes.map((node) => unpackKit(node, scene.kit)));
  for (const entry of scene.watchers.filter(({ machine }) => nodes.includes(machine)))
    entry.watcher = watch(entry.machine, { ...roleIn(scene.lab, entry.machine), goOn: true });
}
