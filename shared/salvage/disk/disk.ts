/**
 * Reads a block device or an image of one, and never writes: all of it in order, the next piece while the last one is
 * looked at, or a few bytes anywhere. Finds the device that a folder is on, and says whether deleted files can be
 * found there at all.
 */
import { closeSync, fstatSync, openSync, read, readFileSync, readSync, type Stats } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { $ } from "zx/core";
import { codeOf, Fail } from "../../fail.ts";
import { exists, hostPath } from "../../files/files.ts";

/**
 * Bytes read at once; two pieces are in memory. Smaller ones cost more calls, larger ones leave the
 * processor's cache.
 */
const CHUNK = 4 * 1024 * 1024;

/**
 * Where a piece cannot be read whole, it is read again in units of this size, so that only a bad sector is
 * lost.
 */
const SECTOR = 4096;

const readAsync = promisify(read);

/** A part of the disk. `bytes` is a view: valid until the next part is asked for. */
interface Part {
  offset: number;
  bytes: Buffer;
}

/** `using disk = new Disk("/dev/vda1")` closes it. */
export class Disk {
  readonly path: string;
  readonly size: number;
  readonly #file: number;
  readonly #chunk: number;
  #part: Part | undefined;
  #scratch = Buffer.alloc(0);
  readonly #bad = new Set<number>();

