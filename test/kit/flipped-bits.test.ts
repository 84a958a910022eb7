/** One bit that is another one, in a file of a kit or in an archive, is named before anything runs: by the printed lines. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";
import { sha256Of } from "../../shared/files/sha256.ts";
import { kitFiles } from "../../tools/pack/pack-kit.ts";
import { SUMS, writeKitFolder, writeKitTarball } from "../../tools/pack/write-kit.ts";
import { random } from "../pretend/damage.ts";
import { onNode } from "../pretend/no-node.ts";
import { OWN_ARCH } from "./own-arch.ts";

setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "flipped-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Some of a kit's files, without its Bun: a look at all sums takes a moment. */
const all = await onNode("/", () => kitFiles([OWN_ARCH], "1.2.3+4.gabc"));
const own = [...all].filter(
  ([name], index) =>
    name === "START-HERE.txt" || (index % 9 === 0 && name !== SUMS && !name.startsWith("bun/")),
);
const sums = own.map(([name, bytes]) => `${sha256Of(bytes)}  ${name}\n`).join("");
const files = new Map([...own, [SUMS, Buffer.from(sums)] as const]);
const kit = join(folder, "kit");
writeKitFolder(kit, files);

const page = (name: string) => readFileSync(join(HOME, name), "utf8");
const START_LINE = readFileSync(join(kit, "START-HERE.txt"), "utf8").match(/^sha256sum -c .*?(?= {2}#)/m)![0];
const UNPACK_LINE = page("RUNBOOK.md").match(/tar -xzf - && (?:.*\n?)*?.*OK\$"/)![0];
const RELEASE_LINE = page("CONTRIBUTING.md").match(/^sha256sum -c SHA256SUMS(?= +#)/m)![0];

async function said(line: string, cwd: string, stdin?: string) {
  const input = stdin === undefined ? "/dev/null" : stdin;
  const { exitCode, stdout, stderr } = await $`sh -c ${line} < ${input}`.cwd(cwd).quiet().nothrow();
  return { exitCode, text: `${stdout}${stderr}` };
}

function flip(path: string, bit: number) {
  const bytes = readFileSync(path);
  bytes[bit >> 3]! ^= 1 << (bit & 7);
  writeFileSync(path, bytes);
}

test("START-HERE's line is silent on a whole kit, and names the one file in which a bit is flipped: each of them", async () => {
  expect((await said(START_LINE, kit)).text).toBe("");
  const below = random(59);
  for (const [name, { length }] of own) {
    if (length === 0) continue;
    const [path, bit] = [join(kit, name), below(length * 8)];
    flip(path, bit);
    const { text } = await said(START_LINE, kit);
    expect([name, bit, text.split("\n")[0]]).toEqual([name, bit, `${name}: FAILED`]);
    flip(path, bit);
  }
  expect((await said(START_LINE, kit)).text).toBe("");
});

test("a flipped bit in the list of sums itself is named, too", async () => {
  const below = random(60);
  for (let i = 0; i < 200; i++) {
    const bit = below(sums.length * 8);
    flip(join(kit, SUMS), bit);
    const flipped = readFileSync(join(kit, SUMS), "latin1");
    const { text } = await said(START_LINE, kit);
    // a letter of a sum in upper case is the same sum; a comment's file is not looked at, and it is whole
    const isHarmless =
      flipped.toLowerCase() === sums.toLowerCase() ||
      flipped.split("\n").some((line) => line.startsWith("#"));
    if (!isHarmless) expect([bit, text]).toEqual([bit, expect.stringMatching(/\S/)]);
    flip(join(kit, SUMS), bit);
  }
});

/** Bytes of gzip's header that say when and where it was made (RFC 1952): they change no file. */
const SAYS_NOTHING = [4, 5, 6, 7, 8, 9];

test("RUNBOOK.md's line unpacks no archive in which a bit is flipped, and a release's sums name each", async () => {
  const archive = join(folder, "kit.tar.gz");
  await onNode("/", () => writeKitTarball(archive, files));
  const { size } = statSync(archive);
  writeFileSync(join(folder, SUMS), `${sha256Of(readFileSync(archive))}  kit.tar.gz\n`);
  expect((await said(RELEASE_LINE, folder)).text).toBe("kit.tar.gz: OK\n");
  const below = random(61);
  const bits = [
    ...Array.from({ length: 80 }, (_, bit) => bit),
    ...Array.from({ length: 64 }, (_, bit) => size * 8 - 1 - bit),
    ...Array.from({ length: 60 }, () => below(size * 8)),
  ];
  const wrong: number[] = [];
  for (const bit of bits) {
    flip(archive, bit);
    const there = join(folder, "there");
    mkdirSync(there);
    const unpacked = await said(UNPACK_LINE, there, archive);
    const isSame = unpacked.exitCode === 0 && (await said("sha256sum -c SHA256SUMS", there)).exitCode === 0;
    const mayBe = SAYS_NOTHING.includes(bit >> 3) || bit === 24;
    if (unpacked.exitCode === 0 ? !(isSame && mayBe) : unpacked.text.trim() === "") wrong.push(bit);
    if (bit % 5 === 0)
      expect([bit, (await said(RELEASE_LINE, folder)).text]).toEqual([
        bit,
        expect.stringContaining("kit.tar.gz: FAILED"),
      ]);
    rmSync(there, { recursive: true });
    flip(archive, bit);
  }
  expect(wrong).toEqual([]);
});
