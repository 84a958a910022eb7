/** The table of the releases that were rehearsed, and its place in CONTRIBUTING.md. */
import { Fail } from "../../../shared/fail.ts";
import type { Rehearsal } from "./rehearsal.ts";

/** What is kept of a rehearsal. */
export type ReleaseRecord = Pick<
  Rehearsal,
  "scenario" | "kubernetes" | "tool" | "date" | "machine" | "recovered" | "checks" | "seconds" | "ratio"
>;

const RELEASE = /^v1\.(\d+)\.(\d+)$/;

/** Of each minor release from `oldest` on its patches, the newest first: [["v1.29.15", "v1.29.6"], ["v1.30.14", …]]. */
export function patchesByMinor(versions: readonly string[], oldest: number): string[][] {
  const releases = versions.flatMap((version) => {
    const [, minor, patch] = RELEASE.exec(version) ?? [];
    return minor && Number(minor) >= oldest ? [{ version, minor: Number(minor), patch: Number(patch) }] : [];
  });
  const minors = Map.groupBy(
    releases.sort((a, b) => a.minor - b.minor || b.patch - a.patch),
    ({ minor }) => minor,
  );
  return [...minors.values()].map((patches) => patches.map(({ version }) => version));
}

/** The `count` patches after this one: v1.29.6 → v1.29.7, v1.29.8, … */
export function patchesAfter(version: string, count: number): string[] {
  const [, minor, patch] = RELEASE.exec(version)!;
  return Array.from({ length: count }, (_, n) => `v1.${minor}.${Number(patch) + 1 + n}`);
}

/** A row for each release that was rehearsed, the newest first; a column for each scenario. */
export function releaseTable(records: readonly ReleaseRecord[], scenarios: readonly string[]): string {
  const releases = Map.groupBy(records, ({ kubernetes }) => kubernetes);
  if (records.length === 0) throw new Fail("No release was rehearsed yet", { hint: "npm run releases" });
  const order = patchesByMinor([...releases.keys()], 0)
    .flat()
    .toReversed();
  const rows = order.map((version) => {
    const of = releases.get(version)!;
    const cells = scenarios.map((name) => cell(of.find(({ scenario }) => scenario === name)));
    const dates = of.map(({ date }) => date.slice(0, 10)).sort();
    return `| ${[version, ...cells, dates.at(-1)].join(" | ")} |`;
  });
  // without the kernel: a table in a repository names no machine
  const machines = [...new Set(records.map(({ machine }) => machine.split(",")[0]))].join("; ");
  return [
    `| Kubernetes | ${scenarios.map((name) => `\`${name}\``).join(" | ")} | date |`,
    `|---|${scenarios.map(() => "---|").join("")}---|`,
    ...rows,
    "",
    `Checks that are well, seconds from the first command until all nodes are Ready, and this time divided by that of a fresh init + join. ${machines}.`,
  ].join("\n");
}

function cell(record: ReleaseRecord | undefined): string {
  if (!record) return "not run";
  const { checks, seconds, ratio, recovered } = record;
  const well = `${checks.filter(({ ok }) => ok).length} of ${checks.length}`;
  const took = seconds.repairCommands === null ? "never Ready" : `${seconds.repairCommands.toFixed(1)} s, ${ratio?.toFixed(2)}`;
  return `${recovered ? "" : "**red** "}${well}, ${took}`;
}

const [BEGIN, END] = ["<!-- releases: npm run releases writes what is below -->", "<!-- releases: end -->"];

/** The page with this table between its markers. Errors: Fail where the markers are not there. */
export function withTable(page: string, table: string): string {
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (from === -1 || to < from) throw new Fail("CONTRIBUTING.md has no place for the table", { hint: `it is between ${BEGIN} and ${END}` });
  return `${page.slice(0, from + BEGIN.length)}\n\n${table}\n\n${page.slice(to)}`;
}
