/** A database whose log is of no use: whole, it is a snapshot of its last commit, and a refusal names it. */
import { existsSync } from "node:fs";
import { again } from "../again.ts";
import { readSnapshotData } from "../etcd-data/data.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { shellWord } from "../shell-line.ts";

/**
 * The same refusal, whose hint begins with the line that takes the whole database of this member alone, if it is whole.
 * `dir`: as the operator has named it.
 */
export function withDatabase(refusal: Fail, host: string, dir: string): Fail {
  const db = `${host}/member/snap/db`;
  const data = existsSync(db) ? attempt(() => readSnapshotData(db), undefined) : undefined;
  if (!data) return refusal;
  using whole = data;
  const line = `${again({ from: false, "skip-hash-check": true })} ${shellWord(`${dir}/member/snap/db`)}`;
  const Kind = refusal instanceof Refused ? Refused : Fail;
  return new Kind(refusal.message, {
    hint: `take the database alone, which is whole, of revision ${whole.revision}: ${line}. Or ${refusal.hint}`,
    ...{ unchanged: true, cause: refusal.cause },
  });
}
