import { expect, test } from "bun:test";
import { type Hierarchy, readHierarchies } from "../machine/cgroups.ts";

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
