/**
 * Writes a kit as a whole, or not at all. A run that is cut off loses no file that was there before.
 */
import { chmodSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { attempt, Fail } from "../fail.ts";
import { writeTyped } from "../files/operator-files.ts";
import { refuseUnwritable } from "../files/room.ts";
import { tryFile } from "../files/try-file.ts";
import { freshPartial } from "../files/write-steps.ts";
import { type TarFile, writeTar } from "../hand-over/tar.ts";
import { say } from "../run.ts";

/** A node's files, by their path in the kit. */
type KitFiles = ReadonlyMap<string, Uint8Array>;

/** The last file that is put in place: if it exists, the kit is whole. */
export const SUMS = "SHA256SUMS";

const EXECUTABLE = /^(bunw$|bun\/)/;

/** Asked first, as fetching and compressing take long. Errors: Fail if `out` cannot be written. */
export function refuseKitPlace(out: string) {
  const refused = attempt(() => refuseUnwritable([dirname(out)]));
  if (!(refused instanceof Fail)) return;
  throw new Fail(refused.message, {
    hint: "name a place that you can write to: npm run pack -- --out FOLDER/kit.tar.gz",
    cause: refused,
  });
}

/** Our own tar: macOS has another one than Linux, and a Windows disk below WSL has no modes. */
export async function writeKitTarball(out: string, files: KitFiles) {
  const folders = new Set([...files.keys()].flatMap(foldersOf));
  const entries: TarFile[] = [{ name: "./", mode: 0o700, bytes: new Uint8Array() }];
  for (const name of [...folders].sort())
    entries.push({ name: `${name}/`, mode: 0o755, bytes: new Uint8Array() });
  for (const [name, bytes] of files) entries.push({ name, mode: modeOf(name), bytes });
  say("compressing it: some seconds");
  // lets a signal that came meanwhile be handled
  await setImmediate();
  const tar = Buffer.from(writeTar(entries, new Date(0)));
  const tarball = Bun.gzipSync(tar, { level: 6, library: "libdeflate" });
  await setImmediate();
  writeTyped(out, tarball, { mode: 0o644 });
}

/** Errors: Fail if the folder has something in it. */
export function writeKitFolder(out: string, files: KitFiles) {
  tryFile("write", out, () => fillFolder(out, files), true);
}

/** Made in a folder within: `out` may be a mount, which no rename replaces. */
function fillFolder(out: string, files: KitFiles) {
  const made = mkdirSync(out, { recursive: true });
  const partial = freshPartial(join(out, "kit"));
  if (readdirSync(out).length > 0)
    throw new Fail(`The folder ${out} is not empty`, {
      hint: "name another folder with --out, or empty this one",
    });
  try {
    fillPartial(partial, files);
    const names = readdirSync(partial).filter((name) => name !== SUMS);
    for (const name of [...names, SUMS]) renameSync(join(partial, name), join(out, name));
    chmodSync(out, 0o700);
  } catch (err) {
    if (made) rmSync(made, { recursive: true });
    throw err;
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

function fillPartial(partial: string, files: KitFiles) {
  for (const [name, bytes] of files) {
    for (const folder of ["", ...foldersOf(name)]) mkdirSync(join(partial, folder), { recursive: true });
    writeFileSync(join(partial, name), bytes);
    chmodSync(join(partial, name), modeOf(name));
  }
  for (const path of readdirSync(partial, { recursive: true, encoding: "utf8" }))
    if (statSync(join(partial, path)).isDirectory()) chmodSync(join(partial, path), 0o755);
}

/** `a/b/c` → a, a/b */
function foldersOf(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("/"));
}

/** Independent of the modes in the checkout. */
function modeOf(name: string) {
  return EXECUTABLE.test(name) ? 0o755 : 0o644;
}
