/** The member of fixtures/etcd/3.6.5-busy, killed while it was written to: see make-busy.ts there. */
import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { Source } from "./damaged-etcd.ts";

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
