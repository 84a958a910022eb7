/**
 * Each node lives in a cgroup of its own in every hierarchy, below ours, so that the machine's limits for us hold for it too.
 * systemd inside must be kept out of the host's root in *all* of them, name=systemd and the empty cgroup2 included.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Fail } from "../../shared/fail.ts";

/** A mounted hierarchy: where, its options (such as `cpu,cpuacct`; empty for cgroup2), and our own cgroup in it. */
type Hierarchy = { mount: string; options: string; own: string };

const PARENT = "kpr-lab";

export function hierarchies(): Hierarchy[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "));
  const found = readFileSync("/proc/self/cgroup", "utf8")
    .trim()
    .split("\n")
    .flatMap((line): Hierarchy[] => {
      const [, options = "", own = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
      const type = options === "" ? "cgroup2" : "cgroup";
      const mount = mounts.find(
        (m) => m[2] === type && options.split(",").every((option) => m[3]?.split(",").includes(option) || option === ""),
      );
      return mount?.[1] ? [{ mount: mount[1], options, own: own.replace(new RegExp(`/${PARENT}/.*`), "") }] : [];
    });
  if (found.some((h) => h.options.split(",").includes("memory"))) return found;
  throw new Fail("The lab knows cgroup v1 only, and this machine has cgroup v2 alone", {
    hint: "boot with systemd.unified_cgroup_hierarchy=0, or use a machine like the CI's",
  });
}

/** Host paths of a node's cgroups, one in each hierarchy. */
export function cgroupsOf(node: string): string[] {
  return hierarchies().map((h) => join(h.mount, h.own, PARENT, node));
}

export function makeCgroups(cgroups: string[]) {
  for (const cgroup of cgroups) {
    mkdirSync(cgroup, { recursive: true });
    if (!existsSync(join(cgroup, "cpuset.cpus"))) continue;
    // A cpuset takes no process until it has cpus and memory nodes of its own.
    for (const dir of [dirname(cgroup), cgroup]) {
      for (const file of ["cpuset.cpus", "cpuset.mems"]) writeFileSync(join(dir, file), readFileSync(join(dirname(dir), file), "utf8"));
    }
    writeFileSync(join(cgroup, "cgroup.clone_children"), "1");
  }
}

/** What a node mounts below its /sys/fs/cgroup: `name:options` for each v1 hierarchy. */
export function cgroupMounts(): string {
  return hierarchies()
    .filter((h) => h.options !== "")
    .map((h) => `${basename(h.mount)}:${h.options.startsWith("name=") ? `none,${h.options}` : h.options}`)
    .join(" ");
}

/** A shell line that joins the cgroups whose paths are in $CGROUPS, and then becomes its arguments. */
export const JOIN = 'for cgroup in $CGROUPS; do echo $$ > "$cgroup/cgroup.procs" || exit 125; done; exec "$@"';
