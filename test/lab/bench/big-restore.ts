#!/usr/bin/env bun
/**
 * A snapshot of gigabytes, restored by this kit and by etcdutl: seconds and memory of whole processes.
 *
 * By hand: ./bunw test/lab/bench/big-restore.ts GIGABYTES. With a file and a folder it restores one.
 */
import { createHash } from "node:crypto";
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { REVISION_BUMP } from "../../../shared/restore/write-data.ts";
import { writeRestored } from "../../pretend/restored.ts";
import { buildGo } from "../machine/go-build.ts";
import { fill, startEtcd } from "../machine/loopback-etcd.ts";
import { etcdBuild } from "../machine/pins.ts";
import { cost, ended, FLAGS, MEMORY_MB, median } from "./big-etcd.ts";
import { refuseFullDisk } from "./carve.ts";

const IMAGE = "registry.k8s.io/etcd:3.6.5-0";
const OBJECTS = 200_000;
const PEER = "http://127.0.0.1:2380";

async function bench(gigabytes: number): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "bench-big-restore-"));
  refuseFullDisk(folder, 4.5 * gigabytes);
  const [etcd, etcdutl] = await Promise.all(
    (["etcd", "etcdutl"] as const).map(async (name) => join(await buildGo(etcdBuild(IMAGE, name)), name)),
  );
  try {
    const load = { objects: OBJECTS, bytes: Math.round((gigabytes * 0.94e9) / OBJECTS) };
    const filling = await startEtcd(etcd!, folder, { flags: [...FLAGS, "--unsafe-no-fsync"] });
    await fill(filling.url, load).finally(() => filling.program.stop());
    const snapshot = `${folder}/snapshot.db`;
    copyFileSync(`${filling.dataDir}/member/snap/db`, snapshot);
    rmSync(filling.dataDir, { recursive: true });
    appendFileSync(snapshot, createHash("sha256").update(readFileSync(snapshot)).digest());
    const fresh = (name: string) => {
      rmSync(`${folder}/${name}`, { recursive: true, force: true });
      return `${folder}/${name}`;
    };
    const bump = ["--bump-revision", String(REVISION_BUMP), "--mark-compacted"];
    const cluster = [
      "--name",
      "cp1",
      "--initial-cluster",
      `cp1=${PEER}`,
      "--initial-advertise-peer-urls",
      PEER,
    ];
    const ours = await median(() => spawned([process.execPath, import.meta.path, snapshot, fresh("ours")]));
    const theirs = await median(() =>
      spawned([
        etcdutl!,
        "snapshot",
        "restore",
        snapshot,
        "--data-dir",
        fresh("theirs"),
        ...cluster,
        ...bump,
      ]),
    );
    if (ours.memory > MEMORY_MB)
      throw new Fail(`more than ${MEMORY_MB} MB: ${cost(ours)}`, { hint: "what is held at the same time?" });
    const size = (statSync(snapshot).size / 1e9).toFixed(1);
    return `snapshot of ${size} GB restored in ${cost(ours)}; etcdutl ${cost(theirs)} (medians)`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const spawned = (command: string[]) => ended(Bun.spawn(command, { stdout: "pipe", stderr: "pipe" }));

async function restore(snapshot: string, dir: string) {
  await writeRestored(snapshot, dir, { name: "cp1", peerUrl: PEER, token: "bench" });
}

if (import.meta.main) {
  const [first, dir] = process.argv.slice(2);
  if (dir) await restore(first!, dir);
  else console.log(await bench(Number(first)));
}
