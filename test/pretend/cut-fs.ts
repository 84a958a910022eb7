/**
 * node:fs for a script that loses power: each call that changes something is counted, and the process ends
 * right after the n-th. What the kernel does bit by bit (writing, copying, removing a folder) is counted bit
 * by bit.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { changed } from "./cut-counter.ts";

export * from "node:fs";

export function openSync(path: string, flags: string | number, mode?: number): number {
  const isNew = !fs.existsSync(path);
  const fd = fs.openSync(path, flags, mode);
  if (isNew) changed(`made ${path}`);
  return fd;
}

export function writeFileSync(file: number, bytes: Uint8Array) {
  const half = bytes.length >> 1;
  fs.writeSync(file, bytes, 0, half);
  changed("wrote the first half of it");
  fs.writeFileSync(file, bytes.subarray(half));
  changed("wrote all of it");
}

export function copyFileSync(from: string, to: string, mode?: number) {
  const bytes = fs.readFileSync(from);
  fs.writeFileSync(to, bytes.subarray(0, bytes.length >> 1));
  changed(`copied the first half of ${from}`);
  fs.copyFileSync(from, to, mode);
  changed(`copied ${from}`);
}

export function rmSync(path: string, options?: fs.RmOptions) {
  const info = fs.lstatSync(path, { throwIfNoEntry: false });
  if (info?.isDirectory() && options?.recursive)
    for (const name of fs.readdirSync(path)) rmSync(join(path, name), options);
  fs.rmSync(path, options);
  if (info) changed(`removed ${path}`);
}

/** The same, and counts. */
function counted<T extends unknown[], R>(what: string, action: (...args: T) => R): (...args: T) => R {
  return (...args) => {
    const result = action(...args);
    changed(`${what} ${args.filter((arg) => typeof arg === "string").join(" to ")}`);
    return result;
  };
}

export const renameSync = counted("renamed", fs.renameSync);
export const unlinkSync = counted("unlinked", fs.unlinkSync);
export const mkdirSync = counted("made folder", (path: string, options: fs.MakeDirectoryOptions) =>
  fs.mkdirSync(path, options),
);
export const symlinkSync = counted("linked", fs.symlinkSync);
export const chmodSync = counted("changed the mode of", fs.chmodSync);
export const fchmodSync = counted("changed its mode", fs.fchmodSync);
