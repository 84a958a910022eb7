import { expect, test } from "bun:test";
import { tmpdir } from "node:os";
import { type Answers, Terminal } from "../scene/terminal.ts";

const open = (answers?: Answers) =>
  new Terminal([], { cwd: tmpdir(), env: { PATH: process.env.PATH! }, ...(answers ? { answers } : {}) });

test("each line has its exit code and its own output, and variables stay", async () => {
  await using bash = open();
  expect(await bash.paste("export said='one\n  two'")).toEqual({ stdout: "", stderr: "", exitCode: 0 });
  expect(await bash.paste('echo "$said" | tail -n 1; echo no >&2; (exit 3)')).toEqual({
    stdout: "",
    stderr: "  two\nno\n",
    exitCode: 3,
  });
  expect(await bash.paste("printf half")).toEqual({ stdout: "", stderr: "half", exitCode: 0 });
});

test("what a program asks on the terminal is answered once, also where its stdin is something else", async () => {
  const asked: string[] = [];
  await using bash = open((screen) => {
    if (!screen.endsWith("Who? ")) return undefined;
    asked.push(screen);
    return "the operator";
  });
  const line = `bash -c 'read -p "Who? " who < /dev/tty; echo "it is $who"' < /dev/null`;
  expect((await bash.paste(line)).stderr).toContain("it is the operator\n");
  expect(asked).toHaveLength(1);
});

test("a line that waits for what nobody types is an error, and no endless wait", async () => {
  await using bash = open();
  expect((await bash.paste("cat < /dev/null")).exitCode).toBe(0);
  const error = await bash
    .paste("read -p 'Name: ' name", { seconds: 0.5 })
    .catch((err: Error) => err.message);
  expect(error).toContain('has not ended, and shows "Name:"');
});

test("a bash that has ended is an error, and no endless wait", async () => {
  await using bash = open();
  const error = await bash.paste("exit 4").catch((err: Error) => err.message);
  expect(error).toContain("The operator's bash has ended");
});
