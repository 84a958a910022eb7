/**
 * The changes that a repair makes to manifests for a time; and how two manifests differ without them.
 *
 * The controller-manager while nodes come back: the controllers that taint and evict unreachable nodes are
 * off. Its manifest's annotations keep what it had before, so that any later run can put it back.
 *
 * A second key with which kube-apiserver checks service-account tokens: the old sa.pub, computed from old
 * tokens. With it, old tokens stay valid beside the new ones until part 4 is finished. The flag may be given
 * several times; only sa.key signs.
 */
import { smallText } from "../files/untrusted-file.ts";
import type { Node } from "../node/node.ts";
import type { Manifest } from "../objects/objects.ts";
import { minorOf } from "../pki/certs.ts";
import { oldSaKeys, oldSaPub } from "../pki/sa-keys.ts";
import { veiled } from "../plain.ts";
import { commandOf, hostFiles, podFlags, printableArgument } from "./command.ts";
import { manifestPath, readableManifest, readManifest } from "./on-disk.ts";

/** The annotation that keeps the controller-manager's own `--controllers` while it runs reduced. */
export const REDUCED = "kube-pki-repair/controllers-before";

export const REDUCED_NOTE = "reduced: no taints, no evictions, endpoints stay, until all nodes are back";

/**
 * Controllers that act on a node that does not answer: a node that the repair has not reached is not dead,
 * and a kubelet that has just restarted reports its pods as unready for a moment (before 1.35). The short
 * names are those before 1.28; taint eviction is a separate controller since 1.29. Source:
 * cmd/kube-controller-manager/names and the aliases in its app/*.go.
 */
// biome-ignore format: a table
const PUNISHERS: { name: string; old: string; since?: number }[] = [
  { name: "node-lifecycle-controller",          old: "nodelifecycle" },
  { name: "taint-eviction-controller",          old: "", since: 29 },
  { name: "pod-garbage-collector-controller",   old: "podgc" },
  { name: "endpoints-controller",               old: "endpoint" },
  { name: "endpointslice-controller",           old: "endpointslice" },
  { name: "endpointslice-mirroring-controller", old: "endpointslicemirroring" },
];

/**
 * The controller-manager's own limit is 20 requests a second: 5,000 CSRs would take four minutes, 10,000
 * Secrets with an old CA nine. During the repair the limit is higher, unless the operator has set it higher
 * still. Flag → value, and the annotation that keeps the old value, "" for none.
 */
const LIMITS = {
  "kube-api-qps": { value: 1000, before: "kube-pki-repair/kube-api-qps-before" },
  "kube-api-burst": { value: 2000, before: "kube-pki-repair/kube-api-burst-before" },
} as const;

/**
 * The controller-manager without the controllers that act on nodes that the repair has not reached yet: no
 * taints, no evictions, no pods collected, Services keep their endpoints. It has more requests per second, so
 * that thousands of nodes do not wait for it.
 */
export function reduced(manifest: Manifest, kubernetesVersion: string): Manifest {
  if (isReduced(manifest)) return manifest;
  const minor = minorOf(kubernetesVersion);
  const off = PUNISHERS.filter(({ since }) => (since ?? 0) <= minor).map(({ name, old }) =>
    minor < 28 ? old : name,
  );
  const controllers = podFlags(manifest).get("controllers") ?? "*,bootstrapsigner,tokencleaner";
  const copy = structuredClone(manifest);
  copy.metadata.annotations = { ...copy.metadata.annotations, [REDUCED]: controllers };
  podFlags(copy).set("controllers", [controllers, ...off.map((name) => `-${name}`)].join(","));
  liftLimits(copy);
  return copy;
}

function liftLimits(manifest: Manifest) {
  const command = podFlags(manifest);
  for (const [flag, { value, before }] of Object.entries(LIMITS)) {
    const now = command.get(flag);
    // A negative limit means no limit.
    if (now !== undefined && (Number(now) >= value || Number(now) < 0)) continue;
    manifest.metadata.annotations![before] = now ?? "";
    command.set(flag, String(value));
  }
}

export function isReduced(pod: Pick<Manifest, "metadata">): boolean {
  return pod.metadata.annotations?.[REDUCED] !== undefined;
}

/** False also if its manifest is missing, or damaged. */
export function managerIsReduced(place: { node: Node }): boolean {
  const manifest = readableManifest(manifestPath(place, "kube-controller-manager"));
  return manifest !== undefined && isReduced(manifest);
}

/** The controller-manager as it was before `reduced`. */
export function withAllControllers(manifest: Manifest): Manifest {
  const controllers = manifest.metadata.annotations?.[REDUCED];
  if (controllers === undefined) return manifest;
  const copy = structuredClone(manifest);
  delete copy.metadata.annotations?.[REDUCED];
  podFlags(copy).set("controllers", controllers);
  restoreLimits(copy);
  if (Object.keys(copy.metadata.annotations ?? {}).length === 0) delete copy.metadata.annotations;
  return copy;
}

function restoreLimits(manifest: Manifest) {
  const command = podFlags(manifest);
  for (const [flag, { before }] of Object.entries(LIMITS)) {
    const value = manifest.metadata.annotations?.[before];
    if (value === undefined) continue;
    delete manifest.metadata.annotations?.[before];
    if (value === "") command.remove(flag);
    else command.set(flag, value);
  }
}

