/** What a command on a node says while it runs. */
import { expect, test } from "bun:test";
import { textOf } from "../machine/shell.ts";

test("each line is heard when it comes, whole, and the text is complete in the end", async () => {
  const heard: string[] = [];
  const bytes = new TextEncoder().encode("still ä\nwaiting\nlast");
  const pieces = [bytes.slice(0, 7), bytes.slice(7, 12), bytes.slice(12)];
  const before: number[] = [];
  async function* come() {
    for (const piece of pieces) {
      before.push(heard.length);
      yield piece;
    }
  }
  const text = await textOf(come(), (line) => heard.push(line));
  expect(text).toBe("still ä\nwaiting\nlast");
  expect(heard).toEqual(["still ä", "waiting"]);
  expect(before).toEqual([0, 0, 1]);
});
