/** A drill runs beside a living cluster: it takes only what nobody else wants of the processor and of the disk. */
import { readdirSync } from "node:fs";
import { setPriority } from "node:os";
import { $ } from "zx/core";

/** The lowest of setpriority(2). */
const LOWEST = 19;

/** All threads of this process, and so those that they start. The disk's class is set where the machine has the program ionice. */
export async function lowPriority() {
  const threads = readdirSync("/proc/self/task");
  for (const thread of threads) lower(Number(thread));
  await $({ quiet: true, nothrow: true })`ionice -c 3 -p ${threads}`;
}

/** A thread may have ended meanwhile. */
function lower(thread: number) {
  try {
    setPriority(thread, LOWEST);
  } catch (err) {
    if (!(err instanceof Error && "code" in err && err.code === "ERR_SYSTEM_ERROR")) throw err;
  }
}
