/**
 * Files that a static pod needs and that are lost. Commands that bring them back, a replacement for an audit
 * policy, a refusal for all others, and the operator's choice if one is lost for good: the API server starts
 * without the flag that names it. Nothing chooses so by itself: each flag that is given up makes the cluster less strict, or
 * hides events.
 *
 * If a file that was given up is here again, the API server gets its flag and its volume back. The manifest of
 * before is kept in the rescue folder for that: neither etcd's data nor the manifest on disk knows it once the API
 * server has run without the flag.
 */
import { join } from "node:path";
import { again, command, inLines, type Todo } from "../again.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import type { LostFile } from "../facts/lost-file.ts";
import {
  hasStandIn,
  isConfigOfKubelet,
  restoredWhen,
  startWithoutFlag,
  stopsAll,
} from "../facts/lost-files.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt, Fail, type Refused } from "../fail.ts";
import { freeName } from "../files/file-tree.ts";
import { exists, list, writeFile } from "../files/files.ts";
import { isBelow } from "../files/root.ts";
import { commandOf, type HostFile, hostFiles, mainContainer, podFlags } from "../manifests/command.ts";
import { isKubeadms, manifestPath, manifestText, readManifest } from "../manifests/on-disk.ts";
import { STAND_IN_MARK } from "../manifests/repair-changes.ts";
import { kubeadmsConfig } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import type { SavedOption } from "../node/words.ts";
import { endSavedOptions, pathsGivenUp, savedOptionsOf } from "../node/words.ts";
import type { Manifest } from "../objects/objects.ts";
import { kubeconfigRow } from "../pki/kubeconfigs.ts";
import { mode, say } from "../run.ts";
import { onOther, shell } from "../shell-line.ts";
import { told } from "../this-run.ts";

const API = "kube-apiserver";

/** Errors: Fail where the API server cannot do without one of these flags, by their names without dashes. Paths pass. */
export function refuseNoChoice(names: readonly string[]) {
  const never = names.filter((name) => !name.startsWith("/") && startWithoutFlag(`--${name}`) === undefined);
  if (never.length > 0)
    throw new Fail(`The API server cannot start without "${never.join('", "')}"`, {
      hint: `${again({}, { less: never })} names the flags that it can start without`,
    });
}

interface Choice {
  name: string;
  means: string;
}

export function choicesInWords(choices: readonly Choice[]): string {
  return choices.map(({ name, means }) => `--${name}: ${means}`).join("; ");
}

/** With what each means. */
export function choices(lost: readonly Pick<LostFile, "program" | "namedBy">[]): Choice[] {
  const own = lost.filter(({ program }) => program === API).map(({ namedBy }) => namedBy);
  return [...new Set(own)].flatMap((flag) => {
    const means = startWithoutFlag(flag);
    return means === undefined ? [] : { name: flag.slice(2), means };
  });
}

/**
 * The end of a hint of part 1 or 2, which runs now: the line that gives up what can be given up, and what that means;
 * "" if nothing can.
 */
export function wayWithoutFiles(lost: readonly LostFile[]): string {
  const all = choices(lost);
  if (all.length === 0) return "";
  const line = again({ "start-without": all.map(({ name }) => name) });
  return `. If nobody has them: ${line} starts the API server without the flags that name them (${choicesInWords(all)})`;
}

/** Its flag, as this run's line says, or its path, as an earlier run was given it. */
export function isGivenUp(
  { program, namedBy, path }: Pick<LostFile, "program" | "namedBy" | "path">,
  dropped: readonly string[],
): boolean {
  return program === API && [namedBy.slice(2), path].some((one) => dropped.includes(one));
}

/** Whether the control plane does not start without this file. Parts 1 and 2 continue without other static pods. */
export function isNeeded({ program }: Pick<LostFile, "program">): boolean {
  return isKubeadms(program) || program === "kubelet";
}

