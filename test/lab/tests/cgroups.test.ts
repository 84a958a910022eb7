import { expect, test } from "bun:test";
import { existsSync, mkdirSync, rmdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { cpuOfLab, type Hierarchy, readHierarchies } from "../machine/cgroups.ts";

const shown = (list: Hierarchy[]) =>
  list.map(({ mount, options, own }) => `${options || "cgroup2"} ${mount} ${own}`);

test("cgroup v1 with an empty cgroup2 beside it: every hierarchy, without the lab's own cgroup in it", () => {
  const mounts = `cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
`;
  const own = "12:memory:/a/b/kpr-lab/cp1\n3:cpu,cpuacct:/a\n2:rdma:/\n1:name=systemd:/user.slice\n0::/\n";
  expect(shown(readHierarchies(mounts, own))).toEqual([
    "memory /sys/fs/cgroup/memory /a/b",
    "cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct /a",
    "name=systemd /sys/fs/cgroup/systemd /user.slice",
    "cgroup2 /sys/fs/cgroup/unified /",
  ]);
});

test("cgroup v2 alone is one hierarchy", () => {
  const mounts =
    "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0\n";
  expect(shown(readHierarchies(mounts, "0::/system.slice/v2.service\n"))).toEqual([
    "cgroup2 /sys/fs/cgroup /system.slice/v2.service",
  ]);
});

/** Nobody else's: a run that was ended has left its own. */
const OWN = `kpr-lab-test-${process.pid}`;

/** As root, with cgroup v1. */
const counts = cpuOfLab(OWN);
counts?.end();

test.skipIf(counts === undefined)(
  "the CPU of a command counts, and of what it has moved into a node's cgroup that is gone; nothing stays",
  async () => {
    const { join: joins, end } = cpuOfLab(OWN)!;
    const place = dirname(joins.at(-1)!);
    const node = join(place, "cp1");
    mkdirSync(node);
    const work = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    const line = `echo $$ > ${node}/cgroup.procs; ${work}`;
    const child = Bun.spawn([...joins, "sh", "-c", line], { stdout: "ignore" });
    expect(await child.exited).toBe(0);
    rmdirSync(node);
    const seen = Number(child.resourceUsage()!.cpuTime.total) / 1e6;
    expect(end()).toBeGreaterThan(seen / 2);
    expect(existsSync(place)).toBe(false);
  },
);

test("who counts a lab's CPU from beside its nodes finds the nodes where they always are", () => {
  const mounts = "cgroup /sys/fs/cgroup/cpuacct cgroup rw,cpuacct 0 0\n";
  const places = ["/a", "/a/kpr-lab/with-nodes-7"].map((own) =>
    shown(readHierarchies(mounts, `2:cpuacct:${own}\n`)),
  );
  expect(places[1]).toEqual(places[0]!);
});
