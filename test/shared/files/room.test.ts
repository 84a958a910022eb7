/** Is there room before a step begins: on the disk, for small files and copies, and in memory. */
import { expect, test } from "bun:test";
import { symlinkSync } from "node:fs";
import { failOf } from "../../../shared/fail.ts";
import { megabytes, refuseNoMemory, refuseUnwritable } from "../../../shared/files/file-system.ts";
import { refuseNoRoom, sizeBelow } from "../../../shared/files/file-tree.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test.each<[string, Parameters<typeof refuseUnwritable>[1], string | undefined]>([
  ["there is room", {}, undefined],
  [
    "more bytes are needed than are free",
    { bytes: 1e18 },
    'No room in "/a": 1,000,000,000,000 MB are needed, ',
  ],
  [
    "more inodes are needed than are free",
    { inodes: 1e18 },
    'No room in "/a": 1000000000000000000 inodes are needed, ',
  ],
])("small files: %s", async (_, needed, words) => {
  using box = sandbox();
  write(`${box.dir}/a/file`, "x");
  const refused = await failOf(async () => refuseUnwritable(["/a/later/below", "/a"], needed));
  expect(refused?.message.slice(0, words?.length)).toBe(words as never);
});

test("a copy takes what its links lead to, and what stays free beside it; without room the links are named", async () => {
  using box = sandbox();
  write(`${box.dir}/data/a`, "x".repeat(1000));
  write(`${box.dir}/other/b`, "x".repeat(500));
  symlinkSync("/other/b", `${box.dir}/data/link`);
  expect(sizeBelow(`${box.dir}/data`)).toBe(1500);
  expect(refuseNoRoom(["/data", "/nowhere"], "/to/below")).toBeUndefined();
});

const MB = 2 ** 20;
const cgroup = (line: string, files: Record<string, string>) => ({ "/proc/self/cgroup": line, ...files });
const V2 = "/sys/fs/cgroup";
const V1 = "/sys/fs/cgroup/memory";
const meminfo = (available: number, swap = 0) =>
  `MemTotal:       ${available * 2} kB\nMemAvailable:   ${available} kB\nSwapFree:       ${swap} kB\n`;

test.each<[string, Record<string, string>, string | undefined]>([
  ["a machine that tells nothing", {}, undefined],
  ["enough is free", { "/proc/meminfo": meminfo(200 * 1024) }, undefined],
  ["too little is free", { "/proc/meminfo": meminfo(10 * 1024) }, "11 MB are free (/proc/meminfo)"],
  ["with swap it is enough", { "/proc/meminfo": meminfo(10 * 1024, 200 * 1024) }, undefined],
  [
    "its cgroup allows less (v2); what the cache holds is given up",
    cgroup("0::/a/b\n", {
      [`${V2}/a/b/memory.max`]: String(50 * MB),
      [`${V2}/a/b/memory.current`]: String(30 * MB),
      [`${V2}/a/b/memory.stat`]: `anon 1\ninactive_file ${10 * MB}\n`,
    }),
    `32 MB are free (${V2}/a/b/memory.max)`,
  ],
  [
    "one above it allows less",
    cgroup("0::/a/b\n", { [`${V2}/a/memory.max`]: String(20 * MB), [`${V2}/a/memory.current`]: "0" }),
    `21 MB are free (${V2}/a/memory.max)`,
  ],
  [
    "its cgroup has no limit",
    cgroup("0::/a\n", { [`${V2}/a/memory.max`]: "max\n", [`${V2}/a/memory.current`]: "5" }),
    undefined,
  ],
  [
    "its cgroup allows less (v1), and other controllers do not count",
    cgroup("3:cpu,cpuacct:/c\n2:memory:/m\n", {
      [`${V1}/m/memory.limit_in_bytes`]: String(9 * MB),
      [`${V1}/m/memory.usage_in_bytes`]: String(MB),
      [`${V1}/m/memory.stat`]: `total_inactive_file ${MB}\n`,
      [`${V1}/c/memory.limit_in_bytes`]: "1",
      [`${V1}/c/memory.usage_in_bytes`]: "0",
    }),
    `10 MB are free (${V1}/m/memory.limit_in_bytes)`,
  ],
  [
    "the least of all counts",
    {
      ...cgroup("0::/a\n", { [`${V2}/a/memory.max`]: String(60 * MB), [`${V2}/a/memory.current`]: "0" }),
      "/proc/meminfo": meminfo(10 * 1024),
    },
    "11 MB are free (/proc/meminfo)",
  ],
])("memory: %s", async (_, files, words) => {
  using box = sandbox();
  for (const [path, text] of Object.entries(files)) write(box.dir + path, text);
  const refused = await failOf(async () => refuseNoMemory("read etcd's data", { orElse: "Or elsewhere" }));
  expect(refused?.message).toBe(
    (words && `Not enough memory to read etcd's data: 118 MB are needed, ${words}`) as never,
  );
  if (words)
    expect(refused!.hint).toMatch(
      words.includes("meminfo") ? /add swap.*Or elsewhere$/ : /outside that limit.*Or elsewhere$/,
    );
});

test("memory: another need is another limit", () => {
  using box = sandbox();
  write(`${box.dir}/proc/meminfo`, meminfo(10 * 1024));
  expect(refuseNoMemory("look", { need: 10 * MB })).toBeUndefined();
  expect(megabytes(1_234_000_001)).toBe("1,235");
});
