/** The member of fixtures/etcd/3.6.5-busy, killed while it was written to: see make-busy.ts there. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { gunzipSync } from "node:zlib";
import { type Source, writeDamaged } from "./damaged-etcd.ts";
import { laterLog } from "./write-wal.ts";

const FOLDER = `${import.meta.dirname}/../fixtures/etcd/3.6.5-busy`;

let made: Source | undefined;

export function busyEtcd(): Source {
  const read = (name: string) => gunzipSync(readFileSync(`${FOLDER}/${name}.gz`));
  const names = readdirSync(FOLDER).map((name) => name.replace(/\.gz$/, ""));
  const files = names.filter((name) => /\.(snap|wal)$/.test(name));
  made ??= {
    ...{ db: read("snap_db"), before: read("db.before"), old: read("db.old") },
    files: new Map(files.map((name) => [name.replace("_", "/"), read(name)])),
  };
  return made;
}

const purged = new Map<number, Source>();

/** The same member with a log that etcd has purged: it begins with this entry. */
export function purgedEtcd(from: number): Source {
  return purged.getOrInsertComputed(from, purgedFrom);
}

function purgedFrom(from: number): Source {
  const dir = mkdtempSync(`${tmpdir()}/purged-etcd-`);
  try {
    const source = busyEtcd();
    writeDamaged(dir, "none", { seed: 0, source });
    const { name, bytes } = laterLog(`${dir}/member/wal`, from);
    const files = [...source.files].filter(([file]) => file.startsWith("snap/"));
    return { ...source, files: new Map([...files, [`wal/${name}`, bytes]]) };
  } finally {
    rmSync(dir, { recursive: true });
  }
}
