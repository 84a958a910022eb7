/** Which releases are rehearsed, and the table of them. */
import { expect, test } from "bun:test";
import { patchesAfter, patchesByMinor, type ReleaseRecord, releaseTable, withTable } from "../report/release-table.ts";

const SCENARIOS = ["all-lost", "expired"];

function record(kubernetes: string, scenario: string, more: Partial<ReleaseRecord> = {}): ReleaseRecord {
  const check = (ok: boolean) => ({ name: "", ok, detail: "" });
  return {
    ...{ kubernetes, scenario, tool: "0.1.0", date: "2026-05-01T10:00:00.000Z", machine: "2 cores", recovered: true, ratio: 0.931 },
    checks: [check(true), check(true)],
    seconds: {
      ...{ damageToEtcd: 1, damageToApi: 1, damageToNodesReady: 1, damageToWorkloadsOk: 1 },
      ...{ repairCommands: 27.44, commandsToWorkloadsOk: 40 },
    },
    ...more,
  };
}

test("of each minor release from 1.29 on, the newest patch comes first; no alpha, no beta", () => {
  const versions = ["v1.9.11", "v1.28.1", "v1.29.6", "v1.29.15", "v1.30.0-rc.1", "v1.30.2", "v1.30.10", "v1.36.0-alpha.1"];
  expect(patchesByMinor(versions, 29)).toEqual([
    ["v1.29.15", "v1.29.6"],
    ["v1.30.10", "v1.30.2"],
  ]);
});

test("a proxy's list may end before its newest patch: those after it are asked for by name", () => {
  expect(patchesAfter("v1.29.6", 3)).toEqual(["v1.29.7", "v1.29.8", "v1.29.9"]);
});

test("the table has the newest release first, and says what is red and what was not run", () => {
  const red = record("v1.29.15", "all-lost", {
    recovered: false,
    checks: [{ name: "", ok: false, detail: "" }],
    date: "2026-05-02T10:00:00Z",
  });
  const dead = record("v1.29.15", "expired", { recovered: false, ratio: null, seconds: { ...red.seconds, repairCommands: null } });
  const table = releaseTable([red, dead, record("v1.30.14", "all-lost")], SCENARIOS);
  expect(table.split("\n").slice(0, 4)).toEqual([
    "| Kubernetes | `all-lost` | `expired` | date |",
    "|---|---|---|---|",
    "| v1.30.14 | 2 of 2, 27.4 s, 0.93 | not run | 2026-05-01 |",
    "| v1.29.15 | **red** 0 of 1, 27.4 s, 0.93 | **red** 2 of 2, never Ready | 2026-05-02 |",
  ]);
});

test("the table goes between its markers in CONTRIBUTING.md, and replaces an older one", async () => {
  const page = await Bun.file(`${import.meta.dir}/../../../CONTRIBUTING.md`).text();
  const once = withTable(page, "| an older table |");
  const twice = withTable(once, "| a table |");
  expect(twice).toContain("\n\n| a table |\n\n<!-- releases: end -->");
  expect(twice).not.toContain("| an older table |");
  expect(withTable(twice, "| an older table |")).toBe(once);
  expect(() => withTable("# Contributing\n", "| a table |")).toThrow(expect.objectContaining({ hint: expect.stringContaining("<!--") }));
});
