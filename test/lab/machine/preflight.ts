/** What the lab needs of this machine, looked at before anything is fetched, compiled or waited for. */
import { existsSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { CACHE, GET_GO, goProgram, isBuilt } from "./go-build.ts";
import { needsRoot } from "./packages.ts";
import { KUBERNETES, KUBERNETES_PROGRAMS, kubernetesBuild } from "./pins.ts";

/**
 * In GB. After the first run `du` says: Go's modules 1.1, Go's build cache 3.3, the lab's programs and images
 * 2.0; a cluster has some more.
 */
const ROOM = { first: 9, later: 3 };

export interface Machine {
  isRoot: boolean;
  isBuilt: boolean;
  hasGo: boolean;
  /** GB, where the cache is. */
  free: number;
}

/** Errors: Fail, for the first thing that is missing. */
export function refuseMachine(machine: Machine = thisMachine()) {
  const { isRoot, hasGo, free } = machine;
  if (!isRoot) throw needsRoot();
  if (!machine.isBuilt && !hasGo)
    throw new Fail("The lab's programs are compiled here, and go is missing", { hint: GET_GO });
  const wanted = machine.isBuilt ? ROOM.later : ROOM.first;
  if (free < wanted)
    throw new Fail(`The lab needs ${wanted} GB, and "${CACHE}" has ${free.toFixed(1)} GB free`, {
      hint: "KUBE_PKI_REPAIR_CACHE=/a/larger/disk npm run rehearse (Go's own caches: GOCACHE, GOMODCACHE)",
    });
}

function thisMachine(): Machine {
  const { bavail, bsize } = statfsSync(nearest(CACHE));
  return {
    isRoot: process.getuid?.() === 0,
    isBuilt:
      process.env.KUBE_PKI_REPAIR_BIN !== undefined ||
      isBuilt(kubernetesBuild(KUBERNETES, KUBERNETES_PROGRAMS)),
    hasGo: goProgram() !== undefined,
    free: (bavail * bsize) / 1e9,
  };
}

/** The folder itself, or the nearest one above it that is there. */
function nearest(folder: string): string {
  return existsSync(folder) ? folder : nearest(dirname(folder));
}
