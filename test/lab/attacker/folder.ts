/** A user of a node without rights makes the kit's folder before the operator does, with files that Bun runs first of all. */
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { KIT, note, type Scene, type } from "../scene/scene.ts";
import { TEAM } from "./attacker.ts";

/** A file that only root can write. */
export const OWNED = "/run/owned";

const LINE = "/root/unpack-the-kit.sh";
const TARBALL = "/root/kit-for-the-folder.tar.gz";

const NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups bash -ec";

const LAID_OUT = `umask 022; mkdir ${KIT}; cd ${KIT}
echo 'preload = ["./${TEAM}.ts"]' > bunfig.toml
echo 'require("node:fs").writeFileSync("${OWNED}", "by a preload");' > ${TEAM}.ts
printf '%s\\n' BUN_OPTIONS=--preload=./${TEAM}.ts KUBE_PKI_REPAIR_ROOT=/tmp > .env`;

/** The runbook's own line finds that folder and refuses; when the operator has removed the folder, it works. */
export async function layOutKitFolder(scene: Scene, node: Machine) {
  const line = await unpackLine();
  // what ssh would bring by its command and its stdin
  copyFileSync(scene.kit, node.path(TARBALL));
  writeFileSync(node.path(LINE), line);
  const unpack = `bash ${LINE} < ${TARBALL}`;
  await sh(node, `mv ${KIT} ${KIT}.lab`);
  await sh(node, `${NOBODY} '${LAID_OUT.replaceAll("'", "'\\''")}'`);
  const exit = Array.from({ length: 256 }, (_, code) => code);
  const unpacked = await type(scene, node, unpack, { cwd: "/root", exit });
  const ran = await type(scene, node, `cd ${KIT} && ./bunw scripts/00-assess.ts --help`, { cwd: "/root", exit });
  const owned = (await node.run(["test", "-e", OWNED])).exitCode === 0;
  scene.checks.push({
    name: "the kit is not unpacked into a folder that somebody else has made",
    ok: unpacked.exitCode !== 0 && !owned,
    detail: `the runbook's line: exit ${unpacked.exitCode}; a script there: exit ${ran.exitCode}; ${owned ? "the attacker's code ran as root" : "the attacker's code did not run"}`,
  });
  await sh(node, `rm -rf ${KIT}`);
  const again = await type(scene, node, unpack, { cwd: "/root" });
  scene.checks.push({ name: "when that folder is removed, the kit is unpacked", ok: again.ok, detail: `exit ${again.exitCode}` });
  // The lab's own watcher runs from there.
  await sh(node, `rm -rf ${KIT} ${OWNED} ${LINE} ${TARBALL}; mv ${KIT}.lab ${KIT}`);
  note(
    scene,
    `on ${node.name} a user had made the folder ${KIT}`,
    unpacked.exitCode === 0 ? "the runbook's line accepts it" : "the runbook's line refuses it",
  );
}

/** The line of RUNBOOK.md that unpacks the kit on a node by ssh. */
export async function unpackLine(): Promise<string> {
  const runbook = await Bun.file(join(import.meta.dir, "../../../RUNBOOK.md")).text();
  const lines = [...runbook.matchAll(/^ssh root@NODE '([^']*)' < kit\.tar\.gz/gm)].map(([, line]) => line!);
  if (lines.length === 1) return lines[0]!;
  throw new Fail(`RUNBOOK.md unpacks the kit in ${lines.length} lines, not in one`, {
    hint: 'see "Before you start", and test/lab/attacker/folder.ts',
  });
}
