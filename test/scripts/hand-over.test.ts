/** The shared keys travel whole or not at all: every way in which a bundle, a key to it or a node can be wrong is one plain Fail. */
import { beforeAll, describe, expect, spyOn, test } from "bun:test";
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { $ } from "bun";
import { main } from "../../scripts/hand-over.ts";
import { Fail } from "../../shared/fail.ts";
import { exists, list, readBytes, readText, removeFile, stat, writeFile } from "../../shared/files/files.ts";
import { backupAnswer } from "../../shared/hand-over/backup-mark.ts";
import { type Bundle, fingerprints, packTar, SHARED_FILES } from "../../shared/hand-over/bundle.ts";
import { checkOrigin, type Here, unpackHere } from "../../shared/hand-over/place-keys.ts";
import { type Lock, seal } from "../../shared/hand-over/sealed.ts";
import { type TarFile, writeTar } from "../../shared/hand-over/tar.ts";
import { privateKeyOf } from "../../shared/pki/certificate.ts";
import { newPassphrase } from "../../shared/prompt.ts";
import { mode } from "../../shared/run.ts";
import { onTerminal, PROOFS, prove } from "../lab/checks/age-equal.ts";
import { bundleOf, PKI, put, sharedFiles } from "../pretend/bundles.ts";
import { sandbox } from "../pretend/sandbox.ts";

const PASSPHRASE = "nine trees by the river";
const FILE = "/bundle.age";
/** Milliseconds: a passphrase costs a second of work by design, and many on a busy machine. */
const SLOW = 60_000;
const years = (n: number) => new Date(Date.now() + n * 8760 * 3600_000);

let keys: Map<string, Uint8Array>;
let others: Map<string, Uint8Array>;
let old: Map<string, Uint8Array>;
let identity: string;
let recipient: string;

beforeAll(async () => {
  [keys, others, old] = await Promise.all([sharedFiles(), sharedFiles(), sharedFiles(years(-11))]);
  identity = await generateX25519Identity();
  recipient = await identityToRecipient(identity);
});

/** A node to try things on, which also hears what goes to stdout. */
function node() {
  const box = sandbox();
  const answers: string[] = [];
  const ear = spyOn(console, "log").mockImplementation((line: string) => void answers.push(line));
  writeFile("/id", `# created for a test\n${identity}\n`);
  writeFile("/passphrase", `${PASSPHRASE}\n`);
  box.said.length = 0;
  return {
    ...box,
    answers,
    [Symbol.dispose]() {
      const heard = [...box.said, ...answers].join("\n");
      ear.mockRestore();
      box[Symbol.dispose]();
      expect(heard).not.toMatch(/PRIVATE KEY|AGE-SECRET-KEY|nine trees/);
    },
  };
}

const pack = (...args: string[]) => main(["pack", "--to", recipient, "--out", FILE, ...args]);
const unpack = (...args: string[]) => main(["unpack", FILE, "--identity", "/id", ...args]);

async function failOf(action: () => unknown): Promise<Fail> {
  try {
    await action();
  } catch (err) {
    if (err instanceof Fail) return err;
    throw err;
  }
  throw new Error("it did not fail");
}

/** Path, mode, time and content of everything below a folder of this machine. */
function fingerprint(dir: string): string[] {
  const paths = readdirSync(dir, { recursive: true, encoding: "utf8" }).sort();
  return paths.map((path) => {
    const info = lstatSync(join(dir, path));
    return `${path} ${info.mode} ${info.isFile() ? `${info.mtimeMs} ${Bun.hash(readFileSync(join(dir, path)))}` : ""}`;
  });
}

/** A file as pack writes it, of anything. */
async function putSealed(content: Uint8Array, lock: Lock = { recipients: [recipient] }) {
  writeFile(FILE, await seal(content, lock, { scryptLogN: 10 }));
}

const present = () => SHARED_FILES.filter((name) => exists(`${PKI}/${name}`));
const tarOf = (files: readonly TarFile[]) => writeTar(files, new Date(0));
const plain = (files: Map<string, Uint8Array>): TarFile[] => [...files].map(([name, bytes]) => ({ name, mode: 0o600, bytes }));

