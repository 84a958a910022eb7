/** How much of what a stranger writes on a disk is looked at: by work, not by time. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Budget } from "../../../shared/budget.ts";
import { failOf } from "../../../shared/fail.ts";
import { Disk } from "../../../shared/salvage/disk/disk.ts";
import { configAt } from "../../../shared/salvage/disk/encryption-config.ts";
import { carve } from "../../../shared/salvage/disk-search.ts";
import { noise } from "../../pretend/lost-disk.ts";

setDefaultTimeout(300_000);

const dir = mkdtempSync(join(tmpdir(), "blank-"));
afterAll(() => rmSync(dir, { recursive: true }));

/** Much that is like an encryption configuration, and none. */
const DECOY = "kind: EncryptionConfiguration\nresources: {}\n";

/** A disk of ten of these, and one signal that counts how often it is asked. */
async function searched(text: string, stopAt = Number.POSITIVE_INFINITY) {
  const image = join(dir, "disk.img");
  const one = Buffer.alloc(Math.ceil((text.length + 1) / 4096) * 4096);
  one.write(text);
  writeFileSync(image, Buffer.concat([noise(4096), ...Array.from({ length: 10 }, () => one)]));
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

test("the search asks before each configuration whether its time is over", async () => {
  const all = await searched(DECOY);
  expect(all.said).toBeUndefined();
  expect(all.asked).toBeGreaterThanOrEqual(10);
  expect(all.asked).toBeLessThan(40);
  const { said } = await searched(DECOY, 5);
  expect(said).toBe("The search of it ended early: it was interrupted");
});

test("a place where a file may begin is tried once, however many words are behind it", () => {
  const image = join(dir, "disk.img");
  const text = "# EncryptionConfig\nkind: EncryptionConfiguration\nresources: []\n";
  writeFileSync(image, Buffer.concat([Buffer.from(text), Buffer.alloc(4096)]));
  using disk = new Disk(image);
  const [first, second] = [text.indexOf("Encr"), text.lastIndexOf("Encr")];
  expect(configAt(disk, first, 0)).toEqual({ offset: 0, text });
  expect(configAt(disk, second, 0)).toEqual({ offset: 0, text });
  expect(configAt(disk, second, first)).toBeUndefined();
});

test("between two texts that may be a configuration the search asks whether its time is over", () => {
  const image = join(dir, "disk.img");
  // no text of these borders is one: each is parsed
  const before = `${"# a comment\n".repeat(1000)}`;
  writeFileSync(image, `${before}${DECOY}${"\0".repeat(4096)}`);
  using disk = new Disk(image);
  let asked = 0;
  const at = before.length + DECOY.indexOf("Encr");
  expect(configAt(disk, at, 0, () => ++asked >= 3)).toBeUndefined();
  expect(asked).toBe(3);
});

test("a block of nested keys costs the search no more than another one", async () => {
  const { said, asked } = await searched(`kind: EncryptionConfiguration\n${"? ".repeat(1000)}\n`);
  expect(said).toBeUndefined();
  expect(asked).toBeLessThan(40);
});
