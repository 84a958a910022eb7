/** What an operator of the lab types where a line was refused, and what he answers. */
import { expect, test } from "bun:test";
import { hintedLine } from "../scene/follow.ts";
import { Operator } from "../scene/follow-repair.ts";
import type { Scene } from "../scene/scene.ts";

const ONE = "./bunw scripts/01-etcd.ts";

test.each([
  [
    "the same line with more options, up to the first word that is none",
    `error: It would not start again\nhint: bring these back first. If nobody has them: ${ONE} --new-cas --start-without oidc-ca-file starts the API server without it\n`,
    `${ONE} --new-cas --start-without oidc-ca-file`,
  ],
  [
    "the last of several, and no line of another script",
    `error: cp2 may have it\nhint: go there first: ./bunw scripts/plan.ts. If it is lost there, too: ${ONE} --new-cas --lost-on cp2\n`,
    `${ONE} --new-cas --lost-on cp2`,
  ],
  [
    "none where only another script helps",
    "error: no\nhint: ./bunw scripts/00-salvage.ts memory\n",
    undefined,
  ],
  [
    "none of what is said before the hint",
    `  next: ${ONE} --dry-run\nerror: no\nhint: look at it\n`,
    undefined,
  ],
])("hintedLine(): %s", (_, stderr, line) => {
  expect(hintedLine(`${ONE} --new-cas`, stderr)).toBe(line);
});

test("an operator brings back what a question names, once, and looks again; else he takes the way that is meant", async () => {
  const scene = { moments: [], zero: Date.now(), say: () => undefined } as Partial<Scene> as Scene;
  const done: string[] = [];
  const does = async () => void done.push("brought");
  const operator = new Operator(scene, [/^w3 is away/], { mended: { question: / is lost on /, does } });
  const lost = {
    text: ["Decision 1 of 1: first", "/etc/x is lost on cp1"],
    ways: ["Copy it", "Look again: yes"],
  };
  expect(await operator.choose({ text: ["w3?"], ways: ["End", "w3 is away for now"] })).toBe(1);
  expect(done).toEqual([]);
  expect(await operator.choose(lost)).toBe(1);
  expect(done).toEqual(["brought"]);
  expect(await operator.choose({ ...lost, ways: ["w3 is away", "Look again", "End"] })).toBe(0);
  expect(done).toHaveLength(1);
});
