/**
 * A static pod's manifest as its containers ran it. The API server's admission changes mirror pods, too, and
 * the kubelet runs the file all the same: so a mirror pod is a report of the manifest, and the container is
 * the fact. Sources: plugin/pkg/admission/alwayspullimages, plugin/pkg/admission/limitranger (both without an
 * exception for mirror pods), and webhooks such as Kyverno's.
 */

import type { Ran } from "../node/containers.ts";
import type { ContainerSpec, Manifest, Pod, PodSpec } from "../objects/objects.ts";
import { shownWord } from "./command.ts";
import { HASH_ANNOTATION } from "./from-mirror-pod.ts";

/** `said`: each correction in words, for the operator. */
interface Corrected {
  manifest: Manifest;
  said: string[];
}

/**
 * `ran`: the newest container of each name of this node's static pods. Only those of this manifest count: the
 * UID of their pod is the hash of the file, which the mirror pod has as an annotation. Without any, the
 * changes that admission itself names are still taken back.
 */
export function asItRan(made: Manifest, mirror: Pod, ran: readonly Ran[] = []): Corrected {
  const manifest = structuredClone(made);
  const own = ran.filter(({ podUid }) => podUid === mirror.metadata.annotations?.[HASH_ANNOTATION]);
  const { spec } = manifest;
  const containers = () => [...(spec.initContainers ?? []), ...spec.containers];
  const corrections = [
    ...removeOthers(spec, own),
    ...withoutDefaults(manifest),
    ...containers().flatMap((container) => {
      const fact = own.find(({ name }) => name === container.name);
      const more = fact ? CORRECTIONS.flatMap((correct) => correct(container, fact, spec)) : [];
      return [...pullsWhereMissing(container), ...more].map((words) =>
        spec.containers.length > 1 ? `${container.name}: ${words}` : words,
      );
    }),
  ];
  return { manifest, said: corrections };
}

const ADDED = "admission added it to the mirror pod, its container ran without";

/** While a pod runs, the runtime has a container of each name in it. */
function removeOthers(spec: PodSpec, own: readonly Ran[]): string[] {
  if (!own.some(({ running }) => running)) return [];
  const strangers = spec.containers.filter(({ name }) => !own.some((one) => one.name === name));
  spec.containers = spec.containers.filter((container) => !strangers.includes(container));
  return strangers.map(
    ({ name }) => `container ${name} left out: ${ADDED.replace("its container", "the pod")}`,
  );
}

const LIMIT_RANGER = "kubernetes.io/limit-ranger";

/**
 * "LimitRanger plugin set: cpu, memory request for container etcd; memory limit for container etcd"
 * (mergeContainerResources).
 */
function withoutDefaults({ metadata, spec }: Manifest): string[] {
  const { [LIMIT_RANGER]: text = "", ...annotations } = metadata.annotations ?? {};
  const [, list] = /^LimitRanger plugin set: (.*)$/s.exec(text) ?? [];
  if (!list) return [];
  if (Object.keys(annotations).length > 0) metadata.annotations = annotations;
  else delete metadata.annotations;
  return list.split("; ").flatMap((part) => {
    const [, names = "", kind, name] =
      /^(.*) (request|limit) for (?:init )?container (\S+)$/.exec(part) ?? [];
    const container = [...(spec.initContainers ?? []), ...spec.containers].find((one) => one.name === name);
    if (!container) return [];
    return names
      .split(", ")
      .flatMap((resource) =>
        leftOut(
          container,
          kind === "limit" ? "limits" : "requests",
          resource,
          "the namespace's LimitRange added it",
        ),
      );
  });
}

function leftOut(
  container: ContainerSpec,
  kind: "limits" | "requests",
  resource: string,
  why: string,
): string[] {
  const all = container.resources as Record<string, Record<string, string>> | undefined;
  const value = all?.[kind]?.[resource];
  if (!all || value === undefined) return [];
  delete all[kind]![resource];
  if (Object.keys(all[kind]!).length === 0) delete all[kind];
  if (Object.keys(all).length === 0) delete container.resources;
  return [`${resource} ${kind.slice(0, -1)} ${value} left out: ${why}`];
}

