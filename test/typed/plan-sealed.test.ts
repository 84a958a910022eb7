/** Etcd's data is encrypted, and the file that opens it is lost: the plan asks for it, before it can have steps. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { linesOfRunbook, readPlanData } from "../../shared/follow/trusted-plan.ts";
import { write } from "../pretend/cluster.ts";
import { CONFIG, encryptedWith } from "../pretend/encrypted-cluster.ts";
import { pretendNode } from "../pretend/node.ts";
import { encryptionConfig } from "../pretend/sealed.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const KEY = randomBytes(32);

test.each([
  [
    "is lost",
    undefined,
    {
      question: [`${CONFIG} is lost on m1, and nothing else there opens etcd's data.`],
      ways: [
        {
          does: `I have ${CONFIG}: type its path on this machine, or that of a folder with your copies`,
          upload: { path: CONFIG, to: ["m1"] },
        },
      ],
    },
  ],
  [
    "is another cluster's",
    encryptionConfig("secretbox", randomBytes(32)),
    {
      question: [`${CONFIG} on m1 does not open etcd's data.`],
      ways: [
        {
          does: "I have the right one: type its path on this machine, or that of a folder with your copies",
          costs: `the one that is there becomes ${CONFIG}.before`,
          upload: { path: CONFIG, to: ["m1"], aside: true },
        },
      ],
    },
  ],
])("the encryption configuration %s: a number takes the operator's own", async (_, text, decision) => {
  using node = here(await pretendNode({ etcd: encryptedWith(KEY, "secretbox") }));
  if (text) write(node.root + CONFIG, text);
  const { stdout } = await node.run("plan --json");
  const read = readPlanData(stdout, linesOfRunbook(readFileSync("RUNBOOK.md", "utf8")));
  expect(read.ended === "ok" && read.parts).toEqual([]);
  expect<unknown>(read.decisions).toEqual([{ id: "lost-files", ...decision }]);
});

test("with the right one no number asks for it", async () => {
  using node = here(await pretendNode({ etcd: encryptedWith(KEY, "secretbox") }));
  write(node.root + CONFIG, encryptionConfig("secretbox", KEY));
  expect((await node.run("plan --json")).stdout).not.toContain(`I have ${CONFIG}`);
});
