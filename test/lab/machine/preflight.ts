/** What the lab needs of this machine, looked at before anything is fetched, compiled or waited for. */
import { existsSync, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { CACHE, GET_GO, goProgram, isBuilt } from "./go-build.ts";
import { needsRoot } from "./packages.ts";
import { KUBERNETES, KUBERNETES_PROGRAMS, kubernetesBuild } from "./pins.ts";
import { LAB } from "./state.ts";

/**
 * GB for the first run, and for a later one. After the first `du` says: Go's build cache 3.3, its modules 1.0,
 * the lab's programs and images 2.0; while Kubernetes is compiled, 2.5 for its parts, which go before images
 * come.
 */
const ROOM: [folder: "CACHE" | "GOCACHE" | "GOMODCACHE" | "LAB", first: number, later: number][] = [
  ["CACHE", 3, 1],
  ["GOCACHE", 3.5, 0],
  ["GOMODCACHE", 1.5, 0],
  ["LAB", 1, 2],
];

/** A file system, one of our folders in it, and GB. */
export type Disk = { folder: string; free: number; first: number; later: number };

/** The oldest Go that fetches the newer one that Kubernetes asks for. */
const OLDEST_GO = 21;

export interface Machine {
  isRoot: boolean;
  /** What the kernel says where it gives root no namespaces and mounts, as in a plain container. */
  refusal: string;
  isBuilt: boolean;
  /** As in go1.26.8; undefined: there is none. */
  goMinor: number | undefined;
  disks: Disk[];
}

/** Errors: Fail, for the first thing that is missing. */
export function refuseMachine(machine: Machine = thisMachine()) {
  if (!machine.isRoot) throw needsRoot();
  if (machine.refusal)
    throw new Fail(
      `The lab makes namespaces and mounts, which this machine refuses root: ${machine.refusal}`,
      {
        hint: "in a container: docker run --privileged --cgroupns=host",
      },
    );
  if (!machine.isBuilt) refuseGo(machine.goMinor);
  for (const { folder, free, first, later } of machine.disks) {
    const wanted = machine.isBuilt ? later : first;
    if (free < wanted)
      throw new Fail(`The lab needs ${wanted} GB, and "${folder}" has ${free.toFixed(1)} GB free`, {
        hint: "KUBE_PKI_REPAIR_CACHE=/a/larger/disk npm run rehearse (Go's own caches: GOCACHE, GOMODCACHE)",
      });
  }
}

function refuseGo(minor: number | undefined) {
  if (minor === undefined)
    throw new Fail("The lab's programs are compiled here, and go is missing", { hint: GET_GO });
  if (minor < OLDEST_GO)
    throw new Fail(`The lab's programs are compiled here, and go 1.${minor} is too old`, { hint: GET_GO });
}

function thisMachine(): Machine {
  const isRoot = process.getuid?.() === 0;
  return {
    isRoot,
    refusal: isRoot ? refusal() : "",
    isBuilt:
      process.env.KUBE_PKI_REPAIR_BIN !== undefined ||
      isBuilt(kubernetesBuild(KUBERNETES, KUBERNETES_PROGRAMS)),
    goMinor: goMinor(),
    disks: disks(),
  };
}

/** The result of a try, which leaves nothing behind. */
function refusal(): string {
  const tried = Bun.spawnSync([
    ...["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork"],
    ...["mount", "-t", "tmpfs", "tmpfs", "/tmp"],
  ]);
  return tried.success ? "" : tried.stderr.toString().trim();
}

/** The version of the installed Go, not of one that it fetches. */
function goMinor(): number | undefined {
  const program = goProgram();
  if (!program) return undefined;
  const env = { ...process.env, GOTOOLCHAIN: "local" };
  const said = Bun.spawnSync([program, "version"], { env }).stdout.toString();
  return Number(/go1\.(\d+)/.exec(said)?.[1]);
}

/** Adds up what is on one file system. */
function disks(): Disk[] {
  const { GOCACHE = CACHE, GOMODCACHE = CACHE } = goFolders();
  const folders = { CACHE, GOCACHE, GOMODCACHE, LAB };
  const found = new Map<number, Disk>();
  for (const [name, first, later] of ROOM) {
    const folder = folders[name];
    const { dev } = statSync(nearest(folder));
    const { bavail, bsize } = statfsSync(nearest(folder));
    const disk = found.get(dev) ?? { folder, free: (bavail * bsize) / 1e9, first: 0, later: 0 };
    found.set(dev, { ...disk, first: disk.first + first, later: disk.later + later });
  }
  return [...found.values()];
}

function goFolders(): { GOCACHE?: string; GOMODCACHE?: string } {
  const program = goProgram();
  if (!program) return {};
  return JSON.parse(Bun.spawnSync([program, "env", "-json", "GOCACHE", "GOMODCACHE"]).stdout.toString());
}

/** The folder itself, or the nearest one above it that is there. */
function nearest(folder: string): string {
  return existsSync(folder) ? folder : nearest(dirname(folder));
}
