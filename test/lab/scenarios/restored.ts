/**
 * The only control plane node is destroyed. A new machine takes its place, with another address, from
 * yesterday's backup: a bundle of the shared keys, and a snapshot of etcd. The workers run on.
 */
import { randomBytes } from "node:crypto";
import { globSync, rmSync, writeFileSync } from "node:fs";
import { kubectl, type Machine, sh } from "../machine/machine.ts";
import { readdress } from "../machine/readdress.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import { KIT, note, type Scenario, type Scene, startClock, type } from "../scene/scene.ts";

const ADDRESS = { old: "10.250.0.11", now: "10.250.0.111" };
const PASSPHRASE = "--passphrase-file passphrase";
const BUNDLE = "keys.age";
const SNAPSHOT = "keys.etcd.age";

export const restored: Scenario = {
  name: "restored",
  title:
    "The only control plane node is destroyed; a new machine with another address takes its place, from a bundle and a snapshot of etcd",
  controlPlanes: 1,
  workers: 1,
  byRunbook: true,
  machinesFail: true,
  goesBack: true,
  lines: [
    { title: "The operator makes a backup, and the cluster goes on", run: backUp },
    { title: "The control plane node is destroyed; a new machine is there", run: destroy },
    { title: "The operator follows RUNBOOK-MORE.md, Only a snapshot is left", run: repair },
    { title: "What is back, and what is gone", run: compareObjects },
  ],
};

/** What the operator keeps elsewhere. */
const kept = new Map<string, string>();

async function backUp(scene: Scene) {
  const [cp1] = scene.lab.controlPlanes as [Machine];
  await kubectl(scene.lab, ["-n", "default", "create", "configmap", "deleted-since", "--from-literal=a=b"]);
  await cp1.run(["bash", "-c", `umask 077; cat > ${KIT}/passphrase`], {
    input: randomBytes(24).toString("base64url"),
  });
  await type(scene, cp1, `./bunw scripts/hand-over.ts pack ${PASSPHRASE} --out ${BUNDLE} --with-etcd`);
  for (const file of [BUNDLE, SNAPSHOT, "passphrase"])
    kept.set(file, (await cp1.run(["base64", "-w0", `${KIT}/${file}`])).stdout);
  await kubectl(scene.lab, ["-n", "default", "delete", "configmap", "deleted-since"]);
  await kubectl(scene.lab, ["-n", "default", "create", "configmap", "made-since", "--from-literal=a=b"]);
  // pods that the snapshot does not know, and those that it knows and that are gone
  await kubectl(scene.lab, ["-n", "shop", "rollout", "restart", "deployment"]);
  await kubectl(scene.lab, ["-n", "shop", "rollout", "status", "deployment", "--timeout=120s"]);
}

async function destroy(scene: Scene) {
  const [cp1] = scene.lab.controlPlanes as [Machine];
  startClock(scene);
  await cutPower(scene, [cp1]);
  const folders = [
    ...["/etc/kubernetes", "/var/lib/etcd", "/var/lib/kubelet"],
    ...globSync("kube-pki-repair-*", { cwd: cp1.path("/root") }).map((name) => `/root/${name}`),
  ];
  for (const folder of folders) rmSync(cp1.path(folder), { recursive: true, force: true });
  writeFileSync(cp1.path("/etc/machine-id"), `${randomBytes(16).toString("hex")}\n`);
  await readdress(scene.lab, { [cp1.name]: ADDRESS.now });
  scene.replaced.push(cp1.name);
  await powerOn(scene, [cp1]);
  await cp1.run(["crictl", "rmp", "--all", "--force"]);
  note(scene, "a new machine", `${ADDRESS.old} → ${ADDRESS.now}`);
}

async function repair(scene: Scene) {
  const [cp1] = scene.lab.controlPlanes as [Machine];
  for (const [file, content] of kept)
    await cp1.run(["bash", "-c", `umask 077; base64 -d > ${KIT}/${file}`], { input: content });
  const restore = `./bunw scripts/restore.ts snapshot.db --as ${cp1.nodeName}`;
  await type(scene, cp1, `./bunw scripts/hand-over.ts snapshot ${PASSPHRASE} ${SNAPSHOT}`, { part: 0 });
  await type(scene, cp1, `${restore} --dry-run`, { part: 0 });
  const { stderr } = await type(scene, cp1, restore, { part: 0 });
  await type(scene, cp1, "systemctl enable kubelet", { part: 0 });
  await type(scene, cp1, `./bunw scripts/hand-over.ts unpack ${PASSPHRASE} ${BUNDLE}`, { part: 0 });
  const [move] = /\.\/bunw scripts\/move\.ts --moved \S+(?=,)/.exec(stderr) ?? [
    "restore printed no line of move.ts",
  ];
  await type(scene, cp1, move, { part: 0 });
  await type(scene, cp1, "./bunw scripts/01-etcd.ts", { part: 1 });
  await type(scene, cp1, "./bunw scripts/02-control-plane.ts", { part: 2 });
  for (const worker of scene.lab.workers) await sh(worker, "systemctl restart kubelet");
  await type(scene, cp1, "./bunw scripts/03-workers.ts close", { part: 3 });
  await type(scene, cp1, "./bunw scripts/04-sa-tokens.ts", { part: 4 });
  await type(scene, cp1, "./bunw scripts/move.ts", { part: 4 });
  for (const node of scene.lab.nodes)
    await type(scene, node, "./bunw scripts/05-verify.ts --wait 60", { part: 5, exit: [0, 2] });
}

async function compareObjects(scene: Scene) {
  const { stdout } = await kubectl(scene.lab, ["-n", "default", "get", "configmaps", "-o", "name"]);
  const names = stdout.trim().split("\n");
  const has = (name: string) => names.includes(`configmap/${name}`);
  scene.checks.push({
    name: "what was deleted since the snapshot is back, and what was made since is gone, as was said",
    ok: has("deleted-since") && !has("made-since"),
    detail: names.join(", "),
  });
  await kubectl(scene.lab, ["-n", "default", "delete", "configmap", "deleted-since"]);
}
