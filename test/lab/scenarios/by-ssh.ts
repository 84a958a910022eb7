/** The lines of the plan as they stand on the page, pasted into one terminal on a machine beside the cluster: by real ssh and scp to each node. */
import { FLEET_PACKAGES } from "../machine/operator.ts";
import { followPlan } from "../scene/follow-plan.ts";
import { makeReachable, operatorsTerminal, type Way } from "../scene/reachable.ts";
import type { Scenario } from "../scene/scene.ts";
import { everythingDeleted } from "./all-lost.ts";
import { haAllLost } from "./several-control-planes.ts";

export const bySsh: Scenario = {
  ...haAllLost,
  name: "by-ssh",
  title: "As ha-all-lost; the plan's lines are pasted into a terminal on a machine beside the cluster, whose ssh has never met the nodes",
  packages: FLEET_PACKAGES,
  lines: pasted({ unknown: true }),
};

export const bySshAndSudo: Scenario = {
  ...bySsh,
  name: "by-ssh-sudo",
  title: "As by-ssh; nobody logs in as root but a user who may use sudo, and all nodes but the first are reached through it",
  lines: pasted({ user: "ops", jump: true }),
};

function pasted(way: Way): Scenario["lines"] {
  return [
    { title: "The operator has a machine that reaches all nodes by ssh", run: (scene) => makeReachable(scene, way) },
    ...everythingDeleted,
    {
      title: "The operator pastes the plan there, step by step",
      async run(scene) {
        await using bash = operatorsTerminal(way);
        await followPlan(scene, { bash, user: way.user });
      },
    },
  ];
}
