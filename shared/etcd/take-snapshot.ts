/**
 * A snapshot of a running etcd by its own API: the database, then its SHA-256, as `etcdctl snapshot save`
 * writes it; and the rescue copy of an etcd that is not stopped, made of one. Source: etcd
 * server/etcdserver/api/v3rpc/maintenance.go (Snapshot); the gateway sends a line of JSON for each piece.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { type EtcdData, readSnapshotData } from "../etcd-data/data.ts";
import { SNAPSHOT, SNAPSHOT_OF, type SnapshotOf } from "../etcd-location/etcd-folders.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail } from "../fail.ts";
import { PRIVATE_FOLDER } from "../files/copy-tree.ts";
import { megabytes } from "../files/file-system.ts";
import { hostEntry } from "../files/files.ts";
import { makeFolder, renameInto, UNFINISHED, writeAt } from "../files/write-steps.ts";
import { decodeObject } from "../objects/storage.ts";
import { registryPrefix } from "../objects/stored.ts";
import { quoteUntrusted } from "../plain.ts";
import { Progress } from "../progress.ts";
import { mode, say } from "../run.ts";
import { told } from "../run-events.ts";
import { checkSignal } from "../signals.ts";
import type { EtcdClient, LiveMember } from "./client.ts";

const SUM = 32;
const HINT = "see whether etcd is well: ./bunw scripts/05-verify.ts. Then run the same line again";

/** Streams it in pieces. Errors: Fail if etcd breaks it off, or if the sum does not match. */
export async function* snapshotOfEtcd(client: EtcdClient): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let tail = Buffer.alloc(0);
  for await (const line of linesOf(await client.snapshotLines())) {
    const piece = pieceIn(line, client.endpoint);
    const known = Buffer.concat([tail, piece]);
    const end = Math.max(0, known.length - SUM);
    hash.update(known.subarray(0, end));
    tail = Buffer.from(known.subarray(end));
    yield piece;
  }
  if (tail.length === SUM && hash.digest().equals(tail)) return;
  throw new Fail(`The snapshot of etcd at ${client.endpoint} was cut off, or changed on its way`, {
    hint: HINT,
  });
}

/**
 * The rescue copy, in the folder `to`: the snapshot, and what it does not have, the ids and the members. It gets its
 * name when it is whole, and can be read as the cluster that was read before. Errors: Fail if it cannot.
 */
export async function copyBySnapshot(
  client: EtcdClient,
  { data, cluster }: Pick<ControlPlaneNode, "data" | "cluster">,
  to: string,
) {
  const { revision } = await client.status();
  const live = await client.members();
  const known = ({ id }: LiveMember) => data.members.find((member) => member.id === id);
  const members = live.map((member) => ({ clientURLs: [], ...known(member), ...member }));
  const about: SnapshotOf = { clusterId: data.clusterId, memberId: data.memberId, members };
  if (mode.dryRun) return say(`would save a snapshot of etcd at ${client.endpoint} to ${to}`);
  const partial = `${to}${UNFINISHED}`;
  const host = hostEntry(partial);
  fs.rmSync(host, { recursive: true, force: true });
  makeFolder(host, PRIVATE_FOLDER);
  const progress = new Progress("a snapshot of etcd", undefined, process.stderr.isTTY, "MB");
  try {
    const size = await writePieces(join(host, SNAPSHOT), snapshotOfEtcd(client), (bytes) => {
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

/** Returns its size in bytes. */
async function writePieces(
  host: string,
  pieces: AsyncIterable<Uint8Array>,
  show: (bytes: number) => void,
): Promise<number> {
  const file = fs.openSync(host, "wx", 0o600);
  let size = 0;
  try {
    for await (const piece of pieces) {
      writeAt(file, piece, size);
      size += piece.length;
      show(size);
    }
    fs.fsyncSync(file);
  } finally {
    fs.closeSync(file);
  }
  return size;
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

function pieceIn(line: string, endpoint: string): Buffer {
  const { result, error } = JSON.parse(line) as { result?: { blob?: string }; error?: { message?: string } };
  if (result) return Buffer.from(result.blob ?? "", "base64");
  throw new Fail(`etcd at ${endpoint} stopped its snapshot: ${quoteUntrusted(error?.message ?? line)}`, {
    hint: HINT,
  });
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let begun: string[] = [];
  for await (const bytes of stream) {
    const [first = "", ...more] = Buffer.from(bytes).toString("latin1").split("\n");
    begun.push(first);
    for (const next of more) {
      if (begun.some(Boolean)) yield begun.join("");
      begun = [next];
    }
  }
  if (begun.some(Boolean)) yield begun.join("");
}
