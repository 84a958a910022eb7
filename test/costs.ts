/** What each check costs: seconds of CPU, which other people's load changes little, beside its budget. */
import type { Check } from "./checks.ts";

/**
 * Over its budget a check is marked. Over so many times its budget it is red: less can be noise. A machine with 60
 * others at work made twice as much of hand-over.test.ts (7.6 s of CPU in place of 3.9).
 */
const RED = 10;

export interface Cost {
  check: Pick<Check, "name" | "cpu">;
  /** Seconds. */
  cpu: number;
  seconds: number;
}

/** Most expensive first. */
export function costTable(costs: readonly Cost[]): string[] {
  const rows = costs
    .toSorted((a, b) => b.cpu - a.cpu)
    .map(({ check, cpu, seconds }) => {
      const over = check.cpu !== undefined && cpu > check.cpu ? "   over its budget" : "";
      return `${figure(cpu)}${figure(check.cpu)}${figure(seconds)}  ${check.name}${over}`;
    });
  const sum = (of: (cost: Cost) => number) => figure(costs.reduce((total, cost) => total + of(cost), 0));
  return [
    "  CPU s  budget  wall s  check",
    ...rows,
    `${sum(({ cpu }) => cpu)}${sum(({ check }) => check.cpu ?? 0)}         all`,
  ];
}

function figure(seconds: number | undefined): string {
  return `${seconds?.toFixed(seconds < 100 ? 1 : 0) ?? "-"} `.padStart(8);
}

/** What to do where a check is far over its budget; undefined where it is not. */
export function tooDear({ check, cpu }: Cost): string | undefined {
  if (check.cpu === undefined || cpu <= RED * check.cpu) return undefined;
  return `it took ${Math.round(cpu)} s of CPU, more than ${RED} times its budget of ${check.cpu} s in test/checks.ts: find what costs it, or move rows of it to npm run night`;
}
