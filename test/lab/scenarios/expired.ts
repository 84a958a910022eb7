import { expireAll } from "../scene/expire.ts";
import { followGuide, followRepair } from "../scene/follow-repair.ts";
import { cutPower, nodesOn, powerOn } from "../scene/power.ts";
import { note, type Scenario, type Scene, startClock, type } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";
import { watched, watchIt } from "./watched.ts";

export const TAGS = ["old-cas", "join"];
export const HA_TAGS = [...TAGS, "same-keys"];

export const aYearPasses: Scenario["lines"][number] = {
  title: "Every certificate but the CAs' expires, every machine restarts",
  run: yearWithout,
};

/**
 * Nobody renews anything for a year, then the machines restart: every certificate but the CAs' has expired,
 * and every key is there.
 */
export const expired: Scenario = {
  ...allLost,
  name: "expired",
  title: "No certificate is renewed for a year, then every machine restarts; the operator follows RUNBOOK.md",
  machinesFail: true,
  lines: [
    aYearPasses,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
  ],
};

/**
 * The same on three control plane nodes and two workers: each of them has all shared keys, so none are handed
 * over.
 */
export const haExpired: Scenario = {
  ...expired,
  name: "ha-expired",
  title: "As expired, on three control plane nodes and two workers; the operator follows RUNBOOK.md",
  controlPlanes: 3,
  workers: 2,
  lines: [
    aYearPasses,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, HA_TAGS) },
  ],
};

/**
 * The commonest history of the commonest disaster: a colleague has typed `kubeadm certs renew all`, which leaves out
 * the kubelets.
 */
export const expiredHalfRenewed: Scenario = {
  ...expired,
  name: "expired-half-renewed",
  title:
    "As expired, and a colleague has typed `kubeadm certs renew all`; the operator has README's first screen alone, and sets up the timer",
  workers: 2,
  packages: watched.packages!,
  lines: [
    aYearPasses,
    { title: "A colleague renews what kubeadm knows", run: renewHalf },
    { title: "The operator types README's one command", run: byReadme },
    ...watchIt(),
  ],
};

async function renewHalf(scene: Scene) {
  const line =
    "kubeadm certs renew all && mkdir -p /root/.kube && cp /etc/kubernetes/admin.conf /root/.kube/config && systemctl restart kubelet";
  await type(scene, scene.lab.controlPlanes[0]!, line, { cwd: "/root" });
}

/** The kit is on each node already: the lab brings it before the damage. */
async function byReadme(scene: Scene) {
  const began = Date.now();
  const lines = scene.steps.length;
  await followRepair(scene, {});
  const took = ((Date.now() - began) / 1000).toFixed(0);
  note(scene, "green", `after ${took} s, ${scene.steps.length - lines} lines`);
}

async function yearWithout(scene: Scene) {
  startClock(scene);
  await cutPower(scene, nodesOn(scene));
  await expireAll(scene.lab);
  note(scene, "every certificate expired yesterday");
  await powerOn(scene, nodesOn(scene));
}
