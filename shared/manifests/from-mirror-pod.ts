/**
 * Static pod manifests from mirror pods: the content of /etc/kubernetes/manifests, read back from etcd.
 *
 * A mirror pod is the manifest, plus what the kubelet adds (pkg/kubelet/config/common.go,
 * pkg/kubelet/pod/mirror_client.go), plus the API server's defaults (pkg/apis/core/v1/defaults.go). All that
 * the kubelet adds is removed, and every field that has exactly the default.
 *
 * And the manifest as its containers ran it: the API server's admission changes mirror pods, too, and the kubelet runs the
 * file all the same. So a mirror pod is a report of the manifest, and the container is the fact. Sources:
 * plugin/pkg/admission/alwayspullimages, plugin/pkg/admission/limitranger (both without an exception for mirror pods), and
 * webhooks such as Kyverno's.
 */
import { Fail } from "../fail.ts";
import { nameSuffix, type Ran } from "../node/containers.ts";
import type {
  ContainerSpec,
  Manifest,
  Metadata,
  Pod,
  PodSpec,
  Toleration,
  Volume,
} from "../objects/objects.ts";
import { unknownFields } from "../objects/storage.ts";
import { printableArgument } from "./command.ts";

export const MIRROR_ANNOTATION = "kubernetes.io/config.mirror";
/** A static pod's UID, given by its kubelet. */
export const HASH_ANNOTATION = "kubernetes.io/config.hash";
const KUBELET_ANNOTATIONS = [
  MIRROR_ANNOTATION,
  HASH_ANNOTATION,
  "kubernetes.io/config.seen",
  "kubernetes.io/config.source",
];
const SERVER_METADATA = [
  "uid",
  "resourceVersion",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "managedFields",
  "ownerReferences",
  "selfLink",
];

/**
 * Errors: Fail if the pod is not a mirror pod of this node, or if a newer Kubernetes stored fields in its spec that
 * would be lost.
 */
export function manifestFromMirrorPod(pod: Pod, nodeName: string): Manifest {
  const suffix = nameSuffix(nodeName);
  if (!pod.metadata.annotations?.[MIRROR_ANNOTATION] || !pod.metadata.name.endsWith(suffix)) {
    throw new Fail(`Pod "${pod.metadata.name}" is not a mirror pod of node "${nodeName}"`, {
      hint: "see the node's name with `hostname` and in the kubelet's --hostname-override: a mirror pod has the name NAME-NODE",
    });
  }
  refuseUnknownFields(pod);
  const manifest = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: ownMetadata(pod.metadata, suffix),
    spec: ownSpec(pod.spec),
    status: {},
  };
  return sortKeys(manifest) as Manifest;
}

function refuseUnknownFields(pod: Pod) {
  const lost = unknownFields(pod).filter((field) => field.startsWith("spec."));
  if (lost.length === 0) return;
  throw new Fail(
    `Cannot make a manifest of pod "${pod.metadata.name}": fields unknown to this kit: "${lost.join('", "')}"`,
    {
      hint: "write the manifest with that release's `kubeadm init phase control-plane all --config`: its Kubernetes is newer than this kit",
    },
  );
}

function ownMetadata(metadata: Metadata, suffix: string): Metadata {
  const own = without(metadata, SERVER_METADATA) as Metadata;
  const annotations = without(metadata.annotations ?? {}, KUBELET_ANNOTATIONS) as Record<string, string>;
  delete own.annotations;
  return {
    ...own,
    name: metadata.name.slice(0, -suffix.length),
    ...(Object.keys(annotations).length > 0 && { annotations }),
  };
}

function ownSpec(spec: PodSpec): PodSpec {
  const own = withoutDefaults(without(spec, ["nodeName", "tolerations"]), SPEC_DEFAULTS) as PodSpec;
  const tolerations = (spec.tolerations ?? []).filter((toleration) => !isKubelets(toleration));
  if (tolerations.length > 0) own.tolerations = tolerations;
  if (spec.volumes) own.volumes = spec.volumes.map(ownVolume);
  own.containers = spec.containers.map((container) => ownContainer(container, spec));
  if (spec.initContainers)
    own.initContainers = spec.initContainers.map((container) => ownContainer(container, spec));
  return own;
}

/** `{ operator: Exists, effect: NoExecute }`: it keeps a static pod on a tainted node. */
function isKubelets(toleration: Toleration): boolean {
  const { key, operator, effect, tolerationSeconds } = toleration;
  return operator === "Exists" && effect === "NoExecute" && !key && tolerationSeconds === undefined;
}

