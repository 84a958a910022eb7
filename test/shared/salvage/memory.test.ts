/**
 * Keys out of the memory of a process of our own, in every form in which they lie there, and nothing but
 * those that were asked for.
 */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { createPublicKey, type KeyObject } from "node:crypto";
import { readdirSync, readlinkSync } from "node:fs";
import { knownHere } from "../../../shared/evidence/owners.ts";
import type { LostFile } from "../../../shared/facts/lost-file.ts";
import { gone } from "../../../shared/files/untrusted-file.ts";
import { keyKind, publicKeyHash } from "../../../shared/pki/certificate.ts";
import { numberOf } from "../../../shared/pki/sa-keys.ts";
import {
  keyFromPrime,
  primesIn,
  publicKeysByHash,
  randomStretches,
  rsaPublicKey,
  scalarsIn,
} from "../../../shared/salvage/memory/keys-in-memory.ts";
import { holders, memoryOf, mountedFiles } from "../../../shared/salvage/memory/processes.ts";
import { encodedKeysIn, searchProcess } from "../../../shared/salvage/memory-search.ts";
import type { Target } from "../../../shared/salvage/wanted-keys.ts";
import { bigInt, ecKey, holder, limbs, POD_UID, pretendProcess, rsaKey } from "../../pretend/memory.ts";
import { onNode } from "../../pretend/no-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

function target(key: KeyObject, options: { byHash?: boolean } = {}): Target {
  const publicKey = createPublicKey(key);
  return {
    hash: publicKeyHash(publicKey),
    kind: keyKind(publicKey)!,
    publicKey: options.byHash ? undefined : publicKey,
  };
}

function pem(key: KeyObject, type: "pkcs1" | "pkcs8" | "sec1"): Buffer {
  return Buffer.from(String(key.export({ format: "pem", type })));
}

function der(key: KeyObject, type: "pkcs1" | "pkcs8" | "sec1"): Buffer {
  return key.export({ format: "der", type }) as Buffer;
}

/** Each form, with the keys that tell it from the others. */
const FORMS: { form: string; make: () => { key: KeyObject; pieces: Buffer[]; byHash?: boolean } }[] = [
  ...[2048, 3072, 4096].map((bits) => ({
    form: `RSA-${bits}, one prime`,
    make: () => {
      const key = rsaKey(bits);
      return { key, pieces: [limbs(key, "q")] };
    },
  })),
  {
    form: "RSA-2048 of which only a token's kid is known: its modulus and a prime",
    make: () => {
      const key = rsaKey();
      return { key, pieces: [limbs(key, "p"), limbs(key, "n")], byHash: true };
    },
  },
  ...(["P-256", "P-384"] as const).map((curve) => ({
    form: `ECDSA ${curve}, a big.Int of Go`,
    make: () => {
      const key = ecKey(curve);
      return { key, pieces: [bigInt(key)], byHash: true };
    },
  })),
  { form: "PKCS#1 in PEM", make: () => encoded(rsaKey(), (key) => pem(key, "pkcs1")) },
  { form: "PKCS#8 in PEM", make: () => encoded(rsaKey(), (key) => pem(key, "pkcs8")) },
  { form: "SEC1 in PEM", make: () => encoded(ecKey(), (key) => pem(key, "sec1")) },
  { form: "PKCS#1 in DER", make: () => encoded(rsaKey(3072), (key) => der(key, "pkcs1")) },
  { form: "PKCS#8 in DER", make: () => encoded(ecKey("P-384"), (key) => der(key, "pkcs8")) },
  { form: "SEC1 in DER", make: () => encoded(ecKey(), (key) => der(key, "sec1")) },
];

function encoded(key: KeyObject, bytes: (key: KeyObject) => Buffer) {
  return { key, pieces: [Buffer.concat([Buffer.from("odd"), bytes(key)])], byHash: true };
}

test("every form is found in a running process, and no key that is not there", async () => {
  const made = FORMS.map(({ form, make }) => ({ form, ...make() }));
  const absent = [rsaKey(), ecKey()];
  await using process = await holder(made.flatMap(({ pieces }) => pieces));
  const targets = [
    ...made.map(({ key, byHash }) => target(key, byHash ? { byHash } : {})),
    ...absent.map((key) => target(key)),
  ];
  const { keys, megabytes } = await onNode("/", () => searchProcess(process, targets));
  const missed = made.filter(({ key }) => !keys.get(target(key).hash)?.equals(key)).map(({ form }) => form);
  expect(missed).toEqual([]);
  expect(keys.size).toBe(made.length);
  // gigabytes that Bun has reserved and never written to are left out
  expect(megabytes).toBeLessThan(1000);
});

test("a process that has ended, or whose mappings go away, holds nothing", async () => {
  const process = await holder([bigInt(ecKey())]);
  await process[Symbol.asyncDispose]();
  expect(await onNode("/", async () => [...memoryOf(process)])).toEqual([]);
});

test("of a process's memory nothing stays open, also where the search ends early", async () => {
  const open = () =>
    readdirSync("/proc/self/fd").filter((file) => {
      // that of the listing itself is closed by now
      const place = gone(() => readlinkSync(`/proc/self/fd/${file}`)) ?? "";
      return /^\/proc\/\d+\/(mem|pagemap)$/.test(place);
    });
  const before = open();
  const first = await onNode("/", async () => {
    for (const piece of memoryOf({ pid: process.pid, name: "bun" })) return [piece.length > 0, open().length];
  });
  expect([first, open()]).toEqual([[true, before.length + 2], before]);
});

