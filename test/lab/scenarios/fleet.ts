/** Five nodes repaired from one machine: the playbook for parts 0 to 3, then the runbook. */
import { FLEET_PACKAGES } from "../machine/operator.ts";
import { followRunbook } from "../scene/follow.ts";
import { makeReachable } from "../scene/reachable.ts";
import { KIT, type Scenario, type Scene, type } from "../scene/scene.ts";
import { everythingDeleted } from "./all-lost.ts";
import { haAllLost } from "./several-control-planes.ts";

export const fleet: Scenario = {
  ...haAllLost,
  name: "fleet",
  title:
    "As ha-all-lost; the operator runs RUNBOOK.md's playbook from one machine, then follows parts 4 and 5",
  packages: FLEET_PACKAGES,
  lines: [
    {
      title: "The operator has a machine that reaches all nodes by ssh",
      run: (scene) => makeReachable(scene),
    },
    ...everythingDeleted,
    { title: "The operator runs the playbook without new_cas; its first gate stops it", run: stopAtGate },
    {
      title: "The operator runs the playbook as RUNBOOK.md says",
      run: (scene) => followRunbook(scene, ["fleet"], { parts: [-1] }),
    },
    {
      title: "The operator follows RUNBOOK.md from part 4 on",
      run: (scene) => followRunbook(scene, ["new-cas"], { parts: [4, 5] }),
    },
  ],
};

/**
 * Without new_cas part 1 refuses on the first control plane node. The next play would make an identity on
 * each other control plane node.
 */
async function stopAtGate(scene: Scene) {
  const { lab } = scene;
  const step = await type(scene, lab.operator!, "ansible-playbook -i inventory.yaml scripts/fleet.yaml", {
    exit: [2],
  });
  const refused = step.stdout.includes("is needed and cannot be used");
  // An API server that still runs may have given its sa.key to the salvage in part 0: that is no later play.
  const untouched = ["test", "!", "-e", `${KIT}/identity`, "-a", "!", "-e", "/etc/kubernetes/pki/ca.key"];
  const answers = await Promise.all(lab.controlPlanes.map((node) => node.run(untouched)));
  const touched = lab.controlPlanes.filter((_, i) => answers[i]!.exitCode !== 0).map(({ name }) => name);
  scene.checks.push({
    name: "the first failed gate stops the playbook, and no later play begins",
    ok: step.ok && refused && touched.length === 0,
    detail: `exit ${step.exitCode}; part 1 ${refused ? "refused" : "did not refuse"}; changed nodes: ${touched.join(", ") || "none"}`,
  });
}
