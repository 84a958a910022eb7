/**
 * Whether a pod still uses the old CA: it started before the new CA, or a new token, reached the files that
 * it mounts. client-go reads the CA only once, so such a pod has to restart. Since its 0.36 it reads the file
 * again, where the program uses the in-cluster configuration (transport/ca_rotation.go, feature
 * ClientsAllowCARotation). Nothing in the cluster says with which library, and which features, a program
 * runs; and other languages' clients do as they like. So those pods are restarted as well.
 */
import { isApiServers, type KubeObject } from "../api/kube-object.ts";
import { quoteUntrusted } from "../plain.ts";

export interface RunningPod extends KubeObject {
  spec: {
    nodeName?: string;
    hostNetwork?: boolean;
    restartPolicy?: string;
    priorityClassName?: string;
    serviceAccountName?: string;
    volumes?: Volume[];
    containers?: {
      env?: {
        name: string;
        value?: string;
        valueFrom?: { configMapKeyRef?: { name?: string; key: string } };
      }[];
    }[];
  };
  status?: {
    phase?: string;
    /** Why the pod itself failed: the kubelet would not take it, or ended it. */
    reason?: string;
    message?: string;
    podIP?: string;
    podIPs?: { ip: string }[];
    conditions?: {
      type: string;
      status: string;
      reason?: string;
      message?: string;
      lastTransitionTime?: string;
    }[];
    containerStatuses?: {
      name?: string;
      state?: {
        running?: { startedAt: string };
        waiting?: { reason?: string; message?: string };
        terminated?: object;
      };
    }[];
  };
}

interface Source {
  serviceAccountToken?: unknown;
  configMap?: { name?: string };
  clusterTrustBundle?: { name?: string; signerName?: string };
}

interface Volume {
  name: string;
  projected?: { sources?: Source[] };
  configMap?: { name?: string };
  secret?: { secretName?: string };
  hostPath?: { path: string };
}

/** When the mounted files got today's content. */
export interface CutOff {
  /** The CA, by namespace. */
  rootCa(namespace: string): Date;
  /** The token of a Secret, by `namespace/name`; undefined: no token Secret. */
  token(name: string): Date | undefined;
}

/** Later than every pod: for what is not today's yet. */
export const NOT_YET = new Date(8.64e15);

export interface TrustHolder extends KubeObject {
  metadata: KubeObject["metadata"] & {
    managedFields?: { time?: string; fieldsV1?: { "f:data"?: unknown } }[];
  };
  type?: string;
  data?: Record<string, string>;
}

/**
 * When its data was last changed (managedFields), never before `made`. If never since its creation: it was
 * the same for every pod.
 */
export function lastWritten({ metadata }: Pick<TrustHolder, "metadata">, made: Date): Date {
  const times = (metadata.managedFields ?? []).flatMap(({ time, fieldsV1 }) =>
    time && fieldsV1?.["f:data"] ? [Date.parse(time)] : [],
  );
  const since = Date.parse(metadata.creationTimestamp ?? "");
  return new Date(Math.max(made.getTime(), ...times.filter((time) => !(time <= since))));
}

/**
 * A container that restarts in an old pod may still see the old file for this time: the kubelet rewrites
 * mounted files when it next looks at the pod, after a minute and a half at the latest (syncFrequency,
 * pkg/kubelet/pod_workers.go: workerResyncIntervalJitterFactor).
 */
export const MOUNT_LAG_MS = 120_000;

/**
 * When the files that this pod mounts got today's content; undefined where it uses nothing older. A pod that may is
 * stale; `reasonToLeave`: it is left alone.
 */
export function mountedBefore(pod: RunningPod, cutOff: CutOff, now = new Date()): Date | undefined {
  const written = filesWritten(pod, cutOff);
  return written && mayUseOld(pod, written, now) ? written : undefined;
}

