/** Reads a bundle from its file: all of it is in memory and checked before it is used. */
import { Fail } from "../fail.ts";
import { readBytes, stat } from "../files/files.ts";
import { typed } from "../options.ts";
import { shell } from "../shell-line.ts";
import { type Bundle, MAX_BYTES, unpackTar } from "./bundle.ts";
import { keyFor, type LockOptions } from "./lock-options.ts";
import { type LockKind, lockOf, open } from "./sealed.ts";
import { sha256Of } from "./sha256.ts";

interface OpenedBundle {
  bundle: Bundle;
  sha256: string;
  lock: LockKind;
}

/** `file`: as it was typed. Errors: Fail if it is no bundle, cannot be opened, or cannot be used. */
export async function openBundle(
  file: string,
  options: LockOptions,
  certificatesDir: string,
): Promise<OpenedBundle> {
  const info = stat(typed(file));
  if (!info)
    throw new Fail(`There is no file "${file}"`, {
      hint: "pack writes it, on a control plane node that has the keys; carry it here with scp",
    });
  if (info.kind !== "file" || info.size > MAX_BYTES) {
    const why = info.kind === "file" ? `${info.size} bytes are too many` : "it is not a file";
    throw new Fail(`"${file}" is no bundle: ${why}`, {
      hint: shell`ls -l ${file}: a bundle that pack wrote is about 20,000 bytes long`,
    });
  }
  const sealed = readBytes(typed(file))!;
  const lock = lockOf(sealed);
  const content = await open(sealed, keyFor(lock, options));
  return { bundle: unpackTar(content, certificatesDir), sha256: sha256Of(sealed), lock };
}
