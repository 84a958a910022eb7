/**
 * What a damage and its repair changed on the nodes: files, containers; and a wait until the cluster is calm
 * again.
 */
import { createHash } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Machine } from "../machine/machine.ts";
import { controlPlaneSamples, type Scene, sayAndWait } from "../scene/scene.ts";
import { containersGone } from "./watch.ts";

const FOLDERS = ["/etc/kubernetes", "/var/lib/kubelet/pki"];

/** File → sha256 of its text; of a link, where it points to. */
export function filesOf(node: Machine): Map<string, string> {
  const files = FOLDERS.filter((folder) => existsSync(node.path(folder))).flatMap((folder) =>
    readdirSync(node.path(folder), { recursive: true, encoding: "utf8" }).map((name) => `${folder}/${name}`),
  );
  return new Map(
    files.flatMap((file): [string, string][] => {
      const stat = lstatSync(node.path(file));
      if (stat.isSymbolicLink()) return [[file, `→ ${readlinkSync(node.path(file))}`]];
      return stat.isFile()
        ? [
            [
              file,
              createHash("sha256")
                .update(readFileSync(node.path(file)))
                .digest("hex"),
            ],
          ]
        : [];
    }),
  );
}

/** Files that are new, gone or changed. */
export function changedFiles(before: Map<string, string>, after: Map<string, string>): string[] {
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((file) => before.get(file) !== after.get(file))
    .sort();
}

/** Workload containers on any node that ran at `since` (ms) and ended after it. */
export function endedContainers({ watchers }: Scene, since: number): string[] {
  return watchers.flatMap(({ machine, watcher }) =>
    containersGone(watcher.samples(), since, Number.POSITIVE_INFINITY).map(
      (name) => `${machine.name}: ${name}`,
    ),
  );
}

/** Waits until every node and every pod is Ready, and no pod is terminating. */
export async function quiet(scene: Scene) {
  const since = Date.now();
  const isQuiet = () => {
    const look = controlPlaneSamples(scene)[0]!.findLast((sample) => sample.pods && sample.nodes);
    if (!look || look.t < since) return false;
    return (
      look.nodes!.every(({ ready }) => ready) && look.pods!.every(({ ready, leaving }) => ready && !leaving)
    );
  };
  await sayAndWait(scene, "every node and pod to be Ready", isQuiet, {
    seconds: 180,
    hint: "kubectl get pods -A, with --keep",
  });
}
