import { expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import type { Fail } from "../../../shared/fail.ts";
import { copyLargeTree, copyTree, moveToRescue, restoreTree } from "../../../shared/files/file-tree.ts";
import {
  exists,
  hostPath,
  list,
  readBytes,
  readText,
  removeFile,
  setRoot,
  stat,
  writeFile,
} from "../../../shared/files/files.ts";
import { failOfFile } from "../../../shared/files/root.ts";
import { mode } from "../../../shared/run.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const KEY = "/etc/kubernetes/pki/ca.key";

/** Path, kind, mode, time and content of all below a folder, as text. */
function fingerprint(dir: string): string {
  const names = fs.readdirSync(dir, { recursive: true, encoding: "utf8" }).sort();
  return names
    .map((name) => {
      const info = fs.lstatSync(join(dir, name));
      return [
        name,
        info.mode,
        info.mtimeMs,
        info.ino,
        info.isFile() ? fs.readFileSync(join(dir, name), "utf8") : "",
      ].join(" ");
    })
    .join("\n");
}

test("a new file is 0600 unless asked otherwise, in folders of 0755, and nothing is left beside it", () => {
  using box = sandbox();
  const umask = process.umask(0);
  try {
    expect(writeFile(KEY, "key")).toBe(true);
    writeFile("/etc/kubernetes/pki/ca.crt", "cert", { mode: 0o644, note: "until 2027-01-01" });
  } finally {
    process.umask(umask);
  }
  expect(stat(KEY)?.mode).toBe(0o600);
  expect(stat("/etc/kubernetes/pki/ca.crt")?.mode).toBe(0o644);
  expect(stat("/etc/kubernetes/pki")?.mode).toBe(0o755);
  expect(fs.readdirSync(join(box.dir, "etc/kubernetes/pki")).sort()).toEqual(["ca.crt", "ca.key"]);
  expect(box.said).toEqual([`wrote ${KEY}`, "wrote /etc/kubernetes/pki/ca.crt (until 2027-01-01)"]);
});

/** A process that writes "new" to /etc/f while one function of node:fs does something else first. */
function writer(dir: string, instead: string) {
  const code = `
    import * as fs from "node:fs";
    import { mock } from "bun:test";
    const real = { ...fs };
    mock.module("node:fs", () => ({ ...real, ${instead} }));
    const { setRoot, writeFile } = await import("${import.meta.dir}/../../../shared/files/files.ts");
    process.umask(0);
    setRoot(${JSON.stringify(dir)});
    writeFile("/etc/f", "new", { mode: 0o644 });`;
  return Bun.spawn([process.execPath, "-e", code], { stdout: "pipe", stderr: "ignore" });
}

test("the copy beside is 0600 before its first byte, even for a file that ends 0644, and a dot file that the kubelet skips", async () => {
  using box = sandbox();
  const look = `console.log(fs.readdirSync("${box.dir}/etc").join(), (fs.fstatSync(fd).mode & 0o777).toString(8), fs.fstatSync(fd).size)`;
  const run = writer(box.dir, `writeFileSync(fd, bytes) { ${look}; real.writeFileSync(fd, bytes); }`);
  expect(await new Response(run.stdout).text()).toBe(`.f.${run.pid}.kube-pki-repair.partial 600 0\n`);
  expect([readText("/etc/f"), stat("/etc/f")?.mode]).toEqual(["new", 0o644]);
});

test("an equal file is kept: not a byte, a time or an inode changes", () => {
  using box = sandbox();
  writeFile(KEY, "key");
  const before = fingerprint(box.dir);
  expect(writeFile(KEY, "key")).toBe(false);
  expect(fingerprint(box.dir)).toBe(before);
  expect(box.said.at(-1)).toBe(`unchanged ${KEY}`);
});

test("an existing file keeps its mode and owner unless a mode is given", () => {
  using _box = sandbox();
  writeFile("/etc/f", "one", { mode: 0o640 });
  if (process.getuid?.() === 0) fs.chownSync(hostPath("/etc/f"), 12, 34);
  const { uid, gid } = stat("/etc/f")!;
  writeFile("/etc/f", "two");
  expect(stat("/etc/f")).toMatchObject({ mode: 0o640, uid, gid });
  writeFile("/etc/f", "two", { mode: 0o600 });
  expect(stat("/etc/f")).toMatchObject({ mode: 0o600, uid, gid });
});

test("a write that fails leaves the old file and nothing beside it", () => {
  using box = sandbox();
  fs.mkdirSync(join(box.dir, "etc/f/below"), { recursive: true });
  expect(() => writeFile("/etc/f", "x")).toThrow("Cannot write /etc/f: it is not a file");
  writeFile("/etc/g", "old");
  expect(() => writeFile("/etc/g/h", "x")).toThrow("Cannot write /etc/g/h");
  expect(readText("/etc/g")).toBe("old");
  expect(list("/etc")).toEqual(["f", "g"]);
});

test("a killed write leaves the old file as it was, and the next run clears what it left", async () => {
  using box = sandbox();
  writeFile("/etc/f", "old");
  const run = writer(box.dir, `renameSync() { process.kill(process.pid, "SIGKILL"); }`);
  await run.exited;
  expect(run.signalCode).toBe("SIGKILL");
  expect(readText("/etc/f")).toBe("old");
  expect(list("/etc")).toEqual([`.f.${run.pid}.kube-pki-repair.partial`, "f"]);
  writeFile("/etc/f", "new");
  expect(list("/etc")).toEqual(["f"]);
});

test("a link is kept and its target replaced; a link to nothing is refused", () => {
  using box = sandbox();
  writeFile("/data/f", "old");
  fs.mkdirSync(join(box.dir, "etc"));
  fs.symlinkSync("/data/f", join(box.dir, "etc/f"));
  fs.symlinkSync("/mnt/gone", join(box.dir, "etc/g"));
  writeFile("/etc/f", "new");
  expect([readText("/data/f"), fs.readlinkSync(join(box.dir, "etc/f"))]).toEqual(["new", "/data/f"]);
  expect(() => writeFile("/etc/g", "new")).toThrow(
    "Cannot write /etc/g: it is a link to /mnt/gone, which is not there",
  );
  removeFile("/etc/f");
  expect([exists("/etc/f"), readText("/data/f")]).toEqual([false, "new"]);
});

test("links in another root never lead out of it", () => {
  using box = sandbox();
  fs.symlinkSync("/etc", join(box.dir, "conf"));
  fs.symlinkSync("../../../../etc", join(box.dir, "up"));
  fs.symlinkSync("loop", join(box.dir, "loop"));
  expect(readText("/conf/passwd")).toBeUndefined();
  expect(hostPath("/up/passwd")).toBe(join(box.dir, "etc/passwd"));
  expect(() => hostPath("/loop/f")).toThrow("Cannot follow /loop/f: more than 40 links");
});

test("what cannot be read for another reason than absence is a failure, not an absence", () => {
  using box = sandbox();
  fs.mkdirSync(join(box.dir, "etc"));
  expect(readText("/etc/f")).toBeUndefined();
  expect(list("/nowhere")).toEqual([]);
  expect(() => readText("/etc")).toThrow("Cannot read /etc: EISDIR");
});

test("a dry run changes nothing on disk, and later reads see what it would have done", () => {
  using box = sandbox();
  writeFile("/etc/old", "old");
  writeFile("/etc/pki/a", "a");
  setRoot(box.dir);
  const before = fingerprint(box.dir);
  mode.dryRun = true;
  writeFile("/etc/new/key", "new", { note: "why" });
  removeFile("/etc/old");
  const aside = moveToRescue("/etc/pki", "/rescue");
  copyTree("/rescue/etc/pki", "/copy");
  writeFile("/etc/pki/b", "b");
  expect(writeFile("/etc/new/key", "new")).toBe(false);
  expect([readText("/etc/new/key"), exists("/etc/old"), readText("/etc/pki/a"), aside]).toEqual([
    "new",
    false,
    undefined,
    "/rescue/etc/pki",
  ]);
  expect([readText("/rescue/etc/pki/a"), readText("/copy/a"), list("/etc"), list("/etc/pki")]).toEqual([
    "a",
    "a",
    ["new", "pki"],
    ["b"],
  ]);
  expect([stat("/etc/new")?.kind, stat("/etc/new/key")?.mode]).toEqual(["dir", 0o600]);
  expect(fingerprint(box.dir)).toBe(before);
  expect(box.said.slice(2)).toEqual([
    "would write /etc/new/key (why)",
    "would remove /etc/old",
    "would move /etc/pki to /rescue/etc/pki",
    "would copy /rescue/etc/pki to /copy",
    "would write /etc/pki/b",
    "unchanged /etc/new/key",
  ]);
});

test("a copied tree keeps modes, times and links; one that was cut off is begun again, a complete one is kept", () => {
  using box = sandbox();
  writeFile("/etc/pki/etcd/ca.key", "key");
  writeFile("/etc/pki/ca.crt", "cert", { mode: 0o644 });
  fs.symlinkSync("ca.crt", join(box.dir, "etc/pki/link"));
  fs.utimesSync(join(box.dir, "etc/pki/ca.crt"), 1000, 2000);
  fs.mkdirSync(join(box.dir, "rescue/pki.kube-pki-repair.partial/half"), { recursive: true });
  expect(copyTree("/etc/pki", "/rescue/pki")).toBe(true);
  expect(list("/rescue")).toEqual(["pki"]);
  expect(list("/rescue/pki")).toEqual(["ca.crt", "etcd", "link"]);
  expect(stat("/rescue/pki/ca.crt")).toMatchObject({ mode: 0o644, modified: new Date(2000_000) });
  expect([stat("/rescue/pki/etcd/ca.key")?.mode, fs.readlinkSync(join(box.dir, "rescue/pki/link"))]).toEqual([
    0o600,
    "ca.crt",
  ]);
  expect(copyTree("/etc/pki", "/rescue/pki")).toBe(false);
  expect(box.said.at(-1)).toBe("unchanged /rescue/pki");
  expect(() => copyTree("/nowhere", "/rescue/nowhere")).toThrow("Cannot copy /nowhere: it is not there");
});

test("a large tree is copied in pieces, says how far it is, and is whole or not there", async () => {
  using box = sandbox();
  writeFile("/var/etcd/db", Buffer.alloc(30_000_000, "etcd"), { mode: 0o640 });
  writeFile("/var/etcd/empty", "");
  fs.utimesSync(join(box.dir, "var/etcd/db"), 1000, 2000);
  fs.mkdirSync(join(box.dir, "rescue/etcd.kube-pki-repair.partial/half"), { recursive: true });
  expect(await copyLargeTree("/var/etcd", "/rescue/etcd")).toBe(true);
  expect([list("/rescue"), list("/rescue/etcd")]).toEqual([["etcd"], ["db", "empty"]]);
  expect(stat("/rescue/etcd/db")).toMatchObject({
    mode: 0o640,
    size: 30_000_000,
    modified: new Date(2000_000),
  });
  expect(Buffer.compare(readBytes("/rescue/etcd/db")!, readBytes("/var/etcd/db")!)).toBe(0);
  // a busy machine has said how far it is before
  expect(box.said.slice(-2)).toEqual([
    expect.stringMatching(/^copying \/var\/etcd {3}30 \/ 30 MB {3}in \d+ s {3}/),
    "copied /var/etcd to /rescue/etcd",
  ]);
  expect(await copyLargeTree("/var/etcd", "/rescue/etcd")).toBe(false);
  await expect(copyLargeTree("/nowhere", "/rescue/nowhere")).rejects.toThrow(
    "Cannot copy /nowhere: it is not there",
  );
});

test("what is moved aside keeps its whole path, and never lands on what was moved before", () => {
  using box = sandbox();
  for (const content of ["one", "two"]) {
    writeFile(KEY, content);
    moveToRescue(KEY, "/rescue");
  }
  expect(moveToRescue(KEY, "/rescue")).toBeUndefined();
  expect([readText(`/rescue${KEY}`), readText(`/rescue${KEY}.1`), exists(KEY)]).toEqual([
    "one",
    "two",
    false,
  ]);
  expect(stat("/rescue/etc")?.mode).toBe(0o700);
  expect(box.said).toEqual([
    `wrote ${KEY}`,
    `moved ${KEY} to /rescue${KEY}`,
    `wrote ${KEY}`,
    `moved ${KEY} to /rescue${KEY}.1`,
  ]);
});

test("a tree is made what its copy is: what differs is moved aside, and no more; the folder stays, as a disk may be mounted there", () => {
  using box = sandbox();
  for (const name of ["same", "other", "gone", "open"]) writeFile(`/pki/${name}`, name, { mode: 0o600 });
  fs.symlinkSync("/pki/nowhere", `${box.dir}/pki/link`);
  copyTree("/pki", "/before/pki");
  const place = fs.statSync(`${box.dir}/pki`).ino;
  // of the same length
  writeFile("/pki/other", "thero");
  fs.chmodSync(`${box.dir}/pki/open`, 0o644);
  for (const name of ["gone", "link"]) removeFile(`/pki/${name}`);
  writeFile("/pki/more/new", "new");
  restoreTree("/before/pki", "/pki", "/failed");
  expect(list("/pki")).toEqual(["gone", "link", "open", "other", "same"]);
  expect(stat("/pki/open")?.mode).toBe(0o600);
  expect([readText("/pki/gone"), readText("/pki/other"), fs.readlinkSync(`${box.dir}/pki/link`)]).toEqual([
    "gone",
    "other",
    "/pki/nowhere",
  ]);
  expect([list("/failed/pki"), readText("/failed/pki/other")]).toEqual([["more", "open", "other"], "thero"]);
  expect(fs.statSync(`${box.dir}/pki`).ino).toBe(place);
  box.said.length = 0;
  restoreTree("/before/pki", "/pki", "/failed");
  restoreTree(undefined, "/nothing", "/failed");
  expect(box.said).toEqual([]);
  // all that the copy has is as it was, and there is more
  writeFile("/pki/late", "late");
  restoreTree("/before/pki", "/pki", "/failed");
  expect([exists("/pki/late"), readText("/failed/pki/late")]).toEqual([false, "late"]);
});

const [USER, ROOT] = [1000, 0];

/** `[the system's code, whose script it is]` */
test.each<[string, number, string]>([
  ["EACCES", USER, "run it with sudo -i, or as root"],
  ["EPERM", USER, "run it with sudo -i, or as root"],
  // as NFS' root_squash, or SELinux
  ["EACCES", ROOT, "repair that, see: ls -ld /etc/f ; df /"],
  ["EPERM", ROOT, "see which flag forbids it: lsattr -d /. Take it off: chattr -ia /; then run"],
  ["EROFS", ROOT, "see why it can only be read: findmnt -T /"],
  ["ENOSPC", ROOT, "make room there: df -h /"],
  ["EIO", ROOT, "see what the kernel says of this disk: findmnt -T /"],
  ["ENXIO", ROOT, "repair that, see: ls -ld /etc/f"],
])("a file that cannot be written, %s to the user %p: what to do", (code, user, hint) => {
  using _box = sandbox();
  using _user = spyOn(process, "getuid").mockReturnValue(user);
  const fail = failOfFile(Object.assign(new Error("no"), { code }), "write", "/etc/f") as Fail;
  expect([fail.message, fail.hint.slice(0, hint.length)]).toEqual(["Cannot write /etc/f: no", hint]);
});
