/**
 * All control plane nodes are destroyed. A new machine takes the place of the first, with another address,
 * from yesterday's backup: a bundle of the shared keys, and a snapshot of etcd. The workers run on. Where there
 * were several, new machines take the places of the others by the lines that part 2 prints.
 */
import { randomBytes } from "node:crypto";
import { globSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { kubectl, type Machine, sh } from "../machine/machine.ts";
import { newAddress, readdress } from "../machine/readdress.ts";
import { followGuide, followRepair } from "../scene/follow-repair.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import { joinByPrinted, putBackByPrinted, untilAsBefore } from "../scene/replace.ts";
import { blockThatBegins } from "../scene/runbook-block.ts";
import { KIT, note, type Scenario, type Scene, startClock, type } from "../scene/scene.ts";

const PASSPHRASE = "--passphrase-file passphrase";
/** Acknowledged after the snapshot was taken: a disk would have them, a snapshot has not. */
const WRITTEN_SINCE = ["written-since-1", "written-since-2", "written-since-3"];
const BUNDLE = "keys.age";
const SNAPSHOT = "keys.etcd.age";

/** What is left. Without a bundle of the shared keys nobody has them; the disk of the dead machine is newer than a snapshot. */
interface Left {
  bundle: boolean;
  disk?: boolean;
  /** The new machine's; unset: that of the dead one. */
  hostName?: string;
}

const lines = (left: Left): Scenario["lines"] => [
  { title: "The operator makes a backup, and the cluster goes on", run: (scene) => backUp(scene, left) },
  {
    title: "All control plane nodes are destroyed; a new machine is there",
    run: (scene) => destroy(scene, left),
  },
  {
    title: "The operator follows RUNBOOK-MORE.md, Only a snapshot is left",
    run: (scene) => repair(scene, left),
  },
  { title: "What is back, and what is gone", run: (scene) => compareObjects(scene, left) },
];

export const restored: Scenario = {
  name: "restored",
  title:
    "The only control plane node is destroyed; a new machine with another address takes its place, from a bundle and a snapshot of etcd",
  controlPlanes: 1,
  workers: 1,
  byRunbook: true,
  machinesFail: true,
  goesBack: true,
  lines: lines({ bundle: true }),
};

export const restoredNewCas: Scenario = {
  ...restored,
  name: "restored-new-cas",
  title:
    "The only control plane node is destroyed, and nobody has its keys; a new machine with another address takes its place, from a snapshot of etcd, with new CAs",
  lines: lines({ bundle: false }),
};

/** A spare machine: its kubelet has to be told which node it is. */
export const restoredSpare: Scenario = {
  ...restored,
  name: "restored-spare",
  title:
    "The only control plane node is destroyed; a machine with another host name and another address takes its place, from a bundle and a snapshot of etcd",
  lines: lines({ bundle: true, hostName: "spare7" }),
};

export const restoredDisk: Scenario = {
  ...restored,
  name: "restored-disk",
  title:
    "The only control plane node is destroyed; a new machine with another address takes its place, from a bundle and the old machine's disk",
  goesBack: false,
  lines: lines({ bundle: true, disk: true }),
};

/** New machines in the places of the others, when the first one is well; with other addresses, or with theirs. */
export const othersJoin = ({ elsewhere }: { elsewhere: boolean }): Scenario["lines"] => [
  { title: "New machines take the places of the others", run: (scene) => joinOthers(scene, elsewhere) },
  {
    title: "The operator puts back what 05-verify and part 2 name",
    run: (scene) => putBackByPrinted(scene, othersOf(scene)),
  },
  { title: "05-verify finds nothing changed", run: untilAsBefore },
  { title: "The operator verifies again", run: verify },
];

export const haRestored: Scenario = {
  ...restored,
  name: "ha-restored",
  title:
    "All three control plane nodes are destroyed; a new machine with another address takes the first one's place, from a bundle and a snapshot of etcd, and new machines with other addresses join in the places of the others",
  controlPlanes: 3,
  workers: 2,
  lines: [...restored.lines, ...othersJoin({ elsewhere: true })],
};

export const haRestoredNewCas: Scenario = {
  ...haRestored,
  name: "ha-restored-new-cas",
  title:
    "All three control plane nodes are destroyed, and nobody has their keys; new machines with other addresses take their places, the first from a snapshot of etcd, with new CAs",
  lines: [...restoredNewCas.lines, ...othersJoin({ elsewhere: true })],
};

/** What the operator keeps elsewhere. */
const kept = new Map<string, string>();

function firstOf({ lab }: Scene): Machine {
  return lab.controlPlanes[0]!;
}

export function othersOf({ lab }: Scene): Machine[] {
  return lab.controlPlanes.slice(1);
}

async function backUp(scene: Scene, { disk }: Left) {
  const cp1 = firstOf(scene);
  await kubectl(scene.lab, ["-n", "default", "create", "configmap", "deleted-since", "--from-literal=a=b"]);
  await cp1.run(["bash", "-c", `umask 077; cat > ${KIT}/passphrase`], {
    input: randomBytes(24).toString("base64url"),
  });
  await type(scene, cp1, `./bunw scripts/hand-over.ts pack ${PASSPHRASE} --out ${BUNDLE} --with-etcd`);
  for (const file of [BUNDLE, SNAPSHOT, "passphrase"])
    kept.set(file, (await cp1.run(["base64", "-w0", `${KIT}/${file}`])).stdout);
  await kubectl(scene.lab, ["-n", "default", "delete", "configmap", "deleted-since"]);
  for (const name of WRITTEN_SINCE)
    await kubectl(scene.lab, ["-n", "default", "create", "configmap", name, "--from-literal=a=b"]);
  if (disk) return;
  // pods that the snapshot does not know, and those that it knows and that are gone
  await kubectl(scene.lab, ["-n", "shop", "rollout", "restart", "deployment"]);
  await kubectl(scene.lab, ["-n", "shop", "rollout", "status", "deployment", "--timeout=120s"]);
}

/** Where the new machine has mounted the old one's disk. */
const DISK = "/mnt/old/var/lib/etcd";

async function destroy(scene: Scene, { disk, hostName }: Left) {
  const { controlPlanes } = scene.lab;
  startClock(scene);
  await cutPower(scene, controlPlanes);
  const cp1 = firstOf(scene);
  if (disk) {
    mkdirSync(dirname(cp1.path(DISK)), { recursive: true });
    renameSync(cp1.path("/var/lib/etcd"), cp1.path(DISK));
  }
  for (const node of controlPlanes) makeNew(scene, node);
  const [before, today] = [cp1.ip, newAddress(cp1)];
  await readdress(scene.lab, { [cp1.name]: today });
  await bootNew(scene, cp1);
  if (hostName) await sh(cp1, `hostname ${hostName}; hostname > /etc/hostname`);
  note(scene, "a new machine", `${before} → ${today}`);
}

/** Nothing of the old machine is left but its name and the images, which the lab cannot fetch. */
export function makeNew({ replaced }: Scene, node: Machine) {
  const folders = [
    ...["/etc/kubernetes", "/var/lib/etcd", "/var/lib/kubelet"],
    ...globSync("kube-pki-repair-*", { cwd: node.path("/root") }).map((name) => `/root/${name}`),
  ];
  for (const folder of folders) rmSync(node.path(folder), { recursive: true, force: true });
  writeFileSync(node.path("/etc/machine-id"), `${randomBytes(16).toString("hex")}\n`);
  replaced.push(node.name);
}

async function bootNew(scene: Scene, node: Machine) {
  await powerOn(scene, [node]);
  await node.run(["crictl", "rmp", "--all", "--force"]);
}

async function repair(scene: Scene, left: Left) {
  const { bundle } = left;
  const cp1 = firstOf(scene);
  await bring(scene, left);
  const move = await restore(scene, left);
  if (scene.guide === "repair") return await followRepair(scene, {});
  const tags = bundle ? ["old-cas"] : ["new-cas", "join"];
  await type(scene, cp1, move, { part: 0 });
  await follow(scene, tags, [1, 2]);
  for (const worker of scene.lab.workers) await sh(worker, "systemctl restart kubelet");
  await follow(scene, tags, [3, 4]);
  await type(scene, cp1, "./bunw scripts/move.ts", { part: 4 });
  await follow(scene, tags, [5]);
}

/** Without the others. */
export async function follow(scene: Scene, tags: string[], parts: number[]) {
  const without = othersOf(scene).map(({ nodeName }) => nodeName);
  if (scene.guide === "repair") return await followRepair(scene, { without });
  await followGuide(scene, tags, { parts, ...(without.length > 0 && { without }) });
}

/** What was kept elsewhere. */
async function bring(scene: Scene, { bundle, disk }: Left) {
  const isLost = (name: string) => (name === BUNDLE && !bundle) || (name === SNAPSHOT && disk);
  for (const [file, content] of [...kept].filter(([name]) => !isLost(name)))
    await firstOf(scene).run(["bash", "-c", `umask 077; base64 -d > ${KIT}/${file}`], { input: content });
}

/** The lines that the chapter has, for this machine and what is left. */
function linesOfChapter(scene: Scene, { bundle, disk }: Left): string[] {
  const lines = blockThatBegins(`./bunw scripts/hand-over.ts snapshot ${SNAPSHOT}`);
  const isFor = (line: string) =>
    !(disk && line.includes("hand-over.ts snapshot")) && !(!bundle && line.includes("hand-over.ts unpack"));
  return lines.filter(isFor).map((line) =>
    line
      .replace(/ +#.*/, "")
      .replace(/(hand-over\.ts \w+)/, `$1 ${PASSPHRASE}`)
      .replace("--as cp1", `--as ${firstOf(scene).nodeName}`)
      .replace("restore.ts snapshot.db", disk ? `restore.ts --from ${DISK}` : "$&"),
  );
}

/**
 * Returns the line of move.ts that it prints. A snapshot of etcd 3.5 does not name members that have joined: the
 * operator does, if the dry run asks for it.
 */
async function restore(scene: Scene, left: Left): Promise<string> {
  const cp1 = firstOf(scene);
  let lost = "";
  let move = "restore printed no line of move.ts";
  for (const line of linesOfChapter(scene, left)) {
    const isDry = line.endsWith(" --dry-run");
    const isRestore = line.includes("restore.ts");
    const typed = isRestore && !isDry ? line + lost : line;
    const { stderr } = await type(scene, cp1, typed, { part: 0, ...(isDry && { exit: [0, 2, 3] }) });
    if (stderr.includes("have no name in this data"))
      lost = ` --lost ${othersOf(scene)
        .map(({ nodeName }) => nodeName)
        .join(",")}`;
    [move] = /\.\/bunw scripts\/move\.ts --moved \S+(?=,)/.exec(isDry ? "" : stderr) ?? [move];
  }
  return move;
}

/** One after the other: etcd takes one new member at a time. */
async function joinOthers(scene: Scene, elsewhere: boolean) {
  for (const node of othersOf(scene)) {
    if (elsewhere) await readdress(scene.lab, { [node.name]: newAddress(node) });
    await bootNew(scene, node);
    await joinByPrinted(scene, node, "kubeadm join --control-plane");
  }
}

async function verify(scene: Scene) {
  for (const node of scene.lab.nodes)
    await type(scene, node, "./bunw scripts/05-verify.ts --wait 60", { part: 5, exit: [0, 2] });
}

async function compareObjects(scene: Scene, { disk }: Left) {
  const { stdout } = await kubectl(scene.lab, ["-n", "default", "get", "configmaps", "-o", "name"]);
  const names = stdout.trim().split("\n");
  const has = (name: string) => names.includes(`configmap/${name}`);
  const gone = WRITTEN_SINCE.filter((name) => !has(name));
  if (disk) {
    const name = "every acknowledged write is there, and what was deleted is gone";
    scene.checks.push({ name, ok: gone.length === 0 && !has("deleted-since"), detail: names.join(", ") });
    return;
  }
  scene.checks.push({
    name: "what was deleted since the snapshot is back, and what was made since is gone, as was said",
    ok: has("deleted-since") && gone.length === WRITTEN_SINCE.length,
    detail: `acknowledged since the snapshot, and gone: ${gone.join(", ")}; there: ${names.join(", ")}`,
  });
  await kubectl(scene.lab, ["-n", "default", "delete", "configmap", "deleted-since"]);
}
