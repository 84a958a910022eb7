/**
 * Whether a snapshot of etcd that lies here would bring this cluster back, by the rules of `restore`: before it is
 * needed, another one can be taken. Reads only.
 */
import { command } from "../again.ts";
import { readSnapshotData } from "../etcd-data/data.ts";
import { DamagedData } from "../etcd-data/directory.ts";
import { minute } from "../evidence/server-clock.ts";
import { readCluster } from "../facts/cluster.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import { attemptLater, Fail } from "../fail.ts";
import { hostPath } from "../files/files.ts";
import { trustedKeys } from "../pki/certificate.ts";
import { takenAt } from "../restore/content.ts";
import { checkSnapshotFile } from "../restore/snapshot-file.ts";
import { proveSnapshot } from "../restore/value-witnesses.ts";

export interface KeptSnapshot {
  path: string;
  fits: boolean;
  says: string;
  /** The line to type now; "" if it fits. */
  command: string;
}

/** `cluster`: this node's. */
export async function snapshotState(path: string, cluster: Cluster): Promise<KeptSnapshot> {
  const says = await attemptLater(() => judgedSnapshot(path, cluster));
  if (!(says instanceof Fail)) return { path, fits: true, says, command: "" };
  return {
    ...{ path, fits: false, says: says.message },
    command: says instanceof DamagedData ? ANOTHER : says.hint,
  };
}

const ANOTHER = command("hand-over pack --with-etcd");

/** Errors: as `checkSnapshotFile` and `readSnapshotData`; Fail if it is of another cluster. */
async function judgedSnapshot(path: string, here: Cluster): Promise<string> {
  const hasSum = await checkSnapshotFile(path, { skipHashCheck: true });
  using data = readSnapshotData(hostPath(path));
  const { values } = proveSnapshot(path, data);
  const itsCluster = readCluster(data);
  const own = trustedKeys(here.oldCaPem);
  const named = [...trustedKeys(itsCluster.oldCaPem)];
  if (!named.some((hash) => own.has(hash)))
    throw new Fail(
      `"${path}" is of another cluster, or of one with other CAs: it names ${named.join(", ")}`,
      {
        hint: ANOTHER,
      },
    );
  const until = minute(takenAt({ data, cluster: itsCluster }) ?? data.lastWrite);
  const sum = hasSum ? "its SHA-256 is right" : "without a SHA-256";
  return `as of ${until}, revision ${data.revision}: ${sum}, each of ${values} values is whole`;
}
