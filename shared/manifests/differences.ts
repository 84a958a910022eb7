/** What two manifests of one static pod say differently: hand edits of every kind, and whether one is cut off. */

import { CONTROL_PLANE } from "../node/containers.ts";
import type { Manifest } from "../objects/objects.ts";
import { redact, veiled } from "../redact.ts";
import { commandOf, flags, mainContainer } from "./command.ts";
import { readableManifest } from "./on-disk.ts";
import { full } from "./reduced-controllers.ts";

/** `+--v=4` is in `now` only, `-env[TZ].value=(hidden, …)` in `before` only. What a repair changes for a time, and etcd's first members, do not count. */
export function manifestDifferences(now: Manifest, before: Manifest): string[] {
  const [here, there] = [now, before].map(manifestLines) as [string[], string[]];
  const only = (sign: string, of: string[], other: string[]) => of.filter((line) => !other.includes(line)).map((line) => sign + line);
  return [...only("+", here, there), ...only("-", there, here)];
}

/** Each value of a manifest as a line: `--v=4`, `env[TZ].value=(hidden, …)`: what may be a secret is hidden here. Without what does not count in `manifestDifferences`. */
export function manifestLines(manifest: Manifest): string[] {
  return linesOf(lasting(manifest));
}

/** etcd reads its members from its data: the flags are for its first start. */
function lasting(manifest: Manifest): Manifest {
  const copy = structuredClone(full(manifest));
  const command = flags(commandOf(copy));
  if (copy.metadata.name === "etcd") for (const name of ["initial-cluster", "initial-cluster-state"]) command.remove(name);
  return copy;
}

function linesOf({ metadata: { labels, annotations }, spec: { containers, ...spec } }: Manifest): string[] {
  const inside = containers.flatMap((container) => flat(container, containers.length > 1 ? container.name : "", container.name));
  return [...flat({ labels, annotations, ...spec }, "", ""), ...inside];
}

/** A line for each value; the order of a list does not count. An item of a list goes by its name, a word of a command by itself. */
function flat(value: unknown, path: string, container: string): string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((item) => flat(item, `${path}[${nameOf(item)}]`, container));
  if (typeof value !== "object")
    return [/\b(?<!\bexec\.)(command|args)\[\]$/.test(path) ? shownWord(String(value), container) : `${path}=${shownValue(path, value)}`];
  const named = path.endsWith(`[${nameOf(value)}]`);
  return Object.entries(value).flatMap(([key, child]) =>
    named && key === "name" ? [] : flat(child, path ? `${path}.${key}` : key, container),
  );
}

/** Fields whose text is no secret, by the end of their path. Every other text may be one: a variable, a header of a probe, an annotation. */
const OPEN =
  /(^|\.)(image|imagePullPolicy|mountPath|mountPropagation|path|type|port|scheme|host|cpu|memory|priorityClassName|restartPolicy|dnsPolicy|protocol|effect|operator|key|terminationMessagePath|terminationMessagePolicy|(add|drop)\[\])$|^labels\./;

function shownValue(path: string, value: unknown): string {
  return typeof value !== "string" || OPEN.test(path) ? String(value) : veiled(value);
}

/** A word of a command: flags of kubeadm's servers are no secrets, those of every other program may be, and so may be what a shell gets. */
export function shownWord(word: string, container: string): string {
  const isServers =
    (CONTROL_PLANE as readonly string[]).includes(container) && /^(--[\w-]+(=|$)|(\/[\w./-]*|kube-[a-z-]+|etcd)$)/.test(word);
  if (isServers && redact(word).text === word) return word;
  const [, flag, value] = /^(--[\w-]+)(?:=(.*))?$/s.exec(word) ?? [];
  if (flag === undefined) return veiled(word);
  return value === undefined ? flag : `${flag}=${veiled(value)}`;
}

function nameOf(item: unknown): string {
  return typeof item === "object" && item && "name" in item ? String(item.name) : "";
}

/** The manifest on disk if it can be used: it is YAML, and is not cut off, compared with the one from before. */
export function usableManifest(path: string, before: Manifest): Manifest | undefined {
  const now = readableManifest(path);
  return now && !isCut(now, before) ? now : undefined;
}

/** YAML that was cut off may still be YAML. A manifest's last keys are `volumes` and `status`. */
function isCut(now: Partial<Manifest>, before: Manifest): boolean {
  const [container, wanted] = [mainContainer({ spec: now.spec ?? {} }), mainContainer(before)];
  if (!container?.image || (wanted?.command && !container.command) || (wanted?.args && !container.args)) return true;
  const volumes = new Set(now.spec?.volumes?.map(({ name }) => name));
  return now.status === undefined && (before.spec.volumes ?? []).some(({ name }) => !volumes.has(name));
}