describe("pack and unpack", () => {
  test(
    "carry all keys with their modes, with a passphrase; a second unpack changes nothing",
    async () => {
      using box = node();
      put(keys);
      await main(["pack", "--passphrase-file", "/passphrase", "--out", FILE]);
      expect(box.answers.at(-1)).toBe(
        `./bunw scripts/hand-over.ts unpack ${FILE} --passphrase-file /passphrase --ca-hash ${fingerprints(keys).ca}`,
      );
      expect(stat(FILE)!.mode).toBe(0o600);
      for (const name of SHARED_FILES) removeFile(`${PKI}/${name}`);
      removeFile("/etc/kubernetes/.kube-pki-repair-backup");

      const again = () => main(["unpack", FILE, "--passphrase-file", "/passphrase", "--ca-hash", fingerprints(keys).ca!]);
      await again();
      for (const name of SHARED_FILES) expect(readBytes(`${PKI}/${name}`)!).toEqual(Buffer.from(keys.get(name)!));
      expect(SHARED_FILES.filter((name) => stat(`${PKI}/${name}`)!.mode === 0o644)).toEqual([
        "ca.crt",
        "front-proxy-ca.crt",
        "etcd/ca.crt",
      ]);
      expect(SHARED_FILES.filter((name) => stat(`${PKI}/${name}`)!.mode === 0o600)).toHaveLength(5);

      const before = fingerprint(box.dir);
      await again();
      expect(fingerprint(box.dir)).toEqual(before);
      expect(box.said.slice(-2)).toEqual(["all of it was here already", "done.  next: ./bunw scripts/01-etcd.ts"]);
    },
    SLOW,
  );

  test("say what travels before anything is locked, and name the file by the CA and the day", async () => {
    using box = node();
    put(keys);
    const pwd = process.env.PWD;
    process.env.PWD = "/root";
    try {
      await main(["pack", "--to", recipient]);
    } finally {
      process.env.PWD = pwd;
    }
    const hashes = fingerprints(keys);
    const name = `kube-pki-${hashes.ca!.slice(7, 15)}-${new Date().toISOString().slice(0, 10)}.age`;
    expect(list("/root")).toEqual([name]);
    const text = box.said.join("\n");
    for (const hash of Object.values(hashes)) expect(text.indexOf(hash)).toBeLessThan(text.indexOf(`wrote /root/${name}`));
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
      expect((await failOf(() => main(["identity", file]))).message).toContain("something else than age secret keys");
  });

  test("writes nothing in a dry run", async () => {
    using box = node();
    await main(["identity", "/own", "--dry-run"]);
    expect([readdirSync(box.dir).includes("own"), box.answers]).toEqual([false, []]);
  });
});

