/**
 * All shared keys travel, or none: every fault of a bundle, of a key to it or of a node is one plain Fail.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { main } from "../../scripts/hand-over.ts";
import { list, readBytes, readText, removeFile, stat, writeFile } from "../../shared/files/files.ts";
import { packTar } from "../../shared/hand-over/bundle.ts";
import { fingerprints } from "../../shared/hand-over/operators-bundle.ts";
import { SHARED_FILES } from "../../shared/pki/certs.ts";
import { mode } from "../../shared/run.ts";
import { bundleOf, PKI, put } from "../pretend/bundles.ts";
import {
  FILE,
  failOf,
  fingerprint,
  identity,
  keys,
  mountMemory,
  node,
  pack,
  putSealed,
  recipient,
  unpack,
} from "../pretend/hand-over.ts";

setDefaultTimeout(300_000);

describe("pack and unpack", () => {
  test("carry all keys with their modes, with a passphrase; a second unpack changes nothing", async () => {
    using box = node();
    put(keys);
    mountMemory("/run");
    const travelling = "/run/bundle.age";
    await main(["pack", "--passphrase-file", "/passphrase", "--out", travelling]);
    expect(box.answers.at(-1)).toBe(
      `./bunw scripts/hand-over.ts unpack --passphrase-file /passphrase --ca-hash ${fingerprints(keys).ca} ${travelling}`,
    );
    const inRunbook = box.answers
      .at(-1)!
      .replace("/passphrase", "passphrase")
      .replace(/sha256:\w+/, "sha256:7d1f…")
      .replace(travelling, "shared-keys.age");
    expect(await Bun.file(`${import.meta.dir}/../../RUNBOOK.md`).text()).toContain(
      `printed side-by-side\n${inRunbook}\n`,
    );
    expect(stat(travelling)!.mode).toBe(0o600);
    for (const name of SHARED_FILES) removeFile(`${PKI}/${name}`);
    removeFile("/etc/kubernetes/.kube-pki-repair-backup");

    const again = () =>
      main(["unpack", travelling, "--passphrase-file", "/passphrase", "--ca-hash", fingerprints(keys).ca!]);
    await again();
    for (const name of SHARED_FILES)
      expect(readBytes(`${PKI}/${name}`)!).toEqual(Buffer.from(keys.get(name)!));
    expect(SHARED_FILES.filter((name) => stat(`${PKI}/${name}`)!.mode === 0o644)).toEqual([
      "ca.crt",
      "front-proxy-ca.crt",
      "etcd/ca.crt",
    ]);
    expect(SHARED_FILES.filter((name) => stat(`${PKI}/${name}`)!.mode === 0o600)).toHaveLength(5);

    const before = fingerprint(box.dir);
    await again();
    expect(fingerprint(box.dir)).toEqual(before);
    expect(box.said.slice(-3)).toEqual([
      "all keys of the bundle were here already",
      expect.stringContaining('WARNING: "/passphrase" opens'),
      "done.  next: ./bunw scripts/01-etcd.ts",
    ]);
  });

  test("say what travels before anything is locked, and name the file by the CA and the day", async () => {
    using box = node();
    put(keys);
    const [pwd, today] = [process.env.PWD, () => new Date().toISOString().slice(0, 10)];
    const began = today();
    process.env.PWD = "/root";
    try {
      await main(["pack", "--to", recipient]);
    } finally {
      process.env.PWD = pwd;
    }
    const hashes = fingerprints(keys);
    const nameOf = (day: string) => `kube-pki-${hashes.ca!.slice(7, 15)}-${day}.age`;
    const [name = "", ...others] = list("/root");
    expect(name).toBeOneOf([nameOf(began), nameOf(today())]);
    expect(others).toEqual([]);
    const text = box.said.join("\n");
    for (const hash of Object.values(hashes))
      expect(text.indexOf(hash)).toBeLessThan(text.indexOf(`wrote /root/${name}`));
    expect(text).toMatch(/etcd\/ca +sha256:[0-9a-f]{64} {2}ECDSA-P256, until \d{4}-/);
  });

  test("work for several recipients, each with their own identity", async () => {
    using _box = node();
    const second = await generateX25519Identity();
    writeFile("/second", second);
    put(keys);
    await main(["pack", "--to", `${recipient},${await identityToRecipient(second)}`, "--out", FILE]);
    for (const file of ["/id", "/second"]) await main(["list", FILE, "--identity", file]);
  });

  test("do nothing in a dry run", async () => {
    using box = node();
    put(keys);
    const before = fingerprint(box.dir);
    await pack("--dry-run");
    expect(fingerprint(box.dir)).toEqual(before);
    expect(box.said).toContain(`would write ${FILE}`);
    mode.dryRun = false;

    await putSealed(packTar(bundleOf(keys)));
    removeFile(`${PKI}/ca.key`);
    const again = fingerprint(box.dir);
    await unpack("--dry-run");
    expect(fingerprint(box.dir)).toEqual(again);
    expect(box.said).toContain(`would write ${PKI}/ca.key`);
  });

  test("list says what is in a bundle on stdout, and writes nothing", async () => {
    using box = node();
    await putSealed(packTar(bundleOf(keys, { cluster: { name: "kubernetes", kubeSystemUid: "uid" } })));
    const before = fingerprint(box.dir);
    await main(["list", FILE, "--identity", "/id"]);
    expect(fingerprint(box.dir)).toEqual(before);
    const [first, ...lines] = box.answers.join("\n").split("\n");
    expect(first).toBe('packed 2026-05-01T10:00:00.000Z on m1, kube-pki-repair 0; cluster "kubernetes"');
    expect(lines.map((line) => line.split(/ +/)[0])).toEqual(["ca", "front-proxy-ca", "etcd/ca", "sa"]);
  });

  test("files prints the eight paths, for tar", async () => {
    using box = node();
    await main(["files"]);
    expect(box.answers.join("\n").split("\n")).toEqual(SHARED_FILES.map((name) => `${PKI}/${name}`));
    expect(SHARED_FILES).toHaveLength(8);
  });
});

describe("identity", () => {
  test("makes a secret that stays and a recipient that travels; a second run keeps both", async () => {
    using box = node();
    await main(["identity", "/own"]);
    const made = readText("/own");
    await main(["identity", "/own"]);
    expect([readText("/own"), stat("/own")!.mode & 0o777]).toEqual([made, 0o600]);
    expect(box.answers[0]).toMatch(/^age1[0-9a-z]{58}$/);
    expect(box.answers[1]).toBe(box.answers[0]!);
    put(keys);
    await main(["pack", "--to", box.answers[0]!, "--out", FILE]);
    await main(["list", FILE, "--identity", "/own"]);
  });

  test("refuses a file that others can read, or that holds something else", async () => {
    using _ = node();
    writeFile("/shown", `${identity}\n`, { mode: 0o644 });
    writeFile("/empty", "", { mode: 0o600 });
    expect((await failOf(() => main(["identity", "/shown"]))).message).toBe('Others can read "/shown"');
    for (const file of ["/passphrase", "/empty"])
      expect((await failOf(() => main(["identity", file]))).message).toContain(
        "something other than age secret keys",
      );
  });

  test("writes nothing in a dry run", async () => {
    using box = node();
    await main(["identity", "/own", "--dry-run"]);
    expect([readdirSync(box.dir).includes("own"), box.answers]).toEqual([false, []]);
  });
});
if (!Bun.which("age"))
  console.log(
    "  the age tool is not installed: what it says of our bundles is asked in the lab only (apt-get install age)",
  );