export function filesStillNeeded(
  lost: readonly LostFile[],
  { flagsToDrop = [] }: Pick<ControlPlaneNode, "flagsToDrop">,
): LostFile[] {
  return lost.filter((file) => stopsAll(file) && isNeeded(file) && !isGivenUp(file, flagsToDrop));
}

/**
 * The API server without these flags, and without the volumes of files that only they name. Flags whose files
 * are here stay.
 */
export function startWithout(
  manifest: Manifest,
  { flagsToDrop = [] }: Pick<ControlPlaneNode, "flagsToDrop">,
): Manifest {
  const lost = hostFiles(manifest).filter(
    (file) => isGivenUp({ ...file, program: API }, flagsToDrop) && !exists(file.path),
  );
  for (const { namedBy, path } of lost.filter(({ path }) => !printed.has(path))) {
    if (!mode.foretells) printed.add(path);
    say(`kube-apiserver starts WITHOUT "${path}" (${namedBy}), as you chose: ${startWithoutFlag(namedBy)}`);
    told({ what: "flag", did: "given up", flag: namedBy, path });
  }
  return lost.length === 0 ? manifest : withoutFlags(manifest, lost);
}

/** The manifest is looked at in several steps of a run. */
const printed = new Set<string>();

/** The manifest without the flags, given several times or once, that name these files. */
export function withoutFlags(manifest: Manifest, files: readonly HostFile[]): Manifest {
  const copy = structuredClone(manifest);
  const command = podFlags(copy);
  for (const { namedBy, inside } of files) {
    const name = namedBy.slice(2);
    command.remove(name, command.all(name).includes(inside) ? inside : undefined);
    if (namedBy === "--authorization-config") command.set("authorization-mode", "Node,RBAC");
  }
  dropVolumes(copy, files);
  return copy;
}

/** Its pod would not start, or would mount an empty folder in its place. */
function dropVolumes({ spec }: Manifest, lost: readonly { path: string }[]) {
  const hasOneOf = (folder: string, files: readonly { path: string }[]) =>
    files.some(({ path }) => isBelow(path, folder));
  const needed = named({ spec });
  const lostVolumes = (spec.volumes ?? []).filter(({ hostPath }) => {
    const path = hostPath?.path;
    return path !== undefined && !exists(path) && hasOneOf(path, lost) && !hasOneOf(path, needed);
  });
  const names = lostVolumes.map(({ name }) => name);
  const isKept = ({ name }: { name: string }) => !names.includes(name);
  if (spec.volumes) spec.volumes = spec.volumes.filter(isKept);
  for (const container of spec.containers)
    if (container.volumeMounts) container.volumeMounts = container.volumeMounts.filter(isKept);
}

const BEFORE = "kube-apiserver-before.yaml";

/** Volumes do not count. */
function named(pod: Pick<Manifest, "spec">): HostFile[] {
  return hostFiles(pod).filter(({ namedBy }) => namedBy.startsWith("--"));
}

function namedOnlyIn(manifest: Manifest, other: Manifest): HostFile[] {
  const paths = named(other).map(({ path }) => path);
  return named(manifest).filter(({ path }) => !paths.includes(path));
}

export function keepBefore(
  before: Manifest,
  next: Manifest,
  { rescue, flagsToDrop = [] }: Pick<ControlPlaneNode, "rescue" | "flagsToDrop">,
) {
  const isDropped = (file: HostFile) => isGivenUp({ ...file, program: API }, flagsToDrop);
  if (!namedOnlyIn(before, next).some(isDropped)) return;
  const options = { mode: 0o600, folderMode: 0o700, note: "with the flags that are given up" };
  writeFile(freeName(join(rescue.dir, BEFORE)), manifestText(before), options);
}

/** The same object where none comes back. */
export function restoreFlags(manifest: Manifest): Manifest {
  const paths = named(manifest).map(({ path }) => path);
  const missing = pathsGivenUp().filter((path) => exists(path) && !paths.includes(path));
  if (missing.length === 0) return manifest;
  const copy = structuredClone(manifest);
  for (const { dir } of rescueFolders())
    for (const name of list(dir).filter((one) => one.startsWith(BEFORE))) {
      const before = attempt(() => readManifest(join(dir, name)), undefined);
      for (const file of before ? namedOnlyIn(before, copy) : [])
        if (missing.includes(file.path)) putBack(copy, before!, file);
    }
  return copy;
}

