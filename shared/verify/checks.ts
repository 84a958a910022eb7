/** Checks as they are collected: what was looked at, and how it is. */

export interface Check {
  area: string;
  what: string;
  result: "ok" | "warning" | "failed";
  detail: string;
}

export type Answer = string | { warning: string };

/** Collects checks: an action that throws is a failed check, its message the detail. */
export class Checks {
  readonly all: Check[] = [];

  async check(area: string, what: string, action: () => Promise<Answer> | Answer) {
    try {
      const answer = await action();
      const warning = typeof answer === "string" ? undefined : answer.warning;
      this.all.push({ area, what, result: warning ? "warning" : "ok", detail: warning ?? String(answer) });
    } catch (err) {
      this.all.push({ area, what, result: "failed", detail: err instanceof Error ? err.message : String(err) });
    }
  }
}

export function ok(finding: { state: string; detail: string }): string {
  if (finding.state !== "ok") throw new Error(`${finding.state}: ${finding.detail}`);
  return finding.detail;
}

export function failed(detail: string): never {
  throw new Error(detail);
}
