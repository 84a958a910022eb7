/** What becomes of a row: well, a warning, a failure with the command that repairs it, an error that says itself what to do. */
import { expect, test } from "bun:test";
import { type Check, type CheckRow, Checks } from "../../../shared/verify/checks.ts";

const hint = "./bunw scripts/04-sa-tokens.ts renews it";

async function resultOf(look: CheckRow["look"]): Promise<Check[]> {
  const checks = new Checks();
  await checks.add([{ area: "tokens", what: "shop/cart", look, hint }]);
  return checks.all;
}

test.each<[string, CheckRow["look"], string, string]>([
  ["well", async () => "verifies", "ok", "verifies"],
  ["a warning", () => ({ warning: "old" }), "warning", "old"],
  ["a failure names the command", async () => ({ failed: "another CA" }), "failed", `another CA: ${hint}`],
  ["an error has its own message", () => Promise.reject(new Error("No answer from m1")), "failed", "No answer from m1"],
])("a row that gives: %s", async (_, look, result, detail) => {
  expect(await resultOf(look)).toMatchObject([{ area: "tokens", what: "shop/cart", result, detail }]);
});

test("rows that end in an error leave the results of those before", async () => {
  const checks = new Checks();
  const rows = async function* (): AsyncGenerator<CheckRow> {
    yield { area: "nodes", what: "m1", look: () => "there" };
    throw new Error("the API is gone");
  };
  await expect(checks.add(rows())).rejects.toThrow("the API is gone");
  expect(checks.all.map(({ what }) => what)).toEqual(["m1"]);
});
