/**
 * The README's two commands one after the other: `npm run rehearse` leaves its record in the checkout, and
 * `npm test` does not read it.
 */
import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { example } from "../../fixtures/rehearsal-example.ts";

const home = join(import.meta.dir, "../../..");
const checkout = mkdtempSync(join(tmpdir(), "checkout-"));
afterAll(() => rmSync(checkout, { recursive: true }));

/** Exit code of "format and lint" in a checkout that has these files beside its settings. */
async function lintWith(files: Record<string, string>): Promise<number> {
  for (const file of ["biome.json", ".gitignore", "package.json"])
    cpSync(join(home, file), join(checkout, file));
  for (const [file, text] of Object.entries(files)) writeFileSync(join(checkout, file), text);
  const biome = [join(home, "node_modules/.bin/biome"), "check", "."];
  const exitCode = await Bun.spawn(biome, { cwd: checkout, stdout: "ignore", stderr: "ignore" }).exited;
  for (const file of Object.keys(files)) rmSync(join(checkout, file));
  return exitCode;
}

const record = `${JSON.stringify(example, null, 2)}\n`;

test("the linter does not read the record of a rehearsal, which git ignores", async () => {
  expect(await lintWith({ "rehearsal.json": record, "rehearsal-ha.json": record })).toBe(0);
});

test("the linter reads any other file", async () => {
  expect(await lintWith({ "another.json": record })).toBe(1);
});
