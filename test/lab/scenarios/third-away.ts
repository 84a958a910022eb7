/**
 * The third trial of a new user: certificates are deleted on two of three control plane nodes, the third is off until
 * next week, and with them a file is lost that kubeadm has never made. The operator has what is printed alone.
 */

import { EARLIER_KEY, field } from "../machine/field.ts";
import { kubectl, type Machine, sh } from "../machine/machine.ts";
import { earlierKey, fieldLife } from "../scene/field-life.ts";
import { carryFile, followRunbook, printedLine } from "../scene/follow.ts";
import { askedBy, followRepair } from "../scene/follow-repair.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import { damage, note, type Scenario, type Scene, type } from "../scene/scene.ts";
import { haAllLost } from "./several-control-planes.ts";

const PART_2 = "./bunw scripts/02-control-plane.ts";
const SALVAGE = ["look-around", "salvage", "new-internal-cas"];
const VERIFY = "./bunw scripts/05-verify.ts";

export const thirdAway: Scenario = {
  ...haAllLost,
  name: "third-away",
  title:
    "With Calico: certificates are deleted on two of three control plane nodes, the third is off until next week, and a file that kubeadm never made is lost; the operator has what is printed",
  oldKeys: true,
  machinesFail: true,
  profile: () => field({ controlPlanes: 3, earlierKey: earlierKey(), namespace: "calico-system" }),
  lines: [
    fieldLife.tokenOfEarlierKey,
    { title: "kubeadm-config names an endpoint of before", run: nameOldEndpoint },
    { title: "cp3 is off, and cp1 and cp2 lose their certificates", run: lose },
    { title: "The operator repairs what is here, with cp3 away", run: repair },
    { title: "05-verify knows that cp3 is away", run: verifyWithout },
    { title: "cp3 is switched on, and the operator types its lines", run: comeBack },
    fieldLife.tokenIsValid,
  ],
};

/** In kubeadm-config alone: nothing leads there any more. */
async function nameOldEndpoint(scene: Scene) {
  const at = ["-n", "kube-system", "get", "configmap", "kubeadm-config", "-o", "json"];
  const { stdout } = await kubectl(scene.lab, at);
  const object = JSON.parse(stdout);
  const text: string = object.data.ClusterConfiguration;
  object.data.ClusterConfiguration = text.replace(
    /controlPlaneEndpoint: .*/,
    "controlPlaneEndpoint: k8s-old.corp.example:6443",
  );
  await kubectl(scene.lab, ["replace", "-f", "-"], JSON.stringify(object));
  delete scene.before.configMaps["kube-system/kubeadm-config"];
}

async function lose(scene: Scene) {
  const [cp1, cp2, cp3] = scene.lab.controlPlanes as [Machine, Machine, Machine];
  await cutPower(scene, [cp3]);
  scene.away.push(cp3.name);
  await damage(scene, [cp1, cp2], "rm -rf /etc/kubernetes/pki /etc/kubernetes/*.conf /root/.kube");
  await sh(cp2, "systemctl restart kubelet");
}

async function repair(scene: Scene) {
  const began = Date.now();
  await (scene.guide === "runbook" ? byRunbook(scene) : byRepair(scene));
  const took = ((Date.now() - began) / 1000).toFixed(0);
  note(scene, "repaired", `after ${took} s`);
}

/** Where a line is refused, the hint has the one that the operator types. */
async function byRunbook(scene: Scene) {
  await followRunbook(scene, [...SALVAGE, "several-control-planes", "end-etcd"], {
    parts: [0, 1, 2, 3, 5],
    away: ["cp3"],
    asHinted: true,
  });
}

const AWAY = /^cp3 is away for now/;
const WITHOUT_FILE = /^Continue without /;

async function byRepair(scene: Scene) {
  await followRepair(scene, { ways: [AWAY, WITHOUT_FILE] });
  const answers = askedBy(scene).map((asked) => asked.split(" → ")[1]!);
  for (const [what, way] of Object.entries({ "a node that is away": AWAY, "a lost file": WITHOUT_FILE }))
    scene.checks.push({
      name: `repair asks about ${what}`,
      ok: answers.some((one) => way.test(one)),
      detail: answers.join("; "),
    });
}

async function verifyWithout(scene: Scene) {
  const { stderr, ok } = await type(scene, scene.lab.controlPlanes[0]!, VERIFY, { part: 5 });
  const last = stderr.trim().split("\n").at(-1) ?? "";
  scene.checks.push({
    name: "05-verify is good but for cp3, which is away as said, and does not wait for it",
    ok: ok && /all good but what you said: .*cp3 is away/.test(stderr) && !stderr.includes("still waiting"),
    detail: last,
  });
}

async function comeBack(scene: Scene) {
  await powerOn(scene, scene.lab.controlPlanes.slice(2));
  await (scene.guide === "runbook" ? backByVerify(scene) : backByRepair(scene));
  for (const node of scene.lab.controlPlanes) {
    const { stderr, ok } = await type(scene, node, `${VERIFY} --wait 60`, { part: 5 });
    scene.checks.push({
      name: `05-verify on ${node.name} finds all good, and nothing open`,
      // the word may have ended in this very run, which is said
      ok: ok && !/cp3 is away(?!: not any more)|given up/.test(stderr),
      detail: stderr.trim().split("\n").at(-1) ?? "",
    });
  }
}

/** Types the lines that 05-verify prints for a machine that is on again. */
async function backByVerify(scene: Scene) {
  const [cp1, , cp3] = scene.lab.controlPlanes as [Machine, Machine, Machine];
  const { stdout } = await type(scene, cp1, VERIFY, { part: 5 });
  const lines = /Its machine is on again.*tar -C.*hand-over\.ts pack.*01-etcd\.ts.*02-control-plane\.ts/;
  scene.checks.push({
    name: "05-verify prints the lines for cp3, which is on again",
    ok: lines.test(stdout),
    detail: stdout.match(/.*Its machine is on again.*/)?.[0] ?? "",
  });
  await bringFile(scene);
  const pack = "./bunw scripts/hand-over.ts pack --passphrase-file passphrase --out shared-keys.age --force";
  await type(scene, cp1, "umask 077 && head -c 24 /dev/urandom | base64 > passphrase", { part: 1 });
  const { raw } = await type(scene, cp1, pack, { part: 1 });
  for (const file of ["passphrase", "shared-keys.age"]) await carryFile(cp1, cp3, file);
  const printed = printedLine("./bunw scripts/hand-over.ts unpack --passphrase-file", raw) ?? "false";
  // etcd's CA is another one by now: 05-verify's line says so
  const unpack = stdout.includes("unpack --move-aside FILE") ? `${printed} --move-aside` : printed;
  for (const line of [unpack, "./bunw scripts/01-etcd.ts", PART_2])
    await type(scene, cp3, line, { part: line === PART_2 ? 2 : 1 });
}

/** The file that was given up comes back by hand, and part 2 puts its flag back. */
async function backByRepair(scene: Scene) {
  await bringFile(scene);
  await followRepair(scene, {});
}

async function bringFile(scene: Scene) {
  const [cp1, cp2, cp3] = scene.lab.controlPlanes as [Machine, Machine, Machine];
  for (const node of [cp1, cp2]) {
    await carryFile(cp3, node, EARLIER_KEY);
    await type(scene, node, PART_2, { part: 2 });
  }
}
