/** The rows of the damage table about what is well, but not for long: certificates and CAs that end soon, keys without a backup. */
import { found } from "../checks/check.ts";
import { type Ending, endingsHere, firstEnd, forecast } from "../checks/forecast.ts";
import { KINDS } from "../checks/kinds.ts";
import { backupAnswer } from "../hand-over/backup-mark.ts";
import type { Node } from "../node/node.ts";
import { day } from "../pki/judge.ts";
import { isDamage, type Row } from "./assessment.ts";

/** The damage, and what comes. Where the CA is lost: with the day on which the first certificate ends. `certificatesDir`: of a control plane node. */
export function withWhatComes(damage: readonly Row[], node: Node, certificatesDir?: string): Row[] {
  const endings = endingsHere(node, certificatesDir);
  const caIsLost = damage.some((row) => row.id === "certificate-ca" && isDamage(row));
  const until = caIsLost ? firstEnd(endings) : undefined;
  return [...damage.map((row) => withDate(row, until)), ...comingRows(endings, damage.some(isDamage) ? undefined : certificatesDir)];
}

function withDate(row: Row, until: Date | undefined): Row {
  return until && isDamage(row) && KINDS[row.id].area === "files" ? { ...row, until: day(until) } : row;
}

/** `backupOf`: the folder of the keys, where they are well. */
function comingRows(endings: readonly Ending[], backupOf: string | undefined): Row[] {
  const coming = forecast(endings).map(({ look, ...row }) => ({ row, answer: look() as string | { warning: string } }));
  if (backupOf) coming.push({ row: { id: "backup" }, answer: backupAnswer(backupOf) });
  return coming.flatMap(({ row, answer }) => {
    if (typeof answer === "string") return [];
    const { id, what, mend } = found(row, answer);
    return [{ id, what, state: "known", detail: `${answer.warning}: ${mend}` }];
  });
}
