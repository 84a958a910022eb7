/** What `unpack` does where keys are already: it keeps what is the same, and refuses what is another's. */
import { describe, expect, test } from "bun:test";
import { createPublicKey } from "node:crypto";
import { chmodSync, mkdirSync, readdirSync } from "node:fs";
import { $ } from "bun";
import { main } from "../../../scripts/hand-over.ts";
import { Fail } from "../../../shared/fail.ts";
import { list, readBytes, readText, removeFile, stat, writeFile } from "../../../shared/files/files.ts";
import { type Bundle, packTar } from "../../../shared/hand-over/bundle.ts";
import { aboutBundle, fingerprints } from "../../../shared/hand-over/operators-bundle.ts";
import { checkOrigin, type Here, unpackHere } from "../../../shared/hand-over/place-keys.ts";
import { privateKeyOf } from "../../../shared/pki/certificate.ts";
import { certRow, SHARED_FILES } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { bundleOf, PKI, put } from "../../pretend/bundles.ts";
import { testFacts } from "../../pretend/facts.ts";
import {
  FILE,
  failOf,
  fingerprint,
  keys,
  node,
  old,
  others,
  present,
  putSealed,
  unpack,
} from "../../pretend/hand-over.ts";

test("what a bundle says of itself has each key's fingerprint: they are compared with what pack printed", () => {
  const [packed, ...told] = aboutBundle(bundleOf(keys));
  expect(packed).toStartWith("packed 2026-05-01T10:00:00.000Z on m1");
  expect(Object.fromEntries(told.map((line) => line.split(/ +/, 2)))).toEqual(fingerprints(keys));
});

