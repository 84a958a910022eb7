/** Tests of one mutant: where they run, and how long they may. `longest`: seconds of CPU, of each process. */

/** Seconds, for tests that use no CPU and do not end. A busy machine may need as long: it proves nothing. */
const WAITS = 600;

/**
 * Where only a temporary folder can be written, and no process or port of the machine is seen: a change may
 * have taken a guard away.
 */
export const ALONE = [
  ...["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"],
  ...["sh", "-c"],
];
const READ_ONLY =
  'ip link set lo up && for memory in /tmp /dev/shm; do mount -t tmpfs tmpfs "$memory"; done && mount -o remount,ro,bind / && exec "$@"';

/** No test has a limit of its own: that one of them waits too long is no proof that it has noticed anything. */
export async function codeOf(home: string, files: readonly string[], longest: number): Promise<number> {
  const paths = files.map((path) => `./${path}`);
  const command = [process.execPath, "test", "--bail", `--timeout=${(WAITS + 60) * 1000}`, ...paths];
  const limits = [
    "timeout",
    "-s",
    "KILL",
    String(WAITS),
    "prlimit",
    `--cpu=${longest}:${longest + 60}`,
    "--",
  ];
  const child = Bun.spawn([...ALONE, READ_ONLY, "sh", ...limits, ...command], {
    cwd: home,
    stdout: "ignore",
    stderr: "ignore",
  });
  return child.exited;
}

/** timeout(1): of a command that the kernel has ended with XCPU, and of one that it has ended itself. */
export const [LOOPED, WAITED] = [128 + 24, 137];
