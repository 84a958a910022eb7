/** A check is a row: what is looked at, how, and the command that repairs it. Each check-*.ts gives the rows of one subject. */

export interface CheckRow {
  area: string;
  what: string;
  look: () => Promise<Answer> | Answer;
  /** For an answer "failed": the command that repairs it. An error that `look` throws has its own message. */
  hint?: string;
}

/** A string: all is well, and how. */
export type Answer = string | { warning: string } | { failed: string };

/** A row that was looked at. */
export interface Check {
  area: string;
  what: string;
  result: "ok" | "warning" | "failed";
  detail: string;
}

/** Looks at rows, one after the other, and keeps the results. */
export class Checks {
  readonly all: Check[] = [];

  async add(rows: Iterable<CheckRow> | AsyncIterable<CheckRow>) {
    for await (const row of rows) this.all.push({ area: row.area, what: row.what, ...(await resultOf(row)) });
  }
}

async function resultOf({ look, hint }: CheckRow): Promise<Pick<Check, "result" | "detail">> {
  try {
    const answer = await look();
    if (typeof answer === "string") return { result: "ok", detail: answer };
    if ("warning" in answer) return { result: "warning", detail: answer.warning };
    return { result: "failed", detail: hint ? `${answer.failed}: ${hint}` : answer.failed };
  } catch (err) {
    return { result: "failed", detail: err instanceof Error ? err.message : String(err) };
  }
}
