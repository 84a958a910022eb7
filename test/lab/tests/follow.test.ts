/** What an operator of the lab types where a line was refused. */
import { expect, test } from "bun:test";
import { hintedLine } from "../scene/follow.ts";

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
