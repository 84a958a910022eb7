/** Kubernetes' objects as etcd holds them: as much of each as the scripts look at. The rest is passed through. */

/** An object as the JSON API shows it, except that `resourceVersion` is not stored: it is the key's modRevision. */
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

/** As much of a pod as is looked at here; the rest is passed through. */
export interface Pod extends StoredObject {
  spec: PodSpec;
}

/** A static pod's, ready to be written as YAML. Keys are in alphabetical order, as kubeadm writes them; the last is `status: {}`. */
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
