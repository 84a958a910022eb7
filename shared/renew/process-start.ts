/** When a process started, by the kernel (proc(5)). */
import { hostText } from "../files/untrusted-file.ts";

/** Ticks in a second for user space, on all machines that Kubernetes runs on (USER_HZ). */
const TICKS = 100;

/**
 * By today's clock, counted back: a clock that was wrong at the start, as after a boot without a battery,
 * does not matter. Undefined where it has ended, or this machine does not say.
 */
export function processStart(pid: number): Date | undefined {
  const [, after = ""] = /^\d+ \(.*\) (.*)$/s.exec(hostText(`/proc/${pid}/stat`) ?? "") ?? [];
  // field 22; the state is field 3
  const ticks = Number(after.split(" ")[22 - 3]);
  const uptime = Number.parseFloat(hostText("/proc/uptime") ?? "");
  const age = (uptime - ticks / TICKS) * 1000;
  return Number.isFinite(age) ? new Date(Date.now() - age) : undefined;
}
