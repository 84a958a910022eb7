/**
 * Deleted files come back from images of ext4 that are made here without root, and from bytes that lie as a
 * disk would have them.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeTar } from "../../../shared/hand-over/tar.ts";
import { Disk } from "../../../shared/salvage/disk/disk.ts";
import type { CutFind, Find } from "../../../shared/salvage/disk/pem-block.ts";
import { carve, search } from "../../../shared/salvage/disk-search.ts";
import {
  deletedImage,
  type Files,
  findsOn,
  HAS_EXT4_TOOLS,
  kubernetesFiles,
  layOut,
  lost,
  noise,
} from "../../pretend/lost-disk.ts";

setDefaultTimeout(300_000);

/** Its secret is used nowhere. */
const config = (name: string) =>
  `apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc: {keys: [{name: ${name}, secret: ${Buffer.alloc(32, name).toString("base64")}}]}\n  - identity: {}\n`;
const RESOURCES_FIRST = `resources:\n- {resources: [secrets], providers: [{identity: {}}]}\napiVersion: v1\nkind: EncryptionConfig\n`;

const dir = mkdtempSync(join(tmpdir(), "carve-"));
const image = join(dir, "disk.img");
let files: Files;

if (!HAS_EXT4_TOOLS)
  console.error(
    "carve.test.ts: mkfs.ext4 or debugfs is missing (Debian package e2fsprogs): images of ext4 are skipped",
  );

beforeAll(async () => {
  files = await kubernetesFiles("RSA-2048");
});

afterAll(() => rmSync(dir, { recursive: true }));

/**
 * A disk of `size` bytes of noise, with these pieces at these places; each fills its last block with zeros.
 */
async function findsIn(
  pieces: [offset: number, content: string | Buffer][],
  options: { size?: number } = {},
) {
  writeFileSync(image, diskOf(pieces, options.size));
  return await findsOn(image);
}

function diskOf(pieces: [offset: number, content: string | Buffer][], size = 64 * 1024, seed = 1): Buffer {
  const disk = noise(size, seed);
  for (const [offset, content] of pieces) {
    const bytes = Buffer.from(content);
    disk.fill(0, offset, Math.ceil((offset + bytes.length) / 1024) * 1024);
    bytes.copy(disk, offset);
  }
  return disk;
}

const kinds = (finds: readonly Find[]) => finds.map(({ kind }) => kind).sort();
const count = (finds: readonly Find[], kind: Find["kind"]) =>
  finds.filter((find) => find.kind === kind).length;

describe("all of a deleted /etc/kubernetes comes back, and the image stays as it was", () => {
  for (const block of [1024, 4096]) {
    test.skipIf(!HAS_EXT4_TOOLS)(`ext4 with blocks of ${block}`, async () => {
      deletedImage(image, files, { block });
      const before = [
        createHash("sha256").update(readFileSync(image)).digest("hex"),
        statSync(image).mtimeMs,
      ];
      const finds = await findsOn(image);
      expect(lost(files, finds)).toEqual([]);
      expect(count(finds, "private key")).toBe(12); // eleven of pki, one of the kubelet
      expect(count(finds, "config")).toBe(1);
      expect(count(finds, "cut")).toBe(0);
      expect([
        createHash("sha256").update(readFileSync(image)).digest("hex"),
        statSync(image).mtimeMs,
      ]).toEqual(before);
    });
  }
});

test("whatever is around them", async () => {
  const some = Object.fromEntries(
    Object.entries(files).filter(([name]) => /^(encryption|kubelet-client|pki\/(ca|sa))/.test(name)),
  );
  const more = { ...some, "resources first": RESOURCES_FIRST };
  for (let seed = 1; seed <= 150; seed++) {
    writeFileSync(image, layOut(more, seed % 2 ? 512 : 4096, seed * 7919));
    expect([seed, lost(more, await findsOn(image))]).toEqual([seed, []]);
  }
});

test("wherever the disk is cut into chunks, the same is found", async () => {
  const key = files["pki/ca.key"]!;
  const disk = diskOf([[1024, key], [4096, RESOURCES_FIRST], [10_240, files["encryption.yaml"]!]], 16 * 1024); // biome-ignore format: a disk
  writeFileSync(image, disk);
  const whole = await findsOn(image);
  expect(kinds(whole)).toEqual(["config", "config", "private key"]);
  for (const chunk of [512, 700, 1023, 1024, 1025, 1030, 2000, 4096, 4100, 5000, 8191, 10_250, 12_000])
    expect(Bun.deepEquals(await findsOn(image, chunk), whole)).toBe(true);
});

