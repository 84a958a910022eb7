/** Steps that run in memory first: which files they name, and what is left of them afterwards. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { noteState, noteStop, stateAsIf } from "../../../shared/as-if.ts";
import { Fail, failOf } from "../../../shared/fail.ts";
import { moveToRescue } from "../../../shared/files/file-tree.ts";
import { pointLink, readText, removeFile, renameFile, writeFile } from "../../../shared/files/files.ts";
import { foretell } from "../../../shared/files/foretell.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import { mode } from "../../../shared/run.ts";
import { noteUnfinished, unfinishedActions } from "../../../shared/this-run.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** A folder /d with some files. */
function withFiles() {
  const box = sandbox();
  mkdirSync(`${box.dir}/d`);
  for (const name of ["a", "b", "c", "e"]) writeFileSync(`${box.dir}/d/${name}`, name);
  symlinkSync("a", `${box.dir}/d/link`);
  return box;
}

test("files are named by what becomes of them in the end, and nothing is left of it", async () => {
  using box = withFiles();
  const { files, stops, value } = await foretell(async () => {
    noteStop("some id", "etcd");
    writeFile("/d/a", "new");
    writeFile("/d/b", "new");
    moveToRescue("/d/b", "/aside");
    renameFile("/d/c", "/d/.c");
    removeFile("/d/e");
    writeFile("/d/never", "there");
    removeFile("/d/never");
    await pointLink("/d/link", "never/../f");
    writeFile("/d/f", "through the link");
    noteStop("kubelet", "kubelet");
    noteState("kubelet", "runs");
    noteStop("kubelet", "kubelet");
    noteUnfinished("x", "x is half done");
    return [readText("/d/link"), readText("/d/c"), stateAsIf("kubelet"), mode.dryRun];
  });
  expect(stops).toEqual(["etcd", "kubelet"]);
  expect(value).toEqual(["through the link", undefined, "stopped", true]);
  expect(files).toEqual([
    { path: "/aside/d/b", does: "write" },
    { path: "/d/.c", does: "write" },
    { path: "/d/a", does: "write" },
    { path: "/d/b", does: "away", to: "/aside/d/b" },
    { path: "/d/c", does: "away", to: "/d/.c" },
    { path: "/d/e", does: "away", to: undefined },
    { path: "/d/f", does: "write" },
    { path: "/d/link", does: "write" },
  ]);
  expect([readText("/d/a"), readText("/d/b"), readText("/d/link")]).toEqual(["a", "b", "a"]);
  expect(existsSync(`${box.dir}/aside`)).toBe(false);
  expect(readFileSync(`${box.dir}/d/e`, "utf8")).toBe("e");
  expect((await foretell(async () => undefined)).stops).toEqual([]);
  expect([stateAsIf("kubelet"), unfinishedActions(), mode.dryRun]).toEqual([undefined, [], false]);
});

test("in a dry run, what it has noted before stays, and is not named again", async () => {
  using _box = withFiles();
  mode.dryRun = true;
  try {
    writeFile("/d/a", "by the dry run");
    const { files } = await foretell(async () => writeFile("/d/b", `after ${readText("/d/a")}`));
    expect(files.map(({ path }) => path)).toEqual(["/d/b"]);
    expect([readText("/d/a"), readText("/d/b"), mode.dryRun]).toEqual(["by the dry run", "b", true]);
  } finally {
    mode.dryRun = false;
  }
});

test("a step that fails fails before anything is written, and its quick keys are not the run's", async () => {
  using _box = withFiles();
  const fail = await failOf(() =>
    foretell(async () => {
      writeFile("/d/a", (await keyPair("RSA-4096")).key);
      expect(readText("/d/a")).toContain("EC PRIVATE KEY");
      throw new Fail("a step stops", { hint: "see why" });
    }),
  );
  expect(fail?.message).toBe("a step stops");
  expect([readText("/d/a"), mode.dryRun, mode.foretells]).toEqual(["a", false, false]);
  expect((await keyPair("RSA-2048")).key).toContain("RSA PRIVATE KEY");
});
