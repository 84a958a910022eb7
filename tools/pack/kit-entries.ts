/** The files of a kit as entries of an archive. */

import type { TarFile } from "../../shared/hand-over/tar.ts";

/** Folders first; `below`: the kit's own folder, with a slash at its end. */
export function kitEntries(files: KitFiles, below: string): TarFile[] {
  const folders = new Set([...files.keys()].flatMap(foldersOf));
  return [
    ...[...folders]
      .sort()
      .map((name) => ({ name: `${below}${name}/`, mode: 0o755, bytes: new Uint8Array() })),
    ...[...files].map(([name, bytes]) => ({ name: below + name, mode: modeInKit(name), bytes })),
  ];
}

/** A node's files, by their path in the kit. */
export type KitFiles = ReadonlyMap<string, Uint8Array>;

/** `a/b/c` → a, a/b */
export function foldersOf(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("/"));
}

/** Independent of the modes in the checkout. */
export function modeInKit(name: string) {
  return EXECUTABLE.test(name) ? 0o755 : 0o644;
}

const EXECUTABLE = /^(bunw$|bun\/)/;
