/** What the operator keeps elsewhere, as far as it can be seen from here: the bundle of the shared keys, and copies of files nobody can rebuild. */
import type { LostFile } from "../facts/lost-files.ts";
import { readBytes } from "../files/files.ts";
import { type BackupState, backupState } from "../hand-over/backup-mark.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { copiesIn } from "../salvage/backup-files.ts";
import { entriesBelow } from "./as-if-gone.ts";
import type { KeptFile } from "./drill-report.ts";

/** `bundle`: the file, where the operator names it. Undefined in external CA mode: there is nothing to be packed. */
export function backupOf({ externalCa, certificatesDir }: ClusterFacts, bundle: string | undefined): BackupState | undefined {
  return externalCa ? undefined : backupState(certificatesDir, bundle);
}

/** `folder`: the operator's copies, as `00-salvage files --backup` takes them. Errors: Fail where it is no folder. */
export function keptIn(folder: string | undefined, lost: readonly LostFile[]): KeptFile[] {
  const copies = folder === undefined ? [] : copiesIn(folder, lost);
  return lost.map((file) => {
    const here =
      file.kind === "folder" ? entriesBelow(file.path).flatMap(({ path, kind }) => (kind === "file" ? [path] : [])) : [file.path];
    const isSame = (path: string) =>
      copies.some((copy) => copy.path === path && Buffer.from(copy.content).equals(readBytes(path) ?? Buffer.of()));
    const isThere = (path: string) => copies.some((copy) => copy.path === path);
    return { ...file, kept: here.every(isSame) ? "same" : here.some(isThere) ? "other" : "none" };
  });
}