/** AlwaysPullImages or the file set this: a static pod that brings the registry back cannot wait for it. */
function pullsWhereMissing(container: ContainerSpec): string[] {
  if (container.imagePullPolicy !== "Always") return [];
  container.imagePullPolicy = "IfNotPresent";
  return ["imagePullPolicy Always is IfNotPresent now: it starts where no registry answers, too"];
}

/**
 * Each changes the container if the fact differs, and says so. Facts that the runtime does not tell change
 * nothing.
 */
const CORRECTIONS: ((container: ContainerSpec, fact: Ran, spec: PodSpec) => string[])[] = [
  (container, { image }) => {
    if (!image || image === container.image) return [];
    const oldImage = container.image;
    container.image = image;
    return [`image ${image}, not ${oldImage}: its container ran with it`];
  },
  (container, { args }) => {
    const words = [...(container.command ?? []), ...(container.args ?? [])];
    // without a command the image's own comes first; $(NAME) is a variable's value in the container
    if (
      args.length === 0 ||
      !container.command ||
      words.some((word) => /\$[$(]/.test(word)) ||
      words.join("\0") === args.join("\0")
    )
      return [];
    const only = (sign: string, of: string[], other: string[]) =>
      of.filter((word) => !other.includes(word)).map((word) => sign + shownWord(word, container.name));
    container.command = args;
    delete container.args;
    return [
      `command as its container ran it: ${[...only("+", args, words), ...only("-", words, args)].join(" ") || "in another order"}`,
    ];
  },
  (container, { env }) => {
    const known = new Map(env.map(({ name, value }) => [name, value]));
    const isStrange = ({ name, value }: { name: string; value?: string }) =>
      value !== undefined && !value.includes("$(") && known.get(name) !== value;
    const strange = known.size > 0 ? (container.env ?? []).filter(isStrange) : [];
    if (strange.length > 0) container.env = container.env!.filter((one) => !strange.includes(one));
    if (container.env?.length === 0) delete container.env;
    return strange.map(({ name }) => `variable ${name} left out: ${ADDED}`);
  },
  (container, { mounts }, spec) => {
    const isStrange = ({ mountPath }: { mountPath: string }) =>
      !mounts.some(({ containerPath }) => containerPath === mountPath.replace(/(?<=.)\/$/, ""));
    const strange = mounts.length > 0 ? (container.volumeMounts ?? []).filter(isStrange) : [];
    if (strange.length === 0) return [];
    container.volumeMounts = container.volumeMounts!.filter((one) => !strange.includes(one));
    const used = new Set(
      [...(spec.initContainers ?? []), ...spec.containers].flatMap(({ volumeMounts = [] }) =>
        volumeMounts.map(({ name }) => name),
      ),
    );
    spec.volumes =
      spec.volumes?.filter(({ name }) => used.has(name) || !strange.some((one) => one.name === name)) ?? [];
    return strange.map(({ mountPath }) => `volume at ${mountPath} left out: ${ADDED}`);
  },
  (container, { limits }) => (limits && !limits.memory ? leftOut(container, "limits", "memory", ADDED) : []),
  (container, { limits }) => (limits && !limits.cpu ? leftOut(container, "limits", "cpu", ADDED) : []),
  (container, { uid }, spec) => {
    if (uid !== 0) return [];
    const users = [spec, container].flatMap(({ securityContext }) =>
      securityContext ? [securityContext as Record<string, unknown>] : [],
    );
    const fields = users.flatMap((context) =>
      ["runAsUser", "runAsGroup", "runAsNonRoot"].flatMap((field) =>
        context[field] ? [{ context, field }] : [],
      ),
    );
    if (!fields.some(({ field }) => field !== "runAsGroup")) return [];
    const words = fields.map(({ context, field }) => `${field} ${context[field]}`);
    for (const { context, field } of fields) delete context[field];
    return [`${words.join(", ")} left out: ${ADDED}, as root`];
  },
];
