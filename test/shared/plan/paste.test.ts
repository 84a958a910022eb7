/** What an operator who is not root pastes: the command arrives at sudo's shell as it was written. */
import { expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asRoot, isUserName } from "../../../shared/plan/paste.ts";

/** The word goes through this bash, and through the shell at the other end, which has nothing but sudo. */
async function arrived(word: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "login-"));
  writeFileSync(`${folder}/sudo`, '#!/bin/bash\n[ "$1" = -n ] && shift && PATH=/usr/bin:/bin exec "$@"\n');
  chmodSync(`${folder}/sudo`, 0o755);
  const program = `there() { PATH=${folder} /bin/sh -c "$*"; }\nthere ${word}\n`;
  const child = Bun.spawn(["bash"], { stdin: Buffer.from(program), stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  rmSync(folder, { recursive: true });
  expect(stderr).toBe("");
  return stdout;
}

test.each([
  ["echo two words; echo more", "two words\nmore\n"],
  ["echo 'single quotes' && echo \"double quotes\"", "single quotes\ndouble quotes\n"],
  [`printf '%s\\n' "it's" '$HOME' '\`id\`' '!!' '\\'`, "it's\n$HOME\n`id`\n!!\n\\\n"],
  ["x=1; echo $x; echo \\$x", "1\n$x\n"],
])("asRoot() of %s", async (command, output) => {
  expect(await arrived(asRoot("ubuntu", command))).toBe(output);
});

test("asRoot() is easy to read where it can be, and for root it is what it always was", () => {
  const command = "cd /run/kube-pki-repair && ./bunw scripts/01-etcd.ts";
  expect(asRoot("ubuntu", command)).toBe(`"sudo -n sh -c '${command}'"`);
  expect(asRoot("root", command)).toBe(`'${command}'`);
});

test.each([
  ["ubuntu", true],
  ["ec2-user", true],
  ["a.b_C9", true],
  ["_x", true],
  ["9", true],
  ["", false],
  ["-oProxyCommand=x", false],
  ["a b", false],
  ["a@b", false],
  ["a;reboot", false],
  ["$(id)", false],
  ["EXAMPLE\\jo", false],
  ["jörg", false],
  ["a\n", false],
])("isUserName(%p)", (name, is) => {
  expect(isUserName(name)).toBe(is);
});
