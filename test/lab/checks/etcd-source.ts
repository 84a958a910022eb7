#!/usr/bin/env bun
import { readFileSync } from "node:fs";
/** Numbers that our reader of etcd's data takes from etcd's own source, in both releases. */
import { mkdir } from "node:fs/promises";
import { SEGMENT_SIZE } from "../../../shared/etcd-data/wal.ts";
import { Fail } from "../../../shared/fail.ts";
import { run } from "../../../shared/run.ts";
import { CACHE, sourceOf } from "../machine/go-build.ts";
import { ETCD_BUILDS } from "./etcd-releases.ts";

/** Where the log lies in the module of the server: from etcd 3.6 on in a folder of its own. */
const WAL = ["storage/wal/wal.go", "wal/wal.go"];

/** Bytes of a log's file, as etcd's source has them: `64 * 1000 * 1000`. */
function segmentSizeIn(text: string): number {
  const product = /SegmentSizeBytes int64 = ([\d *]+)/.exec(text)?.[1] ?? "";
  return product.split("*").reduce((all, factor) => all * Number(factor), 1);
}

async function main() {
  await mkdir(CACHE, { recursive: true });
  for (const build of ETCD_BUILDS) {
    const source = await sourceOf(build);
    const path = WAL.map((name) => `${source}/${name}`).find((name) => Bun.file(name).size > 0);
    const size = path === undefined ? Number.NaN : segmentSizeIn(readFileSync(path, "utf8"));
    if (size !== SEGMENT_SIZE)
      throw new Fail(`etcd ${build.version} makes a log's file ${size} bytes long, not ${SEGMENT_SIZE}`, {
        hint: `compare SEGMENT_SIZE of shared/etcd-data/wal.ts with ${path}`,
      });
    console.log(`ok: etcd ${build.version}: a log's file has ${size} bytes`);
  }
}

if (import.meta.main) await run(main);
