import { expect, test } from "bun:test";
import { tmpdir } from "node:os";
import { PastedBash } from "../scene/pasted-bash.ts";

const open = () => new PastedBash([], { cwd: tmpdir(), env: { PATH: process.env.PATH! } });

test("each line has its exit code and its own output, and variables stay", async () => {
  await using bash = open();
  expect(await bash.paste("export said='one\n  two'")).toEqual({ stdout: "", stderr: "", exitCode: 0 });
  expect(await bash.paste('echo "$said" | tail -n 1; echo no >&2; (exit 3)')).toEqual({ stdout: "  two\n", stderr: "no\n", exitCode: 3 });
  expect(await bash.paste("printf half")).toEqual({ stdout: "half", stderr: "", exitCode: 0 });
});

test("a line that reads what is pasted after it is found, as in a terminal; with its own stdin it does not", async () => {
  await using bash = open();
  expect((await bash.paste("cat < /dev/null")).exitCode).toBe(0);
  await expect(bash.paste("cat > /dev/null", { seconds: 0.2 })).rejects.toThrow("has not ended");
});

test("a bash that has ended is an error, and no endless wait", async () => {
  await using bash = open();
  await expect(bash.paste("exit 4")).rejects.toThrow("The operator's bash has ended");
});
