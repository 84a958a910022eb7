/**
 * Every way in which a bundle, a key to it or a node can be wrong is one plain Fail, and nothing is written.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { main } from "../../../scripts/hand-over.ts";
import { exists, readBytes, readText, writeFile } from "../../../shared/files/files.ts";
import { packTar } from "../../../shared/hand-over/bundle.ts";
import { keyFor } from "../../../shared/hand-over/operators-bundle.ts";
import { lockOf, open } from "../../../shared/hand-over/sealed.ts";
import { SHARED_FILES } from "../../../shared/pki/certs.ts";
import { bundleOf, put } from "../../pretend/bundles.ts";
import {
  FILE,
  failOf,
  fingerprint,
  identity,
  keys,
  node,
  old,
  others,
  PASSPHRASE,
  pack,
  plain,
  present,
  putSealed,
  strangersTar,
  summed,
  tarOf,
  unpack,
} from "../../pretend/hand-over.ts";

setDefaultTimeout(300_000);

const DAMAGED = /damaged|age format|None of these|packed with a passphrase/;

describe("pack refuses", () => {
  const cases: [what: string, message: RegExp, arrange: () => void][] = [
    [
      "a folder without keys",
      /ca: missing.*front-proxy-ca: missing.*etcd\/ca: missing.*sa: missing/,
      () => {},
    ],
    ["a lost key", /pki: front-proxy-ca: key missing \(/, () => without("front-proxy-ca.key")],
    ["a lost certificate", /ca: certificate missing/, () => without("ca.crt")],
    ["a lost sa.pub", /sa: public key missing/, () => without("sa.pub")],
    [
      "another's key",
      /etcd\/ca: does not match its key/,
      () => swapped("etcd/ca.key", others.get("etcd/ca.key")!),
    ],
    ["another's sa.pub", /sa: does not match its key/, () => swapped("sa.pub", others.get("sa.pub")!)],
    ["what has expired", /ca: expired \(it was valid until \d{4}-.*front-proxy-ca: expired/, () => put(old)],
    ["a certificate's file with a key in it", /ca: wrong usage/, () => swapped("ca.crt", both("ca"))],
  ];
  const without = (name: string) =>
    put(
      keys,
      SHARED_FILES.filter((file) => file !== name),
    );
  const swapped = (name: string, bytes: Uint8Array) => put(new Map([...keys, [name, bytes]]));
  const both = (name: string) => Buffer.concat([keys.get(`${name}.crt`)!, keys.get(`${name}.key`)!]);

  test.each(cases)("%s, and writes nothing", async (_, message, arrange) => {
    using _box = node();
    arrange();
    const { message: said, hint } = await failOf(() => pack());
    expect(said).toMatch(message);
    expect(hint).toContain("00-assess");
    expect(exists(FILE)).toBe(false);
    expect(exists("/etc/kubernetes/.kube-pki-repair-backup")).toBe(false);
  });

  test("to overwrite a file without --force", async () => {
    using _box = node();
    put(keys);
    writeFile(FILE, "mine");
    expect((await failOf(() => pack())).hint).toContain("--force");
    expect(readText(FILE)).toBe("mine");
    await pack("--force");
    expect(readText(FILE)).toStartWith("age-encryption.org/v1\n");
  });

  const locks: [what: string, args: string[], message: string][] = [
    ["a recipient with a wrong letter", ["--to", `age1${"q".repeat(58)}`], "a letter in it is wrong"],
    ["an SSH key", ["--to", "ssh-ed25519 AAAA"], "is not an age recipient"],
    [
      "a secret key as recipient, without repeating it",
      ["--to", "AGE-SECRET-KEY-1QQQ"],
      "A secret key was given where a recipient belongs",
    ],
    ["nobody", ["--to", ","], "--to names no recipient"],
    ["two locks", ["--generate", "--passphrase-file", "/passphrase"], "takes one of"],
    ["a short passphrase", ["--passphrase-file", "/short"], "too short"],
    ["an empty passphrase", ["--passphrase-file", "/empty"], '"/empty" holds no passphrase'],
    ["two lines of passphrase", ["--passphrase-file", "/two"], "more than one line"],
    ["a passphrase that others can read", ["--passphrase-file", "/open"], 'Others can read "/open"'],
    ["a passphrase file that is not there", ["--passphrase-file", "/none"], 'There is no file "/none"'],
  ];
  test.each(locks)("%s", async (_, args, message) => {
    using _box = node();
    put(keys);
    for (const [file, text] of Object.entries({ short: "abc", empty: "\n", two: "one\ntwo\n" }))
      writeFile(`/${file}`, text);
    writeFile("/open", PASSPHRASE, { mode: 0o644 });
    expect((await failOf(() => main(["pack", ...args, "--out", FILE]))).message).toContain(message);
    expect(exists(FILE)).toBe(false);
  });

  test.each([[["pack", "x"]], [["unpack"]], [["list", "a", "b"]], [["files", "x"]], [[]], [["frob"]]])(
    "the words %p",
    async (args) => {
      using _box = node();
      expect((await failOf(() => main(args))).hint).toContain("--help");
    },
  );
});

describe("unpack refuses, with one Fail and nothing written,", () => {
  const good = () => packTar(bundleOf(keys));
  const withFile = (name: string, text = "x") =>
    strangersTar([...plain(keys), { name, mode: 0o600, bytes: Buffer.from(text) }]);
  /** The tar with one byte of the last added file's header changed, its sum put right. */
  const typed = (type: string) => {
    const tar = Buffer.from(tarOf([{ name: "ca.crt", mode: 0o644, bytes: new Uint8Array() }]));
    tar.write("/etc/shadow", 157);
    tar.write(type, 156);
    return summed(tar, 0);
  };
  const changed = (file: string, bytes: Uint8Array) => new Map([...keys, [file, bytes]]);

  const contents: [what: string, content: () => Uint8Array, message: string | RegExp][] = [
    ["no tar", () => Buffer.from("x".repeat(3000)), "not a tar file of plain files: a number"],
    ["nothing at all", () => new Uint8Array(), "it ends too early"],
    ["a cut tar", () => good().slice(0, 3000), "it ends too early"],
    ["a tar without its end", () => good().slice(0, -1024), "it ends too early"],
    [
      "a way out of the folder",
      () => withFile("../../root/.ssh/authorized_keys"),
      /"\.\.\/\.\.\/root.*is no name for a file/,
    ],
    ["a way out in the middle", () => withFile("etcd/../../x"), '"etcd/../../x" is no name for a file'],
    ["an absolute path", () => withFile("/etc/shadow"), '"/etc/shadow" is no name for a file'],
    [
      "an extra file",
      () => withFile("apiserver.key"),
      'it holds "apiserver.key", which is not one of the shared keys',
    ],
    ["a name that steers the terminal", () => withFile("\x1b[2Jca.key"), String.raw`"\u001b[2Jca.key"`],
    ["a file twice", () => withFile("ca.key"), "it holds ca.key twice"],
    ["a link", () => typed("2"), '"ca.crt" in it is not a plain file'],
    ["a hard link", () => typed("1"), "is not a plain file"],
    ["a folder", () => typed("5"), "is not a plain file"],
    ["an extended header", () => typed("x"), "is not a plain file"],
    ["a key too few", () => tarOf(plain(keys).filter(({ name }) => name !== "sa.key")), "sa: key missing"],
    ["no keys", () => tarOf([]), /ca: missing.*sa: missing/],
    [
      "a key of another certificate",
      () => packTar(bundleOf(changed("etcd/ca.key", others.get("etcd/ca.key")!))),
      "etcd/ca: does not match",
    ],
    [
      "a sa.pub of another",
      () => packTar(bundleOf(changed("sa.pub", others.get("sa.pub")!))),
      "sa: does not match its key",
    ],
    ["expired keys", () => packTar(bundleOf(old)), /ca: expired/],
    ["a broken key", () => packTar(bundleOf(changed("ca.key", Buffer.from("nonsense")))), "ca: unreadable"],
    [
      "a manifest of other files",
      () => packTar({ ...bundleOf(keys), manifest: bundleOf(others).manifest }),
      "differs from what its MANIFEST.json says",
    ],
    [
      "a manifest of a file that is not in it",
      () => {
        const bytes = Buffer.from(JSON.stringify(bundleOf(keys).manifest));
        const others = plain(keys).filter(({ name }) => name !== "sa.pub");
        return tarOf([...others, { name: "MANIFEST.json", mode: 0o600, bytes }]);
      },
      "sa.pub differs from what its MANIFEST.json says",
    ],
    [
      "a manifest of another CA",
      () => packTar(bundleOf(keys, { ca: "sha256:00" })),
      "its MANIFEST.json names another CA",
    ],
    ["a manifest that is none", () => withFile("MANIFEST.json", "{"), "its MANIFEST.json cannot be read"],
    [
      "a manifest with nothing in it",
      () => withFile("MANIFEST.json", "null"),
      "its MANIFEST.json cannot be read",
    ],
    [
      "a manifest that steers the terminal",
      () => packTar(bundleOf(keys, { node: "\x1b[2J" })),
      "its MANIFEST.json cannot be read",
    ],
  ];
  test.each(contents)("%s", async (_, content, message) => {
    using box = node();
    await putSealed(content());
    const before = fingerprint(box.dir);
    const fail = await failOf(() => unpack());
    expect(fail.message).toMatch(message);
    expect(fail.hint).toContain("pack");
    expect(fingerprint(box.dir)).toEqual(before);
  });

  const files: [what: string, arrange: () => void | Promise<void>, args: string[], message: string][] = [
    [
      "a wrong passphrase",
      () => locked("river by the trees"),
      ["--passphrase-file", "/passphrase"],
      "The passphrase does not open this file",
    ],
    [
      "a wrong identity",
      () => putSealed(good(), { recipients: [other] }),
      ["--identity", "/id"],
      "None of these identities opens this file",
    ],
    [
      "an identity for a passphrase",
      () => locked(PASSPHRASE),
      ["--identity", "/id"],
      "was packed with a passphrase",
    ],
    [
      "a passphrase for an identity",
      () => putSealed(good()),
      ["--passphrase-file", "/passphrase"],
      "was packed for recipients",
    ],
    ["no identity", () => putSealed(good()), [], "was packed for recipients"],
    [
      "an identity file of SSH",
      () => putSealed(good()),
      ["--identity", "/passphrase"],
      "something other than age secret keys",
    ],
    [
      "an identity that others can read",
      () => putSealed(good()),
      ["--identity", "/shown"],
      'Others can read "/shown"',
    ],
    ["no age file", () => void writeFile(FILE, "hello"), ["--identity", "/id"], "no file in the age format"],
    ["an empty file", () => void writeFile(FILE, ""), ["--identity", "/id"], "no file in the age format"],
    ["no file", () => {}, ["--identity", "/id"], `There is no file "${FILE}"`],
    ["a folder", () => void writeFile(`${FILE}/x`, ""), ["--identity", "/id"], "it is not a file"],
    [
      "an oversized file",
      () => void writeFile(FILE, new Uint8Array(2 ** 20 + 1)),
      ["--identity", "/id"],
      "1048577 bytes are too many",
    ],
    [
      "armor that is cut",
      () => void writeFile(FILE, "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl"),
      ["--identity", "/id"],
      "is damaged",
    ],
    [
      "another CA than the one named",
      () => putSealed(good()),
      ["--identity", "/id", "--ca-hash", "sha256:00"],
      "The bundle's CA is sha256:",
    ],
  ];
  const other = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
  const locked = (passphrase: string) => putSealed(good(), { passphrase });
  test.each(files)("%s", async (_, arrange, args, message) => {
    using box = node();
    await arrange();
    writeFile("/shown", identity, { mode: 0o644 });
    const before = fingerprint(box.dir);
    expect((await failOf(() => main(["unpack", FILE, ...args]))).message).toContain(message);
    expect(fingerprint(box.dir)).toEqual(before);
  });

  test("a passphrase that would take too long", async () => {
    using _box = node();
    await locked(PASSPHRASE);
    const slow = Buffer.from(readBytes(FILE)!)
      .toString("latin1")
      .replace(/^(-> scrypt \S+) 10$/m, "$1 30");
    writeFile(FILE, Buffer.from(slow, "latin1"));
    const fail = await failOf(() => main(["unpack", FILE, "--passphrase-file", "/passphrase"]));
    expect(fail.message).toContain("work factor is above 2^20");
  });

  test("a file cut off at any point, or with a byte changed anywhere", async () => {
    using _box = node();
    await putSealed(good());
    const whole = readBytes(FILE)!;
    const points = [
      ...Array(220).keys(),
      ...Array.from({ length: 60 }, () => Math.floor(Math.random() * whole.length)),
      whole.length - 1,
    ];
    for (const at of points) {
      for (const bad of [whole.slice(0, at), whole.map((byte, index) => (index === at ? byte ^ 1 : byte))])
        expect((await failOf(() => open(bad, keyFor(lockOf(bad), { identity: "/id" })))).message).toMatch(
          DAMAGED,
        );
    }
    for (const at of [0, 100, whole.length - 1]) {
      writeFile(FILE, whole.slice(0, at));
      expect((await failOf(() => unpack())).message).toMatch(DAMAGED);
    }
    expect(present()).toEqual([]);
  });
});
