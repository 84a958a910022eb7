/** Finds the device that a folder is on, and says whether deleted files can be found there at all. */

import { dirname } from "node:path";
import { $ } from "zx/core";
import { Fail } from "../../fail.ts";
import { exists, hostPath } from "../../files/files.ts";

/** Devices whose freed blocks cannot be read, and why. */
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
 * The device below a path, and what makes a find less likely, a sentence each. The path itself may be gone.
 * Errors: Fail where no device can be read for it.
 */
export async function deviceOf(path: string): Promise<{ path: string; warnings: string[] }> {
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