function putBack(manifest: Manifest, before: Manifest, { namedBy, inside, path }: HostFile) {
  commandOf(manifest).push(`${namedBy}=${inside}`);
  const [command, old] = [manifest, before].map((one) => podFlags(one));
  if (namedBy === "--authorization-config" && !old!.get("authorization-mode"))
    command!.remove("authorization-mode");
  const names = (manifest.spec.volumes ?? []).map(({ name }) => name);
  for (const volume of before.spec.volumes ?? []) {
    const at = volume.hostPath?.path;
    if (at === undefined || names.includes(volume.name) || !`${path}/`.startsWith(`${at}/`)) continue;
    manifest.spec.volumes = [...(manifest.spec.volumes ?? []), volume];
    const mount = mainContainer(before)?.volumeMounts?.find(({ name }) => name === volume.name);
    const container = mainContainer(manifest)!;
    if (mount) container.volumeMounts = [...(container.volumeMounts ?? []), mount];
  }
}

/** The kit puts back what it took away. */
export function flagsToComeBack(now: Manifest, wanted: Manifest): HostFile[] {
  const given = pathsGivenUp();
  return namedOnlyIn(wanted, now).filter(({ path }) => given.includes(path) && exists(path));
}

/** Forgets `--start-without` for files that are back, if the API server's manifest names all of them again. */
export function endGivenUp({ node }: { node: Node }) {
  const manifest = attempt(() => readManifest(manifestPath({ node }, API)), undefined);
  const paths = manifest ? named(manifest).map(({ path }) => path) : [];
  const isBack = ({ option, files = [] }: SavedOption) =>
    option === "start-without" && files.every((path) => exists(path) && paths.includes(path));
  for (const { value, files = [] } of savedOptionsOf("start-without").filter(isBack))
    for (const path of files) told({ what: "flag", did: "back", flag: `--${value}`, path });
  endSavedOptions(isBack, "its file and its flag are back");
}

/** Takes the place of a lost audit policy, so that the API server starts and records something. */
const STAND_IN_AUDIT_POLICY = `${STAND_IN_MARK}: the policy that was here is lost, and the API server does not start without one.
# It records who did what, without bodies. Put your own policy back, then restart the API server (RUNBOOK 2.3).
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
`;

/** kubeadm's scheduler has all of it by its flags; beside --config, the flag of its kubeconfig counts no more. */
const STAND_IN_SCHEDULER = `${STAND_IN_MARK}: the configuration that was here is lost, and kube-scheduler does not start without one.
# It has the defaults. Put your own back, then restart kube-scheduler (RUNBOOK 2.3).
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  kubeconfig: ${kubeconfigRow("scheduler").path}
`;

/**
 * A lost audit policy and the scheduler's configuration get a replacement, and files that etcd's data has are written
 * as they were. Errors: Fail if another file is lost.
 */
export function provideFiles(lost: readonly LostFile[], cp: ControlPlaneNode) {
  for (const { path, stored, program } of refuseLost(lost, cp))
    if (stored) writeFile(path, stored.text, { mode: 0o644, note: `from ${stored.from}` });
    else if (program === API) writeFile(path, STAND_IN_AUDIT_POLICY, { mode: 0o600, note: AUDIT });
    else writeFile(path, STAND_IN_SCHEDULER, { mode: 0o600, note: SCHEDULER });
}

const AUDIT = "a REPLACEMENT for the lost audit policy: it records metadata only";
const SCHEDULER = "a REPLACEMENT for the scheduler's lost configuration: it has the defaults";

