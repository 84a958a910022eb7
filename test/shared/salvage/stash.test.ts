/** The folder for found keys lies where everybody may make one: only one of our own is read and removed. */
import { expect, test } from "bun:test";
import { chmodSync, chownSync, existsSync, renameSync, rmSync } from "node:fs";
import { STASH } from "../../../shared/node/rescue-folder.ts";
import { dropStash, stashedKeys } from "../../../shared/salvage/found-keys.ts";
import { healthyCp, write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { ca } = await healthyCp();

/** What a run left there, and another may find. */
function laid(change: (folder: string) => void) {
  using box = sandbox();
  const folder = `${box.dir}${STASH}`;
  write(`${folder}/ca.key`, ca.key);
  chmodSync(folder, 0o700);
  change(folder);
  const keys = stashedKeys().length;
  dropStash();
  return { keys, left: existsSync(folder) };
}

test("a folder of our own, closed to all others, is read, and removed in the end", () => {
  expect(laid(() => undefined)).toEqual({ keys: 1, left: false });
});

const STRANGE: [what: string, change: (folder: string) => void][] = [
  ["a folder that its group may read", (folder) => chmodSync(folder, 0o750)],
  ["a folder that others may read", (folder) => chmodSync(folder, 0o704)],
  [
    "a file",
    (folder) => {
      renameSync(`${folder}/ca.key`, `${folder}.key`);
      rmSync(folder, { recursive: true });
      renameSync(`${folder}.key`, folder);
    },
  ],
];

test.each(STRANGE)("%s in its place is neither read nor removed", (_, change) => {
  expect(laid(change)).toEqual({ keys: 0, left: true });
});

test.skipIf(process.getuid?.() !== 0)("nor is a folder of another user", () => {
  expect(laid((folder) => chownSync(folder, 65534, 65534))).toEqual({ keys: 0, left: true });
});
