import { sh } from "../machine/machine.ts";
import { takeFacts } from "../report/fingerprint.ts";
import { quiet } from "../report/footprint.ts";
import { assessed, repairByPrinted } from "../scene/printed.ts";
import { damage, mirrored, type Scenario, type Scene, type } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

const PKI = "/etc/kubernetes/pki";
const KEY = `${PKI}/ca.key`;
/** Where the key is kept: of this folder no script reads anything but the rescue folders. */
const ELSEWHERE = "/root/ca.key";
const LOSS = `rm ${PKI}/apiserver.* ${PKI}/apiserver-kubelet-client.* /etc/kubernetes/*.conf`;
const MANAGER = "/etc/kubernetes/manifests/kube-controller-manager.yaml";

/** What only the cluster's CA can give is lost on the control plane node of a cluster whose CA key is kept elsewhere. */
export const externalCa: Scenario = {
  ...allLost,
  name: "external-ca",
  title:
    "ca.key is kept elsewhere (kubeadm's external CA); all that it signed is lost on the control plane node; then what the scripts print",
  oldKeys: true,
  lines: [
    { title: "Take ca.key away, as kubeadm's external CA mode has it", run: takeKeyAway },
    { title: "Delete what the CA signed, on the control plane node", run: (scene) => damage(scene, scene.lab.controlPlanes, LOSS) },
    { title: "Nothing is made anew under another CA", run: refused },
    { title: "Put ca.key there for the time of the repair", run: repair },
  ],
};

/** Without its key kubeadm gives the controller-manager nothing to sign with (app/phases/controlplane/manifests.go). */
async function takeKeyAway(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  await sh(cp, `mv ${KEY} ${ELSEWHERE}`);
  await sh(cp, `sed '/--cluster-signing-/d' ${MANAGER} > /root/manager && mv /root/manager ${MANAGER}`);
  await mirrored(scene, "kube-controller-manager", (spec) => !spec.includes("--cluster-signing-"));
  await quiet(scene);
  scene.before = await takeFacts(scene.lab);
}

async function refused(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  const said = await assessed(scene, cp);
  const step = await type(scene, cp, "./bunw scripts/01-etcd.ts --new-cas", { exit: [1] });
  const ok = said.next[0]?.includes("put ca.key of the external CA into") && step.stderr.includes("The cluster's CA is external");
  scene.checks.push({ name: "00-assess and 01 --new-cas say that the CA is external", ok: ok ?? false, detail: said.verdict });
}

async function repair(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  await sh(cp, `cp -p ${ELSEWHERE} ${KEY}`);
  await repairByPrinted(scene);
  await sh(cp, `rm ${KEY}`);
  const { damaged, verdict } = await assessed(scene, cp);
  scene.checks.push({ name: "with the key elsewhere again nothing is damaged", ok: !damaged, detail: verdict });
  await type(scene, cp, "./bunw scripts/05-verify.ts");
}
