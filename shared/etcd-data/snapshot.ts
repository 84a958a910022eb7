/** Reads the newest member/snap/*.snap. Sources: etcd server/etcdserver/api/snap (snapshotter.go), snappb/snap.proto; raftpb/raft.proto. */
import { readdirSync, readFileSync } from "node:fs";
import { crc32c } from "./log-file.ts";
import { Damaged, fieldsOf } from "./protobuf.ts";

/** The newest .snap: etcd's v2 store as JSON, and the raft index it stands for. */
export interface Snapshot {
  index: number;
  term: number;
  store: Uint8Array;
}

/** The newest intact one; a damaged one is passed over, as etcd does. Names are <term>-<index>.snap in hex. */
export function readNewestSnapshot(folder: string): Snapshot | undefined {
  const names = readdirSync(folder).filter((name) => /^[0-9a-f]{16}-[0-9a-f]{16}\.snap$/.test(name));
  for (const name of names.sort().reverse()) {
    const snapshot = parseSnapshot(readFileSync(`${folder}/${name}`));
    if (snapshot) return snapshot;
  }
  return undefined;
}

/** snappb.Snapshot { 1 crc, 2 data }, data = raftpb.Snapshot { 1 data, 2 metadata { 1 confState, 2 index, 3 term } }. */
function parseSnapshot(file: Uint8Array): Snapshot | undefined {
  try {
    const outer = fieldsOf(file);
    const data = outer.bytes(2);
    if (data.length === 0 || crc32c(data, 0) !== outer.number(1)) return undefined;
    const inner = fieldsOf(data);
    const metadata = fieldsOf(inner.bytes(2));
    return { index: metadata.number(2), term: metadata.number(3), store: inner.bytes(1) };
  } catch (err) {
    if (err instanceof Damaged) return undefined; // the next older one is good as well: only member attributes are read from it
    throw err;
  }
}
