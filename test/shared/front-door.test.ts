/** The answer of `./bunw` where its first word is no script. */
import { expect, test } from "bun:test";
import { basename } from "node:path";
import { failOf } from "../../shared/fail.ts";
import { LISTED, openDoor } from "../../shared/front-door.ts";
import { SCRIPTS } from "../repo/help.ts";

test("each script is on the list once", () => {
  expect([...LISTED].sort()).toEqual(SCRIPTS.map((path) => basename(path, ".ts")));
});

test.each([
  ["plan", "plan"],
  ["assess", "00-assess"],
  ["scripts/assess.ts", "00-assess"],
  ["scripts/01-ectd.ts", "01-etcd"],
  ["02-control-plan.ts", "02-control-plane"],
  ["verfy", "05-verify"],
  ["Salvage", "00-salvage"],
  ["./scripts/handover.ts", "hand-over"],
  ["join", "03-join"],
  ["join-a", "join-again"],
  ["control", "02-control-plane"],
])("%s: the hint has the line of %s", async (word, script) => {
  const { message, hint, exitCode } = (await failOf(() => openDoor([word])))!;
  expect({ message, exitCode }).toEqual({ message: `"${word}" is no script`, exitCode: 64 });
  expect(hint).toStartWith(`type ./bunw scripts/${script}.ts, or list all scripts: ./bunw --help`);
});

test("a word that is near no script leads to the list", async () => {
  expect((await failOf(() => openDoor(["upgrade"])))!.hint).toBe("list all scripts: ./bunw --help");
});