test("a mounted file comes from its own program: another one has another file at that path", () => {
  using box = sandbox();
  for (const [pid, comm] of [
    [40, "kube-controller"],
    [41, "kube-apiserver"],
  ] as const)
    pretendProcess(box.dir, { pid, comm, mounts: { "/etc/kubernetes/tracing.yaml": `of ${comm}` } });
  const lost: LostFile = {
    ...{ path: "/etc/tracing-of-api.yaml", inside: "/etc/kubernetes/tracing.yaml", kind: "file" },
    ...{ program: "kube-apiserver", namedBy: "--tracing-config-file", without: "" },
  };
  const copies = (inside: string) => mountedFiles(holders(knownHere([])).own, [{ ...lost, inside }]);
  expect(copies(lost.inside)).toEqual([
    {
      path: lost.path,
      content: "of kube-apiserver",
      from: "still mounted in kube-apiserver (pid 41)",
    },
  ]);
  // in no container, as the kubelet's own
  expect(copies("")).toEqual([]);
});

test("only processes of the control plane are read, the controller-manager first", () => {
  using box = sandbox();
  for (const [pid, comm] of [
    [7, "kubelet"],
    [40, "kube-apiserver"],
    [5, "bash"],
    [41, "kube-controller"],
    [9, "etcd"],
  ] as const)
    pretendProcess(box.dir, { pid, comm });
  pretendProcess(box.dir, {
    pid: 42,
    comm: "kube-controller",
    cgroup: `/kubepods/besteffort/pod${POD_UID}/${"a".repeat(64)}`,
  });
  const { own, others } = holders(knownHere([]));
  expect(own).toEqual([
    { pid: 41, name: "kube-controller-manager" },
    { pid: 40, name: "kube-apiserver" },
    { pid: 9, name: "etcd" },
    { pid: 7, name: "kubelet" },
  ]);
  expect(others.map(({ pid }) => pid)).toEqual([42]);
});

test("a key across two pieces is found", async () => {
  using box = sandbox();
  const key = rsaKey();
  const at = (4 << 20) - 64;
  pretendProcess(box.dir, {
    pid: 1,
    comm: "etcd",
    mapped: 9 << 20,
    holds: [Buffer.concat([Buffer.alloc(at - 4096), limbs(key, "p")])],
  });
  const { keys } = await searchProcess({ pid: 1, name: "etcd" }, [target(key)]);
  expect([...keys.values()].map((found) => found.equals(key))).toEqual([true]);
});

describe("what only looks like a key", () => {
  test("is skipped in PEM and DER", () => {
    const cut = pem(rsaKey(), "pkcs1").subarray(0, 900);
    const empty = Buffer.from("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n");
    const marks = Buffer.from("30820400020100028201010020101042000002010104300000", "hex");
    expect([...encodedKeysIn(Buffer.concat([cut, empty, marks]), new Set(["sha256:00"]))]).toEqual([]);
  });

  test("a scalar of no wanted key, and one without spare words, are skipped", () => {
    const key = ecKey();
    const aligned = (piece: Uint8Array) => Uint8Array.from(Buffer.concat([piece]));
    expect([...scalarsIn(aligned(bigInt(key)), "P-256", new Set(["sha256:00"]))]).toEqual([]);
    expect([...scalarsIn(aligned(limbs(key, "d")), "P-256", new Set([target(key).hash]))]).toEqual([]);
    expect([...scalarsIn(aligned(bigInt(key)), "P-256", new Set([target(key).hash]))].length).toBe(1);
    const used = aligned(bigInt(key));
    used[used.length - 1] = 1;
    for (const other of [used, aligned(bigInt(key)).subarray(0, -1)])
      expect([...scalarsIn(other, "P-256", new Set([target(key).hash]))]).toEqual([]);
  });

  test("a prime of another key is none of this one's", () => {
    const [key, other] = [rsaKey(), rsaKey()];
    const bytes = Uint8Array.from(limbs(other, "p"));
    expect([...primesIn(bytes, [rsaPublicKey(createPublicKey(key))])]).toEqual([]);
    expect([...publicKeysByHash(Uint8Array.from(limbs(key, "n")), new Set(["sha256:00"]))]).toEqual([]);
  });
});

test("the whole key comes from either prime", () => {
  const key = rsaKey();
  const known = rsaPublicKey(createPublicKey(key));
  expect(keyFromPrime(known, numberOf(limbs(key, "p").reverse())).equals(key)).toBe(true);
  const other = keyFromPrime(known, numberOf(limbs(key, "q").reverse()));
  expect(createPublicKey(other).equals(createPublicKey(key))).toBe(true);
});

test("stretches of random words end at a zero, a small number and the end", () => {
  const word = (low: number, high: number) => [low, high];
  const words = Uint32Array.from(
    [
      word(1, 300),
      word(2, 1 << 20),
      word(0, 5000),
      word(9, 0),
      word(7, 256),
      word(8, 999),
      word(8, 999),
    ].flat(),
  );
  expect([...randomStretches(new Uint8Array(words.buffer), 16)]).toEqual([
    { from: 0, to: 16 },
    { from: 32, to: 56 },
  ]);
});
