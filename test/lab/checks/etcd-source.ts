#!/usr/bin/env bun
/** Numbers and words that this kit takes from etcd's own source, in both releases. */
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { Glob } from "bun";
import { SEGMENT_SIZE } from "../../../shared/etcd-data/wal.ts";
import { Fail } from "../../../shared/fail.ts";
import { run } from "../../../shared/run.ts";
import { ETCD_WORDS } from "../../repo/etcd-words.ts";
import { CACHE, sourceOf } from "../machine/go-build.ts";
import { ETCD_BUILDS } from "./etcd-releases.ts";

/** Where the log lies in the module of the server: from etcd 3.6 on in a folder of its own. */
const WAL = ["storage/wal/wal.go", "wal/wal.go"];

/** Bytes of a log's file, as etcd's source has them: `64 * 1000 * 1000`. */
function segmentSizeIn(text: string): number {
  const product = /SegmentSizeBytes int64 = ([\d *]+)/.exec(text)?.[1] ?? "";
  return product.split("*").reduce((all, factor) => all * Number(factor), 1);
}

/** Errors: Fail if this release, or the bbolt that it names in its go.mod, does not say one of the words of our pages. */
async function checkWords(version: string, source: string) {
  const [, bbolt] = /go\.etcd\.io\/bbolt (v[\d.]+)/.exec(readFileSync(`${source}/go.mod`, "utf8")) ?? [];
  // fetched by its own name: the build takes Kubernetes' bbolt, so a fresh machine has no other one
  const folders = {
    server: source,
    bbolt: await sourceOf({ module: "go.etcd.io/bbolt", version: bbolt ?? "" }),
  };
  for (const module of ["server", "bbolt"] as const) {
    const files = [...new Glob("**/*.go").scanSync({ cwd: folders[module], absolute: true })];
    const text = files.map((file) => readFileSync(file, "utf8")).join("\n");
    const isSaid = (words: string) => text.includes(words.replace("…", "%d"));
    const lost = ETCD_WORDS.find((one) => one.module === module && !isSaid(one.words));
    if (lost)
      throw new Fail(`etcd ${version} does not say "${lost.words}"`, {
        hint: `look for its words now: grep -rn "${lost.words.split(" ").at(-1)}" ${folders[module]}; then change test/repo/etcd-words.ts and the pages`,
      });
  }
  console.log(`ok: etcd ${version} and bbolt ${bbolt} say what our pages say of them`);
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
    await checkWords(build.version, source);
  }
}

if (import.meta.main) await run(main);
