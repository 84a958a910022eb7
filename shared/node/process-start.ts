/** Which processes have a name, and when they started, by the kernel (proc(5)). */
import { list } from "../files/files.ts";
import { hostText } from "../files/untrusted-file.ts";
import { COMM } from "../shell-line.ts";

/** Of all processes with this name, whoever started them. */
export function pidsNamed(name: string): number[] {
  const isNamed = (pid: string) => hostText(`/proc/${pid}/comm`)?.trim() === name.slice(0, COMM);
  return list("/proc").flatMap((pid) => (/^\d+$/.test(pid) && isNamed(pid) ? [Number(pid)] : []));
}

/** When the oldest process of this name started, as `processStart`; undefined: none runs. */
export function oldestStart(name: string): Date | undefined {
  const starts = pidsNamed(name).flatMap((pid) => processStart(pid) ?? []);
  return starts.toSorted((a, b) => a.getTime() - b.getTime())[0];
}

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
