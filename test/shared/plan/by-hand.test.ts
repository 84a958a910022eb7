/** Lines that a person types: a pipe of two ssh fails where its first half fails, however late. */
import { expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import type { Act } from "../../../shared/plan/act.ts";
import { folderTo, linesOfAct } from "../../../shared/plan/by-hand.ts";
import type { Reached } from "../../../shared/plan/reached.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** The node that sends has its half fail so; the other one runs what it is told. */
const SSH = (fails: string) => `#!/bin/sh
for word; do last=$word; done
case "$*" in *root@from*) ${fails} ;; esac
exec sh -c "$last"`;

const FAILURES: [string, string][] = [
  ["at once", "exit 255"],
  ["in the middle", 'sh -c "$last" | head -c 700; exit 255'],
  ["behind its last byte", 'sh -c "$last"; exit 2'],
];

function lines(dir: string): string[] {
  const reached = (name: string): Reached => ({ name, address: name, user: "root", kit: `${dir}/${name}` });
  const acts: Act[] = [
    { do: "carry", from: "from", to: ["to"], files: ["token"], secret: true },
    { do: "gather", from: ["from"], to: "to", into: "logs.d" },
  ];
  const all = acts.flatMap((act) => linesOfAct(act, { reach: reached }).map(({ text }) => text));
  return [...all, folderTo({ parent: `${dir}/from`, seen: "seen.d" }, reached("from"), reached("to"))];
}

async function ends(fails: string, shell: string): Promise<number[]> {
  using box = sandbox();
  const { dir } = box;
  for (const folder of ["bin", "from/seen.d", "to"]) mkdirSync(`${dir}/${folder}`, { recursive: true });
  writeFileSync(`${dir}/bin/ssh`, SSH(fails));
  chmodSync(`${dir}/bin/ssh`, 0o755);
  for (const file of ["from/token", "from/seen.d/w1.json"]) writeFileSync(`${dir}/${file}`, "x".repeat(3000));
  const env = { PATH: `${dir}/bin:${process.env.PATH}` };
  const codes: number[] = [];
  for (const line of lines(dir)) {
    // the runs of a repair lie in /root
    const typed = line.replaceAll("cd /root ", `cd ${dir}/from `);
    codes.push(
      await Bun.spawn([shell, "-c", typed], { cwd: dir, env, stdout: "ignore", stderr: "ignore" }).exited,
    );
  }
  return codes;
}

test("where nothing fails, each line ends with 0", async () => {
  expect(await ends("true", "bash")).toEqual([0, 0, 0]);
});

test.each(FAILURES)("the first half fails %s: no line ends with 0", async (_, fails) => {
  expect(await ends(fails, "bash")).not.toContain(0);
});

test.each(["zsh", "ksh", "busybox"].filter((one) => existsSync(`/usr/bin/${one}`)))(
  "%s knows the form",
  (shell) => {
    const words = shell === "busybox" ? [shell, "sh"] : [shell];
    expect(Bun.spawnSync([...words, "-c", "set -o pipefail; false | true"]).exitCode).toBe(1);
  },
);
