/**
 * Each node lives in a cgroup of its own in every hierarchy, below ours, so that the machine's limits for us
 * hold for it too. systemd inside must be kept out of the host's root in *all* of them, name=systemd and the
 * empty cgroup2 included.
 *
 * With cgroup v2 alone a cgroup may have processes or give its children controllers, not both, and ours has
 * us: so the nodes' are below the hierarchy's root, which is free of that rule, and a process joins a leaf of
 * a node's (`Place`), never the node's own.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { record } from "./state.ts";

/**
 * A mounted hierarchy: where, its options (such as `cpu,cpuacct`; empty for cgroup2), and our cgroup in it.
 */
export type Hierarchy = { mount: string; options: string; own: string };

const PARENT = "kpr-lab";

/**
 * Where in a node's cgroups a process belongs: PID 1 `inside`, who waits for it `outside`, who comes in later
 * at `enter`.
 */
const PLACES = { inside: "inside", outside: "outside", enter: "inside/enter" };
type Place = keyof typeof PLACES;

/** What kubeadm and the kubelet need in a node, where the machine has it. */
const CONTROLLERS = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb"];

function hierarchies(): Hierarchy[] {
  const found = readHierarchies(
    readFileSync("/proc/self/mounts", "utf8"),
    readFileSync("/proc/self/cgroup", "utf8"),
  );
  if (found.some((h) => h.options.split(",").includes("memory"))) return found;
  const unified = found.find((h) => h.options === "");
  if (unified && words(join(unified.mount, "cgroup.controllers")).includes("memory"))
    return [{ ...unified, own: "/" }];
  throw new Fail("No cgroup hierarchy of this machine has the memory controller", {
    hint: "mount cgroup2 on /sys/fs/cgroup, and boot with cgroup_enable=memory where that is off; or use another machine",
  });
}

/** The hierarchies in /proc/self/mounts and /proc/self/cgroup, and our cgroup in each. */
export function readHierarchies(mountTable: string, ownCgroups: string): Hierarchy[] {
  const mounts = mountTable.split("\n").map((line) => line.split(" "));
  return ownCgroups
    .trim()
    .split("\n")
    .flatMap((line): Hierarchy[] => {
      const [, options = "", own = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
      const type = options === "" ? "cgroup2" : "cgroup";
      const mount = mounts.find(
        (m) =>
          m[2] === type &&
          options.split(",").every((option) => m[3]?.split(",").includes(option) || option === ""),
      );
      return mount?.[1]
        ? [{ mount: mount[1], options, own: own.replace(new RegExp(`/${PARENT}/.*`), "") }]
        : [];
    });
}

function isUnified() {
  return hierarchies().every((h) => h.options === "");
}

/** Host paths of a node's cgroups, one in each hierarchy. */
export function cgroupsOf(node: string): string[] {
  return hierarchies().map((h) => join(h.mount, h.own, PARENT, node));
}

export function makeCgroups(cgroups: string[]) {
  if (isUnified()) return cgroups.forEach(makeUnified);
  for (const cgroup of cgroups) {
    mkdirSync(cgroup, { recursive: true });
    if (!existsSync(join(cgroup, "cpuset.cpus"))) continue;
    // A cpuset takes no process until it has cpus and memory nodes of its own.
    for (const dir of [dirname(cgroup), cgroup]) {
      for (const file of ["cpuset.cpus", "cpuset.mems"])
        writeFileSync(join(dir, file), readFileSync(join(dirname(dir), file), "utf8"));
    }
    writeFileSync(join(cgroup, "cgroup.clone_children"), "1");
  }
}

/** `inside` hands nothing down yet: that is for the systemd that lives there. */
function makeUnified(cgroup: string) {
  const root = dirname(dirname(cgroup));
  try {
    for (const place of Object.values(PLACES)) mkdirSync(join(cgroup, place), { recursive: true });
    record((state) => {
      state.controllers = {
        ...state.controllers,
        [root]: [...(state.controllers?.[root] ?? []), ...notHandedDown(root)],
      };
    });
    for (const dir of [root, dirname(cgroup), cgroup]) {
      writeFileSync(
        join(dir, "cgroup.subtree_control"),
        notHandedDown(dir)
          .map((name) => `+${name}`)
          .join(" "),
      );
    }
  } catch (err) {
    throw new Fail(`The lab cannot make cgroups below ${root}: ${(err as Error).message}`, {
      hint: "it needs the root of cgroup v2, writable: a container is to be started with --privileged --cgroupns=host",
    });
  }
}

function notHandedDown(cgroup: string) {
  const handedDown = words(join(cgroup, "cgroup.subtree_control"));
  return words(join(cgroup, "cgroup.controllers")).filter(
    (name) => CONTROLLERS.includes(name) && !handedDown.includes(name),
  );
}

function words(file: string) {
  return existsSync(file) ? readFileSync(file, "utf8").trim().split(/\s+/).filter(Boolean) : [];
}

/**
 * Counts the CPU of a command and of the lab's nodes that it starts, who outlive it or end with it, by cpuacct. `join` goes before the
 * command; it is then in a cgroup beside the nodes', so that ours stays and counts when they are gone. `end`
 * gives the seconds. Undefined: on cgroup v2 alone, and where nobody may make a cgroup.
 */
export function cpuOfLab(parent = PARENT): { join: string[]; end(): number } | undefined {
  const found = readHierarchies(
    readFileSync("/proc/self/mounts", "utf8"),
    readFileSync("/proc/self/cgroup", "utf8"),
  ).find((h) => h.options.split(",").includes("cpuacct") && !h.options.split(",").includes("cpuset"));
  if (!found) return undefined;
  const all = join(found.mount, found.own, parent);
  const own = join(all, `with-nodes-${process.pid}`);
  try {
    mkdirSync(own, { recursive: true });
  } catch (err) {
    if (["EACCES", "EROFS", "EPERM"].includes((err as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw err;
  }
  const nanoseconds = () => Number(readFileSync(join(all, "cpuacct.usage"), "utf8"));
  const before = nanoseconds();
  return {
    join: ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', own],
    end() {
      const used = (nanoseconds() - before) / 1e9;
      for (const cgroup of [own, all]) removeIfEmpty(cgroup);
      return used;
    },
  };
}

/** Who is left in one keeps it: a lab that stays up, or a process that the command has left behind. */
function removeIfEmpty(cgroup: string) {
  try {
    rmdirSync(cgroup);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== "EBUSY") throw err;
  }
}

/**
 * What a node mounts below its /sys/fs/cgroup: `name:options` for each v1 hierarchy. Nothing means cgroup2,
 * on that very place.
 */
export function cgroupMounts(): string {
  return hierarchies()
    .filter((h) => h.options !== "")
    .map((h) => `${basename(h.mount)}:${h.options.startsWith("name=") ? `none,${h.options}` : h.options}`)
    .join(" ");
}

/** A shell line that joins the cgroups whose paths are in $CGROUPS, and then becomes its arguments. */
export const JOIN =
  'for cgroup in $CGROUPS; do echo $$ > "$cgroup/cgroup.procs" || exit 125; done; exec "$@"';

/** JOIN's $CGROUPS: a v1 cgroup holds processes of every kind itself. */
export function toJoin(cgroups: string[], place: Place): string {
  return (isUnified() ? cgroups.map((cgroup) => join(cgroup, PLACES[place])) : cgroups).join(" ");
}