  constructor(path: string, chunk = CHUNK) {
    this.path = path;
    this.#chunk = chunk;
    this.#file = opened(path);
    const size = sizeOf(fstatSync(this.#file));
    if (size === undefined) {
      closeSync(this.#file);
      throw new Fail(`"${path}" is neither a block device nor an image`, {
        hint: "see the devices with: lsblk -o NAME,FSTYPE,SIZE,MOUNTPOINTS",
      });
    }
    this.size = size;
  }

  /** Bytes that the device could not read; they read as zeros. */
  get unreadable(): number {
    return this.#bad.size * SECTOR;
  }

  [Symbol.dispose]() {
    closeSync(this.#file);
  }

  /** From the first byte to the last. Each part repeats the last `overlap` bytes of the one before it. */
  async *parts(overlap: number): AsyncGenerator<Part> {
    const buffers = [0, 1].map(() => Buffer.allocUnsafeSlow(overlap + this.#chunk)) as [Buffer, Buffer];
    let offset = 0;
    let kept = 0;
    let reading = later(this.#fill(buffers[0], 0, 0));
    try {
      while (offset < this.size) {
        const count = await reading;
        const bytes = buffers[0].subarray(0, kept + count);
        buffers.reverse();
        const keep = Math.min(overlap, bytes.length);
        bytes.copy(buffers[0], 0, bytes.length - keep);
        reading = later(this.#fill(buffers[0], keep, offset + count));
        this.#part = { offset: offset - kept, bytes };
        yield this.#part;
        kept = keep;
        offset += count;
      }
    } finally {
      this.#part = undefined;
      await Promise.allSettled([reading]);
    }
  }

  /** There may be fewer at the end of the disk. A view, valid until the next part or the next read. */
  read(offset: number, length: number): Buffer {
    const end = Math.min(offset + length, this.size);
    const from = offset - (this.#part?.offset ?? 0);
    if (this.#part && from >= 0 && from + end - offset <= this.#part.bytes.length) {
      return this.#part.bytes.subarray(from, from + end - offset);
    }
    if (this.#scratch.length < length) this.#scratch = Buffer.allocUnsafeSlow(length);
    const bytes = this.#scratch.subarray(0, Math.max(0, end - offset));
    for (let done = 0; done < bytes.length; ) done += this.#readSync(bytes.subarray(done), offset + done);
    return bytes;
  }

  /** Fills a buffer from `start` on; returns how many bytes the disk had for it. */
  async #fill(buffer: Buffer, start: number, offset: number): Promise<number> {
    const wanted = Math.min(this.#chunk, this.size - offset);
    for (let done = 0; done < wanted; ) {
      try {
        const { bytesRead } = await readAsync(this.#file, buffer, start + done, wanted - done, offset + done);
        if (bytesRead === 0) throw endedEarly(this.path, offset + done);
        done += bytesRead;
      } catch (err) {
        if (!isBadSector(err)) throw err;
        done += this.#readSync(
          buffer.subarray(start + done, start + Math.min(wanted, done + SECTOR)),
          offset + done,
        );
      }
    }
    return wanted;
  }

  #readSync(into: Buffer, offset: number): number {
    try {
      const count = readSync(this.#file, into, 0, into.length, offset);
      if (count === 0) throw endedEarly(this.path, offset);
      return count;
    } catch (err) {
      if (!isBadSector(err)) throw err;
      const lost = Math.min(SECTOR, into.length);
      this.#bad.add(Math.floor(offset / SECTOR));
      into.fill(0, 0, lost);
      return lost;
    }
  }
}

/** A read may fail while the part before is still looked at: the error is thrown when its own turn comes. */
function later<T>(promise: Promise<T>): Promise<T> {
  void Promise.allSettled([promise]);
  return promise;
}

function opened(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new Fail(`Cannot read "${path}": ${code}`, {
      hint: "see the devices with lsblk, then give one that can be read: --device DEVICE, or an image of it: --image FILE. Only root can read a disk",
      cause,
    });
  }
}

/**
 * In bytes; undefined for what is neither a file nor a block device. The kernel counts a device in units of
 * 512 bytes, always.
 */
function sizeOf(info: Stats): number | undefined {
  if (info.isFile()) return info.size;
  if (!info.isBlockDevice()) return undefined;
  const major = (info.rdev >>> 8) & 0xfff;
  const minor = (info.rdev & 0xff) | ((info.rdev >>> 12) & 0xfff00);
  return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * 512;
}

function isBadSector(err: unknown): boolean {
  return codeOf(err) === "EIO";
}

function endedEarly(path: string, offset: number): Fail {
  return new Fail(`"${path}" ended at byte ${offset} while it was read`, {
    hint: "run the same line again when it is copied to its end",
  });
}

const HOPELESS: Record<string, string> = {
  tmpfs: "its files are in memory, and deleted ones are gone at once",
  ramfs: "its files are in memory, and deleted ones are gone at once",
  overlay:
    "that is a container's; run this on the node itself. If it is the node, findmnt -no OPTIONS /etc names the upperdir (Flatcar)",
  nfs: "its blocks are on another machine; look for a snapshot there",
  nfs4: "its blocks are on another machine; look for a snapshot there",
  zfs: "zfs compresses, and has no single device; look for a snapshot with zfs list -t snapshot",
  squashfs: "nothing can be deleted there",
};

/** Tested on real ones: test/shared/salvage/carve.disk.test.ts. Of others, what is known. */
const TRIED = ["ext4", "xfs"];
const UNTRIED: Record<string, string> = {
  btrfs: "small files are in btrfs's metadata, which is often rewritten",
  f2fs: "f2fs discards freed blocks",
};

const HINT =
  "see the devices with lsblk, then give the device (--device DEVICE) or an image of it (--image FILE)";

/**
 * Says also what makes a find less likely, a sentence each. The path itself may be gone. Errors: Fail where no device
 * can be read for it.
 */
export async function deviceOf(path: string) {
  const folder = existing(path);
  const found = await mountOf(folder);
  // Flatcar's /etc lies over the system's own; what was written there is in `upperdir`, below the place where
  // the initial ramdisk had "/"
  const upper =
    found.fstype === "overlay" && found.target !== "/"
      ? /(?:^|,)upperdir=(?:\/sysroot)?(\/[^,]*)/.exec(found.options)?.[1]
      : undefined;
  const { source, fstype, options } = upper === undefined ? found : await mountOf(dirname(upper));
  const hopeless = HOPELESS[fstype];
  if (hopeless) throw new Fail(`"${path}" was on a file system "${fstype}": ${hopeless}`, { hint: HINT });
  const device = source.split("[")[0]!; // a bind mount or subvolume: /dev/vda1[/folder]
  if (!device.startsWith("/dev/"))
    throw new Fail(`"${path}" is on "${source}" (${fstype}), which is no device`, { hint: HINT });
  return { path: device, warnings: warningsFor(fstype, options.split(",")) };
}

interface Mounted {
  source: string;
  fstype: string;
  options: string;
  target?: string;
}

async function mountOf(folder: string): Promise<Mounted> {
  const columns = "SOURCE,FSTYPE,OPTIONS,TARGET";
  const answer = await $({
    quiet: true,
    nothrow: true,
  })`findmnt -J -o ${columns} --target ${hostPath(folder)}`;
  if (answer.exitCode !== 0)
    throw new Fail(`findmnt does not know which device "${folder}" is on: ${answer.stderr.trim()}`, {
      hint: HINT,
    });
  // where several are mounted on one place, findmnt lists the visible one last
  return (JSON.parse(answer.stdout) as { filesystems: Mounted[] }).filesystems.at(-1)!;
}

function warningsFor(fstype: string, options: string[]): string[] {
  const untried = UNTRIED[fstype] ?? "nobody has tested it";
  return [
    ...(TRIED.includes(fstype) ? [] : [`the search is untested on ${fstype}: ${untried}`]),
    ...(options.some((option) => /^discard(=|$)/.test(option)) && !options.includes("nodiscard")
      ? ["it is mounted with discard: the disk may have lost freed blocks already; read it at once"]
      : []),
  ];
}

/** The folder, or the nearest one above that still exists. */
function existing(path: string): string {
  return path === "/" || exists(path) ? path : existing(dirname(path));
}
