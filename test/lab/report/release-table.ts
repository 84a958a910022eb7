/** The table of the releases that were rehearsed, and its place in CONTRIBUTING.md. */
import { Fail } from "../../../shared/fail.ts";
import type { Rehearsal } from "./rehearsal.ts";

/** What is kept of a rehearsal. */
export type ReleaseRecord = Pick<
  Rehearsal,
  "scenario" | "kubernetes" | "tool" | "date" | "recovered" | "checks" | "seconds" | "ratio"
>;

const RELEASE = /^v1\.(\d+)\.(\d+)$/;

/**
 * The newest patch of each minor release from `oldest` on: ["v1.29.15", "v1.30.14", …]. No alpha, no beta.
 */
export function newestByMinor(versions: readonly string[], oldest: number): string[] {
  const newest = new Map<number, string>();
  for (const version of inOrder(versions))
    if (numbersOf(version)[0] >= oldest) newest.set(numbersOf(version)[0], version);
  return [...newest.values()];
}

/**
 * The patches of its minor release, from `more` after this one down to the first: v1.29.6 → v1.29.18, …,
 * v1.29.0.
 */
export function patchesFrom(version: string, more: number): string[] {
  const [minor, patch] = numbersOf(version);
  return Array.from({ length: patch + more + 1 }, (_, n) => `v1.${minor}.${patch + more - n}`);
}

/** Releases, the oldest first. */
function inOrder(versions: readonly string[]): string[] {
  const byNumbers = (a: string, b: string) =>
    numbersOf(a)[0] - numbersOf(b)[0] || numbersOf(a)[1] - numbersOf(b)[1];
  return versions.filter((version) => RELEASE.test(version)).sort(byNumbers);
}

function numbersOf(version: string): [minor: number, patch: number] {
  const [, minor, patch] = RELEASE.exec(version)!;
  return [Number(minor), Number(patch)];
}

const [BEGIN, END] = ["<!-- releases: npm run releases writes what is below -->", "<!-- releases: end -->"];

/** The disasters that every release is rehearsed with: the table's columns. */
export const SCENARIOS = ["all-lost", "pki-lost-alive", "expired", "moved", "restored"] as const;

const NOT_RUN = "not run";
const RED = "**red**";

/** Version → its cells, one for each scenario. */
type Rows = Map<string, string[]>;

/** Whether the page's table says that this release came back from this disaster, on that day ("2026-11-30") or later. */
export function cameBack(page: string, version: string, scenario: string, since = ""): boolean {
  const cell = rowsOf(page).get(version)?.[columnOf(scenario)] ?? NOT_RUN;
  return cell !== NOT_RUN && !cell.startsWith(RED) && cell.split(", ").at(-1)! >= since;
}

/** Scenario → what the page's table says of it, where all releases came back with as many checks: "25 of 25 checks, on 1.29 to 1.37". */
export function checksOnReleases(page: string): Map<string, string> {
  const rows = rowsOf(page);
  const minors = inOrder([...rows.keys()]).map((version) => `1.${numbersOf(version)[0]}`);
  const sums = SCENARIOS.map((scenario, column) => {
    const cells = [...rows.values()].map((cells) => cells[column]!.split(", ")[0]!);
    return [scenario, new Set(cells).size === 1 ? cells[0]! : NOT_RUN] as const;
  });
  return new Map(
    sums
      .filter(([, checks]) => /^\d/.test(checks))
      .map(([scenario, checks]) => [
        scenario,
        `${checks} checks, on Kubernetes ${minors[0]} to ${minors.at(-1)}`,
      ]),
  );
}

/**
 * The page with this rehearsal in its table, the newest release first; all other cells stay. Errors: Fail
 * where there is no table's place.
 */
export function withRecord(page: string, record: ReleaseRecord): string {
  const rows = rowsOf(page);
  const cells = rows.get(record.kubernetes) ?? SCENARIOS.map(() => NOT_RUN);
  cells[columnOf(record.scenario)] = cellOf(record);
  rows.set(record.kubernetes, cells);
  const [from, to] = placeIn(page);
  return `${page.slice(0, from)}\n\n${tableOf(rows)}\n\n${page.slice(to)}`;
}

function tableOf(rows: Rows): string {
  const order = inOrder([...rows.keys()]).toReversed();
  return [
    `| Kubernetes | ${SCENARIOS.map((name) => `\`${name}\``).join(" | ")} |`,
    `|---|${SCENARIOS.map(() => "---|").join("")}`,
    ...order.map((version) => `| ${[version, ...rows.get(version)!].join(" | ")} |`),
    "",
    "Checks that are well, seconds from the first command until all nodes are Ready on two cores, this time divided by that of a fresh init + join, and the day.",
  ].join("\n");
}

function rowsOf(page: string): Rows {
  const lines = page.slice(...placeIn(page)).split("\n");
  const rows = lines.map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  return new Map(
    rows.filter(([version]) => RELEASE.test(version ?? "")).map(([version, ...cells]) => [version!, cells]),
  );
}

function columnOf(scenario: string): number {
  return (SCENARIOS as readonly string[]).indexOf(scenario);
}

function cellOf({ checks, seconds, ratio, recovered, date }: ReleaseRecord): string {
  const well = `${checks.filter(({ ok }) => ok).length} of ${checks.length}`;
  const took =
    seconds.repairCommands === null
      ? "never Ready"
      : `${seconds.repairCommands.toFixed(1)} s, ${ratio?.toFixed(2)}`;
  return `${recovered ? "" : `${RED} `}${well}, ${took}, ${date.slice(0, 10)}`;
}

/** Where the table begins and ends. */
function placeIn(page: string): [number, number] {
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (from === -1 || to < from)
    throw new Fail("CONTRIBUTING.md has no place for the table", {
      hint: `it is between ${BEGIN} and ${END}`,
    });
  return [from + BEGIN.length, to];
}
