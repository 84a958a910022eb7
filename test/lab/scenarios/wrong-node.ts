/**
 * The trial of a new user: pki and the kubeconfigs are deleted on three control plane nodes; then one is
 * rebooted, one has its kubelet and containerd restarted, one is left alone; a worker has lost its kubelet's
 * certificates. The operator makes the plan on every node but the right one first.
 */
import { type Machine, sh } from "../machine/machine.ts";
import { FLEET_PACKAGES } from "../machine/operator.ts";
import { USUAL } from "../machine/profile.ts";
import { containersGone } from "../report/watch.ts";
import { followPlan, planOfAllNodes } from "../scene/follow-plan.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import { makeReachable, operatorsTerminal, type Way } from "../scene/reachable.ts";
import { damage, note, type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { pasteTheEnd } from "./phone-call.ts";
import { haAllLost } from "./several-control-planes.ts";

const WAY: Way = { unknown: true };

export const wrongNode: Scenario = {
  ...haAllLost,
  name: "wrong-node",
  title:
    "pki and the kubeconfigs are deleted on three control plane nodes that run, one is rebooted, a worker lost its kubelet's pki; the plan is made on each node in turn, and followed from the right one by ssh",
  oldKeys: true,
  machinesFail: true,
  cleansUp: true,
  packages: FLEET_PACKAGES,
  profile: () => ({
    ...USUAL,
    nodeDomain: ".lab.example",
    clusterConfiguration: { encryptionAlgorithm: "ECDSA-P256" },
  }),
  lines: [
    {
      title: "The operator has a machine that reaches all nodes by ssh",
      run: (scene) => makeReachable(scene, WAY),
    },
    { title: "pki and the kubeconfigs are deleted on every control plane node", run: lose },
    { title: "Somebody restarts things", run: restartThings },
    { title: "The operator makes the plan on every other node", run: planElsewhere },
    { title: "The operator makes the plan where the others have said, and pastes it", run: repair },
    { title: "What ran is compared", run: compareContainers },
    { title: "The operator makes the plan anew, and pastes its end", run: toTheEnd },
  ],
};

async function lose(scene: Scene) {
  await damage(scene, scene.lab.controlPlanes, "rm -rf /etc/kubernetes/pki /etc/kubernetes/*.conf");
}

async function restartThings(scene: Scene) {
  const [cp1, cp2] = scene.lab.controlPlanes as [Machine, Machine];
  await cutPower(scene, [cp2]);
  await powerOn(scene, [cp2]);
  await sh(scene.lab.workers.at(-1)!, "rm -rf /var/lib/kubelet/pki && systemctl restart kubelet");
  await damage(scene, [cp1], "systemctl restart containerd kubelet");
  await sayAndWait(
    scene,
    "containerd to answer",
    async () => (await cp1.run(["crictl", "ps", "-q"])).exitCode === 0,
    {
      seconds: 60,
      hint: "systemctl status containerd, with --keep",
    },
  );
}

/** Every other control plane node, and a worker. */
async function planElsewhere(scene: Scene) {
  const { controlPlanes, workers } = scene.lab;
  const [right, ...others] = controlPlanes as [Machine, ...Machine[]];
  for (const node of [...others, workers[0]!]) {
    const { stdout, stderr } = await type(scene, node, "./bunw scripts/plan.ts", {
      part: 0,
      exit: [0, 2, 3],
    });
    const said = stdout + stderr;
    const wrong = [
      ...(said.includes(node === workers[0] ? "control plane node" : right.nodeName)
        ? []
        : [`it does not say ${right.nodeName}`]),
      ...(/--new-cas/.test(said) ? ["it has a line that makes new keys"] : []),
    ];
    const detail = wrong.join("; ") || said.trim().split("\n").slice(0, 3).join(" ");
    scene.checks.push({
      name: `a plan made on ${node.name} sends to the node with the keys`,
      ok: wrong.length === 0,
      detail,
    });
  }
}

/** Types the line that asks all nodes, and follows the plan made from their answers. */
async function repair(scene: Scene) {
  await using bash = operatorsTerminal(WAY);
  began = { at: Date.now(), lines: scene.steps.length };
  const page = await planOfAllNodes(scene, bash);
  const [headline = ""] = /^\*\*.*\*\*$/m.exec(page) ?? [];
  scene.checks.push({
    name: "the plan of what all nodes say knows which worker has to join",
    ok: headline.includes(scene.lab.workers.at(-1)!.nodeName),
    detail: headline,
  });
  await followPlan(scene, { bash, page });
  note(scene, "green", cost(scene));
}

/** When the first line was pasted, in milliseconds, and what was typed before. */
let began = { at: 0, lines: 0 };

/** Beside the trial: 371 s to green and 504 s to clean, 65 commands that the tool asked for. */
function cost({ steps }: Scene): string {
  return `after ${((Date.now() - began.at) / 1000).toFixed(0)} s, ${steps.length - began.lines} lines pasted`;
}

async function toTheEnd(scene: Scene) {
  await pasteTheEnd(scene);
  note(scene, "clean", cost(scene));
}

/**
 * What ran on the node that was rebooted ended before the repair; and the kubelet of the worker that joins
 * starts anew.
 */
async function compareContainers(scene: Scene) {
  const [rebooted, joined] = [scene.lab.controlPlanes[1]!, scene.lab.workers.at(-1)!];
  const watched = scene.watchers.filter(({ machine }) => machine !== rebooted);
  const gone = watched.flatMap(({ machine, watcher }) =>
    containersGone(watcher.samples(), scene.zero, Date.now()).map((name) => `${machine.name}: ${name}`),
  );
  scene.checks.push({
    name: "no workload container restarted, but on the node that was rebooted before",
    ok: gone.length === 0,
    detail: gone.join("; ") || "none",
  });
  scene.away.push(rebooted.name, joined.name);
}