test("a word is met once, also across a border", async () => {
  const words = ["-----BEGIN ", "-----END ", "apiVersion:"];
  const disk = Buffer.alloc(1000, "-");
  for (const [i, place] of [0, 100, 111, 500, 989].entries()) disk.write(words[i % 3]!, place);
  writeFileSync(image, disk);
  for (let chunk = 1; chunk <= 1000; chunk++)
    expect(await hitsWith(chunk)).toEqual(["BEGIN 0", "END 100", "apiVersion: 111", "BEGIN 500", "END 989"]);

  async function hitsWith(chunk: number) {
    using source = new Disk(image, chunk);
    const searched = await Array.fromAsync(search(source, words));
    return searched.flatMap(({ hits }) =>
      hits.map(({ needle, offset }) => `${needle.replaceAll("-", "").trim()} ${offset}`),
    );
  }
});

test("bytes anywhere are the disk's, whether they are in memory or not", async () => {
  const disk = noise(5000);
  writeFileSync(image, disk);
  using source = new Disk(image, 1000);
  for await (const _ of source.parts(10))
    for (let offset = 0; offset < 5000; offset += 333)
      expect(source.read(offset, 700).equals(disk.subarray(offset, offset + 700))).toBe(true);
  expect(source.read(4990, 700)).toEqual(disk.subarray(4990));
});

test("a file that is found many times is yielded once", async () => {
  const finds = await findsIn([0, 4096, 8192].map((offset) => [offset, files["pki/sa.key"]!]));
  expect(kinds(finds)).toEqual(["private key"]);
  expect(finds[0]!.offset).toBe(0);
});

/** A configuration of exactly so many bytes. */
function padded(bytes: number): string {
  const text = config("padded");
  return `${text}${"#".repeat(bytes - text.length - 1)}\n`;
}

test("an encryption configuration is whole only where its end was seen: zeros up to a block's end, or a mark", async () => {
  const finds = await findsIn([
    [4096, padded(1024)],
    [8192, `${padded(1024)}\0`],
    [16_384, `${padded(1024)}---\n`],
    [20_480, `${padded(1023)}\u0001`],
    [24_576, padded(1000)],
  ]);
  expect(finds.map(({ kind, offset }) => [kind, offset])).toEqual([
    ["config", 16_384],
    ["config", 24_576],
  ]);
});

test("files that do not begin with what they are known by: marks, comments, other fields first, Windows' line ends", async () => {
  const comments = "# a long comment that an auditor wrote\n".repeat(60);
  const finds = await findsIn([
    [1024, `\ufeff${config("marked")}`],
    [2048, `---\n# by hand\n${config("second")}`],
    [8192, `${comments}${config("commented")}`],
    [12_288, config("windows").replaceAll("\n", "\r\n")],
    [16_384, files["pki/ca.key"]!.replaceAll("\n", "\r\n")],
    [20_480, `a note of mine: the key of the CA\n\n${files["pki/sa.key"]}`],
    [24_576, config("quoted").replace("EncryptionConfiguration", '"EncryptionConfig"   # old')],
    [28_672, RESOURCES_FIRST],
    [32_768, `apiVersion: v1\nkind: ConfigMap\n---\n# the second\n${config("later")}`],
  ]);
  expect(finds.map(({ kind, offset }) => [kind, offset])).toEqual([
    ["config", 1024],
    ["config", 2048],
    ["config", 8192],
    ["config", 12_288],
    ["private key", 16_384],
    ["private key", 20_480 + 35],
    ["config", 24_576],
    ["config", 28_672],
    ["config", 32_768 + 31],
  ]);
  expect(lost({ ca: files["pki/ca.key"]!, sa: files["pki/sa.key"]! }, finds)).toEqual([]);
  const texts = finds.flatMap((find) => ("text" in find ? [find.text] : []));
  expect(texts).toContain(`${comments}${config("commented")}`);
});

test("text of other files right before and after does not get into a file", async () => {
  const log = `${"2026-11-03T04:05:06Z kind: EncryptionConfiguration was read\n".repeat(80)}`.slice(0, 4096);
  const policy = `rules:\n${"- {level: Metadata}\n".repeat(300)}`.slice(0, 4095);
  const commented = `${"# by hand\n".repeat(100)}${config("two")}`;
  const finds = await findsIn([
    [4096, log],
    [8192, config("one")],
    [16_384, log],
    [20_480, commented],
    [28_672, `${policy}\n`],
    [32_768, config("three")],
    [36_864, log],
  ]);
  expect(finds.map((find) => ("text" in find ? find.text : ""))).toEqual([
    config("one"),
    commented,
    config("three"),
  ]);
});

test("what is like an encryption configuration and none is not yielded", async () => {
  const finds = await findsIn([
    [1024, 'const x = "kind: EncryptionConfiguration";\n'],
    [2048, "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"],
    [3072, config("a").replace("resources:", "rules: []\nresources:")],
    [4096, config("b").replace("kind: ", "  kind: ")],
    [5120, config("c").replace("EncryptionConfiguration", "EncryptionConfigurationList")],
    [6144, `${config("d")}: [\n`],
    [7168, Buffer.from(config("e").replace("name: e", "name: \xff"), "latin1")],
  ]);
  expect(finds).toEqual([]);
});

