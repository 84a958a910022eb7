/**
 * Rung 2: searches the memory of the control plane's processes for the lost keys. The leading controller-manager holds
 * ca.key and sa.key, an API server sa.key and its own key, etcd its own. Every key is proved by its public half, and
 * nothing else that is seen there is ever kept.
 */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { Budget } from "../budget.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { knownHere } from "../evidence/owners.ts";
import { leaderHost } from "../facts/leaders.ts";
import { attemptLater, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { containers } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { orUndefined, publicKeyHash } from "../pki/certificate.ts";
import { say } from "../run.ts";
import type { FoundKeys } from "./found-keys.ts";
import {
  type Curve,
  keyFromPrime,
  keyFromScalar,
  type PublicKey,
  primesIn,
  publicKeysByHash,
  rsaPublicKey,
  scalarsIn,
} from "./memory/keys-in-memory.ts";
import { type Holders, holders, memoryOf, type Process } from "./memory/processes.ts";
import { isIrreplaceable, type Target } from "./wanted-keys.ts";

/** Limits for each process. A control plane of thousands of nodes takes some tens of GB. */
const LIMITS = { seconds: 300, bytes: 256e9 };

/** Finds the processes by the runtime's containers, or by the kubelet's records if no runtime answers. */
export async function processesHere(node: Node | undefined): Promise<Holders> {
  const all = node ? await attemptLater(() => containers(node.runtimeEndpoint)) : [];
  if (all instanceof Fail) say(`${all.message}: using the kubelet's records to tell processes apart`);
  return holders(knownHere(all instanceof Fail ? [] : all));
}

/**
 * Those that hold the most first, until nothing is missing. Reads only. Returns those that run, and were not read to
 * their end: what is in them nobody knows.
 */
export async function searchMemory(
  foundKeys: FoundKeys,
  {
    data,
    processes,
    stop,
  }: { data: EtcdData | undefined; processes: Holders; stop?: AbortSignal | undefined },
): Promise<Process[]> {
  const leader = leaderHost(data);
  if (leader)
    say(
      `the last leader of the controller-managers was on ${leader}: only that process, if it still runs, holds ca.key in memory`,
    );
  for (const { pid, comm, owner } of processes.others)
    say(
      `${comm} (pid ${pid}): not searched: it only has this name, and is ${owner.is}. If you know that it is yours: --pid ${pid}`,
    );
  if (processes.own.length === 0) {
    say("no process of the control plane runs on this node: nothing can be read from memory here");
    return [];
  }
  say(`reading each process for at most ${LIMITS.seconds} s and ${LIMITS.bytes / 1e9} GB`);
  const unread: Process[] = [];
  for (const process of processes.own) {
    if (foundKeys.targets().length === 0) return [];
    if (stop?.aborted || !(await searchOne(foundKeys, process, stop))) unread.push(process);
  }
  return unread.filter(({ pid }) => exists(`/proc/${pid}/maps`));
}

/**
 * Those of these that may hold one of these shared keys: only a controller-manager holds ca.key; an API server holds
 * sa.key as well, and beside a lost ca.key that alone is not waited for.
 */
export function mayHold(unread: readonly Process[], keys: readonly string[]): Process[] {
  const holders = ["kube-controller-manager", ...(keys.includes("ca") ? [] : ["kube-apiserver"])];
  return keys.some((name) => isIrreplaceable({ name }))
    ? unread.filter(({ name }) => holders.includes(name))
    : [];
}

/** A found key counts at once, whatever ends the search. Returns whether that came to the process's end. */
async function searchOne(
  foundKeys: FoundKeys,
  process: Process,
  stop: AbortSignal | undefined,
): Promise<boolean> {
  const where = `${process.name} (pid ${process.pid})`;
  const hint = "run the same line again when this node is less busy";
  const budget = new Budget({ ...LIMITS, what: where, stop, hint });
  let found = 0;
  const onKey = (key: KeyObject) => {
    if (foundKeys.accept(key, `the memory of ${where}`)) found++;
  };
  const read = await attemptLater(() => searchProcess(process, foundKeys.targets(), { budget, onKey }));
  const isWhole = !(read instanceof Fail);
  say(
    isWhole
      ? `${where}: ${Math.round(read.megabytes)} MB in ${read.seconds.toFixed(1)} s, ${found === 0 ? "no lost key" : `${found} found`}`
      : `${where}: not read to its end: ${read.message}; ${read.hint}`,
  );
  return isWhole;
}

/**
 * Reads it once for public keys of which only the hash is known, and once for private keys; ends as soon as all are
 * found. `onKey` is called at once with each key, so that none is lost. Returns private keys by their hash, and how
 * much was read. Errors: as `memoryOf`, and Fail where the budget is spent.
 */
export async function searchProcess(
  process: Process,
  targets: readonly Target[],
  { budget, onKey }: { budget?: Budget; onKey?: (key: KeyObject) => void } = {},
) {
  const began = performance.now();
  const publicKeys = [
    ...targets.flatMap(({ publicKey }) => publicKey ?? []),
    ...(await publicKeysOf(process, targets, budget)),
  ];
  const search: Search = {
    wanted: new Set(targets.map(({ hash }) => hash)),
    rsa: new Map(
      publicKeys
        .filter((key) => key.asymmetricKeyType === "rsa")
        .map((key) => [publicKeyHash(key), rsaPublicKey(key)]),
    ),
    curves: [...new Set(targets.map(({ kind }) => kind))].filter((kind) => kind !== "RSA"),
  };
  const found = { keys: new Map<string, KeyObject>(), megabytes: 0, seconds: 0 };
  for await (const bytes of pieces(process, budget)) {
    found.megabytes += bytes.length / 1e6;
    for (const key of keysIn(bytes, search, budget)) {
      const hash = publicKeyHash(key);
      if (!search.wanted.delete(hash)) continue;
      found.keys.set(hash, key);
      search.rsa.delete(hash);
      onKey?.(key);
    }
    if (search.wanted.size === 0) break;
  }
  found.seconds = (performance.now() - began) / 1000;
  return found;
}

interface Search {
  wanted: Set<string>;
  /** Wanted RSA keys whose modulus is known. */
  rsa: Map<string, PublicKey>;
  curves: Curve[];
}

function* keysIn(
  bytes: Uint8Array,
  { wanted, rsa, curves }: Search,
  budget: Budget | undefined,
): Generator<KeyObject> {
  yield* encodedKeysIn(bytes, wanted, budget);
  for (const { key, prime } of primesIn(bytes, rsa.values())) yield keyFromPrime(key, prime);
  for (const curve of curves) yield* scalarsIn(bytes, curve, wanted);
}

/** RSA public keys of which only the hash is known, as far as this process has them. */
async function publicKeysOf(
  process: Process,
  targets: readonly Target[],
  budget: Budget | undefined,
): Promise<KeyObject[]> {
  const wanted = new Set(
    targets.filter(({ kind, publicKey }) => kind === "RSA" && !publicKey).map(({ hash }) => hash),
  );
  const found: KeyObject[] = [];
  if (wanted.size === 0) return found;
  for await (const bytes of pieces(process, budget)) {
    for (const key of publicKeysByHash(bytes, wanted)) if (wanted.delete(publicKeyHash(key))) found.push(key);
    if (wanted.size === 0) break;
  }
  return found;
}

/** Between pieces the event loop runs, so that Ctrl-C works. */
async function* pieces(process: Process, budget: Budget | undefined): AsyncGenerator<Uint8Array> {
  for (const bytes of memoryOf(process)) {
    yield bytes;
    budget?.spend(bytes.length);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/* Finds private keys in memory in the form of files: PEM (RFC 7468), or DER of PKCS#1 and SEC1, also within PKCS#8 or PEM's decoded body. */

const PEM_BEGIN = Buffer.from("-----BEGIN ");
/** Characters; an RSA-4096 key's PEM has about 3,300. */
const PEM_LONGEST = 4096;
const PEM_KEY = /^-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----\r?\n[A-Za-z0-9+/=\s]+-----END \1-----/;

type Wanted = ReadonlySet<string>;
type DerReader = (bytes: Buffer, at: number, wanted: Wanted) => KeyObject | undefined;

/** Marks inside of DER: a key is before or behind them. */
const DER_MARKS: readonly { mark: Buffer; read: DerReader }[] = [
  // RSAPrivateKey (RFC 8017 §A.1.2): SEQUENCE with a long length, version 0, a modulus with a long length
  { mark: Buffer.from("0201000282", "hex"), read: pkcs1 },
  // ECPrivateKey (RFC 5915 §3): version 1, then the scalar, 32 or 48 bytes
  { mark: Buffer.from("0201010420", "hex"), read: sec1("P-256", 32) },
  { mark: Buffer.from("0201010430", "hex"), read: sec1("P-384", 48) },
];

/** Skips what only looks like one. Some may not be wanted. Errors: Fail where the budget is spent. */
export function* encodedKeysIn(bytes: Uint8Array, wanted: Wanted, budget?: Budget): Generator<KeyObject> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const at of places(buffer, PEM_BEGIN)) {
    budget?.ask();
    const pem = PEM_KEY.exec(buffer.toString("latin1", at, at + PEM_LONGEST))?.[0];
    const key = pem && orUndefined(() => createPrivateKey(pem));
    if (key) yield key;
  }
  for (const { mark, read } of DER_MARKS) {
    for (const at of places(buffer, mark)) {
      budget?.ask();
      const key = read(buffer, at, wanted);
      if (key) yield key;
    }
  }
}

function* places(buffer: Buffer, mark: Buffer): Generator<number> {
  for (let at = buffer.indexOf(mark); at >= 0; at = buffer.indexOf(mark, at + 1)) yield at;
}

function sec1(curve: Curve, size: number): DerReader {
  return (bytes, at, wanted) => keyFromScalar(curve, bytes.subarray(at + 5, at + 5 + size), wanted);
}

function pkcs1(bytes: Buffer, at: number): KeyObject | undefined {
  const begin = at - 4;
  if (begin < 0 || bytes[begin] !== 0x30 || bytes[begin + 1] !== 0x82) return undefined;
  const end = at + bytes.readUInt16BE(begin + 2);
  if (end > bytes.length) return undefined;
  const key = Buffer.from(bytes.subarray(begin, end));
  return orUndefined(() => createPrivateKey({ key, format: "der", type: "pkcs1" }));
}
