/**
 * What the lab makes on this machine, written down *before* it is made: so the next start can remove exactly
 * what an interrupted lab has left. A process is known by its pid and its start time, never by its name.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { emptyCgroups, removeCgroup, takeBack } from "./empty-cgroups.ts";
import { sh } from "./shell.ts";

export const LAB = "/var/lib/kube-pki-repair-lab";
const STATE = join(LAB, "state.json");
const LOCK = join(LAB, "lock");

type ProcessMark = { pid: number; startTime: string };
export type NodeRecord = {
  name: string;
  ip: string;
  ips: readonly string[];
  hostName: string;
  nodeName: string;
  cgroups: string[];
  init?: ProcessMark;
};

type LabState = {
  nodes: NodeRecord[];
  processes: (ProcessMark & { what: string })[];
  namespaces: string[];
  cgroups: string[];
  /**
   * Controllers that a cgroup of this machine's, the root of cgroup v2, hands to its children since the lab
   * wanted it.
   */
  controllers?: Record<string, string[]>;
  /** Mount points of this machine's. */
  mounts: string[];
  /** Values from before the lab: kubelets change some for the full machine. */
  sysctls: Record<string, string>;
};

export function readState(): LabState {
  if (!existsSync(STATE))
    return { nodes: [], processes: [], namespaces: [], cgroups: [], mounts: [], sysctls: {} };
  return JSON.parse(readFileSync(STATE, "utf8")) as LabState;
}

/** Changes the state file; written beside and renamed, so that it can be read at any moment. */
export function record(change: (state: LabState) => void) {
  mkdirSync(LAB, { recursive: true });
  const state = readState();
  change(state);
  writeFileSync(`${STATE}.new`, JSON.stringify(state, null, 2));
  renameSync(`${STATE}.new`, STATE);
}

/** The mark of a living process; undefined when there is none. */
export function markOf(pid: number): ProcessMark | undefined {
  try {
    // The name in parentheses may hold anything; the start time is the 20th field after it.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const startTime = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    return startTime === undefined ? undefined : { pid, startTime };
  } catch {
    return undefined;
  }
}

export function isAlive(mark: ProcessMark | undefined) {
  return mark !== undefined && markOf(mark.pid)?.startTime === mark.startTime;
}

/** One lab at a time: the driving process holds the lock until it exits or lets go. */
export async function lock(options: { waitSeconds: number }) {
  mkdirSync(LAB, { recursive: true });
  const end = Date.now() + options.waitSeconds * 1000;
  let said = false;
  while (!tryLock()) {
    const holder = lockHolder();
    if (Date.now() > end)
      throw new Fail(`Another lab is running: process ${holder?.pid}`, {
        hint: "wait for it to end, or stop it and run test/lab/down.ts",
      });
    if (!said) console.error(`  waiting for the lab of process ${holder?.pid} to end`);
    said = true;
    await Bun.sleep(500);
  }
}

function tryLock() {
  const me = JSON.stringify(markOf(process.pid));
  const holder = lockHolder();
  if (holder?.pid === process.pid) return true;
  if (existsSync(LOCK) && !isAlive(holder)) rmSync(LOCK, { force: true });
  try {
    writeFileSync(LOCK, me, { flag: "wx" });
    return true;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw err;
  }
}

function lockHolder(): ProcessMark | undefined {
  try {
    return JSON.parse(readFileSync(LOCK, "utf8")) as ProcessMark;
  } catch {
    // Gone, or not written to its end yet: either way there is nobody to name.
    return undefined;
  }
}

export function unlock() {
  if (lockHolder()?.pid === process.pid) rmSync(LOCK, { force: true });
}

/**
 * Removes everything the state file names: processes, namespaces (their links go with them), cgroups, the
 * nodes' disks.
 */
export async function removeLab() {
  const state = readState();
  for (const mark of state.processes) if (isAlive(mark)) process.kill(mark.pid, "SIGKILL");
  await emptyCgroups(state.cgroups);
  const namespaces = existsSync("/run/netns") ? readdirSync("/run/netns") : [];
  for (const name of state.namespaces) if (namespaces.includes(name)) await sh(["ip", "netns", "del", name]);
  for (const cgroup of state.cgroups) await removeCgroup(cgroup);
  for (const [cgroup, controllers] of Object.entries(state.controllers ?? {})) takeBack(cgroup, controllers);
  for (const [name, value] of Object.entries(state.sysctls)) writeFileSync(sysctlPath(name), value);
  for (const mount of state.mounts ?? []) if (isMountPoint(mount)) await sh(["umount", mount]);
  await sh(["rm", "-rf", "--one-file-system", join(LAB, "nodes"), join(LAB, "bin"), join(LAB, "operator")]);
  rmSync(STATE, { force: true });
}

function isMountPoint(path: string) {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .some((line) => line.split(" ")[4] === path);
}

/**
 * Sets a sysctl of the machine, or only remembers it as one that kubelets will set; `down` puts the old value
 * back.
 */
export function borrowSysctl(name: string, value?: string) {
  if (!existsSync(sysctlPath(name))) return;
  const old = readFileSync(sysctlPath(name), "utf8");
  record((state) => {
    state.sysctls[name] ??= old;
  });
  if (value !== undefined && Number(old) < Number(value)) writeFileSync(sysctlPath(name), value);
}

function sysctlPath(name: string) {
  return `/proc/sys/${name.replaceAll(".", "/")}`;
}
