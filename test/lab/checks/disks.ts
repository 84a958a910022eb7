#!/usr/bin/env bun
/**
 * Keys from the free blocks of real ext4 and xfs file systems. The fast tests skip what this machine cannot
 * make; here nothing may be skipped.
 */
import { Fail } from "../../../shared/fail.ts";
import { run } from "../../../shared/run.ts";
import { installPackages } from "../machine/packages.ts";

const TOOLS = [
  ["/usr/sbin/mkfs.ext4", "e2fsprogs"],
  ["/usr/sbin/mkfs.xfs", "xfsprogs"],
] as const;

async function main() {
  await installPackages(TOOLS);
  const child = Bun.spawn(
    [process.execPath, "test", "--timeout=60000", "./test/shared/salvage/carve.disk.test.ts"],
    {
      stdout: "inherit",
      stderr: "pipe",
    },
  );
  const said = await new Response(child.stderr).text();
  process.stderr.write(said);
  if ((await child.exited) !== 0) process.exit(1);
  if (/^ *\d+ skip$/m.test(said))
    throw new Fail("Some file systems were skipped", {
      hint: "see the first line above: root and loop devices are needed",
    });
}

if (import.meta.main) await run(main);
