/**
 * The trial of a new user: pki and the kubeconfigs are deleted on three control plane nodes; then one is
 * rebooted, one has its kubelet and containerd restarted, one is left alone; a worker has lost its kubelet's
 * certificates. The operator makes the plan on every node but the right one first.
 */
import { type Machine, sh } from "../machine/machine.ts";
import { USUAL } from "../machine/profile.ts";
import { containersGone } from "../report/watch.ts";
import { followRepair } from "../scene/follow-repair.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import { damage, note, type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { repairTheEnd } from "./phone-call.ts";
import { haAllLost } from "./several-control-planes.ts";

export const wrongNode: Scenario = {
  ...haAllLost,
  name: "wrong-node",
  title:
    "pki and the kubeconfigs are deleted on three control plane nodes that run, one is rebooted, a worker lost its kubelet's pki; the plan is made on each node in turn, and repair follows it",
  oldKeys: true,
  machinesFail: true,
  cleansUp: true,
  profile: () => ({
    ...USUAL,
    nodeDomain: ".lab.example",
    clusterConfiguration: { encryptionAlgorithm: "ECDSA-P256" },
  }),
  lines: [
    { title: "pki and the kubeconfigs are deleted on every control plane node", run: lose },
    { title: "Somebody restarts things", run: restartThings },
    { title: "The operator makes the plan on every other node", run: planElsewhere },
    { title: "The operator types one command", run: repair },
    { title: "What ran is compared", run: compareContainers },
    { title: "The operator types the same command for its end", run: toTheEnd },
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

/** The worker that has lost its certificates joins, and no other one. */
async function repair(scene: Scene) {
  began = { at: Date.now(), lines: scene.steps.length };
  await followRepair(scene, {});
  const joined = scene.steps.flatMap(({ command, node }) => (command.includes("03-join.ts") ? [node] : []));
  scene.checks.push({
    name: "only the worker that has to join has joined",
    ok: joined.join() === scene.lab.workers.at(-1)!.name,
    detail: joined.join() || "none",
  });
  note(scene, "green", cost(scene));
}

/** When the command was typed, in milliseconds, and what was typed before. */
let began = { at: 0, lines: 0 };

/** Beside the trial: 371 s to green and 504 s to clean, 65 commands that the tool asked for. */
function cost({ steps }: Scene): string {
  return `after ${((Date.now() - began.at) / 1000).toFixed(0)} s, ${steps.length - began.lines} lines typed`;
}

async function toTheEnd(scene: Scene) {
  await repairTheEnd(scene);
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
