/** Which device a folder is on, and where nothing can be read from it. */
import { expect, test } from "bun:test";
import { deviceOf } from "../../../shared/salvage/disk/disk.ts";
import { onNode } from "../../pretend/no-node.ts";
import { programsHere } from "../../pretend/programs.ts";

const mounts = (mount: Record<string, string>) =>
  JSON.stringify({ filesystems: [{ options: "rw,relatime", ...mount }] });

const ROOT = mounts({ source: "/dev/sda9", fstype: "ext4", target: "/" });

/** What deviceOf says where findmnt says this. */
async function device(stdout: string, exit = 0, folder = "/") {
  const command = "findmnt -J -o SOURCE,FSTYPE,OPTIONS,TARGET --target";
  using _programs = programsHere([
    ...(folder === "/" ? [] : [{ command: `${command} ${folder}`, stdout }]),
    {
      command: `${command} /`,
      stdout: folder === "/" ? stdout : ROOT,
      exit,
      stderr: exit ? "no such place" : "",
    },
  ]);
  return await onNode("/", () =>
    deviceOf(folder === "/" ? "/nowhere/etc/kubernetes" : `${folder}/no-kubernetes`).catch(
      (err: Error) => err.message,
    ),
  );
}

test("a device below the nearest folder that is still there", async () => {
  const plain = { path: "/dev/vda1", warnings: [] };
  expect(await device(mounts({ source: "/dev/vda1", fstype: "ext4" }))).toEqual(plain);
  expect(await device(mounts({ source: "/dev/vda1[/srv/etc]", fstype: "ext4" }))).toEqual(plain);
  expect(await device(mounts({ source: "/dev/mapper/vg-root", fstype: "xfs" }))).toEqual({
    ...plain,
    path: "/dev/mapper/vg-root",
  });
});

test("what makes a find unlikely is said", async () => {
  const warnings = async (mount: Record<string, string>) => {
    const answer = await device(mounts({ source: "/dev/sda2", fstype: "ext4", ...mount }));
    return typeof answer === "string" ? answer : answer.warnings;
  };
  expect(await warnings({ options: "rw,discard" })).toEqual([
    "it is mounted with discard: the disk may have lost freed blocks already; read it at once",
  ]);
  expect(await warnings({ options: "rw,nodiscard" })).toEqual([]);
  expect(await warnings({ fstype: "btrfs", source: "/dev/sda2[/@]" })).toEqual([
    "the search is untested on btrfs: small files are in btrfs's metadata, which is often rewritten",
  ]);
  expect(await warnings({ fstype: "bcachefs" })).toEqual([
    "the search is untested on bcachefs: nobody has tested it",
  ]);
});

test("where nothing can be read, it says so", async () => {
  expect(await device(mounts({ source: "tmpfs", fstype: "tmpfs" }))).toBe(
    '"/nowhere/etc/kubernetes" was on a file system "tmpfs": its files are in memory, and deleted ones are gone at once',
  );
  expect(await device(mounts({ source: "overlay", fstype: "overlay" }))).toContain(
    "run this on the node itself",
  );
  expect(await device(mounts({ source: "rpool/ROOT", fstype: "zfs" }))).toContain("zfs list -t snapshot");
  expect(await device(mounts({ source: "none", fstype: "ecryptfs" }))).toContain(
    'is on "none" (ecryptfs), which is no device',
  );
  expect(await device("", 1)).toBe('findmnt does not know which device "/" is on: no such place');
});

test("Flatcar's /etc is an overlay: the device is that of what was written there", async () => {
  const overlay = { source: "overlay", fstype: "overlay", target: "/etc" };
  const options =
    "rw,lowerdir=/sysroot/usr/share/flatcar/etc,upperdir=/sysroot/etc,workdir=/sysroot/.etc-work";
  expect(await device(mounts({ ...overlay, options }), 0, "/etc")).toEqual({
    path: "/dev/sda9",
    warnings: [],
  });
  expect(await device(mounts({ ...overlay, options: "ro,lowerdir=/a" }), 0, "/etc")).toContain(
    "run this on the node itself",
  );
});
