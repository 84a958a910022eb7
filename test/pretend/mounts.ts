/**
 * A machine's mounts in a namespace of our own, which is gone with the process that holds it: those of a
 * hardened host, with /run and /dev/shm in memory, where no program may run; or others.
 */
import { readlinkSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "../../shared/wait-for.ts";

const HARDENED = `for place in /run /dev/shm; do mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs $place || exit 1; done
chmod 1777 /dev/shm`;

export interface Said {
  exitCode: number;
  said: string;
}

export const hardenedHost = () => ownMounts(HARDENED);

/** A machine whose mounts these lines of shell have made. */
export async function ownMounts(lines: string) {
  const holder = Bun.spawn(
    ["unshare", "--mount", "--propagation", "private", "sh", "-ec", `${lines}\nexec cat`],
    {
      ...{ stdin: "pipe", stdout: "ignore", stderr: "inherit" },
    },
  );
  // `cat` is there when all is mounted, and ends with its stdin.
  const isReady = () => holder.exitCode !== null || readlinkSync(`/proc/${holder.pid}/exe`) === CAT;
  await waitFor("a machine's own mounts", isReady, {
    seconds: 250,
    hint: "these tests are root's: they mount",
  });
  return {
    /** Comes before a command that is to run there. */
    inside: ["nsenter", "-t", String(holder.pid), "-m"],
    /** Where this process sees a file of that machine's. */
    path: (path: string) => join(`/proc/${holder.pid}/root`, path),
    /** Types a line there, as ssh does. */
    async type(line: string, options: { stdin?: string; env?: Record<string, string> } = {}): Promise<Said> {
      const child = Bun.spawn([...this.inside, "sh", "-c", line], {
        ...{ cwd: "/", env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...options.env } },
        ...{ stdin: options.stdin ? Bun.file(options.stdin) : "ignore", stdout: "pipe", stderr: "pipe" },
      });
      const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
      return { exitCode: await child.exited, said };
    },
    async [Symbol.asyncDispose]() {
      holder.stdin.end();
      await holder.exited;
    },
  };
}

const CAT = await Bun.$`readlink -f ${Bun.which("cat")!}`.text().then((path) => path.trim());
