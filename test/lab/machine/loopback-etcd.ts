/**
 * A real etcd of its own on this machine's loopback, without TLS; filled, and written to, as the API server
 * does it.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { freePort, type Started, startProgram } from "./program.ts";

export interface LoopbackEtcd {
  url: string;
  dataDir: string;
  program: Started;
}

/** How long etcd may take to come up, in seconds: it reads all keys of 8 GB first. */
const START = 900;

interface Start {
  /** Beside the usual ones. */
  flags?: readonly string[];
  /** A loopback address. */
  host?: string;
}

/** Starts `etcd`, a program, in this folder, which may hold the data of an earlier start. */
export async function startEtcd(
  etcd: string,
  folder: string,
  { flags = [], host = "127.0.0.1" }: Start = {},
): Promise<LoopbackEtcd> {
  const url = `http://${host}:${freePort()}`;
  const dataDir = join(folder, "etcd");
  const program = startProgram(
    "etcd",
    [etcd, ...etcdFlags(dataDir, url, `http://${host}:${freePort()}`), ...flags],
    `${folder}/etcd.log`,
  );
  const isHealthy = () =>
    fetch(`${url}/health`).then(
      ({ ok }) => ok,
      () => false,
    );
  await program.until("etcd to be healthy", isHealthy, START);
  return { url, dataDir, program };
}

export async function put(url: string, key: string, value: string) {
  await ask(url, "kv/put", { key: base64(key), value: base64(value) });
}

export function etcdFlags(dataDir: string, client: string, peer: string): string[] {
  return [
    `--data-dir=${dataDir}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    "--log-level=warn",
  ];
}

/** One request to etcd's JSON gateway. */
export async function ask<T>(url: string, path: string, body: object): Promise<T> {
  const response = await fetch(`${url}/v3/${path}`, { method: "POST", body: JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`etcd answered ${response.status} to ${path}: ${text}`);
  return JSON.parse(text) as T;
}

/**
 * The same, again where a busy machine makes etcd give up: "request timed out". It may have been done; a put
 * may be done twice.
 */
async function askPatiently(url: string, path: string, body: object) {
  const done = () =>
    ask(url, path, body).then(
      () => true,
      (err: Error) => {
        if (!/timed out|too many requests/.test(err.message)) throw err;
        return false;
      },
    );
  await waitFor(`etcd to take ${path}`, done, { seconds: 300, hint: "uptime; the machine is too busy" });
}

export interface Load {
  objects: number;
  /** The size of one object. */
  bytes: number;
}

/** Bytes of one request: etcd takes 1.5 MiB. */
const REQUEST = 1_000_000;
/** Operations of one transaction, etcd's --max-txn-ops. */
const OPERATIONS = 100;
/** Requests under way at a time. */
const AT_ONCE = 4;

/** Writes so many objects, each of its own content. */
export async function fill(url: string, { objects, bytes }: Load) {
  const each = Math.max(1, Math.min(OPERATIONS, Math.floor(REQUEST / bytes)));
  let next = 0;
  const worker = async () => {
    while (next < objects) {
      const from = next;
      next += each;
      const names = Array.from({ length: Math.min(each, objects - from) }, (_, i) => nameOf(from + i));
      await askPatiently(url, "kv/txn", {
        success: names.map((key) => ({ request_put: { key, value: content(bytes) } })),
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** A process that writes `perSecond` times a second to what `fill` has written, until it is disposed of. */
export function writing(url: string, load: Load, perSecond: number): AsyncDisposable {
  const job = JSON.stringify({ url, load, perSecond });
  const child = Bun.spawn([process.execPath, import.meta.path, job], {
    stdout: "inherit",
    stderr: "inherit",
  });
  return {
    async [Symbol.asyncDispose]() {
      const { exitCode } = child;
      child.kill();
      await child.exited;
      if (exitCode !== null)
        throw new Fail(`The writer has ended before its time, with exit code ${exitCode}`, {
          hint: "see above",
        });
    },
  };
}

/** As the API server does it: updates, events with a lease, and their deletion. */
async function write({ url, load, perSecond }: { url: string; load: Load; perSecond: number }) {
  const began = performance.now();
  const { ID: lease } = await ask<{ ID: string }>(url, "lease/grant", { TTL: 3600 });
  const event = (i: number) => base64(`/registry/events/default/e-${i}`);
  let done = 0;
  const one = async (i: number) => {
    if (i % 5 === 3) await askPatiently(url, "kv/put", { key: event(i), value: content(500), lease });
    else if (i % 5 === 4) await askPatiently(url, "kv/deleterange", { key: event(i > 300 ? i - 301 : i) });
    else
      await askPatiently(url, "kv/put", {
        key: nameOf((i * 7919) % load.objects),
        value: content(load.bytes),
      });
  };
  setInterval(async () => {
    const due = ((performance.now() - began) / 1000) * perSecond;
    while (done < due) await one(done++);
  }, 1000 / perSecond);
}

/** Starts the removal of what is older than a revision; etcd goes on with it for a while. */
export async function compact(url: string, revision: number) {
  await ask(url, "kv/compaction", { revision: String(revision) });
}

function nameOf(i: number): string {
  return base64(`/registry/configmaps/default/object-${String(i).padStart(7, "0")}`);
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

/**
 * Each is of its own, and begins again after so many bytes: two halves of different ones do not fit together.
 */
const SEED = 64;

function content(bytes: number): string {
  return Buffer.alloc(bytes, randomBytes(SEED)).toString("base64");
}

export function isWhole(value: Uint8Array): boolean {
  return Buffer.from(value.buffer, value.byteOffset, value.length - SEED).equals(value.subarray(SEED));
}

if (import.meta.main) await write(JSON.parse(process.argv[2]!));
