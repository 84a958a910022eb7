#!/usr/bin/env bun
/**
 * A pretend node whose etcd is real and has gigabytes: how long the kit reads it and with how much memory,
 * while it is written to a hundred times a second, and then, of the same files, beside `etcdutl snapshot
 * status`, which needs etcd stopped.
 *
 * By hand: ./bunw test/lab/bench/big-etcd.ts DATA-DIR reads one directory and prints a line of JSON.
 */
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { Fail } from "../../../shared/fail.ts";
import { findMirrorPods } from "../../../shared/manifests/mirror-pods.ts";
import { ADDRESS } from "../../pretend/cluster.ts";
import { pretendNode } from "../../pretend/node.ts";
import { binaries } from "../machine/binaries.ts";
import { buildGo } from "../machine/go-build.ts";
import { imageNames } from "../machine/images.ts";
import { fill, type LoopbackEtcd, put, startEtcd, writing } from "../machine/loopback-etcd.ts";
import { etcdBuild } from "../machine/pins.ts";
import { peakMemory } from "../machine/program.ts";
import { refuseFullDisk } from "./carve.ts";

const OBJECTS = 200_000;
export const WRITES = 100;
const ROUNDS = 3;
/**
 * What any of our programs may need at most, whatever etcd's size: a control plane node is small, and full.
 */
export const MEMORY_MB = 400;
/** Milliseconds between two looks at a program's memory. */
const LOOK = 20;
/**
 * etcd's own limit, https://etcd.io/docs/v3.6/dev-guide/limit/; and a log that is kept short: it would hold
 * all that was filled in.
 */
export const FLAGS = [
  "--quota-backend-bytes=8589934592",
  "--auto-compaction-mode=periodic",
  "--auto-compaction-retention=5m",
  "--snapshot-count=200",
  "--snapshot-catchup-entries=200",
];

/** Medians; seconds of whole processes, MB of the most memory that one had. */
export interface Cost {
  seconds: number;
  processor: number;
  memory: number;
}

interface BigEtcdTimes {
  gigabytes: number;
  objects: number;
  live: { read: Cost; assess: Cost; salvage: Cost; part1: Cost };
  still: { read: Cost; etcdutl: Cost };
}

