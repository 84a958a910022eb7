/** The current repair, and etcd's data from before it. Its rescue folder and the certificates on disk show which repair that is. */
import type { EtcdData } from "../etcd-data/data.ts";
import { type EtcdFolders, readFolders, readRescued, showsToday } from "../etcd-home/etcd-folders.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { refuseNoMemory } from "../files/free-memory.ts";
import { newRescue, type Rescue, rescuedEtcd, rescueFolders } from "../node/rescue-folder.ts";
import { madeAt } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { knowsCa, type TrustedKeys, trustedKeys } from "../pki/trusted-keys.ts";
import { type Cluster, certificatesDirIn, readCluster } from "./cluster.ts";
import { hasEnded } from "./repair-end.ts";

/** A repair that has begun, or begins now: its rescue folder, and etcd's data from before it. */
export interface Repair {
  rescue: Rescue;
  data: EtcdData;
  /** Where the data was read: the rescue folder's copy, or the data directory. */
  dataFrom: string;
  /** A repair that is over and whose rescue folder is still here. */
  earlier?: Repair;
}

/**
 * Finds the current repair. There is no progress file. The newest rescue folder belongs to the current repair in three cases: etcd's
 * certificate on disk is newer than the folder (under a new CA, part 1 issues this certificate even where it is sound); or etcd has written
 * nothing since; or the folder is newer than the CA on disk, and its data names another CA: then somebody had begun before us. Otherwise,
 * and where that repair is over, a new repair begins, from the data directory. A folder that holds a link to etcd's data instead of a copy
 * does not count. Reads only. Errors: as `readEtcdData`, and
 * Fail where there is too little memory for it.
 */
export function findRepair(place: EtcdFolders): Repair {
  const rescue = rescueFolders().find((candidate) => exists(rescuedEtcd(candidate)) && !showsToday(candidate, place));
  refuseNoMemory(`read etcd's data in "${place.dir}"`);
  const repair = rescue && fromRescue(rescue, place);
  if (
    repair &&
    (repair.rescue.made.getTime() <= issuedAt(`${certificatesDirIn(repair.data)}/etcd/server.crt`) || takesUpAnothers(repair))
  ) {
    const live = attempt(() => readFolders(place));
    const ended = !(live instanceof Fail) && hasEnded(repair.data, live, repair.rescue.made);
    return ended ? { rescue: newRescue(), data: live, dataFrom: place.dir, earlier: repair } : repair;
  }
  const data = readFolders(place);
  return repair?.data.revision === data.revision ? repair : { rescue: newRescue(), data, dataFrom: place.dir };
}

/**
 * The keys of the CA that this repair has replaced, or the last repair as long as its rescue folder is here. None where the cluster trusted
 * the CA that signs before, and none that it still trusts.
 */
export function replacedCa(
  { cluster, earlier }: { cluster: Pick<Cluster, "oldCaPem">; earlier?: Repair | undefined },
  caPem: string,
): TrustedKeys {
  const known = [cluster.oldCaPem, ...(earlier ? [readCluster(earlier.data).oldCaPem] : [])];
  const before = known.find((text) => !knowsCa(text, caPem));
  const today = trustedKeys(caPem, ...(knowsCa(cluster.oldCaPem, caPem) ? [cluster.oldCaPem] : []));
  return trustedKeys(before).difference(today);
}

function takesUpAnothers({ rescue, data }: Repair): boolean {
  const isAnothers = () => {
    const ca = clusterCa(certificatesDirIn(data));
    return rescue.made >= madeAt(ca) && !knowsCa(readCluster(data).oldCaPem, ca);
  };
  return attempt(isAnothers) === true;
}

function fromRescue(rescue: Rescue, { apiServer }: EtcdFolders): Repair {
  return { rescue, data: readRescued(rescue, apiServer), dataFrom: rescuedEtcd(rescue) };
}

/** Milliseconds since 1970, 0 where there is no certificate, or none that can be read. */
function issuedAt(path: string): number {
  return attempt(() => madeAt(readText(path) ?? "").getTime(), 0);
}
