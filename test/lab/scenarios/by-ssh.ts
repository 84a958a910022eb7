/** The lines of the plan as they stand on the page, pasted into one bash on a machine beside the cluster: by real ssh and scp to each node. */
import { FLEET_PACKAGES } from "../machine/operator.ts";
import { followPlan } from "../scene/follow-plan.ts";
import { makeReachable, operatorsBash, type Way } from "../scene/reachable.ts";
import type { Scenario } from "../scene/scene.ts";
import { everythingDeleted } from "./all-lost.ts";
import { haAllLost } from "./several-control-planes.ts";

export const bySsh: Scenario = {
  ...haAllLost,
  name: "by-ssh",
  title: "As ha-all-lost; the plan's lines are pasted into bash on a machine beside the cluster, which reaches the nodes by ssh",
  packages: FLEET_PACKAGES,
  lines: pasted({}),
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
        await using bash = operatorsBash();
        await followPlan(scene, { bash, user: way.user });
      },
    },
  ];
}