describe("pack refuses", () => {
  const cases: [what: string, message: RegExp, arrange: () => void][] = [
    ["a folder without keys", /ca: missing.*front-proxy-ca: missing.*etcd\/ca: missing.*sa: missing/, () => {}],
    ["a lost key", /pki: front-proxy-ca: key missing \(/, () => without("front-proxy-ca.key")],
    ["a lost certificate", /ca: certificate missing/, () => without("ca.crt")],
    ["a lost sa.pub", /sa: public key missing/, () => without("sa.pub")],
    ["another's key", /etcd\/ca: does not match its key/, () => swapped("etcd/ca.key", others.get("etcd/ca.key")!)],
    ["another's sa.pub", /sa: does not match its key/, () => swapped("sa.pub", others.get("sa.pub")!)],
    ["what has expired", /ca: expired \(it ended on \d{4}-.*front-proxy-ca: expired/, () => put(old)],
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
    for (const [file, text] of Object.entries({ short: "abc", empty: "\n", two: "one\ntwo\n" })) writeFile(`/${file}`, text);
    writeFile("/open", PASSPHRASE, { mode: 0o644 });
    expect((await failOf(() => main(["pack", ...args, "--out", FILE]))).message).toContain(message);
    expect(exists(FILE)).toBe(false);
  });

  test.each([[["pack", "x"]], [["unpack"]], [["list", "a", "b"]], [["files", "x"]], [[]], [["frob"]]])("the words %p", async (args) => {
    using _box = node();
    expect((await failOf(() => main(args))).hint).toContain("--help");
  });
});

describe("unpack refuses, with one Fail and nothing written,", () => {
  const good = () => packTar(bundleOf(keys));
  const withFile = (name: string, text = "x") => tarOf([...plain(keys), { name, mode: 0o600, bytes: Buffer.from(text) }]);
  /** The tar with one byte of the last added file's header changed, its sum put right. */
  const typed = (type: string) => {
    const tar = Buffer.from(tarOf([{ name: "ca.crt", mode: 0o644, bytes: new Uint8Array() }]));
    tar.write("/etc/shadow", 157);
    tar.write(type, 156);
    tar.write("        ", 148);
    const sum = tar.subarray(0, 512).reduce((a, b) => a + b, 0);
    tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    return tar;
  };
  const changed = (file: string, bytes: Uint8Array) => new Map([...keys, [file, bytes]]);

  const contents: [what: string, content: () => Uint8Array, message: string | RegExp][] = [
    ["no tar", () => Buffer.from("x".repeat(3000)), "not a tar file of plain files: a number"],
    ["nothing at all", () => new Uint8Array(), "it ends too early"],
    ["a cut tar", () => good().slice(0, 3000), "it ends too early"],
    ["a tar without its end", () => good().slice(0, -1024), "it ends too early"],
    ["a way out of the folder", () => withFile("../../root/.ssh/authorized_keys"), /names "\.\.\/\.\.\/root.*leads out of the folder/],
    ["a way out in the middle", () => withFile("etcd/../../x"), "leads out of the folder"],
    ["an absolute path", () => withFile("/etc/shadow"), 'it names the absolute path "/etc/shadow"'],
    ["an extra file", () => withFile("apiserver.key"), 'it holds "apiserver.key", which is none of the shared keys'],
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
    ["a sa.pub of another", () => packTar(bundleOf(changed("sa.pub", others.get("sa.pub")!))), "sa: does not match its key"],
    ["expired keys", () => packTar(bundleOf(old)), /ca: expired/],
    ["a broken key", () => packTar(bundleOf(changed("ca.key", Buffer.from("nonsense")))), "ca: unreadable"],
    [
      "a manifest of other files",
      () => packTar({ ...bundleOf(keys), manifest: bundleOf(others).manifest }),
      "is not the one that its MANIFEST.json names",
    ],
    ["a manifest of another CA", () => packTar(bundleOf(keys, { ca: "sha256:00" })), "its MANIFEST.json is about another CA"],
    ["a manifest that is none", () => withFile("MANIFEST.json", "{"), "its MANIFEST.json cannot be read"],
    ["a manifest with nothing in it", () => withFile("MANIFEST.json", "null"), "its MANIFEST.json cannot be read"],
    ["a manifest that steers the terminal", () => packTar(bundleOf(keys, { node: "\x1b[2J" })), "its MANIFEST.json cannot be read"],
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
    ["an identity for a passphrase", () => locked(PASSPHRASE), ["--identity", "/id"], "was packed with a passphrase"],
    ["a passphrase for an identity", () => putSealed(good()), ["--passphrase-file", "/passphrase"], "was packed for recipients"],
    ["no identity", () => putSealed(good()), [], "was packed for recipients"],
    ["an identity file of SSH", () => putSealed(good()), ["--identity", "/passphrase"], "something else than age secret keys"],
    ["an identity that others can read", () => putSealed(good()), ["--identity", "/shown"], 'Others can read "/shown"'],
    ["no age file", () => void writeFile(FILE, "hello"), ["--identity", "/id"], "no file in the age format"],
    ["an empty file", () => void writeFile(FILE, ""), ["--identity", "/id"], "no file in the age format"],
    ["no file", () => {}, ["--identity", "/id"], `There is no file "${FILE}"`],
    ["a folder", () => void writeFile(`${FILE}/x`, ""), ["--identity", "/id"], "it is not a file"],
    ["an oversized file", () => void writeFile(FILE, new Uint8Array(2 ** 20 + 1)), ["--identity", "/id"], "1048577 bytes are too many"],
    ["armor that is cut", () => void writeFile(FILE, "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl"), ["--identity", "/id"], "is damaged"],
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

  test(
    "a file cut off at any point, or with a byte changed anywhere",
    async () => {
      using _box = node();
      await putSealed(good());
      const whole = readBytes(FILE)!;
      const points = [
        ...Array(220).keys(),
        ...Array.from({ length: 60 }, () => Math.floor(Math.random() * whole.length)),
        whole.length - 1,
      ];
      for (const at of points) {
        for (const bad of [whole.slice(0, at), whole.map((byte, index) => (index === at ? byte ^ 1 : byte))]) {
          writeFile(FILE, bad);
          expect((await failOf(() => unpack())).message).toMatch(/damaged|age format|None of these|packed with a passphrase/);
        }
      }
      expect(present()).toEqual([]);
    },
    SLOW,
  );
});

describe("unpack on a node that has keys", () => {
  const here = (ca?: Uint8Array, uid = "uid-here"): Here => ({
    certificatesDir: PKI,
    cluster: ca && {
      name: "kubernetes",
      oldCaPem: Buffer.from(ca).toString(),
      nodes: [],
      identity: { kubeSystemUid: uid } as NonNullable<Here["cluster"]>["identity"],
    },
    why: "there is none",
    asideDir: "/root/rescue/aside",
  });

  test("writes what is missing and keeps what stands for the same key", async () => {
    using box = node();
    put(keys, ["ca.crt", "etcd/ca.crt", "sa.key"]);
    const pkcs8 = privateKeyOf(Buffer.from(keys.get("ca.key")!).toString()).export({ type: "pkcs8", format: "pem" });
    writeFile(`${PKI}/ca.key`, String(pkcs8));
    writeFile(`${PKI}/sa.pub`, Buffer.concat([others.get("sa.pub")!, keys.get("sa.pub")!]));
    chmodSync(`${box.dir}${PKI}/sa.key`, 0o644);
    await putSealed(packTar(bundleOf(keys)));
    await unpack();
    expect(present()).toHaveLength(8);
    expect(readText(`${PKI}/ca.key`)).toBe(String(pkcs8));
    expect(stat(`${PKI}/sa.key`)!.mode).toBe(0o600);
    expect(box.said).toContain(`${PKI}/ca.key: kept (the same key, written another way)`);
    expect(box.said).toContain(`${PKI}/sa.pub: kept (the same key, written another way)`);
    expect(box.said).toContain(`${PKI}/ca.crt: kept`);
  });

  test("refuses other keys by name, both fingerprints beside each other; --move-aside keeps them in the rescue folder", async () => {
    using box = node();
    put(others, ["ca.crt", "ca.key", "sa.pub"]);
    await putSealed(packTar(bundleOf(keys)));
    const before = fingerprint(box.dir);
    const { message, hint } = await failOf(() => unpack());
    expect(message).toStartWith("This node has other keys than the bundle: ca.key, ca.crt, sa.pub; the CA here is ");
    expect(message).toContain(
      `the CA here is ${fingerprints(others).ca}, the bundle's ${fingerprints(keys).ca}; etcd's data tells nothing`,
    );
    expect(hint).toContain("--move-aside");
    expect(fingerprint(box.dir)).toEqual(before);

    await unpack("--move-aside");
    for (const name of SHARED_FILES) expect(readBytes(`${PKI}/${name}`)!).toEqual(Buffer.from(keys.get(name)!));
    const [rescue] = list("/root");
    expect(readBytes(`/root/${rescue}/aside${PKI}/ca.key`)!).toEqual(Buffer.from(others.get("ca.key")!));
    expect(stat(`/root/${rescue}`)!.mode).toBe(0o700);
  });

  test("says which of the two is the cluster's, by etcd's data", async () => {
    using _box = node();
    put(others, ["ca.crt"]);
    const refused = async (ca: Uint8Array) => (await failOf(() => unpackHere(bundleOf(keys), here(ca)))).message;
    expect(await refused(others.get("ca.crt")!)).toEndWith("the cluster's CA, by etcd's data, is the one here");
    expect(await refused(keys.get("ca.crt")!)).toEndWith("the cluster's CA, by etcd's data, is the bundle's");
    expect(await refused(old.get("ca.crt")!)).toEndWith(`is ${fingerprints(old).ca}`);
  });

  test("refuses a foreign bundle and a stale one, also where no key is", async () => {
    using box = node();
    const from = (kubeSystemUid: string, files = keys) => bundleOf(files, { cluster: { name: "shop", kubeSystemUid } });
    const refused = async (bundle: Bundle, ca: Uint8Array) => (await failOf(() => checkOrigin(bundle, here(ca), undefined))).message;
    expect(await refused(from("uid-there"), keys.get("ca.crt")!)).toMatch(/^The bundle is foreign: .*"shop".*uid-there.*uid-here/);
    expect(await refused(from("uid-here", old), keys.get("ca.crt")!)).toMatch(
      /^The bundle is stale: its CA sha256:.*the cluster has another/,
    );
    expect(await refused({ ...bundleOf(keys), manifest: undefined }, old.get("ca.crt")!)).toStartWith("Nothing tells that the bundle is");

    checkOrigin(from("uid-here"), here(keys.get("ca.crt")), undefined);
    expect(box.said.pop()).toBe("its CA is the one that etcd's data names");
    checkOrigin(from("uid-here"), here(old.get("ca.crt")), undefined);
    expect(box.said.pop()).toStartWith("its CA is newer than the one etcd's data names");
    checkOrigin({ ...bundleOf(keys), manifest: undefined }, here(old.get("ca.crt")), fingerprints(keys).ca);
    checkOrigin(bundleOf(keys), here(), undefined);
    expect(box.said.pop()).toBe("warning: not held against etcd's data: there is none");
  });

  test("writes nothing where one file cannot be written; the same command goes on when that is mended", async () => {
    using box = node();
    writeFile(`${PKI}/etcd`, "in the way of a folder");
    put(others, ["ca.crt", "ca.key"]);
    await putSealed(packTar(bundleOf(keys)));
    expect((await failOf(() => unpack("--move-aside"))).message).toStartWith(`Cannot write ${PKI}/etcd/ca.key`);
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
      expect(readdirSync(`${box.dir}/etc/kubernetes`, { recursive: true }).sort()).toEqual(["pki", "pki/etcd"]);
      await $`mount -o remount,size=1m ${box.dir}/etc/kubernetes`;
      await unpack();
      expect(present()).toHaveLength(8);
    } finally {
      await $`umount ${box.dir}/etc/kubernetes`;
    }
  });
});

describe("05-verify", () => {
  test("says when no backup was made, or one of other keys, and is quiet after pack and after unpack", async () => {
    using _box = node();
    put(keys);
    expect(backupAnswer(PKI)).toMatchObject({ warning: expect.stringContaining("no backup of these keys was made") });
    await pack();
    expect(backupAnswer(PKI)).toMatch(/^bundle\.age, \d{4}-/);
    expect(stat("/etc/kubernetes/.kube-pki-repair-backup")!.mode).toBe(0o644);
    put(others, ["sa.key", "sa.pub"]);
    expect(backupAnswer(PKI)).toMatchObject({ warning: expect.stringContaining("holds other keys (sa)") });
    await unpack("--move-aside");
    expect(backupAnswer(PKI)).toMatch(/^bundle\.age/);
    writeFile("/etc/kubernetes/.kube-pki-repair-backup", "{");
    expect(backupAnswer(PKI)).toMatchObject({ warning: expect.stringContaining("no backup") });
  });
});

describe.skipIf(!Bun.which("script"))("on a terminal", () => {
  const script = (box: { dir: string }, args: string[]) => {
    const code = `import { main } from "${import.meta.dir}/../../scripts/hand-over.ts"; import { run } from "${import.meta.dir}/../../shared/run.ts";
      import { setRoot } from "${import.meta.dir}/../../shared/files/files.ts"; setRoot("${box.dir}"); await run(() => main(${JSON.stringify(args)}));`;
    return (typed: string) => onTerminal(box.dir, `'${process.execPath}' -e "$CODE"`, typed, { CODE: code });
  };

  test(
    "a passphrase is asked for twice and not shown",
    async () => {
      using box = node();
      put(keys);
      const shown = await script(box, ["pack", "--out", FILE])("open sesame, open\nopen sesame, open\n");
      expect(shown).toMatch(/Passphrase for the bundle: .*The same again: /s);
      // what was typed before the question came stands there as the terminal showed it: ours is what comes after
      expect(shown.slice(shown.indexOf("Passphrase for"))).not.toContain("sesame");
      expect(await script(box, ["list", FILE])("open sesame, open\n")).toContain(fingerprints(keys).ca!);
      await expect(script(box, ["pack", "--out", FILE, "--force"])("open sesame, open\nopen sesame, shut\n")).rejects.toThrow(
        "not the same",
      );
    },
    SLOW,
  );

  test(
    "a passphrase that is made is shown on it and nowhere else, and opens the bundle",
    async () => {
      using box = node();
      put(keys);
      const shown = await script(box, ["pack", "--out", FILE, "--generate"])("");
      const passphrase = /^ {2}([0-9a-z]{4}(?:-[0-9a-z]{4}){5})\r?$/m.exec(shown)![1]!;
      writeFile("/made", passphrase);
      await main(["list", FILE, "--passphrase-file", "/made"]);
      expect(new Set(Array.from({ length: 50 }, newPassphrase)).size).toBe(50);
    },
    SLOW,
  );
});

describe.skipIf(!Bun.which("age"))("the age tool", () => {
  test.each(Object.keys(PROOFS))(
    "%s",
    async (name) => {
      await prove(name, bundleOf(keys));
    },
    SLOW,
  );
});
if (!Bun.which("age"))
  console.log("  the age tool is not installed: what it says of our bundles is asked in the lab only (apt-get install age)");
