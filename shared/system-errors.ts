/**
 * The refusals of the system, by their codes (errno(3)): why, in the operator's words, and the next command. These are no
 * bugs of this kit, wherever they are thrown.
 */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { codeOf, Fail } from "./fail.ts";
import { shell } from "./shell-line.ts";

/** A refusal, as the hint needs it. */
interface Refusal {
  path: string;
  /** The path, or the nearest folder above it that is there. */
  place: string;
  isRoot: boolean;
}

interface SystemError {
  why: string;
  /** Begins with a verb. */
  hint: (refusal: Refusal) => string;
}

const AS_ROOT = "run it with sudo -i, or as root";
const lookAt = ({ path, place }: Refusal) => shell`repair that, see: ls -ld ${path} ; df ${place}`;
const makeRoom = ({ place }: Refusal) =>
  shell`make room there: df -h ${place}; df -i ${place}. Then run the same line again`;

export const SYSTEM_ERRORS: Readonly<Record<string, SystemError>> = {
  EACCES: {
    why: "the user who runs this may not",
    hint: (refusal) => (refusal.isRoot ? lookAt(refusal) : AS_ROOT),
  },
  EPERM: {
    why: "the system does not permit it",
    // if even root may not, a flag of the file forbids it (chattr(1))
    hint: ({ isRoot, place }) =>
      isRoot
        ? `see which flag forbids it: ${shell`lsattr -d ${place}`}. Take it off: ${shell`chattr -ia ${place}`}; then run the same line again`
        : AS_ROOT,
  },
  EROFS: {
    why: "its file system can only be read",
    hint: ({ place }) =>
      shell`see why it can only be read: findmnt -T ${place}; dmesg | tail. Then: mount -o remount,rw, and run the same line again`,
  },
  ENOSPC: { why: "its file system is full", hint: makeRoom },
  EDQUOT: { why: "the quota is used up", hint: makeRoom },
  EMFILE: {
    why: "this process has too many open files",
    hint: () => "set a higher limit, and run the same line again: ulimit -n 65536",
  },
  ENFILE: {
    why: "this machine has too many open files",
    hint: () =>
      "see how many are open, and how many may be: cat /proc/sys/fs/file-nr. Raise it: sysctl -w fs.file-max=1000000; then run the same line again",
  },
  ENOMEM: {
    why: "this machine has no memory left",
    hint: () => "see what uses it: free -m; ps aux --sort=-rss | head. Then run the same line again",
  },
  EAGAIN: {
    why: "the system cannot give that now",
    hint: () =>
      "see how many processes there are, and may be: ps -e | wc -l; ulimit -u. Then run the same line again",
  },
  ENAMETOOLONG: {
    why: "the name is too long",
    hint: () => "give a shorter path: a name has 255 bytes at most, a path 4,095",
  },
  EIO: {
    why: "the disk does not answer",
    hint: ({ place }) =>
      shell`see what the kernel says of this disk: findmnt -T ${place}; dmesg | tail -n 30. Copy what can still be read before anything is written`,
  },
  ELOOP: {
    why: "its links lead in a circle",
    hint: ({ path }) => shell`look at it with: namei -l ${path}`,
  },
  ESTALE: {
    why: "the server of this network file system has lost it",
    hint: ({ place }) =>
      shell`mount it again: findmnt -T ${place}; umount -l, then mount. Then run the same line again`,
  },
  EBUSY: {
    why: "something uses it",
    hint: ({ place }) => shell`see what uses it: findmnt -T ${place}; fuser -vm ${place}`,
  },
};

/** The operator's next command. `place`: the path, or the nearest folder above it that is there. */
export function howToRepair(code: string, where: { path: string; place: string }): string {
  const refusal = { ...where, isRoot: process.getuid?.() === 0 };
  return (SYSTEM_ERRORS[code]?.hint ?? lookAt)(refusal);
}

/** A Fail for the system's refusals that are in the table; undefined for anything else, which is a bug. */
export function failOfSystem(err: unknown): Fail | undefined {
  const [code = "", { path, syscall }] = [codeOf(err), err as NodeJS.ErrnoException];
  const row = Object.hasOwn(SYSTEM_ERRORS, code) ? SYSTEM_ERRORS[code] : undefined;
  if (!row) return undefined;
  const at = path ?? ".";
  const what = path === undefined ? "The system refuses" : `Cannot use "${path}"`;
  return new Fail(`${what}: ${row.why} (${[code, syscall].filter(Boolean).join(", ")})`, {
    hint: howToRepair(code, { path: at, place: nearest(at) }),
    cause: err,
  });
}

function nearest(host: string): string {
  return host === "/" || existsSync(host) ? host : nearest(dirname(resolve(host)));
}
