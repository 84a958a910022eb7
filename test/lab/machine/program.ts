/** A program that runs beside a test, with its output in a file. */
import { closeSync, openSync, readFileSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { waitFor } from "../../../shared/wait-for.ts";

export interface Started {
  name: string;
  pid: number;
  /**
   * Waits for a condition. Errors: Fail with the program's last lines where it has ended, or the time is
   * over.
   */
  until(what: string, probe: () => Promise<unknown>, seconds: number): Promise<void>;
  /** Its peak of memory so far, in MB. */
  peakMemory(): number;
  /** Its processor time so far, in seconds. */
  processor(): number;
  /** Ends it, and returns when it has ended. */
  stop(): Promise<void>;
  /** The same, and it can do nothing more. */
  kill(): Promise<void>;
}

export function startProgram(name: string, command: string[], log: string): Started {
  const file = openSync(log, "w");
  const child = Bun.spawn(command, { stdin: "ignore", stdout: file, stderr: file });
  closeSync(file);
  const lastLines = () => readFileSync(log, "utf8").trim().split("\n").slice(-5).join("\n");
  return {
    name,
    pid: child.pid,
    async until(what, probe, seconds) {
      const outcome = await waitFor(
        what,
        async () => (child.exitCode !== null ? "ended" : (await probe()) ? "there" : undefined),
        {
          seconds,
          hint: `the last lines of ${name}:\n${lastLines()}`,
        },
      );
      if (outcome === "ended")
        throw new Fail(`${name} has ended with exit code ${child.exitCode}`, { hint: lastLines() });
    },
    peakMemory: () => peakMemory(child.pid),
    processor: () => processorSeconds(child.pid),
    async stop() {
      child.kill();
      await child.exited;
    },
    async kill() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** The most memory a process has had so far, in MB. */
export function peakMemory(pid: number | "self" = "self"): number {
  return Math.round(
    Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024,
  );
}

/**
 * Seconds of processor a process has used so far, in all its threads: utime and stime of proc_pid_stat(5), in
 * hundredths.
 */
export function processorSeconds(pid: number | "self" = "self"): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** A port of the loopback that nobody uses at this moment. */
export function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  if (!port) throw new Fail("No free port on 127.0.0.1", { hint: "ss -ltn" });
  return port;
}
