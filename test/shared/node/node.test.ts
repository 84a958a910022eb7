/** Who may change a node. The tests of whole scripts test the rest of node.ts. */
import { afterAll, expect, spyOn, test } from "bun:test";
import { setRoot } from "../../../shared/files/files.ts";
import { needRoot } from "../../../shared/node/node.ts";
import { leaveNode } from "../../pretend/no-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

afterAll(leaveNode);

test("scripts that change a node refuse whoever is not root, except below another root", () => {
  setRoot("/");
  using uid = spyOn(process, "getuid").mockReturnValue(1000);
  expect(needRoot).toThrow("This script changes the node and needs root");
  using _box = sandbox();
  expect(needRoot).not.toThrow();
  uid.mockReturnValue(0);
  setRoot("/");
  expect(needRoot).not.toThrow();
});
