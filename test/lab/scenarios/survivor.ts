/**
 * All control plane nodes lose power while somebody writes, and two of three never come back. The third has no
 * quorum, for ever: it goes on alone, with every write that was answered, and new machines join in the places of
 * the others.
 */
import { existsSync, readFileSync } from "node:fs";
import { signalLine } from "../../../shared/shell-line.ts";
import { kubectl, type Machine } from "../machine/machine.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import { note, type Scenario, type Scene, sayAndWait, startClock, type } from "../scene/scene.ts";
import { follow, makeNew, othersJoin, othersOf } from "./restored.ts";

export const survivor: Scenario = {
  name: "survivor",
  title:
    "All three control plane nodes lose power while somebody writes, and two never come back; the third goes on alone with all that was acknowledged, and new machines join in the places of the others",
  controlPlanes: 3,
  workers: 2,
  byRunbook: true,
  machinesFail: true,
  lines: [
    {
      title: "Power is lost while somebody writes; only the first machine comes back",
      run: (scene) => lose(scene),
    },
    { title: "It cannot do without the others, and says what to do", run: tryWithout },
    {
      title: "The operator does that: it goes on alone",
      async run(scene) {
        await takeData(scene);
        await follow(scene, ["old-cas"], [1, 2, 3, 4, 5]);
      },
    },
    { title: "Every acknowledged write is there", run: (scene) => compareWrites(scene) },
    ...othersJoin({ elsewhere: false }),
  ],
};

/** Names of ConfigMaps whose writes were answered, by this machine's own API server and etcd. */
const ANSWERED = "/root/answered";
/** Where etcd has one of them. */
export const WRITTEN = "/registry/configmaps/default/written-";
const ENOUGH = 15;

function writeLine({ ip }: Machine): string {
  const create = `kubectl --kubeconfig /etc/kubernetes/admin.conf --server https://${ip}:6443 -n default create configmap`;
  return `for i in $(seq 100000); do ${create} written-$i --from-literal=a=b > /dev/null && echo written-$i >> ${ANSWERED}; done`;
}

function answered(node: Machine): string[] {
  const path = node.path(ANSWERED);
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").filter(Boolean) : [];
}

/** `damage`: to what the first machine has below this folder, /var/lib/etcd, before it is on again. */
export async function lose(scene: Scene, damage?: (dataDir: string) => unknown) {
  const { controlPlanes } = scene.lab;
  const cp1 = controlPlanes[0]!;
  // it ends with the machine
  const writer = cp1.run(["bash", "-c", writeLine(cp1)]);
  await sayAndWait(scene, `${ENOUGH} answered writes`, () => answered(cp1).length >= ENOUGH, {
    seconds: 120,
    hint: "kubectl create on cp1, with --keep",
  });
  startClock(scene);
  await cutPower(scene, controlPlanes);
  await writer;
  note(scene, "writes that were answered", `${answered(cp1).length}`);
  for (const node of othersOf(scene)) makeNew(scene, node);
  await damage?.(cp1.path("/var/lib/etcd"));
  await powerOn(scene, [cp1]);
}

async function tryWithout(scene: Scene) {
  const cp1 = scene.lab.controlPlanes[0]!;
  const lost = othersOf(scene)
    .map(({ nodeName }) => nodeName)
    .join(",");
  const { stderr } = await type(scene, cp1, `./bunw scripts/02-control-plane.ts --lost ${lost}`, {
    exit: [3],
  });
  scene.checks.push({
    name: "where etcd can never answer again, part 2 names the chapter",
    ok: stderr.includes('RUNBOOK-MORE "Only a snapshot is left"'),
    detail: stderr.trim().split("\n").at(-1)!,
  });
  await restoreTooEarly(scene, cp1);
}

/** Its etcd waits for the others, and has its database open. */
async function restoreTooEarly(scene: Scene, cp1: Machine) {
  const line = `./bunw scripts/restore.ts --from /var/lib/etcd --as ${cp1.nodeName} --dry-run`;
  const { stderr } = await type(scene, cp1, line, { part: 0, exit: [3] });
  scene.checks.push({
    name: "restore refuses data that an etcd still writes, and names its process",
    ok: /"\/var\/lib\/etcd\/member\/snap\/db" is open: process \d+ writes/.test(stderr),
    detail: stderr.trim().split("\n").at(-1)!,
  });
}

/** Of the folder here, and `snapshot` where there is one. Returns what restore says. */
export async function takeData(scene: Scene, snapshot = ""): Promise<string> {
  const cp1 = scene.lab.controlPlanes[0]!;
  for (const line of [
    "systemctl stop kubelet",
    signalLine("TERM", ["etcd", "kube-apiserver"]),
    "mv /var/lib/etcd /var/lib/etcd.before",
  ])
    await type(scene, cp1, line, { part: 0 });
  const restore = `./bunw scripts/restore.ts ${snapshot}--from /var/lib/etcd.before --as ${cp1.nodeName}`;
  return (await type(scene, cp1, restore, { part: 0 })).stderr;
}

/** `saidAsLost`: names of those that were written later than restore said. */
export async function compareWrites(scene: Scene, saidAsLost: readonly string[] = []) {
  const lost = new Set(saidAsLost);
  const all = answered(scene.lab.controlPlanes[0]!);
  const expected = all.filter((name) => !lost.has(name));
  const { stdout } = await kubectl(scene.lab, ["-n", "default", "get", "configmaps", "-o", "name"]);
  const there = new Set(stdout.split("\n").map((line) => line.replace("configmap/", "")));
  const gone = expected.filter((name) => !there.has(name));
  scene.checks.push({
    name: "every write that was answered before the loss is there",
    ok: gone.length === 0 && all.length >= ENOUGH,
    detail: gone.join(", ") || `${expected.length} of ${expected.length}`,
  });
  if (lost.size === 0) return;
  const back = saidAsLost.filter((name) => there.has(name));
  scene.checks.push({
    name: "what was said to be lost is lost, and was answered",
    ok: back.length === 0 && all.some((name) => lost.has(name)),
    detail: back.join(", ") || `${all.length - expected.length} answered writes, ${lost.size} in the log`,
  });
}
