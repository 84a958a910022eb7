/** Files that others have named: read only where they are files, and small. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { setRoot, writeFile } from "../../../shared/files/files.ts";
import { mountsOf } from "../../../shared/files/mounts.ts";
import { smallText } from "../../../shared/files/untrusted-file.ts";
import { mode } from "../../../shared/run.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { leaveNode } from "../../pretend/no-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test("only a regular file is read, a link to one is one, and none that is larger than asked for", () => {
  using box = sandbox();
  const at = (name: string) => `${box.dir}/${name}`;
  writeFileSync(at("text"), "12345");
  symlinkSync("/text", at("link"));
  symlinkSync("/nowhere", at("dangling"));
  symlinkSync("../../../../../../dev/zero", at("outside"));
  mkdirSync(at("folder"));
  spawnSync("mkfifo", [at("pipe")]);
  spawnSync("mknod", [at("zero"), "c", "1", "5"]);
  expect(["text", "link"].map((name) => smallText(`/${name}`))).toEqual(["12345", "12345"]);
  expect([smallText("/text", 5), smallText("/text", 4)]).toEqual(["12345", undefined]);
  const none = ["dangling", "outside", "folder", "pipe", "zero", "missing", "text/below"];
  expect(none.map((name) => smallText(`/${name}`))).toEqual(none.map(() => undefined));
});

test("what a dry run would have written is read, and too much of it is not", () => {
  using _ = sandbox();
  mode.dryRun = true;
  try {
    writeFile("/new", "12345");
    expect([smallText("/new"), smallText("/new", 4)]).toEqual(["12345", undefined]);
  } finally {
    mode.dryRun = false;
  }
});

test("a process that has ended, and that nobody has waited for, has no mounts", async () => {
  setRoot("/");
  const parent = Bun.spawn(["bash", "-c", "sleep 0.2 & echo $!; exec sleep 300"], { stdout: "pipe" });
  try {
    const { value } = await parent.stdout.getReader().read();
    const child = Number(new TextDecoder().decode(value));
    const isZombie = () => readFileSync(`/proc/${child}/stat`, "utf8").includes(") Z ");
    await waitFor("the child to end", isZombie, { seconds: 60, hint: "it ends by itself" });
    expect(mountsOf(process.pid)).not.toEqual([]);
    expect(mountsOf(child)).toEqual([]);
  } finally {
    leaveNode();
    parent.kill();
  }
});

test("links without an end are an error that says so", () => {
  using box = sandbox();
  symlinkSync("/loop", `${box.dir}/loop`);
  expect(() => smallText("/loop")).toThrow(Fail);
});
