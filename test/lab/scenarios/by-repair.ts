/** One command on the operator's machine, whose ssh has never met the nodes, and no kit on any of them. */
import { existsSync } from "node:fs";
import { FLEET_PACKAGES } from "../machine/operator.ts";
import { repairByOneCommand, withoutKit } from "../scene/by-repair.ts";
import { restartBarePods } from "../scene/printed.ts";
import { makeReachable, type Way } from "../scene/reachable.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import { allLost, everythingDeleted } from "./all-lost.ts";
import { haAllLost } from "./several-control-planes.ts";

/** The old key of tokens: the pods that part 4 has named come first. */
const NOT_NOW = /^Not now/;

/** Only where the old key of tokens was computed. */
async function again(scene: Scene, way: Way) {
  const isLeft = scene.lab.controlPlanes.some((node) =>
    existsSync(node.path("/etc/kubernetes/pki/sa-old.pub")),
  );
  if (!isLeft) return;
  await restartBarePods(scene);
  await repairByOneCommand(scene, { way });
}

function byOneCommand(way: Way): Scenario["lines"] {
  return [
    {
      title: "The operator has a machine that reaches all nodes by ssh",
      run: (scene) => makeReachable(scene, way),
    },
    { title: "No node has the kit", run: withoutKit },
    ...everythingDeleted,
    {
      title: "The operator types one command",
      run: (scene) => repairByOneCommand(scene, { way, ways: [NOT_NOW] }),
    },
    {
      title: "Pods that part 4 left to people are restarted, and the same command ends it",
      run: (scene) => again(scene, way),
    },
  ];
}

export const byRepair: Scenario = {
  ...haAllLost,
  name: "by-repair",
  title:
    "As ha-all-lost; the operator types npm run repair -- root@cp1 on a machine beside the cluster, and numbers",
  packages: FLEET_PACKAGES,
  lines: byOneCommand({ unknown: true }),
};

export const byRepairOne: Scenario = {
  ...allLost,
  name: "by-repair-one",
  title:
    "As all-lost; the operator types npm run repair -- root@cp1 on a machine beside the cluster, and numbers",
  packages: FLEET_PACKAGES,
  lines: byOneCommand({ unknown: true }),
};

export const byRepairAndSudo: Scenario = {
  ...byRepair,
  name: "by-repair-sudo",
  title: "As by-repair; a user with sudo logs in, and all nodes but the first are reached through it",
  lines: byOneCommand({ user: "ops", jump: true }),
};
