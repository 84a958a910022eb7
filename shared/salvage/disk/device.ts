/** Which device a folder lies on, and whether there is any hope of finding there what was deleted. */
import { dirname } from "node:path";
import { $ } from "zx";
import { Fail } from "../../fail.ts";
import { exists, hostPath } from "../../files/files.ts";

interface Device {
  /** `/dev/vda1`, to be read with `Disk`. */
  path: string;
  /** What makes it less likely that something is found, a sentence each. */
  warnings: string[];
}

/** Where freed blocks cannot be read from a device, and why. */
const HOPELESS: Record<string, string> = {
  tmpfs: "its files are in memory, which is free again at once",
  ramfs: "its files are in memory, which is free again at once",
  overlay: "it is a container's; run this on the node itself",
  nfs: "its blocks are on another machine; look for a snapshot there",
  nfs4: "its blocks are on another machine; look for a snapshot there",
  zfs: "zfs has no single device and compresses; look for a snapshot with zfs list -t snapshot",
  squashfs: "nothing can be deleted there",
};

/** Tried for real: test/shared/salvage/carve.disk.test.ts. Of others, what is known. */
const TRIED = ["ext4", "xfs"];
const UNTRIED: Record<string, string> = {
  btrfs: "small files lie in btrfs's metadata, which is written anew often",
  f2fs: "f2fs discards what is freed",
};

const HINT = "see the devices with lsblk, then give the device or an image of it: --image FILE";

/** The device below a path; the path itself may be gone. Errors: Fail where no device can be read for it. */
export async function deviceOf(path: string): Promise<Device> {
  const folder = existing(path);
  const columns = "SOURCE,FSTYPE,OPTIONS";
  const answer = await $({ quiet: true, nothrow: true })`findmnt -J -o ${columns} --target ${hostPath(folder)}`;
  if (answer.exitCode !== 0) throw new Fail(`findmnt does not know what "${folder}" lies on: ${answer.stderr.trim()}`, { hint: HINT });
  const { source, fstype, options } = lastMount(answer.stdout);
  const hopeless = HOPELESS[fstype];
  if (hopeless) throw new Fail(`"${path}" was on a file system "${fstype}": ${hopeless}`, { hint: HINT });
  const device = source.replace(/\[.*\]$/, ""); // a bind mount or subvolume: /dev/vda1[/folder]
  if (!device.startsWith("/dev/")) throw new Fail(`"${path}" is on "${source}" (${fstype}), which is no device`, { hint: HINT });
  return { path: device, warnings: warningsFor(fstype, options.split(",")) };
}

function warningsFor(fstype: string, options: string[]): string[] {
  const untried = UNTRIED[fstype] ?? "nobody tried it";
  return [
    ...(TRIED.includes(fstype) ? [] : [`carving on ${fstype} is untried: ${untried}`]),
    ...(options.some((option) => /^discard(=|$)/.test(option)) && !options.includes("nodiscard")
      ? ["it is mounted with discard: the disk may have forgotten freed blocks already; read it at once"]
      : []),
  ];
}

/** The folder, or the nearest above it that is still there. */
function existing(path: string): string {
  return path === "/" || exists(path) ? path : existing(dirname(path));
}

interface Mount {
  source: string;
  fstype: string;
  options: string;
}

/** Of several that lie above each other on the same place, findmnt gives the one that is seen last. */
function lastMount(json: string): Mount {
  return (JSON.parse(json) as { filesystems: Mount[] }).filesystems.at(-1)!;
}
