/**
 * A file that was given up is here again: the API server gets its flag and its volume back. What it was before is kept
 * in the rescue folder, as neither etcd's data nor the manifest knows it once the API server has run without the flag.
 */
import { join } from "node:path";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { attempt } from "../fail.ts";
import { freeName } from "../files/file-tree.ts";
import { exists, list, writeFile } from "../files/files.ts";
import { commandOf, flags, type HostFile, hostFiles, mainContainer } from "../manifests/command.ts";
import { manifestPath, manifestText, readManifest } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import type { Word } from "../node/word-kinds.ts";
import { endWords, pathsGivenUp, wordsOf } from "../node/words.ts";
import type { Manifest } from "../objects/objects.ts";
import { told } from "../run-events.ts";
import { isGivenUp } from "./without-files.ts";

const BEFORE = "kube-apiserver-before.yaml";

/** The files that its flags name; volumes do not count. */
const named = (manifest: Manifest) => hostFiles(manifest).filter(({ namedBy }) => namedBy.startsWith("--"));

function namedOnlyIn(manifest: Manifest, other: Manifest): HostFile[] {
  const paths = named(other).map(({ path }) => path);
  return named(manifest).filter(({ path }) => !paths.includes(path));
}

/** Where `next` lacks a flag of `before` that is given up. */
export function keepBefore(
  before: Manifest,
  next: Manifest,
  { rescue, flagsToDrop = [] }: Pick<ControlPlaneNode, "rescue" | "flagsToDrop">,
) {
  const isDropped = (file: HostFile) => isGivenUp({ ...file, program: "kube-apiserver" }, flagsToDrop);
  if (!namedOnlyIn(before, next).some(isDropped)) return;
  writeFile(freeName(join(rescue.dir, BEFORE)), manifestText(before), {
    mode: 0o600,
    folderMode: 0o700,
    note: "with the flags that are given up",
  });
}

/** The manifest with each flag that was given up and whose file is here; the same object where there is none. */
export function withFlagsBack(manifest: Manifest): Manifest {
  const paths = named(manifest).map(({ path }) => path);
  const missing = pathsGivenUp().filter((path) => exists(path) && !paths.includes(path));
  if (missing.length === 0) return manifest;
  const copy = structuredClone(manifest);
  for (const before of keptBefore())
    for (const file of namedOnlyIn(before, copy))
      if (missing.includes(file.path)) putBack(copy, before, file);
  return copy;
}

function keptBefore(): Manifest[] {
  return rescueFolders().flatMap(({ dir }) =>
    list(dir)
      .filter((name) => name.startsWith(BEFORE))
      .flatMap((name) => attempt(() => readManifest(join(dir, name)), undefined) ?? []),
  );
}

function putBack(manifest: Manifest, before: Manifest, { namedBy, inside, path }: HostFile) {
  commandOf(manifest).push(`${namedBy}=${inside}`);
  const [command, old] = [manifest, before].map((one) => flags(commandOf(one)));
  if (namedBy === "--authorization-config" && !old!.get("authorization-mode"))
    command!.remove("authorization-mode");
  const there = (manifest.spec.volumes ?? []).map(({ name }) => name);
  for (const volume of before.spec.volumes ?? []) {
    const at = volume.hostPath?.path;
    if (at === undefined || there.includes(volume.name) || !`${path}/`.startsWith(`${at}/`)) continue;
    manifest.spec.volumes = [...(manifest.spec.volumes ?? []), volume];
    const mount = mainContainer(before)?.volumeMounts?.find(({ name }) => name === volume.name);
    const container = mainContainer(manifest)!;
    if (mount) container.volumeMounts = [...(container.volumeMounts ?? []), mount];
  }
}

/** Flags that `now` lacks and `wanted` has again, as their files are here: what the kit took away, it puts back. */
export function flagsToComeBack(now: Manifest, wanted: Manifest): HostFile[] {
  const given = pathsGivenUp();
  return namedOnlyIn(wanted, now).filter(({ path }) => given.includes(path) && exists(path));
}

/** A word that gave files up ends where all of them are here, and the API server's manifest names them. */
export function endGivenUp({ node }: { node: Node }) {
  const manifest = attempt(() => readManifest(manifestPath({ node }, "kube-apiserver")), undefined);
  const paths = manifest ? named(manifest).map(({ path }) => path) : [];
  const isBack = ({ option, files = [] }: Word) =>
    option === "start-without" && files.every((path) => exists(path) && paths.includes(path));
  for (const { value, files = [] } of wordsOf("start-without").filter(isBack))
    for (const path of files) told({ what: "flag", did: "back", flag: `--${value}`, path });
  endWords(isBack, "its file and its flag are back");
}
