/** Which releases are rehearsed, and the table of them. */
import { expect, test } from "bun:test";
import {
  cameBack,
  newestByMinor,
  patchesFrom,
  type ReleaseRecord,
  withRecord,
} from "../report/release-table.ts";

const EMPTY =
  "# Contributing\n\n<!-- releases: npm run releases writes what is below -->\n<!-- releases: end -->\nmore\n";

function record(kubernetes: string, scenario: string, more: Partial<ReleaseRecord> = {}): ReleaseRecord {
  const check = (ok: boolean) => ({ name: "", ok, detail: "" });
  return {
    ...{
      kubernetes,
      scenario,
      tool: "0.1.0",
      date: "2026-05-01T10:00:00.000Z",
      recovered: true,
      ratio: 0.931,
    },
    checks: [check(true), check(true)],
    seconds: {
      ...{ damageToEtcd: 1, damageToApi: 1, damageToNodesReady: 1, damageToWorkloadsOk: 1 },
      ...{ repairCommands: 27.44, commandsToWorkloadsOk: 40 },
    },
    ...more,
  };
}

test("of each minor release from 1.29 on, the newest patch; no alpha, no beta", () => {
  const versions = [
    "v1.9.11",
    "v1.28.1",
    "v1.29.6",
    "v1.29.15",
    "v1.30.0-rc.1",
    "v1.30.2",
    "v1.30.10",
    "v1.36.0-alpha.1",
  ];
  expect(newestByMinor(versions, 29)).toEqual(["v1.29.15", "v1.30.10"]);
});

test("a proxy's list may end before its newest patch, and have gaps: all are asked for by name, the newest first", () => {
  expect(patchesFrom("v1.29.2", 2)).toEqual(["v1.29.4", "v1.29.3", "v1.29.2", "v1.29.1", "v1.29.0"]);
});

test("the table has the newest release first, and says what is red and what was not run", () => {
  const red = record("v1.29.15", "all-lost", {
    recovered: false,
    checks: [{ name: "", ok: false, detail: "" }],
  });
  const dead = {
    ...red,
    scenario: "expired",
    date: "2026-05-02T10:00:00Z",
    ratio: null,
    seconds: { ...red.seconds, repairCommands: null },
  };
  const page = [red, dead, record("v1.30.14", "all-lost")].reduce(withRecord, EMPTY);
  expect(page.split("\n").slice(4, 8)).toEqual([
    "| Kubernetes | `all-lost` | `pki-lost-alive` | `expired` | `moved` | `restored` |",
    "|---|---|---|---|---|---|",
    "| v1.30.14 | 2 of 2, 27.4 s, 0.93, 2026-05-01 | not run | not run | not run | not run |",
    "| v1.29.15 | **red** 0 of 1, 27.4 s, 0.93, 2026-05-01 | not run | **red** 0 of 1, never Ready, 2026-05-02 | not run | not run |",
  ]);
  expect(page.endsWith("\n\n<!-- releases: end -->\nmore\n")).toBe(true);
});

test("the page itself says what is done: another machine goes on from it, and loses no row", async () => {
  const page = await Bun.file(`${import.meta.dir}/../../../CONTRIBUTING.md`).text();
  const asked = [...page.matchAll(/^\| (v1[.\d]+) \|/gm)].map(([, version]) => version!);
  expect(asked.length).toBeGreaterThanOrEqual(9);
  const again = withRecord(page, record("v1.99.1", "expired", { recovered: false }));
  for (const version of asked)
    expect(cameBack(again, version, "all-lost")).toBe(cameBack(page, version, "all-lost"));
  expect(again.split("\n").filter((line) => !page.includes(line))).toEqual([
    expect.stringMatching(/^\| v1\.99\.1 \| not run \|/),
  ]);
  expect(["all-lost", "expired"].map((scenario) => cameBack(again, "v1.99.1", scenario))).toEqual([
    false,
    false,
  ]);
  const green = withRecord(again, record("v1.99.1", "expired"));
  expect(
    ["", "2026-05-01", "2026-05-02"].map((since) => cameBack(green, "v1.99.1", "expired", since)),
  ).toEqual([true, true, false]);
  expect(() => withRecord("# Contributing\n", record("v1.99.1", "expired"))).toThrow(
    expect.objectContaining({ hint: expect.stringContaining("<!--") }),
  );
});
