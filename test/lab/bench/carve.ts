#!/usr/bin/env bun
import { randomFillSync } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Glob } from "bun";
/**
 * Times the search of a disk and `grep -a -c 'PRIVATE KEY'` on the same image, in turn, each as a process
 * from start to end. The image is in the page cache for both: the work is measured, not a disk.
 *
 * By hand: ./bunw test/lab/bench/carve.ts IMAGE [twice] carves one image and prints a line of JSON.
 */
import { Fail } from "../../../shared/fail.ts";
import { Disk } from "../../../shared/salvage/disk/disk.ts";
import { carve } from "../../../shared/salvage/disk-search.ts";
import { kubernetesFiles } from "../../pretend/lost-disk.ts";

const MB = 1024 * 1024;

interface Times {
  wall: number;
  cpu: number;
}

interface CarveTimes {
  gigabytes: number;
  /**
   * Medians of full processes in milliseconds, and ours divided by grep's; the same for processor time, which
   * a busy machine does not change.
   */
  carve: Times;
  grep: Times;
  ratio: Times;
  /** Milliseconds of a second search in the same process: without the start of Bun and its libraries. */
  warm: number;
  /** Bytes. */
  peakMemory: number;
  /** Keys found, and keys on the image. */
  keys: number;
  hidden: number;
}

/** Makes the image, runs both `rounds` times in turn, and removes it. */
export async function benchCarve(gigabytes: number, rounds: number): Promise<CarveTimes> {
  const dir = mkdtempSync(join(tmpdir(), "bench-carve-"));
  try {
    refuseFullDisk(dir, gigabytes);
    const image = join(dir, "disk.img");
    const hidden = await makeImage(image, gigabytes);
    await runGrep(image); // both find it in the page cache
    const greps: Times[] = [];
    const carves: (Times & { output: string })[] = [];
    const warms: number[] = [];
    for (let round = 0; round < rounds; round++) {
      greps.push(await runGrep(image));
      carves.push(await timed([process.execPath, import.meta.path, image]));
      warms.push(
        JSON.parse((await timed([process.execPath, import.meta.path, image, "twice"])).output).milliseconds,
      );
    }
    const [grep, carve] = [medians(greps), medians(carves)];
    const { keys, peakMemory } = JSON.parse(carves[0]!.output) as { keys: number; peakMemory: number };
    return {
      gigabytes,
      carve,
      grep,
      ratio: { wall: carve.wall / grep.wall, cpu: carve.cpu / grep.cpu },
      warm: median(warms),
      keys,
      peakMemory,
      hidden,
    };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

export function carveLine({
  gigabytes,
  carve,
  grep,
  ratio,
  warm,
  peakMemory,
  keys,
  hidden,
}: CarveTimes): string {
  const speed = Math.round((gigabytes * 1024 * MB) / 1e6 / (carve.wall / 1000));
  return [
    `carving ${gigabytes} GB: ${ms(carve)}, ${speed} MB/s; grep -a -c ${ms(grep)}`,
    `ratio ${ratio.wall.toFixed(2)}, of processor time ${ratio.cpu.toFixed(2)}`,
    `once started ${Math.round(warm)} ms, ratio ${(warm / grep.wall).toFixed(2)}`,
    `${keys} of ${hidden} keys; peak memory ${Math.round(peakMemory / 1e6)} MB`,
  ].join("; ");
}

function ms({ wall, cpu }: Times): string {
  return `${Math.round(wall)} ms (processor ${Math.round(cpu)} ms)`;
}

export function refuseFullDisk(dir: string, gigabytes: number) {
  const { bavail, bsize } = statfsSync(dir);
  if (bavail * bsize > (gigabytes + 2) * 1024 * MB) return;
  throw new Fail(`Too little room in "${dir}" for ${gigabytes} GB`, {
    hint: "TMPDIR=/elsewhere, or --gigabytes N",
  });
}

/**
 * Noise like binaries and images, text like logs and sources, and the files of /etc/kubernetes in scattered
 * blocks of 4 KB.
 */
async function makeImage(path: string, gigabytes: number): Promise<number> {
  const noise = Buffer.allocUnsafe(64 * MB);
  const text = textOf(32 * MB);
  const files = Object.entries(await kubernetesFiles("RSA-2048"));
  const file = openSync(path, "w");
  for (let part = 0; part < (gigabytes * 1024) / 128; part++) {
    randomFillSync(noise);
    for (const [i, [, content]] of files.entries())
      if (i % 32 === part % 32) noise.fill(0, i * MB, i * MB + 8192).write(content, i * MB);
    writeSync(file, noise);
    for (let i = 0; i < 2; i++) writeSync(file, text);
  }
  closeSync(file);
  return files.filter(([name]) => name.endsWith(".key") || name === "kubelet-client.pem").length;
}

/**
 * This project's own sources and packages, over and over, each file in blocks of its own: with YAML and
 * certificates in them.
 */
function textOf(size: number): Buffer {
  const home = join(import.meta.dir, "../../..");
  const folders = ["shared", "test", "node_modules/yaml", "node_modules/zx", "node_modules/@peculiar"].map(
    (folder) => join(home, folder),
  );
  const names = folders
    .flatMap((cwd) => [...new Glob("**/*.{ts,js,md,yaml}").scanSync({ cwd, absolute: true })])
    .sort();
  const all = Buffer.concat(names.flatMap((name) => inBlocks(readFileSync(name))));
  return Buffer.alloc(size, all);
}

function inBlocks(content: Buffer): Buffer[] {
  return [content, Buffer.alloc((4096 - (content.length % 4096)) % 4096)];
}

function runGrep(image: string) {
  return timed(["grep", "-a", "-c", "PRIVATE KEY", image]);
}

/** Its output goes through a pipe: into /dev/null, grep would stop at the first line. */
async function timed(command: string[]): Promise<Times & { output: string }> {
  const start = performance.now();
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const output = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`${command[0]} exited ${child.exitCode}`);
  return {
    wall: performance.now() - start,
    cpu: Number(child.resourceUsage()!.cpuTime.total) / 1000,
    output,
  };
}

function medians(times: Times[]): Times {
  return { wall: median(times.map(({ wall }) => wall)), cpu: median(times.map(({ cpu }) => cpu)) };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}

/** What was found, and how long the last search took. */
async function carveImage(path: string, rounds: number) {
  let keys = 0;
  let began = 0;
  for (let round = 0; round < rounds; round++) {
    began = performance.now();
    using disk = new Disk(path);
    keys = (await Array.fromAsync(carve(disk))).filter(({ kind }) => kind === "private key").length;
  }
  return { keys, peakMemory: process.resourceUsage().maxRSS * 1024, milliseconds: performance.now() - began };
}

if (import.meta.main)
  console.log(JSON.stringify(await carveImage(process.argv[2]!, process.argv[3] === "twice" ? 2 : 1)));
