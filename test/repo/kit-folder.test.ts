/** The line of RUNBOOK.md that makes the kit's folder, where everybody may have been before. */
import { expect, test } from "bun:test";
import { chmodSync, chownSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { $ } from "bun";
import {
  ASSESS,
  bunw,
  elsewhere,
  kit,
  linkInstead,
  marker,
  PRELOAD,
  place,
  STRANGER,
  shm,
  tarball,
  withKit,
  worksAndNoMore,
  write,
} from "../pretend/laid-out-kit.ts";

withKit();

test("these tests are root's, as the kit is: they give files away", () => {
  expect(process.getuid?.()).toBe(0);
});

/** The line of RUNBOOK.md, with another place for /dev/shm. */
async function unpack(): Promise<{ exitCode: number; said: string }> {
  const runbook = readFileSync(join(import.meta.dir, "../../RUNBOOK.md"), "utf8");
  const line = runbook.match(/^ssh root@NODE '([^']+)'/m)![1]!.replaceAll("/dev/shm", shm);
  const child = Bun.spawn(["sh", "-c", line], { cwd: "/", stdin: Bun.file(tarball), stdout: "pipe", stderr: "pipe" });
  const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
  return { exitCode: await child.exited, said };
}

test("RUNBOOK.md's line makes the folder, with mode 0700, and says nothing", async () => {
  expect(await unpack()).toEqual({ exitCode: 0, said: "" });
  const { uid, mode } = statSync(kit);
  expect([uid, mode & 0o7777]).toEqual([0, 0o700]);
  expect(readdirSync(shm)).toEqual(["kube-pki-repair"]);
  expect(await bunw(ASSESS)).toEqual(worksAndNoMore);
});

test("RUNBOOK.md's line may be repeated: the operator's files stay, what an older kit had more is gone", async () => {
  await unpack();
  write(`${kit}/token`, "mine");
  write(`${kit}/scripts/of-an-older-kit.ts`);
  expect(await unpack()).toEqual({ exitCode: 0, said: "" });
  expect([readFileSync(`${kit}/token`, "utf8"), existsSync(`${kit}/scripts/of-an-older-kit.ts`)]).toEqual(["mine", false]);
  expect(await bunw(ASSESS)).toEqual(worksAndNoMore);
});

const LAID_OUT: [what: string, lay: () => unknown][] = [
  ["a stranger's folder", () => folderOf(STRANGER, 0o755)],
  ["a stranger's folder, closed like ours", () => folderOf(STRANGER, 0o700)],
  ["a stranger's folder that is open to all", () => folderOf(STRANGER, 0o777)],
  ["root's folder that is open to all", () => folderOf(0, 0o777)],
  ["root's folder as mkdir makes it", () => folderOf(0, 0o755)],
  ["a link to a stranger's folder", () => linkInstead(kit, folderOf(STRANGER, 0o700, `${elsewhere}/x`))],
  ["a link to a folder of root's", () => linkInstead(kit, folderOf(0, 0o700, `${elsewhere}/x`))],
  ["a link to nowhere", () => linkInstead(kit, `${elsewhere}/nowhere`)],
  ["a file", () => write(kit)],
  ["a pipe", () => $`mkfifo -m 700 ${kit}`],
];

function folderOf(uid: number, mode: number, path = kit) {
  write(`${path}/bunfig.toml`, PRELOAD);
  write(`${path}/.env`, "FROM_A_STRANGER=1\n");
  chmodSync(path, mode);
  chownSync(path, uid, uid);
  return path;
}

test.each(LAID_OUT)("RUNBOOK.md's line refuses %s, shows it, and puts nothing there", async (_, lay) => {
  await lay();
  const { exitCode, said } = await unpack();
  expect([exitCode, said]).toEqual([1, expect.stringContaining(kit)]);
  for (const folder of [kit, `${elsewhere}/x`]) expect(existsSync(`${folder}/bunw`)).toBe(false);
});

test("RUNBOOK.md's line takes no tarball that a stranger has laid into /dev/shm", async () => {
  const his = join(place, "his");
  write(`${his}/bunw`, `#!/bin/sh\ntouch ${marker}\n`);
  chmodSync(`${his}/bunw`, 0o755);
  await $`cd ${his} && sha256sum bunw > SHA256SUMS && tar -czf ${shm}/kit.tar.gz bunw SHA256SUMS && chown ${STRANGER} ${shm}/kit.tar.gz`;
  expect(await unpack()).toEqual({ exitCode: 0, said: "" });
  expect(await bunw(ASSESS)).toEqual(worksAndNoMore);
});

test("a folder laid out beforehand, and a kit unpacked into it by other means: no code of the stranger's runs", async () => {
  folderOf(STRANGER, 0o755);
  await $`tar -C ${kit} -xzf ${tarball}`;
  const { exitCode, ran, stderr } = await bunw(ASSESS);
  expect([ran, exitCode, stderr]).toEqual([false, 1, expect.stringContaining(`"${kit}/.env"`)]);
});
