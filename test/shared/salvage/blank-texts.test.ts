/** How much of what a stranger writes on a disk is looked at: by work, not by time. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { failOf } from "../../../shared/fail.ts";
import { Budget } from "../../../shared/salvage/budget.ts";
import { carve } from "../../../shared/salvage/disk/carve.ts";
import { Disk } from "../../../shared/salvage/disk/disk.ts";
import { yamlTexts } from "../../../shared/salvage/disk/yaml-text.ts";
import { noise } from "../../pretend/lost-disk.ts";

setDefaultTimeout(300_000);

const dir = mkdtempSync(join(tmpdir(), "blank-"));
afterAll(() => rmSync(dir, { recursive: true }));

/** A kubeconfig whose key is no key: no cut of it is whole. */
const SMALL = `apiVersion: v1
kind: Config
current-context: a
contexts: [{name: a, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://x"}}]
users:
- name: u
  user:
    client-certificate-data: abc
    client-key-data: def
`;
const END = "z\u0001";

function textsOf(text: string) {
  return [...yamlTexts(Buffer.from(text), 0, 0)];
}

test.each<[string, string, number]>([
  ["60,000 blank lines", "\n".repeat(60_000), 2],
  ["lines of blanks that end at borders of blocks", `${" ".repeat(511)}\n`.repeat(120), 3],
  ["blanks without a line's end", " ".repeat(60_000), 2],
  ["tabs and returns", "\t\r\n".repeat(20_000), 3],
])("behind a small kubeconfig %s are looked at once or twice, not 64 times", (_, blanks, most) => {
  const texts = textsOf(SMALL + blanks + END);
  expect(texts.length).toBeLessThanOrEqual(most);
  const bytes = texts.reduce((sum, { text }) => sum + text.length, 0);
  expect(bytes).toBeLessThanOrEqual(most * (SMALL.length + blanks.length));
});

test("a file that ends at a block's border is tried without the blanks of the next file behind it", () => {
  const padded = `${SMALL}#${" ".repeat(511 - (SMALL.length % 512) - 1)}\n`;
  expect(padded.length % 512).toBe(0);
  expect(textsOf(padded + " ".repeat(4096) + END).map(({ text }) => text)).toContain(padded);
});

/** A disk of ten of these, and one signal that counts how often it is asked. */
async function searched(text: string, stopAt = Number.POSITIVE_INFINITY) {
  const image = join(dir, "disk.img");
  const one = Buffer.alloc(Math.ceil((text.length + 1) / 4096) * 4096, 1);
  one.write(text);
  writeFileSync(
    image,
    Buffer.concat([noise(4096), ...Array.from({ length: 10 }, (_, i) => numbered(one, i))]),
  );
  let asked = 0;
  const stop = {
    get aborted() {
      return ++asked >= stopAt;
    },
  } as AbortSignal;
  const budget = new Budget({ what: "it", seconds: 3600, bytes: 1e12, stop, hint: "more" });
  using disk = new Disk(image);
  const said = await failOf(() => Array.fromAsync(carve(disk, { budget })));
  return { asked, said: said?.message };
}

/** Each text is looked at once: they differ. */
function numbered(one: Buffer, i: number): Buffer {
  const copy = Buffer.from(one);
  copy.write(String(i), SMALL.indexOf("https://x") + 8);
  return copy;
}

test("the search asks before each text, and after each of its cuts, whether its time is over", async () => {
  const blank = await searched(`${SMALL}${"\n".repeat(60_000)}`);
  expect(blank.said).toBeUndefined();
  // one word and one cut of each file, and the parts of the disk
  expect(blank.asked).toBeGreaterThanOrEqual(20);
  expect(blank.asked).toBeLessThan(60);
  const keys = `${SMALL}${Array.from({ length: 300 }, (_, i) => `k${i}: 1\n`).join("")}`;
  expect((await searched(keys)).asked).toBeGreaterThan(40);
  const { asked, said } = await searched(keys, 5);
  expect(said).toBe("The search of it ended early: it was interrupted");
  // the other nine files ask once more each, and are not looked at
  expect(asked).toBeLessThan(20);
});
