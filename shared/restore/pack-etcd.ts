/** A snapshot of this control plane node's etcd, beside the bundle of the shared keys. */
import { again } from "../again.ts";
import { type EtcdClient, etcdClient } from "../etcd/client.ts";
import { snapshotOfEtcd } from "../etcd/take-snapshot.ts";
import { readSnapshotData } from "../etcd-data/data.ts";
import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import { may } from "../evidence/sources.ts";
import { readCluster } from "../facts/cluster.ts";
import { lookPastNat } from "../facts/control-plane-node.ts";
import { Fail, Refused } from "../fail.ts";
import { refuseNoMemory } from "../files/room.ts";
import { markEtcd } from "../hand-over/about-bundle.ts";
import { besideBundle, writeLocked, writeOpened } from "../hand-over/etcd-backup.ts";
import type { LockOptions } from "../hand-over/lock-options.ts";
import type { Lock } from "../hand-over/sealed.ts";
import type { Node } from "../node/node.ts";
import { typed } from "../options.ts";
import { shell } from "../shell-line.ts";
import { refuseOtherCa } from "./content.ts";

/** Errors: as `lookPastNat`; Fail if etcd's certificates are not here. */
export async function etcdHere(folders: EtcdFolders, node: Node | undefined): Promise<EtcdClient> {
  const { facts, obstacle } = await lookPastNat(folders, node);
  const client = facts && etcdClient(facts);
  if (client) return client;
  throw (
    obstacle ??
    new Fail("etcd's certificates are not here: it cannot be asked for a snapshot", {
      hint: "./bunw scripts/00-assess.ts; without --with-etcd the keys alone are packed",
    })
  );
}

export async function packEtcd(etcd: EtcdClient, bundle: string, lock: Lock) {
  const path = besideBundle(bundle);
  markEtcd(typed(path), await writeLocked(path, snapshotOfEtcd(etcd), lock));
}

interface Opened extends LockOptions {
  out?: string | undefined;
  "ca-hash"?: string | undefined;
}

/**
 * Returns the next line to type. Errors: as `writeOpened`; Refused if its lock proves nothing and the
 * operator does not name its CA, or names another one.
 */
export async function openSnapshot(
  file: string,
  { out = "snapshot.db", "ca-hash": confirmed, ...options }: Opened,
): Promise<string> {
  await writeOpened(file, out, options, {
    refuseLock(lockedWith) {
      if (confirmed === undefined && !may(MADE_BY[lockedWith], "keys")) throw unproved(file);
    },
    refuseContent(path) {
      if (confirmed === undefined) return;
      refuseNoMemory("read etcd's data");
      using data = readSnapshotData(path);
      refuseOtherCa(readCluster(data), confirmed);
    },
  });
  return confirmed === undefined
    ? shell`./bunw scripts/restore.ts --as NODE ${out}`
    : shell`./bunw scripts/restore.ts --as NODE --ca-hash ${confirmed} ${out}`;
}

/** The author of a snapshot, by its lock. */
const MADE_BY = {
  passphrase: "a bundle with a passphrase",
  recipients: "a snapshot for recipients",
} as const;

function unproved(file: string): Refused {
  return new Refused(
    `Nothing proves that "${file}" is a snapshot of your cluster: everybody who knows a recipient can lock such a file`,
    {
      hint: `${again({ "ca-hash": "sha256:HASH" })}, with the CA's fingerprint that pack printed. Take it from where you have saved it, not from where the snapshot lay. Nothing was changed`,
    },
  );
}
