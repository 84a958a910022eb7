/**
 * The cluster of a phone call at night: three control plane nodes, each broken in another way, one worker
 * without its certificates. The operator has the screens alone, up to part 6. Afterwards the cluster is as it
 * was, and nothing of the kit is left.
 */
import { join } from "node:path";
import { PACK_RUNS } from "../../../shared/node/rescue-folder.ts";
import type { Place } from "../../../shared/plan/place.ts";
import { readRunbook } from "../../../shared/plan/runbook.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { KUBERNETES } from "../machine/pins.ts";
import { carryFile } from "../scene/follow.ts";
import { askedBy, followRepair } from "../scene/follow-repair.ts";
import { joinByPrinted, putBackByPrinted, untilAsBefore, whatPart2Printed } from "../scene/replace.ts";
import {
  controlPlaneGone,
  deleteKubernetes,
  KIT,
  note,
  type Scenario,
  type Scene,
  type,
  workloadsLeft,
} from "../scene/scene.ts";
import { followScreens, type Operator, operatorAt, withPassphrase } from "../scene/screens.ts";
import { haAllLost } from "./several-control-planes.ts";

const HALF_ATTEMPT = ["certs ca", "certs etcd-ca", "certs apiserver", "kubeconfig admin"];

export const phoneCall: Scenario = {
  ...haAllLost,
  name: "phone-call",
  title:
    "Three control plane nodes: one wiped, one with half an attempt by kubeadm, one without data; the operator types what is printed alone",
  machinesFail: true,
  cleansUp: true,
  lines: [
    {
      title:
        "/etc/kubernetes is deleted on the control plane nodes and the first worker, and cp3 loses etcd's data",
      run: lose,
    },
    { title: "Somebody begins with kubeadm on the second control plane node", run: beginWithKubeadm },
    {
      title: "The operator types what is printed, from 00-assess on the first control plane node",
      run: repair,
    },
    { title: "The same machine comes back as the third control plane node", run: comeBack },
    { title: "The operator cleans up", run: cleanUp },
  ],
};

export const phoneCallByRepair: Scenario = {
  ...phoneCall,
  name: "phone-call-by-repair",
  title: "As phone-call; the operator types one command, and numbers, to its last line",
  lines: [
    ...phoneCall.lines.slice(0, 2),
    { title: "The operator types one command", run: repairToTheProof },
    { title: "The same machine comes back as the third control plane node", run: comeBack },
    { title: "The operator types the same command for its end", run: repairTheEnd },
  ],
};

const NO_DATA = /^Etcd's data on \S+ is lost for good/;

/** cp3 says that it has no data: the operator gives it up, as he is asked. */
async function repairToTheProof(scene: Scene) {
  began = Date.now();
  await followRepair(scene, { ways: [NO_DATA] });
  const answers = askedBy(scene).map((asked) => asked.split(" → ")[1]!);
  scene.checks.push({
    name: "repair asks whether the node without data is lost for good",
    ok: answers.some((one) => NO_DATA.test(one)),
    detail: answers.join("; "),
  });
  note(scene, "phone call", `05-verify is green after ${((Date.now() - began) / 1000).toFixed(0)} s`);
}

/** On a cluster that is well the plan is what a repair has left: backup, report, removal. */
export async function repairTheEnd(scene: Scene) {
  await followRepair(scene, { cleansUp: true });
  await checkNothingLeft(scene);
}

/**
 * Stops that the cluster's state causes, not the tool: nobody has the certificate key; the half attempt's
 * keys are in the way.
 */
const EXPECTED = [/^cp1: 00-salvage\.ts secret/, /^cp2: hand-over\.ts unpack/];

async function lose(scene: Scene) {
  const { controlPlanes, workers } = scene.lab;
  await deleteKubernetes(scene, [...controlPlanes, workers[0]!]);
  await sh(controlPlanes[2]!, "rm -rf /var/lib/etcd");
  await controlPlaneGone(scene);
  note(scene, "the control plane is gone", workloadsLeft(scene));
}

async function beginWithKubeadm({ lab }: Scene) {
  for (const phase of HALF_ATTEMPT)
    await sh(
      lab.controlPlanes[1]!,
      `kubeadm init phase ${phase}${phase === "certs apiserver" ? ` --kubernetes-version ${KUBERNETES}` : ""}`,
    );
}

