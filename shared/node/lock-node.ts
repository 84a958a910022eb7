/**
 * A script that changes the node has it for itself: a second one at the same time would make a second CA, or
 * roll back what the first one does. The kernel holds the lock for the process (flock(2)), so it ends with
 * the process, however that ends. Its file is in /run: in memory, where only root can make one. `fstat` and
 * `stat` tell whether it is still the one of that name.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { Fail } from "../fail.ts";
import { hostPath } from "../files/files.ts";
import { tryFile } from "../files/root.ts";
import { removeLeftOvers } from "../files/write-steps.ts";
import { quoteUntrusted } from "../plain.ts";
import { endOnSignal, mode, say } from "../run.ts";
import { keepRun } from "./kept-run.ts";
import { needRoot } from "./node.ts";
import { rescuedEtcd, rescuedLog, rescueFolders } from "./rescue-folder.ts";

const LOCK = "/run/kube-pki-repair.lock";

/** The exit code of a script that another run keeps out. */
const LOCKED = 4;

/**
 * From here on this script may change the node, a signal ends it in order, and what it says and changes is
 * kept (`kept`: as keepRun). Errors: Fail where this is not root, or where another run that changes the node
 * has not ended. A dry run is kept out by nobody.
 */
export function lockNode(kept: Parameters<typeof keepRun>[0] = {}) {
  needRoot();
  if (mode.dryRun) return;
  lock();
  endOnSignal();
  keepRun(kept);
}

/**
 * The same for a script that does nothing which another run could disturb: it may run at the same time, and
 * takes no lock.
 */
export function lockNodeShared() {
  needRoot();
  keepRun();
}

/** The lock's file that this process holds: what runs in it after that has the node already. */
let held: string | undefined;

function lock() {
  const path = hostPath(LOCK);
  if (held === path) return;
  // below another root (a disk that is looked at elsewhere) there may be none, and no other run
  if (!existsSync(dirname(path))) return;
  const fd = tryFile("lock", LOCK, () => lockFile(path), true);
  if (fd === undefined) return;
  held = path;
  truncateSync(path);
  const since = new Date().toISOString().slice(0, 19).replace("T", " ");
  writeSync(fd, `${process.pid} (${mode.script}, since ${since} UTC)`);
  process.on("exit", () => rmSync(path, { force: true }));
  clearUp();
}

/** Nobody else writes now: what is not whole is of a run that was cut off. */
function clearUp() {
  for (const folder of ["/etc/kubernetes", "/var/lib/kubelet/pki"]) removeLeftOvers(folder);
  for (const rescue of rescueFolders())
    removeLeftOvers(rescue.dir, [rescuedEtcd(rescue), rescuedLog(rescue)]);
}

const NO_FLOCK =
  "warning: flock (util-linux) is missing: see to it that no other script of the kit runs here";

/** A descriptor that holds the lock; undefined where this node has no program for that. */
function lockFile(path: string): number | undefined {
  for (;;) {
    const fd = openSync(path, "a+", 0o600);
    const answer = flock(fd);
    if (answer === "no program") return void say(NO_FLOCK);
    if (answer === "another's") throw lockedBy(readFileSync(path, "utf8"));
    // the one before removes its file at its end: perhaps after we opened it
    if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) return fd;
    closeSync(fd);
  }
}

/**
 * util-linux and busybox have the program; the lock is the open file's, so it stays when the program ends.
 */
function flock(fd: number): "ours" | "another's" | "no program" {
  try {
    const { exitCode } = Bun.spawnSync(["flock", "-n", "3"], { stdio: ["ignore", "ignore", "ignore", fd] });
    return exitCode === 0 ? "ours" : "another's";
  } catch (err) {
    if (err instanceof Error && "code" in err && err.code === "ENOENT") return "no program";
    throw err;
  }
}

function lockedBy(text: string): Fail {
  const holder = quoteUntrusted(text);
  const pid = /^\d+/.exec(holder)?.[0];
  return new Fail(`This node is locked by ${holder ? `process ${holder}` : "another run"}`, {
    unchanged: true,
    hint: `wait until that run has finished${pid ? `, or look at it: ps -fp ${pid}. If its window is gone: kill ${pid} ends it in order` : ""}; then run the same line again`,
    exitCode: LOCKED,
  });
}
