import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { $ } from "bun";
import { answerTo, fakePath, IS_ACTIVE, IS_ACTIVE_QUIETLY } from "./programs.ts";

test("fakePath() answers in turn, takes a * for anything, and records every call", async () => {
  using fake = fakePath([
    { command: "systemctl is-active kubelet", stdout: "activating\n", exit: 3 },
    { command: "systemctl is-active kubelet", stdout: 'it\'s $HOME "active"\n' },
    { command: "crictl ps *", stdout: "{}" },
  ]);
  const run = (line: string) => $`sh -c ${line}`.env(fake.env).nothrow().quiet();
  expect((await run("systemctl is-active kubelet")).exitCode).toBe(3);
  expect((await run("systemctl is-active kubelet")).stdout.toString()).toBe('it\'s $HOME "active"\n');
  expect((await run("systemctl is-active kubelet")).exitCode).toBe(0);
  expect((await run("crictl ps -o json")).stdout.toString()).toBe("{}");
  const unknown = await run("crictl rm --all");
  expect([unknown.exitCode, unknown.stderr.toString()]).toEqual([
    99,
    "not listed in the test: crictl rm --all\n",
  ]);
  expect(fake.calls()).toEqual([
    ...Array(3).fill("systemctl is-active kubelet"),
    "crictl ps -o json",
    "crictl rm --all",
  ]);
});

test("fakePath() has no program of this machine that is not listed", async () => {
  using fake = fakePath([]);
  expect((await $`sh -c "kubectl version"`.env(fake.env).nothrow().quiet()).exitCode).toBe(127);
});

test("fakePath() lets a program do something first", async () => {
  using fake = fakePath([{ command: "kubeadm init", does: 'echo made > "$FAKE/pki"' }]);
  await $`sh -c "kubeadm init"`.env(fake.env).quiet();
  expect(await Bun.file(`${fake.folder}/pki`).text()).toBe("made\n");
});

test("what is done without a shell says what the shell says, and is recorded", async () => {
  const rows = [
    { command: "systemctl is-active kubelet", does: IS_ACTIVE },
    { command: "systemctl is-active --quiet kubelet", does: IS_ACTIVE_QUIETLY },
  ];
  using fake = fakePath(rows);
  for (const isStopped of [false, true]) {
    if (isStopped) writeFileSync(`${fake.folder}/stopped`, "");
    for (const { command } of rows) {
      const said = await $`sh -c ${command}`.env(fake.env).nothrow().quiet();
      expect(answerTo(`${fake.folder}/bin/systemctl`, command.split(" "))).toEqual({
        stdout: said.stdout.toString(),
        stderr: said.stderr.toString(),
        exit: said.exitCode,
      });
    }
  }
  expect(fake.calls()).toHaveLength(8);
});
