/** Empties and removes cgroups that only ever held our processes, with all cgroups below them. */
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Fail } from "../../../shared/fail.ts";

/** Kills what is left in cgroups that only ever held our processes, until they are empty. */
export async function emptyCgroups(cgroups: string[]) {
  const end = Date.now() + 20_000;
  for (;;) {
    const pids = new Set(cgroups.flatMap(processesIn));
    if (pids.size === 0) return;
    if (Date.now() > end)
      throw new Fail(`Processes of the lab do not die: ${[...pids].join(" ")}`, {
        hint: "look at them with ps, then try again",
      });
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch (err) {
        if ((err as NodeJS.ErrnoException).code !== "ESRCH") throw err;
      }
    }
    await Bun.sleep(50);
  }
}

function processesIn(cgroup: string): number[] {
  if (!existsSync(cgroup)) return [];
  return [cgroup, ...directoriesBelow(cgroup)].flatMap((dir) => {
    try {
      return readFileSync(join(dir, "cgroup.procs"), "utf8")
        .split("\n")
        .filter(Boolean)
        .map(Number)
        .filter((pid) => pid > 0);
    } catch (err) {
      // A child that went away while we looked has no processes.
      if (["ENOENT", "ENODEV"].includes((err as NodeJS.ErrnoException).code ?? "")) return [];
      throw err;
    }
  });
}

/** Removes a cgroup and those below it, and the parent we made for all nodes once it is empty. */
export async function removeCgroup(cgroup: string) {
  const parent = dirname(cgroup);
  if (existsSync(cgroup))
    for (const dir of [...directoriesBelow(cgroup).reverse(), cgroup]) await removeDirectory(dir);
  if (existsSync(parent) && directoriesBelow(parent).length === 0) await removeDirectory(parent);
}

/** A killed process holds its cgroup for a moment longer than it is listed there. */
async function removeDirectory(dir: string) {
  for (let attempt = 0; existsSync(dir); attempt++) {
    try {
      return rmdirSync(dir);
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== "EBUSY" || attempt === 100) throw err;
      await Bun.sleep(50);
    }
  }
}

/** Parents before children. One that went away while we looked has none. */
function directoriesBelow(dir: string): string[] {
  return entriesOf(dir)
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => [join(dir, entry.name), ...directoriesBelow(join(dir, entry.name))]);
}

function entriesOf(dir: string) {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw err;
  }
}

/**
 * Takes controllers back that a v2 cgroup gives to its children; a controller that somebody else uses by now
 * stays.
 */
export function takeBack(cgroup: string, controllers: string[]) {
  // A machine that was booted with cgroup v1 since then has no such file, and must not get one.
  if (!existsSync(join(cgroup, "cgroup.subtree_control"))) return;
  for (const controller of controllers) {
    try {
      writeFileSync(join(cgroup, "cgroup.subtree_control"), `-${controller}`);
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== "EBUSY") throw err;
    }
  }
}