/**
 * Only fields that kubeadm leaves to the defaults. kubeadm itself writes imagePullPolicy, protocol, and a
 * probe's periods and thresholds, and other manifests may do so: these fields stay.
 */
const SPEC_DEFAULTS = {
  dnsPolicy: "ClusterFirst",
  enableServiceLinks: true,
  preemptionPolicy: "PreemptLowerPriority",
  priority: 0,
  restartPolicy: "Always",
  schedulerName: "default-scheduler",
  securityContext: {},
  terminationGracePeriodSeconds: 30,
};
const CONTAINER_DEFAULTS = {
  resources: {},
  terminationMessagePath: "/dev/termination-log",
  terminationMessagePolicy: "File",
};
const PROBE_DEFAULTS = { successThreshold: 1 };
const PROBES = ["livenessProbe", "readinessProbe", "startupProbe"];

function ownContainer(container: ContainerSpec, spec: PodSpec): ContainerSpec {
  const own = withoutDefaults(container, CONTAINER_DEFAULTS) as ContainerSpec;
  for (const probe of PROBES)
    if (own[probe]) own[probe] = withoutDefaults(own[probe] as object, PROBE_DEFAULTS);
  // on the host's network the API server sets hostPort to containerPort
  if (own.ports && spec.hostNetwork)
    own.ports = own.ports.map((port) => withoutDefaults(port, { hostPort: port.containerPort }));
  if (own.env) own.env = own.env.map(ownEnv);
  return own;
}

function ownEnv(env: NonNullable<ContainerSpec["env"]>[number]) {
  const fieldRef = env.valueFrom?.fieldRef;
  return fieldRef
    ? { ...env, valueFrom: { ...env.valueFrom, fieldRef: withoutDefaults(fieldRef, { apiVersion: "v1" }) } }
    : env;
}

function ownVolume(volume: Volume): Volume {
  return volume.hostPath ? { ...volume, hostPath: withoutDefaults(volume.hostPath, { type: "" }) } : volume;
}

function without(object: object, fields: string[]): object {
  return Object.fromEntries(Object.entries(object).filter(([field]) => !fields.includes(field)));
}

function withoutDefaults<T extends object>(object: T, defaults: Record<string, unknown>): T {
  const isDefault = ([field, value]: [string, unknown]) =>
    Object.hasOwn(defaults, field) && JSON.stringify(value) === JSON.stringify(defaults[field]);
  return Object.fromEntries(Object.entries(object).filter((entry) => !isDefault(entry))) as T;
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, child]) => [key, sortKeys(child)]));
}

/** `corrections`: each correction in words, for the operator. */
interface Corrected {
  manifest: Manifest;
  corrections: string[];
}

/**
 * `ran`: the newest container of each name of this node's static pods. Only those of this manifest count: the
 * UID of their pod is the hash of the file, which the mirror pod has as an annotation. Without any, the
 * changes that admission itself names are still taken back.
 */
export function manifestAsItRan(made: Manifest, mirror: Pod, ran: readonly Ran[] = []): Corrected {
  const manifest = structuredClone(made);
  const own = ran.filter(({ podUid }) => podUid === mirror.metadata.annotations?.[HASH_ANNOTATION]);
  const { spec } = manifest;
  const containers = () => [...(spec.initContainers ?? []), ...spec.containers];
  const corrections = [
    ...removeOthers(spec, own),
    ...undoDefaults(manifest),
    ...containers().flatMap((container) => {
      const fact = own.find(({ name }) => name === container.name);
      const more = fact ? CORRECTIONS.flatMap((correct) => correct(container, fact, spec)) : [];
      return [...pullsWhereMissing(container), ...more].map((words) =>
        spec.containers.length > 1 ? `${container.name}: ${words}` : words,
      );
    }),
  ];
  return { manifest, corrections: corrections };
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
function undoDefaults({ metadata, spec }: Manifest): string[] {
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
      of
        .filter((word) => !other.includes(word))
        .map((word) => sign + printableArgument(word, container.name));
    container.command = args;
    delete container.args;
    return [
      `command as its container ran it: ${[...only("+", args, words), ...only("-", words, args)].join(" ") || "in another order"}`,
    ];
  },
  (container, { env }) => {
    const valueByName = new Map(env.map(({ name, value }) => [name, value]));
    const isStrange = ({ name, value }: { name: string; value?: string }) =>
      value !== undefined && !value.includes("$(") && valueByName.get(name) !== value;
    const strange = valueByName.size > 0 ? (container.env ?? []).filter(isStrange) : [];
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
