/**
 * Disasters in which processes still have the old keys in memory: afterwards nobody outside the control plane
 * may notice anything.
 */
import { undefinedOnTimeout } from "../../../shared/wait-for.ts";
import { nodesReadyAt } from "../report/verdict.ts";
import { away } from "../report/watch.ts";
import { followGuide } from "../scene/follow-repair.ts";
import {
  controlPlaneSamples,
  damage,
  deleteKubernetes,
  type Scenario,
  type Scene,
  sayAndWait,
  type,
} from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

export const TAGS = ["salvage", "new-internal-cas"];

export const certificatesDeleted: Scenario["lines"][number] = {
  title: "The folder of certificates is deleted on every control plane node",
  run: (scene) => damage(scene, scene.lab.controlPlanes, `rm -rf ${scene.lab.profile.certificatesDir}`),
};

/** Only pki/ is gone, everything runs: the keys are in the memory of the processes. */
export const pkiLostAlive: Scenario = {
  ...allLost,
  name: "pki-lost-alive",
  title:
    "/etc/kubernetes/pki is deleted on the control plane node while everything runs; the operator follows RUNBOOK.md with the keys from memory",
  oldKeys: true,
  lines: [
    certificatesDeleted,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    { title: "The API's outage is compared with one restart of its static pod", run: compareOutage },
  ],
};

/** All of /etc/kubernetes is gone, but the kubelet is stopped: it cannot end the static pods. */
export const allLostKubeletStopped: Scenario = {
  ...pkiLostAlive,
  name: "all-lost-kubelet-stopped",
  title:
    "The kubelet is stopped, then /etc/kubernetes is deleted on the control plane node; the operator follows RUNBOOK.md with the keys from memory",
  lines: [
    {
      title: "The kubelet of the control plane node is stopped",
      run: (scene) => scene.lab.controlPlanes[0]!.run(["systemctl", "stop", "kubelet"]),
    },
    {
      title: "/etc/kubernetes is deleted on the control plane node",
      run: (scene) => deleteKubernetes(scene, scene.lab.controlPlanes),
    },
    ...pkiLostAlive.lines.slice(1),
  ],
};

/**
 * kubeadm's guide restarts a static pod after a renewal like this: its manifest leaves the folder, and comes
 * back when the pod is gone.
 */
async function compareOutage(scene: Scene) {
  const samples = () => controlPlaneSamples(scene)[0]!;
  // a Lease that is renewed after this outage would count as the repair's end
  const backs = { seconds: 60, hint: "journalctl -u kubelet on the node, with --keep" };
  await undefinedOnTimeout(
    sayAndWait(scene, "a Lease renewal of each node", () => nodesReadyAt(scene) !== undefined, backs),
  );
  const outage = secondsAway(away(samples(), "api", scene.zero));
  const cp = scene.lab.controlPlanes[0]!;
  const since = Date.now();
  const apiAway = () => away(samples(), "api", since).at(-1);
  const wait = { seconds: 120, hint: "crictl ps -a --name kube-apiserver" };
  const [folder, name] = ["/etc/kubernetes/manifests", "kube-apiserver.yaml"];
  await type(scene, cp, `mv ${folder}/${name} /root/`);
  const ended = async () =>
    apiAway() && !(await cp.run(["crictl", "ps", "-q", "--name", "kube-apiserver"])).stdout.trim();
  await sayAndWait(scene, "the API server to be gone", ended, wait);
  await type(scene, cp, `mv /root/${name} ${folder}/`);
  await sayAndWait(scene, "the API server to be back", () => apiAway()?.to !== null, wait);
  const restart = secondsAway(away(samples(), "api", since));
  const detail = `no answer for ${outage.toFixed(1)} s in the repair; one restart of its static pod takes ${restart.toFixed(1)} s`;
  scene.checks.push({
    name: "the API's outage is no longer than one restart of its static pod",
    ok: outage <= restart,
    detail,
  });
}

function secondsAway(spans: ReturnType<typeof away>): number {
  return spans.reduce((sum, { from, to }) => sum + (to === null ? Number.POSITIVE_INFINITY : to - from), 0);
}
