import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import {
  exists,
  list,
  removeLeftOvers,
  UNFINISHED,
  writeFile,
  writeTogether,
} from "../../../shared/files/files.ts";
import { listenToRun, startRunEvents } from "../../../shared/this-run.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test("what a run that was cut off has left is removed at any depth, and nothing of others, nor below a link", () => {
  using box = sandbox();
  for (const file of [`.ca.key.1${UNFINISHED}`, "other.partial", `copy${UNFINISHED}/half/of`, "kept/file"])
    writeFile(`/etc/${file}`, "x");
  writeFile(`/elsewhere/.f.1${UNFINISHED}`, "x");
  writeFile(`/etc/data/.f.1${UNFINISHED}`, "x");
  fs.symlinkSync("/elsewhere", join(box.dir, "etc/link"));
  box.said.length = 0;
  removeLeftOvers("/etc", ["/etc/data"]);
  expect(list("/etc")).toEqual(["data", "kept", "link", "other.partial"]);
  expect([exists(`/elsewhere/.f.1${UNFINISHED}`), exists(`/etc/data/.f.1${UNFINISHED}`)]).toEqual([
    true,
    true,
  ]);
  expect(box.said.sort()).toEqual(
    [`/etc/.ca.key.1${UNFINISHED}`, `/etc/copy${UNFINISHED}`].map(
      (path) => `removed ${path} (not whole: a run was cut off here)`,
    ),
  );
  removeLeftOvers("/nowhere");
});

test("where one of several files cannot take its place, no key is left beside the place of those behind it", () => {
  using box = sandbox();
  startRunEvents({ what: "run", script: "01-etcd", version: "0", args: [] });
  // somebody else makes a folder of that name meanwhile
  listenToRun(({ what }) => what === "file" && fs.mkdirSync(`${box.dir}/etc/b/in`, { recursive: true }));
  try {
    const files = ["a", "b", "c"].map((name) => ({ path: `/etc/${name}`, content: "key" }));
    expect(() => writeTogether(files)).toThrow("Cannot write /etc/b");
    expect(list("/etc")).toEqual(["a", "b"]);
  } finally {
    listenToRun(undefined);
  }
});
