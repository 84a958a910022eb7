/**
 * Kubernetes' objects in etcd, with the fields that scripts read; the rest is passed through.
 *
 * A pod, from etcd or from a file, is compared with the shape on which all code relies. The API server and
 * the kubelet check this shape, but a damaged value, or a file that was edited in a hurry, may not have it.
 */

/**
 * An object as the JSON API shows it, except that `resourceVersion` is not stored: it is the key's
 * modRevision.
 */
export interface StoredObject {
  apiVersion: string;
  kind: string;
  metadata: Metadata;
  // biome-ignore lint/suspicious/noExplicitAny: what follows depends on the kind; narrow it with Pod, ConfigMap, Secret, or your own type
  [field: string]: any;
}

export interface Metadata {
  name: string;
  namespace?: string;
  uid?: string;
  creationTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  [field: string]: unknown;
}

export interface ConfigMap extends StoredObject {
  data?: Record<string, string>;
}

/** `data` is base64, as in the JSON API. */
export interface Secret extends StoredObject {
  type?: string;
  data?: Record<string, string>;
}

export interface Pod extends StoredObject {
  spec: PodSpec;
}

/**
 * A static pod's manifest, ready to be written as YAML. Keys are in alphabetical order, as kubeadm writes
 * them; the last is `status: {}`.
 */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: Metadata;
  spec: PodSpec;
  status: Record<string, never>;
}

export interface PodSpec {
  containers: ContainerSpec[];
  initContainers?: ContainerSpec[];
  volumes?: Volume[];
  hostNetwork?: boolean;
  nodeName?: string;
  tolerations?: Toleration[];
  [field: string]: unknown;
}

export interface ContainerSpec {
  name: string;
  image?: string;
  command?: string[];
  args?: string[];
  env?: { name: string; value?: string; valueFrom?: { fieldRef?: { apiVersion?: string } } }[];
  ports?: { hostPort?: number; containerPort?: number }[];
  volumeMounts?: { name: string; mountPath: string; subPath?: string }[];
  [field: string]: unknown;
}

export interface Volume {
  name: string;
  hostPath?: { path: string; type?: string };
  [field: string]: unknown;
}

export interface Toleration {
  key?: string;
  operator?: string;
  value?: string;
  effect?: string;
  tolerationSeconds?: number;
}

/**
 * A list has one element; `texts` is a map of strings; a field whose name ends in "!" is required. Fields
 * without a row are not checked.
 */
type Shape =
  | "string"
  | "number"
  | "boolean"
  | "texts"
  | readonly [Shape]
  | { readonly [field: string]: Shape };

const CONTAINER: Shape = {
  name: "string",
  image: "string",
  command: ["string"],
  args: ["string"],
  env: [{ "name!": "string", value: "string", valueFrom: { fieldRef: { apiVersion: "string" } } }],
  ports: [{ hostPort: "number", containerPort: "number" }],
  volumeMounts: [{ "name!": "string", "mountPath!": "string", subPath: "string" }],
  livenessProbe: {},
  readinessProbe: {},
  startupProbe: {},
};

const POD: Shape = {
  metadata: {
    name: "string",
    namespace: "string",
    uid: "string",
    creationTimestamp: "string",
    labels: "texts",
    annotations: "texts",
    ownerReferences: [{ kind: "string", name: "string", controller: "boolean" }],
  },
  spec: {
    nodeName: "string",
    hostNetwork: "boolean",
    containers: [CONTAINER],
    initContainers: [CONTAINER],
    volumes: [
      {
        "name!": "string",
        hostPath: { "path!": "string", type: "string" },
        projected: { sources: [{ configMap: { name: "string" } }] },
        configMap: { name: "string" },
        secret: { secretName: "string" },
      },
    ],
    tolerations: [{ key: "string", operator: "string", effect: "string", tolerationSeconds: "number" }],
  },
  status: { phase: "string", containerStatuses: [{ state: { running: { startedAt: "string" } } }] },
};

/** Fault and path. */
class Misshapen extends Error {}

/**
 * The same object as a pod: `metadata` and `spec.containers` are there; fields that are null are left out, as
 * the kubelet reads it. Errors: `fail(why)`, why being "spec.volumes is no list".
 */
export function asPod(value: unknown, fail: (why: string) => Error): Pod {
  try {
    checkShape(value, POD, "");
  } catch (err) {
    if (err instanceof Misshapen) throw fail(err.message);
    throw err;
  }
  const pod = value as Pod;
  pod.metadata ??= { name: "" };
  pod.metadata.name ??= "";
  pod.spec ??= { containers: [] };
  pod.spec.containers ??= [];
  return pod;
}

function checkShape(value: unknown, shape: Shape, at: string) {
  if (shape === "texts") return fitTexts(value, at);
  if (typeof shape === "string") {
    if (typeof value !== shape) throw new Misshapen(`${at} is no ${shape}`);
    return;
  }
  if (isList(shape)) return fitList(value, shape[0], at);
  const map = mapOf(value, at);
  for (const field in shape) {
    const isNeeded = field.endsWith("!");
    const name = isNeeded ? field.slice(0, -1) : field;
    const found = Object.hasOwn(map, name) ? map[name] : undefined;
    if (found === null) delete map[name];
    const isGone = (found ?? undefined) === undefined;
    if (isGone && !isNeeded) continue;
    const path = at ? `${at}.${name}` : name;
    if (isGone) throw new Misshapen(`${path} is missing`);
    checkShape(found, shape[field]!, path);
  }
}

function isList(shape: Shape): shape is readonly [Shape] {
  return Array.isArray(shape);
}

function fitList(value: unknown, shape: Shape, at: string) {
  if (!Array.isArray(value)) throw new Misshapen(`${at} is no list`);
  for (const [i, one] of value.entries()) checkShape(one, shape, `${at}[${i}]`);
}

function fitTexts(value: unknown, at: string) {
  if (Object.values(mapOf(value, at)).some((one) => typeof one !== "string"))
    throw new Misshapen(`${at} is no map of strings`);
}

function mapOf(value: unknown, at: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new Misshapen(at ? `${at} is no map` : "it is no map");
}
