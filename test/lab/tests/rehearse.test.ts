/** The names of the scenarios, as an operator types and reads them. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { find, OLD_NAMES, SCENARIOS } from "../rehearse.ts";

test("each scenario has a name of its own, a title and lines that read as sentences", () => {
  expect(new Set(SCENARIOS.map(({ name }) => name)).size).toBe(SCENARIOS.length);
  const titles = SCENARIOS.flatMap(({ title, lines }) => [title, ...lines.map((line) => line.title)]);
  expect(titles.filter((title) => /\bmaster|\brm -rf\b|\.$/.test(title))).toEqual([]);
});

test("an old name is answered with the name of today", () => {
  const scenarios = Object.entries(OLD_NAMES).filter(([old]) => !old.startsWith("--"));
  expect(scenarios.length).toBeGreaterThan(3);
  for (const [old, today] of scenarios) {
    expect(find(today).name).toBe(today);
    expect(() => find(old)).toThrow(expect.objectContaining({ hint: `--scenario ${today}` }));
  }
});

test("a name that never was is answered with the list", () => {
  expect(() => find("the-moon-falls")).toThrow(
    expect.objectContaining({ hint: "npm run rehearse -- --list" }),
  );
});

test("up.ts answers --masters with the option of today, before it builds anything", async () => {
  const up = Bun.spawn([process.execPath, join(import.meta.dir, "../up.ts"), "--masters", "3"], {
    stdout: "ignore",
    stderr: "pipe",
  });
  expect(await new Response(up.stderr).text()).toContain("hint: --control-planes 3");
  expect(await up.exited).toBe(1);
});