const FLAG = "--service-account-key-file";

/** Beside it, the API server refuses `FLAG`: an external signer says which keys count. */
export const SIGNER_FLAG = "service-account-signing-endpoint";

/**
 * The API server's manifest with the flag if sa-old.pub exists, and without it if not; the same object if
 * nothing has to change.
 */
export function fitOldSaKey(manifest: Manifest, certificatesDir: string): Manifest {
  if (oldSaKeys(certificatesDir).length === 0 || podFlags(manifest).get(SIGNER_FLAG) !== undefined)
    return withoutOldSaKey(manifest, certificatesDir);
  if (checksByOldSaKey(manifest, certificatesDir)) return manifest;
  const command = commandOf(manifest);
  const last = command.findLastIndex((argument) => argument.startsWith(`${FLAG}=`));
  return withCommand(manifest, command.toSpliced(last + 1 || command.length, 0, word(certificatesDir)));
}

export function checksByOldSaKey(manifest: Manifest, certificatesDir: string): boolean {
  return commandOf(manifest).includes(word(certificatesDir));
}

/** The manifest before `fitOldSaKey` added the flag. */
export function withoutOldSaKey(manifest: Manifest, certificatesDir: string): Manifest {
  if (!checksByOldSaKey(manifest, certificatesDir)) return manifest;
  const command = commandOf(manifest).filter((argument) => argument !== word(certificatesDir));
  return withCommand(manifest, command);
}

function withCommand(manifest: Manifest, command: string[]): Manifest {
  const copy = structuredClone(manifest);
  commandOf(copy).splice(0, Number.POSITIVE_INFINITY, ...command);
  return copy;
}

function word(certificatesDir: string): string {
  return `${FLAG}=${oldSaPub(certificatesDir)}`;
}

/** The first words of a replacement: no operator's own policy has them. */
export const STAND_IN_MARK = "# A replacement made by kube-pki-repair";

/** Audit policies and the scheduler's configurations that this kit wrote in place of lost ones. */
export function standIns(cp: { node: Node }) {
  const files = ["kube-apiserver", "kube-scheduler"].flatMap((program) => {
    const manifest = readManifest(manifestPath(cp, program));
    const named = manifest ? hostFiles(manifest) : [];
    return named.flatMap(({ namedBy, path }) =>
      ["--audit-policy-file", "--config"].includes(namedBy) ? { path, program } : [],
    );
  });
  return files.filter(({ path }) => smallText(path)?.startsWith(STAND_IN_MARK));
}

/** `+` before what is here only, `-` before what is there only. */
export function signedDifferences(here: readonly string[], there: readonly string[]): string[] {
  const only = (sign: string, of: readonly string[], other: readonly string[]) =>
    of.filter((one) => !other.includes(one)).map((one) => sign + one);
  return [...only("+", here, there), ...only("-", there, here)];
}

/**
 * `+--v=4` is in `now` only, `-env[TZ].value=(hidden, …)` in `before` only. Changes that a repair makes for a time, and
 * etcd's first members, do not count.
 */
export function manifestDifferences(now: Manifest, before: Manifest): string[] {
  return signedDifferences(manifestLines(now), manifestLines(before));
}

/**
 * Each value of a manifest as a line: `--v=4`, `env[TZ].value=(hidden, …)`: a text that may be a secret is hidden.
 * Without the values that do not count in `manifestDifferences`.
 */
export function manifestLines(manifest: Manifest): string[] {
  const copy = structuredClone(withAllControllers(manifest));
  const command = podFlags(copy);
  // etcd reads its members from its data: the flags are for its first start
  if (copy.metadata.name === "etcd")
    for (const name of ["initial-cluster", "initial-cluster-state"]) command.remove(name);
  const { labels, annotations } = copy.metadata;
  const { containers, ...spec } = copy.spec;
  const inside = containers.flatMap((container) =>
    flat(container, containers.length > 1 ? container.name : "", container.name),
  );
  return [...flat({ labels, annotations, ...spec }, "", ""), ...inside];
}

/**
 * A line for each value; the order of a list does not count. An item of a list goes by its name, a word of a
 * command by itself.
 */
function flat(value: unknown, path: string, container: string): string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((item) => flat(item, `${path}[${nameOf(item)}]`, container));
  if (typeof value !== "object") {
    if (/\b(?<!\bexec\.)(command|args)\[\]$/.test(path)) return [printableArgument(String(value), container)];
    const isHidden = typeof value === "string" && !OPEN.test(path);
    return [`${path}=${isHidden ? veiled(value) : String(value)}`];
  }
  const named = path.endsWith(`[${nameOf(value)}]`);
  return Object.entries(value).flatMap(([key, child]) =>
    named && key === "name" ? [] : flat(child, path ? `${path}.${key}` : key, container),
  );
}

/**
 * Fields whose text is no secret, by the end of their path. Every other text may be one: a variable, a header
 * of a probe, an annotation.
 */
const OPEN =
  /(^|\.)(image|imagePullPolicy|mountPath|mountPropagation|path|type|port|scheme|host|cpu|memory|priorityClassName|restartPolicy|dnsPolicy|protocol|effect|operator|key|terminationMessagePath|terminationMessagePolicy|(add|drop)\[\])$|^labels\./;

function nameOf(item: unknown): string {
  return typeof item === "object" && item && "name" in item ? String(item.name) : "";
}
