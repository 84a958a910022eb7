/** Tests of changed code: where they run, how long they may, which of them are red. */
import { QUICK_BUN } from "../checks.ts";

/** Seconds, and more for each of CPU: tests that use none and do not end. A busy machine may need as long: it proves nothing. */
const WAITS = { at: 60, each: 16 };

/**
 * Where only a temporary folder can be written, and no process or port of the machine is seen: a change may
 * have taken a guard away.
 */
export const ALONE = [
  ...["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"],
  ...["sh", "-c"],
  'ip link set lo up && for memory in /tmp /dev/shm; do mount -t tmpfs tmpfs "$memory"; done && mount -o remount,ro,bind / && exec "$@"',
  "sh",
];

export interface Ran {
  /** `loops`: a test would not end. `timed out`: nothing proves that a test noticed anything. */
  end: "survived" | "killed" | "loops" | "timed out";
  /** The first test file; all of them where it is not known which. */
  red: readonly string[];
}

/**
 * Until one is red. `longest`: seconds of CPU, of each process. No test has a limit of its own: that one of them waits too long is
 * no proof that it has noticed anything.
 */
export async function ranAlone(home: string, files: readonly string[], longest: number): Promise<Ran> {
  const paths = files.map((path) => `./${path}`);
  const waits = WAITS.at + WAITS.each * longest;
  const words = [`--timeout=${(waits + 60) * 1000}`, "--bail"];
  const command = [process.execPath, "test", ...words, ...paths];
  const limits = ["timeout", "-s", "KILL", `${waits}`, "prlimit", `--cpu=${longest}:${longest + 60}`, "--"];
  const child = Bun.spawn([...ALONE, ...limits, ...command], {
    ...{ cwd: home, stdout: "ignore", stderr: "pipe", env: { ...process.env, ...QUICK_BUN } },
  });
  const said = await new Response(child.stderr).text();
  const code = await child.exited;
  if (code === 0) return { end: "survived", red: [] };
  if (code === LOOPED) return { end: "loops", red: files };
  if (code === WAITED) return { end: "timed out", red: files };
  const red = redOf(said);
  return { end: "killed", red: red.length > 0 ? red : files };
}

/** timeout(1): of a command that the kernel has ended with XCPU, and of one that it has ended itself. */
const [LOOPED, WAITED] = [128 + 24, 137];

/** The test files that Bun says are red: it names each file above what it says of it, and at its end fails alone. */
export function redOf(said: string): string[] {
  const [files] = said.split(/^\d+ tests? failed:$/m);
  return files!
    .split(/^(?=\S+\.test\.ts:$)/m)
    .filter((part) => /^\(fail\) |^# Unhandled error/m.test(part))
    .map((part) => part.slice(0, part.indexOf(":\n")))
    .filter((name) => name.endsWith(".test.ts"));
}