test("an archive that was deleted gives its files as well", async () => {
  const names = ["pki/ca.key", "pki/sa.key", "encryption.yaml"];
  const tar = writeTar(
    names.map((name) => ({ name, mode: 0o600, bytes: Buffer.from(files[name]!) })),
    new Date(),
  );
  expect(kinds(await findsIn([[4096, Buffer.from(tar)]]))).toEqual(["config", "private key", "private key"]);
});

describe("what is damaged is reported as cut, and never yielded as whole", () => {
  test("a key that is cut or half overwritten", async () => {
    const key = files["pki/ca.key"]!;
    const other = files["pki/apiserver.key"]!;
    const cut = await findsIn([[1024, key.slice(0, 1024)]], { size: 2048 });
    expect(cut).toEqual([{ kind: "cut", what: "RSA PRIVATE KEY", offset: 1024 }]);
    const mixed = await findsIn([[4096, key.slice(0, 1024) + other.slice(1024, 1675)]]);
    expect(mixed).toEqual([{ kind: "cut", what: "RSA PRIVATE KEY", offset: 4096 }]);
  });

  test("an encryption configuration whose second half is gone, or elsewhere", async () => {
    const text = padded(3000);
    for (const border of [1024, 2048]) {
      const [head, tail] = [text.slice(0, border), text.slice(border)];
      expect(await findsIn([[4096, head]], { size: 4096 + border })).toEqual([]);
      expect(
        await findsIn([
          [4096, head],
          [20_480, tail],
        ]),
      ).toEqual([]);
    }
  });

  test("every half of every key: only whole ones are yielded", async () => {
    const disk = layOut(files, 1024);
    writeFileSync(image, disk);
    const keys = (await findsOn(image)).filter(({ kind }) => kind === "private key");
    for (const { offset } of keys) noise(512, offset).copy(disk, offset + 1024);
    writeFileSync(image, disk);
    const after = await findsOn(image);
    expect(count(after, "private key")).toBe(0);
    expect(count(after, "cut")).toBeGreaterThanOrEqual(keys.length);
    expect(count(after, "certificate")).toBe(11);
  });
});

describe("a key or a certificate in two pieces is put together, wherever it is cut and whichever comes first", () => {
  for (const [first, second] of [[8192, 20_480], [20_480, 8192]] as const) // biome-ignore format: places
    test(`the second piece ${first < second ? "after" : "before"} the first`, async () => {
      for (const name of ["pki/ca.key", "pki/etcd/server.crt"]) {
        const content = files[name]!;
        for (let border = 1024; border < content.length; border += 1024) {
          const head = content.slice(0, border);
          const finds = await findsIn([[first, head], [second, content.slice(border)], [32_768, files["super-admin.conf"]!], [49_152, files["pki/etcd/ca.crt"]!]]); // biome-ignore format: places
          const found = finds.find((find) => "joined" in find);
          expect([name, border, found && "pem" in found && found.pem === content]).toEqual([
            name,
            border,
            true,
          ]);
          expect(found).toMatchObject({ offset: first, joined: second });
          expect(count(finds, "cut")).toBe(0);
        }
      }
    });

  test("all of pki/, its blocks scattered over a disk that is full of other files", async () => {
    const ofPki = Object.fromEntries(Object.entries(files).filter(([name]) => name.startsWith("pki/")));
    const blocks = Object.values(ofPki).flatMap((text) =>
      Array.from({ length: Math.ceil(text.length / 1024) }, (_, i) => text.slice(i * 1024, (i + 1) * 1024)),
    );
    const count = 1024;
    const disk = Buffer.alloc(count * 1024, "text of a log that was here before\n");
    // 389 and 1024 have no common factor: each block has a place of its own
    for (const [i, block] of blocks.entries())
      disk
        .fill(0, ((i * 389) % count) * 1024, ((i * 389) % count) * 1024 + 1024)
        .write(block, ((i * 389) % count) * 1024);
    writeFileSync(image, disk);
    const finds = await findsOn(image);
    expect(lost(ofPki, finds)).toEqual([]);
    expect(finds.filter((find) => "joined" in find).length).toBeGreaterThan(20);
    expect(finds.filter(({ kind }) => kind === "certificate").length).toBe(
      Object.keys(ofPki).filter((name) => name.endsWith(".crt")).length,
    );
    expect(finds.filter(({ kind }) => kind === "private key").length).toBe(11);
    expect(finds.filter(({ kind }) => kind === "cut")).toEqual([]);
  });

  test("the pieces of two keys are not mixed up", async () => {
    const [one, two] = [files["pki/ca.key"]!, files["pki/sa.key"]!];
    const pieces: [number, string][] = [
      [4096, one.slice(0, 1024)],
      [12_288, two.slice(0, 1024)],
      [20_480, two.slice(1024)],
      [28_672, one.slice(1024)],
    ];
    const finds = await findsIn(pieces);
    expect(finds.map((find) => [one, two].indexOf("pem" in find ? find.pem : ""))).toEqual([0, 1]);
  });
});

