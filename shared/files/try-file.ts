/** The system's refusals for the operator: what failed, on which path, and how to mend it. */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Fail } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { hostPath } from "./root.ts";

/**
 * `action`'s value; undefined if the path does not exist (unless it `must`); a Fail with the system's
 * reason otherwise. `to`: where it writes, if that is elsewhere.
 */
export function tryFile<T>(
  verb: string,
  path: string,
  action: () => T,
  must = false,
  to = path,
): T | undefined {
  try {
    return action();
  } catch (err) {
    const code = err instanceof Error && "code" in err ? String(err.code) : undefined;
    if (!must && (code === "ENOENT" || code === "ENOTDIR")) return undefined;
    throw failOfFile(err, verb, path, to);
  }
}

/**
 * The same for an error that was caught: a Fail with the system's reason, or the error itself if it is not
 * the system's.
 */
export function failOfFile(err: unknown, verb: string, path: string, to = path): unknown {
  const code = err instanceof Error && "code" in err ? String(err.code) : undefined;
  if (!code || err instanceof Fail) return err;
  const paths = to === path ? path : `${path} to ${to}`;
  return new Fail(`Cannot ${verb} ${paths}: ${(err as Error).message}`, {
    hint: howToRepair(code, code === "EPERM" ? path : to),
    cause: err,
  });
}

function howToRepair(code: string, path: string): string {
  const place = nearestPlace(path);
  // if even root may not, a flag of the file forbids it (chattr(1))
  if (code === "EPERM" && process.getuid?.() === 0)
    return `see which flag forbids it: ${shell`lsattr -d ${place}`}. Take it off: ${shell`chattr -ia ${place}`}; then run the same line again`;
  if (code === "EACCES" || code === "EPERM") return "run it as root";
  if (code === "ENOSPC" || code === "EDQUOT")
    return shell`make room there: df -h ${place}; df -i ${place}. Then run the same line again`;
  if (code === "EROFS")
    return shell`it can only be read. Why? findmnt -T ${place}; dmesg | tail. Then: mount -o remount,rw, and run the same line again`;
  return shell`repair that, see: ls -ld ${path} ; df ${place}`;
}

/** The path, or the nearest folder above it that is there. */
export function nearestPlace(path: string): string {
  return path === "/" || existsSync(hostPath(path)) ? path : nearestPlace(dirname(resolve("/", path)));
}
