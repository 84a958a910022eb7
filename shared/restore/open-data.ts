/**
 * Data that an etcd still writes: what it is answered after our look would be lost without a word. An etcd without a
 * quorum runs on, and writes its log.
 */
import { statSync } from "node:fs";
import { again } from "../again.ts";
import { Refused, unlessCode } from "../fail.ts";
import { hostPath } from "../files/files.ts";
import { hostText } from "../files/untrusted-file.ts";
import { STOP_ETCD } from "../shell-line.ts";

/**
 * Errors: Refused if a process of this machine has the database of one of these data directories open to write: bbolt
 * holds it with flock(2) for as long (bbolt, db.go, `Open`).
 */
export function refuseOpenData(dirs: readonly string[]) {
  for (const dir of dirs) {
    const path = `${dir}/member/snap/db`;
    const pid = writerOf(path);
    if (pid === undefined) continue;
    throw new Refused(
      `"${path}" is open: process ${pid} writes to it, and what it writes from now on would be lost`,
      {
        unchanged: true,
        hint: `see what it is: ps -fp ${pid}. If that is an etcd that can never answer again, stop it: ${STOP_ETCD}. Then run ${again({})}`,
      },
    );
  }
}

/** The process that holds the lock to write; undefined if none does, as with a copy. */
function writerOf(path: string): number | undefined {
  const file = unlessCode(["ENOENT", "ENOTDIR"], () => statSync(hostPath(path), { bigint: true }));
  if (!file) return undefined;
  const id = `${deviceOf(file.dev)}:${file.ino}`;
  for (const line of (hostText("/proc/locks") ?? "").split("\n")) {
    const lock = /^\d+: FLOCK +\S+ +WRITE +(\d+) (\S+) /.exec(line);
    if (lock?.[2] === id) return Number(lock[1]);
  }
  return undefined;
}

/** As /proc/locks has it (proc_locks(5)): major and minor number in hexadecimal digits, of a dev_t (makedev(3)). */
function deviceOf(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return [major, minor].map((number) => number.toString(16).padStart(2, "0")).join(":");
}
