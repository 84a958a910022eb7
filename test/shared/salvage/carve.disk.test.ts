/**
 * The same on real file systems, mounted and emptied with rm -rf: needs root and loop devices, and is skipped
 * without. Only images of its own.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Disk } from "../../../shared/salvage/disk/disk.ts";
import { type Files, findsOn, kubernetesFiles, lost, tool, writeAll } from "../../pretend/lost-disk.ts";

setDefaultTimeout(300_000);

const dir = mkdtempSync(join(tmpdir(), "carve-disk-"));
const image = join(dir, "disk.img");
const folder = join(dir, "mount");
let files: Files;

beforeAll(async () => {
  files = await kubernetesFiles("RSA-2048");
  mkdirSync(folder);
});

afterAll(() => rmSync(dir, { recursive: true }));

// biome-ignore format: a table
const FILE_SYSTEMS = [
  { name: "ext4 with blocks of 1024", megabytes: 64,  make: ["mkfs.ext4", "-q", "-F", "-b", "1024"] },
  { name: "ext4 with blocks of 4096", megabytes: 64,  make: ["mkfs.ext4", "-q", "-F", "-b", "4096"] },
  { name: "xfs with blocks of 1024",  megabytes: 320, make: ["mkfs.xfs", "-q", "-f", "-b", "size=1024"] },
  { name: "xfs with blocks of 4096",  megabytes: 320, make: ["mkfs.xfs", "-q", "-f"] },
] as const;

const has = (program: string) => Bun.which(program) !== null || existsSync(`/usr/sbin/${program}`);
const mayMount = process.getuid?.() === 0 && canMount();

/** Root in a container may have no loop devices: only a try shows it. */
function canMount(): boolean {
  if (!has("mkfs.ext4")) return false;
  const at = mkdtempSync(join(tmpdir(), "carve-try-"));
  const one = join(at, "disk.img");
  writeFileSync(one, "");
  truncateSync(one, 4 * 1024 * 1024);
  const works = Bun.spawnSync([
    "sh",
    "-c",
    'PATH="$PATH:/usr/sbin"; mkfs.ext4 -q -F "$0" && mount -o loop "$0" "$1" && umount "$1"',
    one,
    at,
  ]);
  rmSync(at, { recursive: true });
  return works.exitCode === 0;
}

if (!mayMount)
  console.error(
    "carve.disk.test.ts: no root or no loop devices: real file systems are skipped; carve.test.ts has images",
  );

/**
 * A fresh file system on a fresh image, mounted while `action` runs. On the old file, mount would take the old
 * loop device: a process of another test with mounts of its own may still have that one mounted.
 */
function mounted(make: readonly string[], megabytes: number, action: () => void) {
  rmSync(image, { force: true });
  writeFileSync(image, "");
  truncateSync(image, megabytes * 1024 * 1024);
  tool([...make, image]);
  remounted(action);
}

function remounted(action: () => void) {
  tool(["mount", "-o", "loop", image, folder]);
  try {
    action();
  } finally {
    tool(["umount", folder]);
  }
}

/** Written back before it is deleted: what never got to the disk cannot be found there. */
function writeAndDelete(below: string, content: Record<string, string>) {
  writeAll(join(folder, below), content);
  tool(["sync", "-f", folder]);
  rmSync(join(folder, below), { recursive: true });
}

describe("rm -rf /etc/kubernetes on a mounted file system", () => {
  for (const { name, megabytes, make } of FILE_SYSTEMS) {
    test.skipIf(!mayMount || !has(make[0]))(name, async () => {
      mounted(make, megabytes, () => writeAndDelete("etc/kubernetes", files));
      expect(lost(files, await findsOn(image))).toEqual([]);
    });

    test.skipIf(!mayMount || !has(make[0]))(
      `${name}, with other files written and deleted before`,
      async () => {
        const logs = Object.fromEntries(
          Array.from({ length: 400 }, (_, i) => [
            `${i}.log`,
            `${i} 2026-11-03 the kubelet is well\n`.repeat(i * 7 + 1),
          ]),
        );
        mounted(make, megabytes, () => writeAndDelete("var/log", logs));
        remounted(() => {
          writeAndDelete("etc/kubernetes", files);
          writeAll(join(folder, "var/log"), { "kubelet.log": "kubelet stopped\n".repeat(20) });
        });
        const finds = await findsOn(image);
        expect(lost(files, finds).length).toBeLessThanOrEqual(1);
        expect(finds.filter(({ kind }) => kind === "private key").length).toBeGreaterThanOrEqual(11);
      },
    );
  }

  test.skipIf(!mayMount)("the device itself is read, and its size is known", async () => {
    mounted(["mkfs.ext4", "-q", "-F"], 16, () => writeAndDelete("etc/kubernetes", files));
    const device = tool(["losetup", "--show", "-r", "-f", image]).trim();
    try {
      using disk = new Disk(device);
      expect(disk.size).toBe(16 * 1024 * 1024);
      expect(lost(files, await findsOn(device))).toEqual([]);
    } finally {
      tool(["losetup", "-d", device]);
    }
  });
});

/**
 * In a process of its own: whatever touches the bytes from `from` to `to` gets the kernel's answer for a bad
 * sector.
 */
async function carveWithBadSectors(from: number, to: number) {
  const bad = `(at, length) => at < ${to} && at + length > ${from}`;
  const code = `
    import * as fs from "node:fs";
    import { mock } from "bun:test";
    const real = { ...fs };
    const bad = ${bad};
    const fail = () => Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
    const readSync = (fd, into, start, length, at) => { if (bad(at, length)) throw fail(); return real.readSync(fd, into, start, length, at); };
    const read = (fd, into, start, length, at, done) => {
      if (bad(at, length)) return done(fail());
      const bytesRead = real.readSync(fd, into, start, length, at);
      done(null, { bytesRead, buffer: into });
    };
    mock.module("node:fs", () => ({ ...real, readSync, read }));
    const { Disk } = await import("${import.meta.dir}/../../../shared/salvage/disk/disk.ts");
    const { carve } = await import("${import.meta.dir}/../../../shared/salvage/disk-search.ts");
    using disk = new Disk(${JSON.stringify(image)}, 65536);
    const finds = await Array.fromAsync(carve(disk));
    console.log(JSON.stringify({ unreadable: disk.unreadable, keys: finds.map(({ kind, offset }) => kind + " " + offset) }));`;
  const child = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe", stderr: "inherit" });
  return JSON.parse(await new Response(child.stdout).text()) as { unreadable: number; keys: string[] };
}

test("a bad sector loses its own bytes, and nothing else", async () => {
  const disk = Buffer.alloc(256 * 1024);
  for (const [i, name] of ["pki/ca.key", "pki/sa.key", "pki/etcd/ca.key"].entries())
    disk.write(files[name]!, 4096 * (20 + i));
  writeFileSync(image, disk);
  const { unreadable, keys } = await carveWithBadSectors(4096 * 21 + 100, 4096 * 21 + 200);
  expect(keys).toEqual([`private key ${4096 * 20}`, `private key ${4096 * 22}`]);
  expect(unreadable).toBe(4096);
});
