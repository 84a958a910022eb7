/** scripts/words.ts: what was said is printed, and taken back. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { expectStop } from "../pretend/wrong-hands.ts";

setDefaultTimeout(300_000);

test("what was said is printed; --back takes it back, and refuses what nobody has said", async () => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  expect((await node.run("words")).stdout).toBe("nothing that you have said is saved here\n");
  await node.run("05-verify --without w1,w2", { KUBE_PKI_REPAIR_PATIENCE: "0.001" });
  expect((await node.run("words")).stdout.split("\n")).toMatchObject([
    expect.stringMatching(/^as said at \d\d:\d\d \(05-verify, on m1\): w1 is away$/),
    expect.stringMatching(/: w2 is away$/),
    "",
  ]);
  expectStop(await node.run("words --back w3"), /^Nothing is saved of "w3"$/, /saved here: w1, w2$/);
  const { stdout, stderr } = await node.run("words --back w2");
  expect(stderr).toContain("w2 is away: not any more, you take it back");
  expect(stdout).toMatch(/^as said at .*: w1 is away\n$/);
});
