/**
 * The operator's choice where a file is lost for good: the API server starts without the flag that names it. Nothing chooses so by itself:
 * each flag that is given up loosens something, or hides it.
 */

import { again } from "../again.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { choiceOf, type LostFile } from "../facts/lost-files.ts";
import { Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { commandOf, flags, hostFiles } from "../manifests/command.ts";
import type { Manifest } from "../objects/objects.ts";
import { say } from "../run.ts";

const PART_2 = "02-control-plane";

/** Errors: Fail where the API server cannot do without one of these flags, by their names without dashes. */
export function refuseNoChoice(names: readonly string[]) {
  const never = names.filter((name) => choiceOf(`--${name}`) === undefined);
  if (never.length > 0)
    throw new Fail(`The API server cannot start without "${never.join('", "')}"`, {
      hint: `${again({}, { of: PART_2, less: never })} names the flags that it can start without`,
    });
}

/** For the hint of a refusal: what can be given up, and what that means. */
export function choices(lost: readonly LostFile[]): string {
  const flags = [...new Set(lost.filter(({ program }) => program === "kube-apiserver").map(({ namedBy }) => namedBy))];
  const known = flags.flatMap((flag) => ({ name: flag.slice(2), means: choiceOf(flag) })).filter(({ means }) => means !== undefined);
  if (known.length === 0) return "";
  const line = again({ "start-without": known.map(({ name }) => name) }, { of: PART_2 });
  const means = known.map(({ name, means }) => `--${name}: ${means}`).join("; ");
  return `. If a file is lost for good, this starts without the flag that names it: ${line} (${means})`;
}

/** The API server without these flags, and without the volumes of files that only they name. Flags whose files are here stay. */
export function startWithout(manifest: Manifest, { flagsToDrop = [] }: Pick<ControlPlaneNode, "flagsToDrop">): Manifest {
  const lost = hostFiles(manifest).filter(({ path, namedBy }) => flagsToDrop.includes(namedBy.slice(2)) && !exists(path));
  if (lost.length === 0) return manifest;
  const copy = structuredClone(manifest);
  const words = commandOf(copy);
  const command = flags(words);
  for (const { namedBy, inside } of lost) {
    // a flag may be given several times, and other files of it are here
    const own = words.indexOf(`${namedBy}=${inside}`);
    if (own === -1) command.remove(namedBy.slice(2));
    else words.splice(own, 1);
    if (namedBy === "--authorization-config") command.set("authorization-mode", "Node,RBAC");
    sayOnce(namedBy);
  }
  dropVolumes(copy, lost);
  return copy;
}

/** The manifest is looked at in several steps of a run. */
const said = new Set<string>();

function sayOnce(flag: string) {
  if (!said.has(flag)) say(`kube-apiserver starts WITHOUT ${flag}, as you say: ${choiceOf(flag)}`);
  said.add(flag);
}

/** A volume of a lost file, or of a lost folder that has it, would stop the pod, or be mounted as an empty folder. */
function dropVolumes({ spec }: Manifest, lost: readonly { path: string }[]) {
  const isGone = (path: string) => !exists(path) && lost.some((file) => file.path === path || file.path.startsWith(`${path}/`));
  const needed = hostFiles({ spec }).flatMap(({ path, namedBy }) => (namedBy.startsWith("--") ? [path] : []));
  const gone = (spec.volumes ?? []).filter(
    ({ hostPath }) =>
      hostPath && isGone(hostPath.path) && !needed.some((path) => path === hostPath.path || path.startsWith(`${hostPath.path}/`)),
  );
  const names = gone.map(({ name }) => name);
  const isKept = ({ name }: { name: string }) => !names.includes(name);
  if (spec.volumes) spec.volumes = spec.volumes.filter(isKept);
  for (const container of spec.containers) if (container.volumeMounts) container.volumeMounts = container.volumeMounts.filter(isKept);
}
