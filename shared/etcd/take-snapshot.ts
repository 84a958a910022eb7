/** The rescue copy of an etcd that is not stopped, made of a snapshot by its own API. */
import * as fs from "node:fs";
import { join } from "node:path";
import { type EtcdData, readSnapshotData } from "../etcd-data/data.ts";
import { type EtcdClient, etcdClient, type LiveMember } from "../etcd-location/client.ts";
import { SNAPSHOT, SNAPSHOT_OF, type SnapshotOf } from "../etcd-location/etcd-folders.ts";
import { writeSnapshot } from "../etcd-location/living-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail } from "../fail.ts";
import { PRIVATE_FOLDER } from "../files/copy-tree.ts";
import { megabytes } from "../files/file-system.ts";
import { hostEntry } from "../files/files.ts";
import { makeFolder, renameInto, UNFINISHED } from "../files/write-steps.ts";
import { decodeObject } from "../objects/storage.ts";
import { registryPrefix } from "../objects/stored.ts";
import { Progress } from "../progress.ts";
import { mode, say } from "../run.ts";
import { checkSignal, told } from "../this-run.ts";

const HINT = "see whether etcd is well: ./bunw scripts/05-verify.ts. Then run the same line again";

/**
 * The rescue copy, in the folder `to`: the snapshot, and what it does not have, the ids and the members. It gets its
 * name when it is whole, and can be read as the cluster that was read before. Errors: Fail if it cannot.
 */
export async function copyBySnapshot(
  client: EtcdClient,
  { data, cluster }: Pick<ControlPlaneNode, "data" | "cluster">,
  to: string,
) {
  if (mode.dryRun) return say(`would save a snapshot of etcd at ${client.endpoint} to ${to}`);
  const { revision } = await client.status();
  const live = await client.members();
  const known = ({ id }: LiveMember) => data.members.find((member) => member.id === id);
  const members = live.map((member) => ({ ...member, ...known(member), name: member.name }));
  const about: SnapshotOf = {
    ...{ clusterId: data.clusterId, memberId: data.memberId, members },
    ...(data.elsewhere && { elsewhere: { ...data.elsewhere, members } }),
  };
  const partial = `${to}${UNFINISHED}`;
  const host = hostEntry(partial);
  fs.rmSync(host, { recursive: true, force: true });
  makeFolder(host, PRIVATE_FOLDER);
  const progress = new Progress("a snapshot of etcd", undefined, process.stderr.isTTY, "MB");
  try {
    const size = await toFile(join(host, SNAPSHOT), client, (bytes) => {
      progress.show(Math.ceil(bytes / 1e6));
      checkSignal();
    });
    fs.writeFileSync(join(host, SNAPSHOT_OF), JSON.stringify(about), { mode: 0o600, flush: true });
    using copy = readSnapshotData(join(host, SNAPSHOT));
    refuseOtherData(copy, { data, cluster, revision });
    renameInto(host, hostEntry(to));
    told({ what: "act", line: `saved a snapshot of etcd to ${to}` });
    say(`saved a snapshot of etcd to ${to} (${megabytes(size)} MB, revision ${copy.revision}): etcd runs on`);
  } finally {
    progress.clear();
    fs.rmSync(host, { recursive: true, force: true });
  }
}

async function toFile(path: string, client: EtcdClient, show: (bytes: number) => void): Promise<number> {
  const file = fs.openSync(path, "wx", 0o600);
  try {
    const size = await writeSnapshot(file, client, show);
    fs.fsyncSync(file);
    return size;
  } finally {
    fs.closeSync(file);
  }
}

/** Its sum says that it is whole; this says whose it is. */
function refuseOtherData(
  copy: EtcdData,
  { data, cluster, revision }: Pick<ControlPlaneNode, "data" | "cluster"> & { revision: number },
) {
  const kubeSystem = copy.get(`${registryPrefix(data)}/namespaces/kube-system`);
  const uid = kubeSystem && asObject(data.shown(kubeSystem.key, kubeSystem.value)).metadata?.uid;
  if (uid === cluster.kubeSystemUid && copy.revision >= revision) return;
  throw new Fail(
    `The snapshot of etcd is of another cluster, or older: revision ${copy.revision}, kube-system ${uid ?? "is missing"}`,
    { hint: HINT },
  );
}

function asObject(value: Uint8Array): { metadata?: { uid?: string } } {
  return decodeObject(value) as { metadata?: { uid?: string } };
}

/** The rescue copy of such an etcd. Errors: as `copyBySnapshot`. */
export async function copyUnit(cp: ControlPlaneNode, to: string) {
  await copyBySnapshot(etcdClient(cp.facts)!, cp, to);
}
