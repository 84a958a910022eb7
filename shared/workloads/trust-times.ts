/** Since when what pods mount is today's: kube-root-ca.crt of each namespace, and token Secrets. */
import type { KubeApi, KubeObject } from "../api/kube-api.ts";
import type { TrustTimes } from "../facts/pod-trust.ts";

/** What has not become today's yet is newer than every pod. */
const NOT_YET = new Date(8.64e15);

interface Holder extends KubeObject {
  metadata: KubeObject["metadata"] & { managedFields?: { time?: string; fieldsV1?: { "f:data"?: unknown } }[] };
  data?: Record<string, string>;
}

/** Asks the API for both; nothing is said to be today's since before `made`. Errors: as KubeApi. */
export async function trustTimes(api: KubeApi, caPem: string, made: Date): Promise<TrustTimes> {
  const [maps, secrets] = [new Map<string, Date>(), new Map<string, Date>()];
  for await (const map of api.items<Holder>("/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt"))
    if (map.data?.["ca.crt"]?.trim() === caPem.trim()) maps.set(map.metadata.namespace ?? "", lastWritten(map, made));
  for await (const secret of api.items<Holder>("/api/v1/secrets?fieldSelector=type%3Dkubernetes.io/service-account-token"))
    secrets.set(`${secret.metadata.namespace}/${secret.metadata.name}`, lastWritten(secret, made));
  return { rootCa: (namespace) => maps.get(namespace) ?? NOT_YET, tokenSecret: (name) => secrets.get(name) };
}

/**
 * When its data was last changed, as the API server keeps it in managedFields; never before `made`. What has been the same since it was made
 * was never anything else to any pod.
 */
function lastWritten({ metadata }: Holder, made: Date): Date {
  const times = (metadata.managedFields ?? []).flatMap(({ time, fieldsV1 }) => (time && fieldsV1?.["f:data"] ? [Date.parse(time)] : []));
  const since = Date.parse(metadata.creationTimestamp ?? "");
  return new Date(Math.max(made.getTime(), ...times.filter((time) => !(time <= since))));
}
