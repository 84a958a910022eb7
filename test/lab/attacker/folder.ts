/**
 * A user of a node without any rights wants the folder into which the kit will be unpacked, to lay out there
 * what Bun runs before anything else. Below /run he cannot make it; so somebody who could has given it to
 * him.
 */
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { KIT, note, type Scene, type } from "../scene/scene.ts";
import { TEAM } from "./attacker.ts";

/** The file that a program of the attacker writes if it runs as root. */
export const OWNED = "/run/owned";

const LINE = "/root/unpack-the-kit.sh";
const TARBALL = "/root/kit-for-the-folder.tar.gz";

const NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups bash -ec";

const LAID_OUT = `umask 022; cd ${KIT}
echo 'preload = ["./${TEAM}.ts"]' > bunfig.toml
echo 'require("node:fs").writeFileSync("${OWNED}", "by a preload");' > ${TEAM}.ts
printf '%s\\n' BUN_OPTIONS=--preload=./${TEAM}.ts KUBE_PKI_REPAIR_ROOT=/tmp > .env`;

/** The runbook's own line meets that folder; then it does its work as the operator is told. */
export async function folderLaidOut(scene: Scene, node: Machine) {
  const unpack = await bringLine(scene, node);
  await sh(node, `umount ${KIT} && rmdir ${KIT}`);
  const made = await node.run(["bash", "-c", `${NOBODY} 'mkdir ${KIT}'`]);
  scene.checks.push({
    name: "a user of a node cannot make the kit's folder",
    ok: made.exitCode !== 0,
    detail: made.stderr.trim(),
  });
  await sh(node, `mkdir -p ${KIT}; chown 65534 ${KIT}`);
  await sh(node, `${NOBODY} '${LAID_OUT.replaceAll("'", "'\\''")}'`);
  const exit = Array.from({ length: 256 }, (_, code) => code);
  const unpacked = await type(scene, node, unpack, { cwd: "/root", exit });
  const ran = await type(scene, node, `cd ${KIT} && ./bunw scripts/00-assess.ts --help`, {
    cwd: "/root",
    exit,
  });
  const owned = (await node.run(["test", "-e", OWNED])).exitCode === 0;
  scene.checks.push({
    name: "the kit is not unpacked into a folder that somebody else laid out",
    ok: unpacked.exitCode !== 0 && !owned,
    detail: `the runbook's line: exit ${unpacked.exitCode}; a script there: exit ${ran.exitCode}; ${owned ? "his code ran as root" : "his code did not run"}`,
  });
  await sh(node, `rm -rf ${KIT} ${OWNED}`);
  const again = await type(scene, node, unpack, { cwd: "/root" });
  scene.checks.push({
    name: "when that folder is removed the kit is unpacked",
    ok: again.ok,
    detail: `exit ${again.exitCode}`,
  });
  await sh(node, `rm ${LINE} ${TARBALL}`);
  note(
    scene,
    `on ${node.name} a folder ${KIT} was laid out beforehand`,
    unpacked.exitCode === 0 ? "the runbook's line takes it" : "refused",
  );
}

/** What ssh would bring by its command and by its stdin; returns how it is typed there. */
async function bringLine(scene: Scene, node: Machine): Promise<string> {
  copyFileSync(scene.kit, node.path(TARBALL));
  writeFileSync(node.path(LINE), await unpackLine());
  return `bash ${LINE} < ${TARBALL}`;
}

/** What RUNBOOK.md types on a node by ssh to unpack the kit. */
export async function unpackLine(): Promise<string> {
  const runbook = await Bun.file(join(import.meta.dir, "../../../RUNBOOK.md")).text();
  const lines = [...runbook.matchAll(/^ssh root@NODE '([^']*)' < kit\.tar\.gz/gm)].map(([, line]) => line!);
  if (lines.length === 1) return lines[0]!;
  throw new Fail(`RUNBOOK.md unpacks the kit in ${lines.length} lines, not in one`, {
    hint: "see its part 0, and test/lab/attacker/folder.ts",
  });
}
