import { globSync, rmSync } from "node:fs";
import { followRunbook } from "../scene/follow.ts";
import { followGuide } from "../scene/follow-repair.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import { joinByPrinted, putBackByPrinted, untilAsBefore } from "../scene/replace.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import { everythingDeleted } from "./all-lost.ts";
import { haAllLost, TAGS } from "./several-control-planes.ts";

/**
 * One of three control plane nodes never comes back: the other two are repaired without it, then a new
 * machine takes its place.
 */
export const haOneDestroyed: Scenario = {
  ...haAllLost,
  name: "ha-one-destroyed",
  title:
    "As ha-all-lost, and one control plane node is destroyed; the operator repairs the others, then puts a new machine in its place, with the hand edits of the old one",
  machinesFail: true,
  lines: [
    ...everythingDeleted,
    { title: "The third control plane node is destroyed", run: (scene) => cutPower(scene, [lost(scene)]) },
    {
      title: "The operator follows RUNBOOK.md without that node",
      run: (scene) => followGuide(scene, TAGS, { without: [lost(scene).nodeName] }),
    },
    { title: "The operator puts a new machine in its place", run: putNewControlPlane },
    {
      title: "The operator puts back what 05-verify and part 2 name",
      run: (scene) => putBackByPrinted(scene, [lost(scene)]),
    },
    { title: "05-verify finds nothing changed", run: untilAsBefore },
    { title: "The operator verifies again", run: (scene) => followRunbook(scene, TAGS, { parts: [5] }) },
  ],
};

function lost({ lab }: Scene) {
  return lab.controlPlanes[2]!;
}

/** The lines that part 2 printed for a new control plane node, typed as they were printed. */
async function putNewControlPlane(scene: Scene) {
  await bootEmpty(scene);
  await joinByPrinted(scene, lost(scene), "kubeadm join --control-plane");
}

/**
 * A new machine has the old one's name and address, and the images that the lab cannot fetch; nothing else of
 * the old one.
 */
async function bootEmpty(scene: Scene) {
  const node = lost(scene);
  const folders = [
    "/etc/kubernetes",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    ...globSync("kube-pki-repair-*", { cwd: node.path("/root") }).map((name) => `/root/${name}`),
  ];
  for (const folder of folders) rmSync(node.path(folder), { recursive: true, force: true });
  scene.replaced.push(node.name);
  await powerOn(scene, [node]);
  await node.run(["crictl", "rmp", "--all", "--force"]);
}
