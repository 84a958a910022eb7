/** What a check's output says: how much of it passed, how much failed, and what. */
import { existsSync, readFileSync } from "node:fs";
import type { Rehearsal } from "./lab/report/rehearsal.ts";

export interface Count {
  passed: number;
  failed: number;
  /** What failed, one line each. */
  red?: string[];
}

/** Bun's own figures. A file that cannot be loaded is a failure, too, and so are missing figures. */
export function countTests(output: string, exitCode: number): Count {
  const figure = (word: string) => Number(output.match(new RegExp(`^ *(\\d+) ${word}$`, "m"))?.[1] ?? 0);
  const failed = Math.max(figure("fail"), exitCode === 0 ? 0 : 1);
  const red = new Map<string, string>();
  for (const { index, 1: name } of output.matchAll(/^\(fail\) (.+?)(?: \[[\d.]+m?s\])?$/gm)) {
    // Bun lists the failures a second time at the end of a long run, without their errors.
    if (!red.has(name!)) red.set(name!, [name, ...errorBefore(output.slice(0, index))].join("\n    "));
  }
  return { passed: figure("pass"), failed, red: [...red.values()] };
}

/**
 * The lines that Bun printed of a test's error, before its name, without the source: CI keeps only the end of
 * what we print.
 */
function errorBefore(output: string): string[] {
  const lines = output.slice(-5000).trimEnd().split("\n");
  const ended = lines.findLastIndex((line) => /^\((pass|fail|skip)\)|\.test\.ts:$/.test(line));
  return lines
    .slice(ended + 1)
    .filter((line) => !/^ *(\d+ \||\^?$)/.test(line))
    .slice(0, 12);
}

/** `ok: …` and `not ok: …`, one line each. A check that stops before its end is a failure, too: with its last lines. */
export function countLines(output: string, exitCode: number): Count {
  const red = [...output.matchAll(/^not ok: (.+)$/gm)].map((match) => match[1]!);
  if (red.length === 0 && exitCode !== 0)
    red.push([`exit code ${exitCode}`, ...output.trimEnd().split("\n").slice(-6)].join("\n    "));
  return {
    passed: output.match(/^ok: /gm)?.length ?? 0,
    failed: Math.max(red.length, exitCode === 0 ? 0 : 1),
    red,
  };
}

/** Each check of a rehearsal counts. A rehearsal without a record is one failure. */
export function countRecord(record: string, exitCode: number): Count {
  if (!existsSync(record)) return { passed: 0, failed: 1, red: [`stopped with exit code ${exitCode}`] };
  const { checks } = JSON.parse(readFileSync(record, "utf8")) as Rehearsal;
  const red = checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`);
  return { passed: checks.length - red.length, failed: Math.max(red.length, exitCode === 0 ? 0 : 1), red };
}
