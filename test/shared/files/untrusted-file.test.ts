/** Files that others have named: read only where they are files, and small. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chownSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { mountsOf } from "../../../shared/files/file-system.ts";
import { setRoot, writeFile } from "../../../shared/files/files.ts";
import { rootOwnedTexts, smallText } from "../../../shared/files/untrusted-file.ts";
import { mode } from "../../../shared/run.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { write } from "../../pretend/cluster.ts";
import { USER } from "../../pretend/memory.ts";
import { leaveNode } from "../../pretend/no-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

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
  for (const size of [16_383, 16_384, 16_385, 65_536, 65_537, 300_000]) {
    const text = Buffer.alloc(size, "0123456789").toString();
    writeFileSync(at("text"), text);
    expect([smallText("/text"), smallText("/text", size), smallText("/text", size - 1)]).toEqual([
      text,
      text,
      undefined,
    ]);
  }
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
    await waitFor("the child to end", isZombie, { seconds: 60, hint: "wait: wait: it ends by itself" });
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

// ---- folders of root's ----

const asRoot = process.getuid?.() === 0;

test("below a path: small files, in folders of root's; no links, no pipes, none of somebody else's folder", () => {
  using box = sandbox();
  write(`${box.dir}/etc/network/interfaces`, "1");
  write(`${box.dir}/etc/network/interfaces.d/eth0`, "2");
  write(`${box.dir}/etc/other/a`, "3");
  symlinkSync("/etc/other", `${box.dir}/etc/network/folder`);
  symlinkSync("/etc/other/a", `${box.dir}/etc/network/file`);
  spawnSync("mkfifo", [`${box.dir}/etc/network/pipe`]);
  truncateSync(created(`${box.dir}/etc/network/large`), (1 << 20) + 1);
  write(`${box.dir}/etc/network/his/a`, "4");
  if (asRoot) chownSync(`${box.dir}/etc/network/his`, USER, USER);
  const seen = (path: string) => rootOwnedTexts(path).map((one) => [one.path, one.text] as const);
  expect(Object.fromEntries(seen("/etc/network"))).toEqual({
    ...{ "/etc/network/interfaces": "1", "/etc/network/interfaces.d/eth0": "2" },
    ...(asRoot ? {} : { "/etc/network/his/a": "4" }),
  });
  expect([...seen("/etc/network/interfaces")]).toEqual([["/etc/network/interfaces", "1"]]);
  expect([...seen("/etc/none")]).toEqual([]);
});

function created(path: string): string {
  writeFileSync(path, "");
  return path;
}