/** When the first command was typed, in milliseconds. */
let began = 0;

async function repair(scene: Scene) {
  const operator = operatorAt(scene);
  began = Date.now();
  try {
    await followScreens(operator, "./bunw scripts/00-assess.ts");
  } finally {
    count(operator);
  }
  // A stop is no failed command here: what it is, the check says.
  for (const step of scene.steps) step.ok = true;
}

function count({ scene, typed, stops }: Operator) {
  const seconds = ((Date.now() - began) / 1000).toFixed(0);
  const wrong = stops.filter((stop) => !EXPECTED.some((expected) => expected.test(stop)));
  const cost = `05-verify is green after ${typed.length} commands and ${seconds} s`;
  const name = "what is printed leads to the end without a wrong turn";
  scene.checks.push({ name, ok: wrong.length === 0, detail: wrong.join("; ") || cost });
  note(scene, "phone call", `${cost}: ${typed.join("; ")}`);
}

async function comeBack(scene: Scene) {
  const node = scene.lab.controlPlanes[2]!;
  scene.replaced.push(node.name);
  await type(scene, node, whatPart2Printed(scene, "./bunw scripts/join-again.ts"));
  await type(scene, node, whatPart2Printed(scene, "kubeadm reset"), { cwd: "/root" });
  await joinByPrinted(scene, node, "kubeadm join --config");
  await putBackByPrinted(scene, [node]);
  await untilAsBefore(scene);
}

/** RUNBOOK's own lines, of part 6. A new passphrase is shown once. */
async function cleanUp(scene: Scene) {
  const { blocks } = readRunbook(await Bun.file(join(import.meta.dir, "../../../RUNBOOK.md")).text());
  const { controlPlanes, nodes } = scene.lab;
  const [first, ...others] = controlPlanes as [Machine, ...Machine[]];
  const places: Partial<Record<Place, Machine[]>> = {
    "first-control-plane": [first],
    "each-control-plane": controlPlanes,
    "each-node": nodes,
  };
  for (const block of blocks.filter(({ part }) => part === 6)) {
    if (block.gather) await sh(first, `mkdir -p -m 700 ${KIT}/${block.gather}`);
    if (block.gather)
      for (const node of nodes.filter((one) => one !== first))
        await bring(node, first, `${KIT}/${block.gather}`);
    if (block.carry?.to === "other-control-planes")
      for (const node of others) await carryFile(first, node, block.carry.file);
    for (const node of places[block.on!] ?? [])
      for (const line of block.commands) {
        const more = line.includes("umount") ? { cwd: "/" } : {};
        await type(scene, node, withPassphrase(line), {
          exit: block.exit,
          mayHoldToken: block.terminal ?? false,
          ...more,
        });
      }
  }
  const seconds = ((Date.now() - began) / 1000).toFixed(0);
  note(scene, `phone call: all is done after ${scene.steps.length} commands and ${seconds} s`);
  await checkNothingLeft(scene);
}

async function checkNothingLeft(scene: Scene) {
  const left = (await Promise.all(scene.lab.nodes.map(unfinishedActions))).flat();
  scene.checks.push({
    name: "nothing of the kit is left behind, but the mark of the backup",
    ok: left.length === 0,
    detail: left.join("; ") || "nothing",
  });
}

/** What a node has kept of its runs. */
async function bring(from: Machine, to: Machine, folder: string) {
  const { stdout } = await from.run(["sh", "-c", `(${PACK_RUNS}) | base64 -w0`]);
  await to.run(["sh", "-c", `base64 -d > ${folder}/${from.nodeName}.tar`], { input: stdout });
}

const LEFT = `
findmnt -rno TARGET | grep kube-pki-repair
ls -d /run/kube-pki-repair* /root/kube-pki-repair* /dev/shm/* /tmp/kube-pki* /root/.bun 2>/dev/null
find /etc/kubernetes /var/lib/kubelet -name '*kube-pki-repair*' -not -name .kube-pki-repair-backup
systemctl list-units --all --plain --no-legend 'kube-pki-repair*'
pgrep -af kube-pki-repair | grep -v pgrep
true`;

async function unfinishedActions(node: Machine): Promise<string[]> {
  const { stdout } = await node.run(["bash", "-c", LEFT], { cwd: "/" });
  return stdout.split("\n").flatMap((line) => (line.trim() ? [`${node.name}: ${line.trim()}`] : []));
}
