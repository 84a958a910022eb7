/** Where a bundle is no backup: it would be gone with the machine's memory, or with the kit. */
import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { writeFile } from "../../../shared/files/files.ts";
import { BACKUP_MARK, backupState, whyNoBackup } from "../../../shared/hand-over/backup-mark.ts";
import { markBackup } from "../../../shared/hand-over/operators-bundle.ts";
import { PKI, put, sharedFiles } from "../../pretend/bundles.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const KIT = resolve(import.meta.dir, "../../..");
const MOUNTS = `22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /dev/shm rw - tmpfs tmpfs rw
31 22 0:26 / /run rw - ramfs none rw
32 31 8:2 / /run/media/stick rw - vfat /dev/sdb1 rw
`;
const [MEMORY, KITS] = [
  "it is in memory, and gone when this machine is off",
  "it is in the kit's folder, which is removed after the repair",
];

test.each<[string, string | undefined]>([
  ["/root/keys.age", undefined],
  ["/dev/shm/keys.age", MEMORY],
  ["/run/keys.age", MEMORY],
  ["/run/media/stick/keys.age", undefined],
  ["KIT/keys.age", KITS],
  ["KIT-other/keys.age", undefined],
])("a bundle at %s may be a backup, or why not", (path, why) => {
  using box = sandbox();
  write(`${box.dir}/proc/self/mountinfo`, MOUNTS);
  expect(whyNoBackup(path.replace("KIT", KIT))).toBe(why as never);
});

test("a bundle that is named and is not there is no backup, whatever the mark says of another", () => {
  using _box = sandbox();
  const state = () => backupState("/etc/kubernetes/pki", "/root/keys.age");
  const none = { fits: false, says: 'there is no bundle "/root/keys.age"' };
  expect(state()).toMatchObject(none);
  writeFile(BACKUP_MARK, JSON.stringify({ made: "2026-01-01", bundle: "other.age", sha256: "0", keys: {} }));
  expect(state()).toMatchObject(none);
});

test("a bundle that is opened takes the place of the last packed one only where it holds other keys", async () => {
  using _box = sandbox();
  const [keys, others] = [await sharedFiles(), await sharedFiles()];
  put(keys);
  const bundle = (name: string) => ({ path: `/root/${name}.age`, sha256: name });
  const fits = () => [backupState(PKI).fits, backupState(PKI).says.split(",")[0]];
  markBackup(keys, bundle("opened"), { newest: false });
  expect(fits()).toEqual([true, "opened.age"]);
  markBackup(keys, bundle("packed"), { newest: true });
  markBackup(keys, bundle("opened-again"), { newest: false });
  expect(fits()).toEqual([true, "packed.age"]);
  markBackup(others, bundle("of-others"), { newest: false });
  expect(fits()[0]).toBe(false);
  put(others);
  expect(fits()).toEqual([true, "of-others.age"]);
});