/** Returns those that can be provided. Errors: `Kind`, which names all other lost files. */
export function refuseLost(
  all: readonly LostFile[],
  cp: ControlPlaneNode,
  Kind: typeof Fail | typeof Refused = Fail,
): LostFile[] {
  const lost = all.filter(stopsAll);
  for (const file of all.filter(({ kind }) => kind === "socket"))
    say(`${file.path}: ${restoredWhen(file)}; without it ${file.without}`);
  if (lost.length === 0) return all.filter((file) => hasStandIn(file) || file.stored);
  const pods = [...new Set(lost.map((file) => file.program))].join(", ");
  const files = lost.map((file) => `"${file.path}" (${file.namedBy})`).join(", ");
  const others = believedPeers(cp.cluster, cp).map(({ name }) => name);
  const ways = inLines(restoreCommands(lost, { mounted: [], others, pki: cp.facts.certificatesDir }));
  throw new Kind(`Cannot start ${pods}: ${files} missing`, {
    hint: `bring these files, which kubeadm did not make, then run the same line again: ${ways.join(". Or ")}${wayWithoutFiles(lost)}`,
  });
}

const SAME_CA =
  "after part 1, if the cluster's CA signs the kubelets' serving certificates (serverTLSBootstrap)";

/** Nobody is sent to a machine that is gone, as the operator said, and to one whose keys are lost only with a doubt. */
function whoHas(others: readonly string[]): { names: string[]; note: string } {
  const isSaid = (option: "lost" | "without" | "lost-on", name: string) =>
    savedOptionsOf(option).some(({ value }) => value === name);
  const reachable = others.filter((name) => !isSaid("lost", name) && !isSaid("without", name));
  const names = reachable.filter((name) => !isSaid("lost-on", name));
  if (names.length > 0) return { names, note: `${names.join(", ")}: usually the same on these nodes` };
  return {
    names: reachable,
    note: `${reachable.join(", ")}: keys are lost there, as you said; only if the file is not`,
  };
}

/**
 * Commands that bring these files back, the surest first. `mounted`: paths that a process still has; `others`: other
 * control plane nodes.
 */
export function restoreCommands(
  lost: readonly LostFile[],
  { mounted, others, pki }: { mounted: readonly string[]; others: readonly string[]; pki: string },
): Todo[] {
  const files = lost.filter(({ kind }) => kind !== "socket");
  const sockets = lost.filter(({ kind, servedBy }) => kind === "socket" && servedBy === undefined);
  const paths = files.map(({ path }) => path.slice(1));
  const todo: Todo[] = [];
  if (mounted.length > 0)
    todo.push({ command: command("00-salvage files"), note: `still mounted: ${mounted.join(", ")}` });
  const { names, note } = whoHas(others);
  if (files.length > 0 && names[0] !== undefined)
    todo.push({
      // only these are unpacked, whatever comes
      command: `${onOther(names[0], shell`tar -C / -cf - ${paths}`)} | ${shell`tar -C / -xpkf - ${paths}`}`,
      note,
    });
  if (files.length > 0)
    todo.push({ command: command("00-salvage files --backup DIR"), note: "DIR: your own copies of them" });
  if (files.some(({ namedBy }) => namedBy === "--encryption-provider-config"))
    todo.push({ command: command("00-salvage disk"), note: "where nobody has a copy" });
  for (const file of files) {
    if (file.namedBy === "--kubelet-certificate-authority")
      todo.push({ command: shell`install -D -m 644 ${pki}/ca.crt ${file.path}`, note: SAME_CA });
    todo.push(...lastWay(file));
  }
  if (sockets.length > 0)
    todo.push({ command: `start what serves ${sockets.map(({ path }) => path).join(", ")}` });
  return todo;
}

/** The kubelet's lost configuration can come of kubeadm's own, where that is there. */
export function lastWay(file: LostFile): Todo[] {
  const kubeadms = isConfigOfKubelet(file) ? kubeadmsConfig(file.path) : undefined;
  return kubeadms ? [{ ...kubeadms, note: `if nobody has it. ${kubeadms.note}` }] : [];
}