describe("unpack on a node that has keys", () => {
  const BY_PASSPHRASE = { confirmed: undefined, lock: "passphrase" } as const;
  const here = (ca?: Uint8Array, uid = "uid-here"): Here => ({
    certificatesDir: PKI,
    ...(ca && {
      cluster: {
        name: "kubernetes",
        oldCaPem: Buffer.from(ca).toString(),
        kubeSystemUid: uid,
      },
    }),
    obstacle: new Fail("there is none", { hint: "" }),
    asideDir: "/root/rescue/aside",
  });

  test("beside an etcd of others writes all keys but etcd's CA, and with that one where this kit has its key", () => {
    const written = (home: object) => {
      using _box = node();
      return unpackHere(bundleOf(keys), { ...here(), ...home } as Here).map((path) =>
        path.slice(PKI.length + 1),
      );
    };
    const all = [...keys.keys()].sort();
    const home = { runs: "unit" };
    expect(written({}).sort()).toEqual(all);
    expect(written({ home }).sort()).toEqual(all.filter((name) => !name.startsWith("etcd/")));
    expect(
      written({ home, etcdCa: { cert: `${PKI}/etcd/ca.crt`, key: `${PKI}/etcd/ca.key`, pairs: [] } }).sort(),
    ).toEqual(all);
  });

  test("writes what is missing and keeps what stands for the same key", async () => {
    using box = node();
    put(keys, ["ca.crt", "etcd/ca.crt", "sa.key"]);
    const pkcs8 = privateKeyOf(Buffer.from(keys.get("ca.key")!).toString()).export({
      type: "pkcs8",
      format: "pem",
    });
    writeFile(`${PKI}/ca.key`, String(pkcs8));
    writeFile(`${PKI}/sa.pub`, Buffer.concat([others.get("sa.pub")!, keys.get("sa.pub")!]));
    chmodSync(`${box.dir}${PKI}/sa.key`, 0o644);
    await putSealed(packTar(bundleOf(keys)));
    await unpack();
    expect(present()).toHaveLength(8);
    expect(readText(`${PKI}/ca.key`)).toBe(String(pkcs8));
    expect(stat(`${PKI}/sa.key`)!.mode).toBe(0o600);
    expect(box.said).toContain(`unchanged ${PKI}/ca.key (the same key in another format)`);
    expect(box.said).toContain(`unchanged ${PKI}/sa.pub (the same key in another format)`);
    expect(box.said).toContain(`unchanged ${PKI}/ca.crt`);
  });

  test("refuses other keys by name, both fingerprints beside each other; --move-aside keeps them in the rescue folder", async () => {
    using box = node();
    put(others, ["ca.crt", "ca.key", "sa.pub"]);
    await putSealed(packTar(bundleOf(keys)));
    const before = fingerprint(box.dir);
    const { message, hint } = await failOf(() => unpack());
    expect(message).toStartWith(
      "This node has other keys than the bundle: ca.crt, ca.key, sa.pub; the CA here is ",
    );
    expect(message).toContain(
      `the CA here is ${fingerprints(others).ca}, the bundle's ${fingerprints(keys).ca}; etcd's data cannot be read`,
    );
    expect(hint).toContain("--move-aside");
    const [here, there] = [fingerprints(others), fingerprints(keys)];
    expect(box.said).toContain(
      `ca.key: the one on this node is of another CA (${here.ca}); the bundle has ${there.ca}`,
    );
    expect(box.said).toContain(`ca.crt: the one on this node is ${here.ca}; the bundle has ${there.ca}`);
    expect(fingerprint(box.dir)).toEqual(before);

    await unpack("--move-aside");
    for (const name of SHARED_FILES)
      expect(readBytes(`${PKI}/${name}`)!).toEqual(Buffer.from(keys.get(name)!));
    const [rescue] = list("/root");
    expect(readBytes(`/root/${rescue}/aside${PKI}/ca.key`)!).toEqual(Buffer.from(others.get("ca.key")!));
    expect(stat(`/root/${rescue}`)!.mode).toBe(0o700);
  });

  test("a CA's certificate of the same key stays while it is valid, and is in the way when it has expired", async () => {
    using box = node();
    const key = Buffer.from(keys.get("ca.key")!).toString();
    const pub = String(createPublicKey(key).export({ type: "spki", format: "pem" }));
    const putMade = async (yearsAgo: number) => {
      const now = new Date(Date.now() - yearsAgo * 365 * 86_400_000);
      writeFile(
        `${PKI}/ca.crt`,
        (await issueCa(certRow("ca"), testFacts(), { key: { key, pub }, now })).cert,
      );
    };
    await putSealed(packTar(bundleOf(keys)));
    await putMade(20);
    expect((await failOf(() => unpack())).message).toStartWith(
      "This node has other keys than the bundle: ca.crt; ",
    );
    expect(box.said).toContainEqual(
      expect.stringMatching(/^ca\.crt: the one on this node is a certificate that expired on \d{4}-/),
    );
    await putMade(2);
    await unpack();
    expect(box.said).toContain(`unchanged ${PKI}/ca.crt (the same key in another format)`);
  });

  test("says which of the two is the cluster's, by etcd's data", async () => {
    using _box = node();
    put(others, ["ca.crt"]);
    const refused = async (ca: Uint8Array) =>
      (await failOf(() => unpackHere(bundleOf(keys), here(ca)))).message;
    expect(await refused(others.get("ca.crt")!)).toEndWith(
      "by etcd's data, the cluster's CA is the one here",
    );
    expect(await refused(keys.get("ca.crt")!)).toEndWith("by etcd's data, the cluster's CA is the bundle's");
    expect(await refused(old.get("ca.crt")!)).toEndWith(`is ${fingerprints(old).ca}`);
  });

  test("refuses a foreign bundle and a stale one, also where no key is", async () => {
    using box = node();
    const from = (kubeSystemUid: string, files = keys) =>
      bundleOf(files, { cluster: { name: "shop", kubeSystemUid } });
    const refused = async (bundle: Bundle, ca: Uint8Array) =>
      (await failOf(() => checkOrigin(bundle, here(ca), BY_PASSPHRASE))).message;
    expect(await refused(from("uid-there"), keys.get("ca.crt")!)).toMatch(
      /^The bundle is foreign: .*"shop".*uid-there.*uid-here/,
    );
    expect(await refused(from("uid-here", old), keys.get("ca.crt")!)).toMatch(
      /^The bundle is stale: its CA sha256:.*the cluster has another/,
    );
    expect(await refused({ ...bundleOf(keys), manifest: undefined }, old.get("ca.crt")!)).toStartWith(
      "Nothing proves that the bundle is",
    );

    checkOrigin(from("uid-here"), here(keys.get("ca.crt")), BY_PASSPHRASE);
    expect(box.said.pop()).toBe("its CA is the one that etcd's data names");
    checkOrigin(from("uid-here"), here(old.get("ca.crt")), BY_PASSPHRASE);
    expect(box.said.pop()).toStartWith("its CA is newer than the one that etcd's data names");
    checkOrigin({ ...bundleOf(keys), manifest: undefined }, here(old.get("ca.crt")), {
      ...BY_PASSPHRASE,
      confirmed: fingerprints(keys).ca,
    });
    checkOrigin(bundleOf(keys), here(), BY_PASSPHRASE);
    expect(box.said.pop()).toBe("warning: not compared with etcd's data: there is none");
  });

  test("takes a bundle for recipients only with a proof: everybody who knows one can lock a file that says it is of this cluster", async () => {
    using box = node();
    const [lock, hash] = ["recipients" as const, fingerprints(keys).ca];
    const his = bundleOf(keys, { cluster: { name: "kubernetes", kubeSystemUid: "uid-here" } });
    for (const [place, why] of [
      [here(old.get("ca.crt")), `its CA is ${hash}, etcd's data names ${fingerprints(old).ca}`],
      [here(), `its CA is ${hash}, etcd's data cannot be read (there is none)`],
    ] as const) {
      const { message, hint } = await failOf(() => checkOrigin(his, place, { confirmed: undefined, lock }));
      expect(message).toBe(`Nothing proves that the bundle is from this cluster: ${why}`);
      expect(hint).toMatch(
        /^give the fingerprint .*--ca-hash sha256:.*everybody who knows a recipient can lock such a file$/i,
      );
      checkOrigin(his, place, { confirmed: hash, lock });
    }
    checkOrigin(his, here(keys.get("ca.crt")), { confirmed: undefined, lock });

    await putSealed(packTar(his));
    const before = fingerprint(box.dir);
    expect((await failOf(() => main(["unpack", FILE, "--identity", "/id"]))).message).toStartWith(
      "Nothing proves that the bundle is",
    );
    expect(fingerprint(box.dir)).toEqual(before);
  });

  test("writes nothing where one file cannot be written; the same command goes on when that is mended", async () => {
    using box = node();
    writeFile(`${PKI}/etcd`, "in the way of a folder");
    put(others, ["ca.crt", "ca.key"]);
    await putSealed(packTar(bundleOf(keys)));
    expect((await failOf(() => unpack("--move-aside"))).message).toStartWith(
      `Cannot write ${PKI}/etcd/ca.crt`,
    );
    expect(readdirSync(`${box.dir}${PKI}`).sort()).toEqual(["ca.crt", "ca.key", "etcd"]);
    expect(readBytes(`${PKI}/ca.key`)!).toEqual(Buffer.from(others.get("ca.key")!));
    removeFile(`${PKI}/etcd`);
    await unpack("--move-aside");
    expect(present()).toHaveLength(8);
  });

  test.skipIf(process.getuid?.() !== 0)("writes nothing on a full disk", async () => {
    using box = node();
    mkdirSync(`${box.dir}/etc/kubernetes`, { recursive: true });
    await putSealed(packTar(bundleOf(keys)));
    await $`mount -t tmpfs -o size=20k full ${box.dir}/etc/kubernetes`;
    try {
      expect((await failOf(() => unpack())).message).toMatch(/no space left/i);
      expect(readdirSync(`${box.dir}/etc/kubernetes`, { recursive: true }).sort()).toEqual([
        "pki",
        "pki/etcd",
      ]);
      await $`mount -o remount,size=1m ${box.dir}/etc/kubernetes`;
      await unpack();
      expect(present()).toHaveLength(8);
    } finally {
      await $`umount ${box.dir}/etc/kubernetes`;
    }
  });
});
