/**
 * Which pods have read a CA's certificate from before it was renewed: they started before kube-root-ca.crt,
 * or a token's Secret, had today's. None has to restart before the older one's end. Reads only.
 */
import type { ApiReader } from "../api/kube-api.ts";
import { type KubeObject, nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import { type CutOff, mountedBefore, type RunningPod } from "../facts/pod-trust.ts";
import { ROOT_CA_MAPS } from "../workloads/root-ca.ts";
import { lastWritten, NOT_YET } from "../workloads/stale-pods.ts";
import { TOKEN_SECRETS } from "../workloads/token-secrets.ts";
import { type CaOfKey, newestOf } from "./held-ca.ts";

interface Holder extends KubeObject {
  data?: Record<string, string>;
}

/** `namespace/name` of each, as the API lists them. Errors: as KubeApi. */
export async function podsWithOlderCa(api: ApiReader, ca: CaOfKey): Promise<string[]> {
  const [maps, secrets] = [new Map<string, Date>(), new Map<string, Date>()];
  const isToday = (text: string | undefined) => (newestOf(text, ca.hash)?.notAfter ?? ca.end) >= ca.end;
  const since = (holder: Holder, text: string | undefined) =>
    isToday(text) ? lastWritten(holder, new Date(0)) : NOT_YET;
  await readAll("ConfigMaps with the CA", api.items<Holder>(ROOT_CA_MAPS), (map) =>
    maps.set(map.metadata.namespace ?? "", since(map, map.data?.["ca.crt"])),
  );
  await readAll("token Secrets", api.items<Holder>(TOKEN_SECRETS), (secret) => {
    const text = Buffer.from(secret.data?.["ca.crt"] ?? "", "base64").toString();
    secrets.set(nameOf(secret), since(secret, text));
  });
  const cutOff: CutOff = {
    rootCa: (namespace) => maps.get(namespace) ?? NOT_YET,
    token: (name) => secrets.get(name),
  };
  const found: string[] = [];
  await readAll("pods", api.items<RunningPod>("/api/v1/pods"), (pod) => {
    if (mountedBefore(pod, cutOff)) found.push(nameOf(pod));
  });
  return found;
}
