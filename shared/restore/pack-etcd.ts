/** A snapshot of this control plane node's etcd, beside the bundle of the shared keys. */
import { type EtcdClient, etcdClient } from "../etcd/client.ts";
import { snapshotOfEtcd } from "../etcd/take-snapshot.ts";
import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import { lookAtControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail } from "../fail.ts";
import { markEtcd } from "../hand-over/about-bundle.ts";
import { besideBundle, writeLocked, writeOpened } from "../hand-over/etcd-backup.ts";
import type { LockOptions } from "../hand-over/lock-options.ts";
import type { Lock } from "../hand-over/sealed.ts";
import type { Node } from "../node/node.ts";
import { typed } from "../options.ts";
import { shell } from "../shell-line.ts";

/** Errors: as `lookAtControlPlaneNode`; Fail where etcd's certificates are not here. */
export function etcdHere(folders: EtcdFolders, node: Node | undefined): EtcdClient {
  const { facts, obstacle } = lookAtControlPlaneNode(folders, node);
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

/** Returns the line that comes next. Errors: as `writeOpened`. */
export async function openSnapshot(
  file: string,
  { out = "snapshot.db", ...options }: LockOptions & { out?: string | undefined },
): Promise<string> {
  await writeOpened(file, out, options);
  return shell`./bunw scripts/restore.ts --as NODE ${out}`;
}
