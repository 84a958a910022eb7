/** How much memory this process can still get before the kernel ends it: of the machine, and of the cgroups that it is in. */
import { Fail } from "../fail.ts";
import { readText } from "./files.ts";
import { megabytes } from "./room.ts";

const MEMINFO = "/proc/meminfo";
const OWN = "/proc/self/cgroup";

/** Bytes that a script takes, with its Bun and what it reads of etcd: measured in cgroups, with 823 MB and 200,000 keys. */
const NEED = 112 * 2 ** 20;

interface Need {
  /** Bytes, beside those that this process has already. Default: what etcd's data takes. */
  need?: number;
  /** Another way, for the operator. */
  orElse?: string;
}

/** `todo`: "read etcd's data". Errors: Fail where the kernel would end this process before it has done that. */
export function refuseNoMemory(todo: string, { need = NEED, orElse }: Need = {}) {
  const free = freeMemory();
  if (free === undefined || free.bytes >= need) return;
  const [needed, have] = [need, free.bytes].map(megabytes);
  const way = free.of === MEMINFO ? "What takes it? ps aux --sort=-rss | head. Make room, or add swap" : OUTSIDE;
  throw new Fail(`Not enough memory to ${todo}: ${needed} MB are needed, ${have} MB are free (${free.of})`, {
    hint: `nothing was changed. ${way}; then run this again${orElse ? `. ${orElse}` : ""}`,
  });
}

const OUTSIDE = "Run it outside that limit, from another login";

/** The least of all limits. Undefined where this machine does not tell. */
function freeMemory(): { bytes: number; of: string } | undefined {
  const meminfo = readText(MEMINFO) ?? "";
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(meminfo)?.[1] ?? Number.NaN);
  const all = [{ bytes: (kilobytes("MemAvailable") + (kilobytes("SwapFree") || 0)) * 1024, of: MEMINFO }, ...limits()];
  return all.filter(({ bytes }) => !Number.isNaN(bytes)).sort((a, b) => a.bytes - b.bytes)[0];
}

/**
 * Of this process's cgroups and those above: cgroup v2 (memory.max) and v1 (memory.limit_in_bytes), Linux' admin-guide. What the page cache
 * holds there is given up in time.
 */
function limits(): { bytes: number; of: string }[] {
  return (readText(OWN) ?? "").split("\n").flatMap((line) => {
    const [, controllers = "", path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers.split(",").includes("memory"))
      return above(path).map((one) =>
        limitOf(`/sys/fs/cgroup/memory${one}`, { max: "memory.limit_in_bytes", now: "memory.usage_in_bytes" }),
      );
    return controllers === ""
      ? above(path).map((one) => limitOf(`/sys/fs/cgroup${one}`, { max: "memory.max", now: "memory.current" }))
      : [];
  });
}

/** Bytes that are free in one; NaN where it has no limit. */
function limitOf(folder: string, { max, now }: { max: string; now: string }): { bytes: number; of: string } {
  const number = (name: string) => Number.parseInt(readText(`${folder}/${name}`) ?? "", 10);
  const cache = Number(/^(?:total_)?inactive_file (\d+)$/m.exec(readText(`${folder}/memory.stat`) ?? "")?.[1] ?? 0);
  return { bytes: number(max) - (number(now) - cache), of: `${folder}/${max}` };
}

/** "/a/b" → "/a/b", "/a", "" */
function above(path: string): string[] {
  const parts = path.split("/").filter(Boolean);
  return Array.from({ length: parts.length + 1 }, (_, i) =>
    parts
      .slice(0, parts.length - i)
      .map((part) => `/${part}`)
      .join(""),
  );
}
