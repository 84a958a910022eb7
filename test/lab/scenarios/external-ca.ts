import { sh } from "../machine/machine.ts";
import { quiet } from "../report/footprint.ts";
import { takeSnapshot } from "../report/snapshot.ts";
import { assessed, repairByPrinted } from "../scene/printed.ts";
import { damage, mirrorPodFollows, type Scenario, type Scene, type } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

const PKI = "/etc/kubernetes/pki";
const KEY = `${PKI}/ca.key`;
/** Where the key is kept: in this folder the scripts read only the rescue folders. */
const ELSEWHERE = "/root/ca.key";
const LOSS = `rm ${PKI}/apiserver.* ${PKI}/apiserver-kubelet-client.* /etc/kubernetes/*.conf`;
const MANAGER = "/etc/kubernetes/manifests/kube-controller-manager.yaml";

/** The control plane node loses what only the cluster's CA can sign, and the CA's key is kept elsewhere. */
export const externalCa: Scenario = {
  ...allLost,
  name: "external-ca",
  title:
    "ca.key is kept elsewhere (external CA) and all that it signed is deleted on the control plane node; the operator types what is printed",
  oldKeys: true,
  lines: [
    { title: "ca.key is taken away, as in kubeadm's external CA mode", run: takeKeyAway },
    {
      title: "What the CA signed is deleted on the control plane node",
      run: (scene) => damage(scene, scene.lab.controlPlanes, LOSS),
    },
    { title: "00-assess and part 1 refuse to make another CA", run: refused },
    { title: "The operator brings ca.key for the repair, and takes it away afterwards", run: repair },
  ],
};

/**
 * Without ca.key kubeadm gives the controller-manager no signing flags
 * (app/phases/controlplane/manifests.go).
 */
async function takeKeyAway(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  await sh(cp, `mv ${KEY} ${ELSEWHERE}`);
  await sh(cp, `sed '/--cluster-signing-/d' ${MANAGER} > /root/manager && mv /root/manager ${MANAGER}`);
  await mirrorPodFollows(scene, "kube-controller-manager", (spec) => !spec.includes("--cluster-signing-"));
  await quiet(scene);
  scene.before = await takeSnapshot(scene.lab);
}

async function refused(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  const said = await assessed(scene, cp);
  const step = await type(scene, cp, "./bunw scripts/01-etcd.ts --new-cas", { exit: [3] });
  const ok =
    /put .*\bca\.key\b.* into/.test(said.next[0] ?? "") &&
    step.stderr.includes("The cluster's CA is external");
  scene.checks.push({
    name: "00-assess and 01 --new-cas say that the CA is external",
    ok,
    detail: said.verdict,
  });
}

async function repair(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  await sh(cp, `cp -p ${ELSEWHERE} ${KEY}`);
  await repairByPrinted(scene);
  await sh(cp, `rm ${KEY}`);
  const { damaged, verdict } = await assessed(scene, cp);
  scene.checks.push({
    name: "after the key is taken away again, nothing is damaged",
    ok: !damaged,
    detail: verdict,
  });
  await type(scene, cp, "./bunw scripts/05-verify.ts");
}
