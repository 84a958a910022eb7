/** Each promise of README.md, RUNBOOK.md and RUNBOOK-MORE.md stands there, and somebody holds it. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { SCENARIOS } from "../lab/rehearse.ts";
import { helpOf, PACKER, SCRIPTS } from "./help.ts";
import { PROMISES } from "./promises.ts";

const HOME = join(import.meta.dir, "../..");
const textOf = (path: string) => Bun.file(join(HOME, path)).text();
const inOneLine = (text: string) => text.replace(/\s+/g, " ");

/** Undefined: the test, the scenario or the check is there. */
async function lacks(holder: string): Promise<string | undefined> {
  const [, scenario] = /^scenario (.+)$/.exec(holder) ?? [];
  if (scenario) return SCENARIOS.some(({ name }) => name === scenario) ? undefined : `no ${holder}`;
  const [, check] = /^check (.+)$/.exec(holder) ?? [];
  if (check) return existsSync(join(HOME, "test/lab/checks", check)) ? undefined : `no ${holder}`;
  const [file = "", words = ""] = holder.split(/: (.*)/);
  if (!existsSync(join(HOME, file))) return `no ${file}`;
  return inOneLine(await textOf(file)).includes(words) ? undefined : `${file} has no test "${words}"`;
}

test("a holder that is not there is seen", async () => {
  expect(await lacks("scenario nothing-lost")).toBe("no scenario nothing-lost");
  expect(await lacks("check none.ts")).toBe("no check none.ts");
  expect(await lacks("test/repo/none.test.ts: x")).toBe("no test/repo/none.test.ts");
  expect(await lacks("test/repo/reach.test.ts: it is Tuesday")).toBe(
    'test/repo/reach.test.ts has no test "it is Tuesday"',
  );
});

test.each(PROMISES.map(({ words, ...more }) => [words, more] as const))(
  "held: %s",
  async (words, { page, held }) => {
    expect(inOneLine(await textOf(page))).toContain(inOneLine(words));
    expect(held.length).toBeGreaterThan(0);
    expect((await Promise.all(held.map(lacks))).filter(Boolean)).toEqual([]);
  },
);

test.each([...SCRIPTS, PACKER])("%s takes --dry-run if it writes, and only then", async (script) => {
  const writes = /\blockNode/.test(await textOf(script));
  expect(/--dry-run/.test(await helpOf(script))).toBe(writes);
});