/** Undefined where it mounts neither a CA nor a token, or is a mirror pod. */
function filesWritten({ metadata, spec }: RunningPod, cutOff: CutOff): Date | undefined {
  if (metadata.annotations?.["kubernetes.io/config.mirror"]) return undefined;
  const found = (spec.volumes ?? []).flatMap(({ projected, configMap, secret }) => {
    const ofToken = secret && cutOff.token(`${metadata.namespace}/${secret.secretName}`);
    const ofCa = projected?.sources?.some(isOfCluster);
    if (ofCa || configMap?.name === "kube-root-ca.crt") return [cutOff.rootCa(metadata.namespace ?? "")];
    return ofToken ? [ofToken] : [];
  });
  return found.length > 0 ? new Date(Math.max(...found.map((time) => time.getTime()))) : undefined;
}

/**
 * A bundle for the API server comes from the same controller-manager, at the same time, as kube-root-ca.crt.
 */
function isOfCluster({ serviceAccountToken, configMap, clusterTrustBundle }: Source): boolean {
  const ofBundle = clusterTrustBundle !== undefined && isApiServers(clusterTrustBundle);
  return Boolean(serviceAccountToken) || configMap?.name === "kube-root-ca.crt" || ofBundle;
}

/**
 * A newer pod has mounted today's files. A container that restarted in an older pod may have started before
 * the kubelet wrote them, and so may one that starts in a moment, as on a node that has just come back.
 */
function mayUseOld({ metadata, spec, status }: RunningPod, written: Date, now: Date): boolean {
  if (metadata.deletionTimestamp || new Date(metadata.creationTimestamp ?? 0) > written) return false;
  const mountedAt = written.getTime() + MOUNT_LAG_MS;
  const states = (status?.containerStatuses ?? []).flatMap(({ state }) => state ?? []);
  const startsNow =
    now.getTime() <= mountedAt &&
    (spec.restartPolicy ?? "Always") === "Always" &&
    states.some(({ running }) => !running);
  if (status?.phase !== "Running") return status?.phase === "Pending" && startsNow;
  return (
    startsNow || states.some(({ running }) => running && new Date(running.startedAt).getTime() <= mountedAt)
  );
}

/** Why part 4 does not restart this pod; undefined: it does. */
export function reasonToLeave(pod: RunningPod): string | undefined {
  const reference = controllerOf(pod);
  if (!reference) return "a bare pod: nothing would bring it back";
  const { kind, name, apiVersion } = reference;
  if (groupOfApi(apiVersion) === "batch") return `of the ${kind} ${name}: it runs until it is finished`;
  const { restartPolicy = "Always" } = pod.spec;
  return restartPolicy === "Always"
    ? undefined
    : `of the ${kind} ${name}, with restartPolicy ${restartPolicy}: it may run until it is finished`;
}

/**
 * "apps/v1" → "apps", "v1" → "". Other groups have kinds of the same names (apps.kruise.io,
 * batch.volcano.sh).
 */
export function groupOfApi(apiVersion: string): string {
  return apiVersion.includes("/") ? apiVersion.replace(/\/.*/, "") : "";
}

/**
 * Its owner in its own words, in one line each: the API server asks only that kind and name are not empty
 * (apimachinery pkg/api/validation/objectmeta.go), so whoever may create a pod chooses them.
 */
export function controllerOf({ metadata }: KubeObject) {
  const owner = metadata.ownerReferences?.find(({ controller }) => controller);
  return owner && { ...owner, kind: quoteUntrusted(owner.kind), name: quoteUntrusted(owner.name) };
}

export interface PodTrust {
  /**
   * A pod that started after this time has nothing from before the repair: neither the old CA, nor a token of
   * an old key.
   */
  since: Date;
  /** Since when the CA's key is in use, where no repair has made it: 1970 where that was long before. */
  caInUse?: Date | undefined;
}

/** Milliseconds. The clocks of one repair are nearer to each other than that. */
export const LATER = 24 * 3600_000;

/**
 * Whether the CA's key was in use long before this time: a new certificate of it, or another CA beside it, changes nothing
 * for those who trusted it.
 */
export function wasInUse({ caInUse }: Pick<PodTrust, "caInUse">, time: Date): boolean {
  return caInUse !== undefined && time.getTime() > caInUse.getTime() + LATER;
}
