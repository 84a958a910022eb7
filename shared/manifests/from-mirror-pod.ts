/**
 * Static pod manifests from mirror pods: the content of /etc/kubernetes/manifests, read back from etcd.
 *
 * A mirror pod is the manifest, plus what the kubelet adds (pkg/kubelet/config/common.go,
 * pkg/kubelet/pod/mirror_client.go), plus the API server's defaults (pkg/apis/core/v1/defaults.go). All that
 * the kubelet adds is removed, and every field that has exactly the default.
 */
import { Fail } from "../fail.ts";
import { nameSuffix } from "../node/containers.ts";
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
 * The manifest from which a mirror pod was made. Errors: Fail if the pod is not a mirror pod of this node, or
 * if a newer Kubernetes stored fields in its spec that would be lost.
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