/** Makes an etcd of this size, measures, and removes it. */
export async function benchBigEtcd(gigabytes: number): Promise<BigEtcdTimes> {
  const folder = mkdtempSync(join(tmpdir(), "bench-big-etcd-"));
  refuseFullDisk(folder, 2.5 * gigabytes);
  using node = await pretendNode();
  const programs = await binaries();
  const image = (await imageNames(programs.get("kubeadm")!)).find((name) => name.includes("/etcd:"))!;
  const etcdutl = join(await buildGo(etcdBuild(image, "etcdutl")), "etcdutl");
  // room for what is written on top of it stays below the limit
  const load = { objects: OBJECTS, bytes: Math.round((gigabytes * 0.94e9) / OBJECTS) };
  try {
    const filling = await startEtcd(programs.get("etcd")!, folder, {
      flags: [...FLAGS, "--unsafe-no-fsync"],
      host: ADDRESS,
    });
    for (const [key, value] of node.stored) await put(filling.url, key, value);
    await fill(filling.url, load).finally(() => filling.program.stop());

    const etcd = await startEtcd(programs.get("etcd")!, folder, { flags: FLAGS, host: ADDRESS });
    rmSync(`${node.root}/var/lib/etcd/member`, { recursive: true });
    symlinkSync(`${etcd.dataDir}/member`, `${node.root}/var/lib/etcd/member`);
    const live = await measureLive(etcd, node, load).finally(() => etcd.program.stop());
    const db = `${etcd.dataDir}/member/snap/db`;
    const still = {
      read: await median(() => run([process.execPath, import.meta.path, etcd.dataDir])),
      etcdutl: await median(() => run([etcdutl, "snapshot", "status", db])),
    };
    refuseWhatGrows({ ...live, "read while it is stopped": still.read });
    return { gigabytes: statSync(db).size / 1e9, objects: OBJECTS, live, still };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function measureLive(
  etcd: LoopbackEtcd,
  node: Awaited<ReturnType<typeof pretendNode>>,
  load: Parameters<typeof writing>[1],
) {
  await using _writer = writing(etcd.url, load, WRITES);
  return {
    read: await median(() => run([process.execPath, import.meta.path, etcd.dataDir])),
    assess: await median(() => ended(node.start("00-assess"), [2])),
    salvage: await median(() => ended(node.start("00-salvage memory"), [2])),
    part1: await median(() => ended(node.start("01-etcd --dry-run --new-cas"))),
  };
}

/** Errors: Fail where a program's memory grows with etcd. */
function refuseWhatGrows(costs: Record<string, Cost>) {
  const large = Object.entries(costs).filter(([, { memory }]) => memory > MEMORY_MB);
  if (large.length === 0) return;
  throw new Fail(
    `more than ${MEMORY_MB} MB: ${large.map(([what, { memory }]) => `${what} ${Math.round(memory)} MB`).join(", ")}`,
    {
      hint: "which values does it hold at the same time? shared/etcd-data/data.ts reads them on demand",
    },
  );
}

export function bigEtcdLine({ gigabytes, objects, live, still }: BigEtcdTimes): string {
  const ratio = (of: keyof Cost) => (still.read[of] / still.etcdutl[of]).toFixed(2);
  return [
    `etcd of ${gigabytes.toFixed(1)} GB, ${objects} objects, ${WRITES} writes/s: read in ${cost(live.read)}`,
    `00-assess ${cost(live.assess)}; 00-salvage memory ${cost(live.salvage)}; 01-etcd --dry-run ${cost(live.part1)}`,
    `stopped ${cost(still.read)}, etcdutl snapshot status ${cost(still.etcdutl)}`,
    `ratio ${ratio("seconds")}, of processor time ${ratio("processor")}, of memory ${ratio("memory")} (medians of ${ROUNDS})`,
  ].join("; ");
}

export function cost({ seconds, processor, memory }: Cost): string {
  return `${seconds.toFixed(1)} s (processor ${processor.toFixed(1)} s, ${Math.round(memory)} MB)`;
}

function run(command: string[]): Promise<Cost> {
  return ended(Bun.spawn(command, { stdout: "pipe", stderr: "pipe" }));
}

export async function ended(child: Bun.Subprocess<"ignore", "pipe", "pipe">, codes = [0]): Promise<Cost> {
  const began = performance.now();
  let memory = 0;
  // not resourceUsage().maxRSS: a child begins with its parent's
  const looking = setInterval(() => {
    if (existsSync(`/proc/${child.pid}/status`)) memory = Math.max(memory, peakMemory(child.pid));
  }, LOOK);
  const [, said] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  clearInterval(looking);
  if (!codes.includes(child.exitCode!)) throw new Error(`a program exited ${child.exitCode}: ${said}`);
  const seconds = (performance.now() - began) / 1000;
  return { seconds, processor: Number(child.resourceUsage()!.cpuTime.total) / 1e6, memory };
}

/** The median of each figure by itself. */
export async function median(measure: () => Promise<Cost>): Promise<Cost> {
  const costs: Cost[] = [];
  for (let round = 0; round < ROUNDS; round++) costs.push(await measure());
  const of = (name: keyof Cost) => costs.map((cost) => cost[name]).sort((a, b) => a - b)[ROUNDS >> 1]!;
  return { seconds: of("seconds"), processor: of("processor"), memory: of("memory") };
}

/**
 * What the scripts ask: the cluster, mirror pods, each key's lease, and the head of each value, as the search
 * for encrypted ones does.
 */
function readAll(dir: string) {
  using data = readEtcdData(dir);
  const { nodes } = readCluster(data);
  const pods = findMirrorPods(data, "m1").length;
  const keys = data.keys("");
  const leased = keys.filter((key) => data.leaseOf(key) !== 0n).length;
  const headed = keys.filter((key) => data.valueHead(key, 300)).length;
  return { keys: keys.length, revision: data.revision, nodes: nodes.length, pods, leased, headed };
}

if (import.meta.main) console.log(JSON.stringify(readAll(process.argv[2]!)));
