/**
 * A snapshot of this control plane node's etcd beside the bundle of the shared keys, locked in the same way:
 * new machines need only these two. It is never whole in memory, and on no disk unlocked before somebody asks
 * for it.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { again } from "../again.ts";
import { readSnapshotData } from "../etcd-data/data.ts";
import { type EtcdClient, etcdClient } from "../etcd-location/client.ts";
import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import { may } from "../evidence/sources.ts";
import { readCluster } from "../facts/cluster.ts";
import { lookPastNat } from "../facts/control-plane-node.ts";
import { Fail, Refused } from "../fail.ts";
import { megabytes, refuseNoMemory } from "../files/file-system.ts";
import { exists, freshPartial, hostEntry, hostPath, renameInto, writeAt } from "../files/files.ts";
import { refuseOthers } from "../files/operator-files.ts";
import { tryFile } from "../files/root.ts";
import { keyFor, type LockOptions, markEtcd } from "../hand-over/operators-bundle.ts";
import { type Lock, lockOf, openPieces, sealPieces } from "../hand-over/sealed.ts";
import type { Node } from "../node/node.ts";
import { typed } from "../options.ts";
import { Progress } from "../progress.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { checkSignal, told } from "../this-run.ts";
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

/** "keys.age" → "keys.etcd.age" */
export async function packEtcd(etcd: EtcdClient, bundle: string, lock: Lock) {
  const path = `${bundle.replace(/\.age$/, "")}.etcd.age`;
  markEtcd(typed(path), await writePieces(path, await sealPieces(etcd.snapshot(), lock)));
}

interface Opened extends LockOptions {
  out?: string | undefined;
  "ca-hash"?: string | undefined;
}

/** Age's header is shorter, in bytes. */
const HEAD = 16_384;

/**
 * Returns the next line to type. Errors: as `openPieces`; Fail if `out` exists; Refused if its lock proves nothing
 * and the operator does not name its CA, or names another one.
 */
export async function openSnapshot(
  file: string,
  { out = "snapshot.db", "ca-hash": confirmed, ...options }: Opened,
): Promise<string> {
  if (exists(typed(out)))
    throw new Fail(`"${out}" is there already`, {
      hint: shell`name another file with --out; see this one: ls -l ${out}`,
    });
  const host = hostPath(typed(file));
  if (!tryFile("look at", file, () => fs.statSync(host))?.isFile())
    throw new Fail(`There is no file "${file}"`, { hint: "look for the file: ls -l" });
  const lockedWith = lockOf(new Uint8Array(await Bun.file(host).slice(0, HEAD).arrayBuffer()));
  if (confirmed === undefined && !may(MADE_BY[lockedWith], "keys")) throw unproved(file);
  const opened = openPieces(Bun.file(host).stream(), keyFor(lockedWith, options), lockedWith);
  await writePieces(out, opened, (path) => {
    if (confirmed === undefined) return;
    refuseNoMemory("read etcd's data");
    using data = readSnapshotData(path);
    refuseOtherCa(readCluster(data), confirmed);
  });
  if (!mode.dryRun) say("it has every Secret of the cluster, unencrypted: remove it after the restore");
  return confirmed === undefined
    ? shell`./bunw scripts/restore.ts --as NODE ${out}`
    : shell`./bunw scripts/restore.ts --as NODE --ca-hash ${confirmed} ${out}`;
}

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

/**
 * Returns its SHA-256. `refuse` checks it, at a path of this host, before it gets its name. Errors: as
 * `refuseOthers`, and those of `pieces`; nothing is left then.
 */
async function writePieces(
  path: string,
  pieces: AsyncIterable<Uint8Array>,
  refuse: (path: string) => void = () => {},
): Promise<string> {
  const place = refuseOthers(typed(path), "written");
  if (mode.dryRun) {
    say(`would write ${path}`);
    return "";
  }
  const host = hostEntry(place);
  const partial = tryFile("write to", dirname(place), () => freshPartial(host), true)!;
  const progress = new Progress(`writing ${path}`, undefined, process.stderr.isTTY, "MB");
  const [hash, file] = [createHash("sha256"), fs.openSync(partial, "wx", 0o600)];
  let size = 0;
  try {
    for await (const piece of pieces) {
      tryFile("write", path, () => writeAt(file, piece, size), true);
      hash.update(piece);
      size += piece.length;
      progress.show(Math.ceil(size / 1e6));
      checkSignal();
    }
    fs.fsyncSync(file);
    refuse(partial);
    renameInto(partial, host);
  } finally {
    progress.clear();
    fs.closeSync(file);
    fs.rmSync(partial, { force: true });
  }
  told({ what: "act", line: `wrote ${place}` });
  say(`wrote ${path} (${megabytes(size)} MB)`);
  return hash.digest("hex");
}
