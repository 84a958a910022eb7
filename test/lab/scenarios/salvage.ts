/** Disasters in which the old keys can still be had: afterwards nobody outside the control plane nodes may notice anything. */
import { away } from "../report/watch.ts";
import { followRunbook } from "../scene/follow.ts";
import { controlPlaneSamples, damage, type Scenario, type Scene, sayAndWait, type, wreck } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

const TAGS = ["salvage"];

/** Only pki/ is gone, everything runs: the keys are in the memory of the processes. */
export const pkiLostAlive: Scenario = {
  ...allLost,
  name: "pki-lost-alive",
  title: "rm -rf /etc/kubernetes/pki on the control plane node, everything running; then RUNBOOK.md, with the keys out of memory",
  oldKeys: true,
  lines: [
    {
      title: "Delete /etc/kubernetes/pki on the control plane node",
      run: (scene) => damage(scene, scene.lab.controlPlanes, "rm -rf /etc/kubernetes/pki"),
    },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
    { title: "Lay the API's outage beside one restart of its static pod", run: compareOutage },
  ],
};

/** All of /etc/kubernetes is gone, but somebody stopped the kubelet in time: it cannot end the static pods. */
export const allLostKubeletStopped: Scenario = {
  ...pkiLostAlive,
  name: "all-lost-kubelet-stopped",
  title: "kubelet stopped, then rm -rf /etc/kubernetes on the control plane node; then RUNBOOK.md, with the keys out of memory",
  lines: [
    { title: "Stop the control plane node's kubelet", run: (scene) => scene.lab.controlPlanes[0]!.run(["systemctl", "stop", "kubelet"]) },
    { title: "Delete /etc/kubernetes on the control plane node", run: (scene) => wreck(scene, scene.lab.controlPlanes) },
    ...pkiLostAlive.lines.slice(1),
  ],
};

/** As kubeadm's own guide restarts a static pod after a renewal: its manifest taken out of the folder, and put back when it is gone. */
async function compareOutage(scene: Scene) {
  const samples = () => controlPlaneSamples(scene)[0]!;
  const outage = secondsAway(away(samples(), "api", scene.zero));
  const cp = scene.lab.controlPlanes[0]!;
  const since = Date.now();
  const apiAway = () => away(samples(), "api", since).at(-1);
  const wait = { seconds: 120, hint: "crictl ps -a --name kube-apiserver" };
  const [folder, name] = ["/etc/kubernetes/manifests", "kube-apiserver.yaml"];
  await type(scene, cp, `mv ${folder}/${name} /root/`);
  const ended = async () => apiAway() && !(await cp.run(["crictl", "ps", "-q", "--name", "kube-apiserver"])).stdout.trim();
  await sayAndWait(scene, "the API server to be gone", ended, wait);
  await type(scene, cp, `mv /root/${name} ${folder}/`);
  await sayAndWait(scene, "the API server to be back", () => apiAway()?.to !== null, wait);
  const restart = secondsAway(away(samples(), "api", since));
  const detail = `away ${outage.toFixed(1)} s in the repair; one restart of its static pod takes ${restart.toFixed(1)} s`;
  scene.checks.push({ name: "the API is away no longer than for a restart of its static pod", ok: outage <= restart, detail });
}

function secondsAway(spans: ReturnType<typeof away>): number {
  return spans.reduce((sum, { from, to }) => sum + (to === null ? Number.POSITIVE_INFINITY : to - from), 0);
}
