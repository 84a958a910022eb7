/**
 * Lost files that the operator has copies of, in a folder of this machine: each comes to each node that lacks it. The folder
 * holds /etc/kubernetes, or a part of it.
 */
import { plainLine, secretsOf } from "../plain.ts";
import type { DecisionData } from "../plan/plan-answer.ts";
import { say } from "../run.ts";
import { copiesIn } from "../salvage/backup-files.ts";
import type { FoundCopy } from "../salvage/found-copy.ts";
import { putFile } from "./put-file.ts";
import type { Session } from "./session.ts";

/**
 * True: a file was brought, so the nodes are looked at again. A file comes to a node once: one that did not help there is
 * the person's to decide.
 */
export async function bringOwnFiles(session: Session, decisions: readonly DecisionData[]): Promise<boolean> {
  const { ownFiles, brought } = session;
  if (ownFiles === undefined) return false;
  const uploads = decisions.flatMap(({ ways }) => ways.flatMap(({ upload }) => upload ?? []));
  let hasBrought = false;
  for (const { path, to, aside } of uploads)
    for (const name of to) {
      const mark = `${name} ${path}`;
      if (brought.has(mark)) continue;
      brought.add(mark);
      const copies = copiesIn(ownFiles, [{ path, kind: "file" }]);
      if (copies.length === 0) say(`"${plainLine(ownFiles)}" has no copy of ${path}`);
      for (const copy of copies) await putFile(session, { ...inputOf(copy), name, aside });
      hasBrought ||= copies.length > 0;
    }
  return hasBrought;
}

/** A server that is no root reads a file by its mode, as on the day of the copy; a secret is root's. */
function inputOf({ path, content, mode }: FoundCopy) {
  const isSecret = secretsOf(String(content)).length > 0;
  return { path, input: Buffer.from(content), mode: isSecret ? 0o600 : mode };
}
