/** A pod's parts that the scripts look at. */
import type { KubeObject } from "./storage.ts";

/** As much of a pod as is looked at here; the rest is passed through. */
export interface Pod extends KubeObject {
  spec: PodSpec;
}

export interface PodSpec {
  containers: Container[];
  initContainers?: Container[];
  volumes?: Volume[];
  hostNetwork?: boolean;
  nodeName?: string;
  tolerations?: Toleration[];
  [field: string]: unknown;
}

export interface Container {
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
  effect?: string;
  tolerationSeconds?: number;
}
