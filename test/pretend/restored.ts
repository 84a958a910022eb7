/** A snapshot restored as restore.ts does it, without the questions before it. */
import { readSnapshotData } from "../../shared/etcd-data/data.ts";
import { hostPath } from "../../shared/files/files.ts";
import { type OnlyMember, onlyMember } from "../../shared/restore/new-member.ts";
import { checkSnapshotFile } from "../../shared/restore/snapshot-file.ts";
import { REVISION_BUMP, writeMember } from "../../shared/restore/write-data.ts";

/** `bump`: how far the revision is raised. */
export async function writeRestored(path: string, dir: string, member: OnlyMember, bump = REVISION_BUMP) {
  await checkSnapshotFile(path);
  using data = readSnapshotData(hostPath(path));
  await writeMember(onlyMember(member), data, { dir, peerUrl: member.peerUrl, from: path, bump });
}
