/** 00-assess as operators run it. */
import { expect, test } from "bun:test";
import { expectTranscript, pretendNode } from "./pretend-node.ts";

test("00-assess on a wiped master says what is lost, where the keys may be, and what comes next", async () => {
  using node = await pretendNode();
  const before = node.fingerprint();
  await expectTranscript("00-assess-wiped-master", await node.run("00-assess"));
  expect(node.fingerprint()).toEqual(before);
});