test("64 MB of noise and decoys give what is there, and nothing else", async () => {
  const size = 64 * 1024 * 1024;
  const key = files["pki/ca.key"]!;
  const decoys = [
    "see -----BEGIN RSA PRIVATE KEY----- and -----END RSA PRIVATE KEY----- in the manual; apiVersion: v1\nkind: Config\n",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA...\n-----END RSA PRIVATE KEY-----\n",
    "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n",
    key.replace(/[A-Za-z0-9+/]{12}(?=[A-Za-z0-9+/]{4}={0,2}\n-----END)/, "AAAAAAAAAAAA"),
    "apiVersion: v1\nkind: Pod\n",
    "kind: EncryptionConfiguration is what apiVersion: tells\n",
    "kind: EncryptionConfiguration\nresources: {name: [}\n",
    "kind: EncryptionConfig\nkind: EncryptionConfig\n",
  ];
  const pieces = Array.from(
    { length: 900 },
    (_, i) => [4096 * (17 * i + 5), decoys[i % decoys.length]!] as [number, string],
  );
  const finds = await findsIn([...pieces, [4096 * 16_000, key], [4096 * 16_002, config("own")]], { size });
  expect(finds.filter(({ kind }) => kind !== "cut").map(({ kind, offset }) => [kind, offset / 4096])).toEqual(
    [
      ["private key", 16_000],
      ["config", 16_002],
    ],
  );
  const cut = finds.filter((find): find is CutFind => find.kind === "cut").map(({ what }) => what);
  expect(cut.length).toBeLessThanOrEqual(3);
});

test("progress is reported up to the end", async () => {
  writeFileSync(image, diskOf([[0, files["pki/ca.key"]!]]));
  using disk = new Disk(image, 10_000);
  const reports: string[] = [];
  const finds = await Array.fromAsync(
    carve(disk, { onProgress: (done, found) => reports.push(`${done}/${disk.size} ${found}`) }),
  );
  expect(finds.length).toBe(1);
  expect(reports).toHaveLength(7);
  expect([reports[0], reports[6]]).toEqual(["10000/65536 1", "65536/65536 1"]);
});

test("a caller who has found enough may stop", async () => {
  writeFileSync(
    image,
    diskOf([4096, 8192].map((offset, i) => [offset, files[["pki/ca.key", "pki/sa.key"][i]!]!])),
  );
  using disk = new Disk(image, 6000);
  for await (const { offset } of carve(disk)) {
    expect(offset).toBe(4096);
    break;
  }
  expect(count(await Array.fromAsync(carve(disk)), "private key")).toBe(2);
});

test("every form of a key in PEM", async () => {
  const pem = (type: "pkcs1" | "sec1" | "pkcs8" | "spki", key: KeyObject) =>
    String(key.export({ type: type as never, format: "pem" }));
  const [rsa, ec, ed] = [generateKeyPairSync("rsa", { modulusLength: 4096 }), generateKeyPairSync("ec", { namedCurve: "P-521" }), generateKeyPairSync("ed25519")]; // biome-ignore format: a list
  const forms = [
    pem("pkcs1", rsa.privateKey),
    pem("sec1", ec.privateKey),
    pem("pkcs8", ed.privateKey),
    pem("pkcs1", rsa.publicKey),
    pem("spki", ec.publicKey),
  ];
  const finds = await findsIn(
    forms.map((text, i) => [i * 12_288, text]),
    { size: 128 * 1024 },
  );
  expect(kinds(finds)).toEqual(["private key", "private key", "private key", "public key", "public key"]);
  expect(lost(Object.fromEntries(forms.map((text, i) => [i, text])), finds)).toEqual([]);
  expect(finds[0]).toHaveProperty("publicKeyHash", (finds[3] as { publicKeyHash: string }).publicKeyHash);
  const pkcs8 = await findsIn([[4096, pem("pkcs8", rsa.privateKey)], [16_384, pem("spki", rsa.publicKey)]]); // biome-ignore format: places
  expect(kinds(pkcs8)).toEqual(["private key", "public key"]);
});

test("what is no disk is refused with a hint", () => {
  expect(() => new Disk("/nowhere")).toThrow('Cannot read "/nowhere": ENOENT');
  expect(() => new Disk(dir)).toThrow("is neither a block device nor an image");
});
