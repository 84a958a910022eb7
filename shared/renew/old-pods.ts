/**
 * Which pods have read a CA's certificate from before it was renewed: they started before kube-root-ca.crt,
 * or a token's Secret, had today's. None has to restart before the older one's end. Reads only.
 */
import type { ApiReader } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import {
  type CutOff,
  lastWritten,
  mountedBefore,
  NOT_YET,
  type RunningPod,
  type TrustHolder,
} from "../facts/pod-trust.ts";
import { ROOT_CA_MAPS } from "../workloads/root-ca.ts";
import { TOKEN_SECRETS } from "../workloads/token-secrets.ts";
import { type CaOfKey, newestOf } from "./held-ca.ts";

/** `namespace/name` of each, as the API lists them. Errors: as KubeApi. */
export async function podsWithOlderCa(api: ApiReader, ca: CaOfKey): Promise<string[]> {
  const [maps, secrets] = [new Map<string, Date>(), new Map<string, Date>()];
  const isToday = (text: string | undefined) => (newestOf(text, ca.hash)?.notAfter ?? ca.end) >= ca.end;
  const since = (holder: TrustHolder, text: string | undefined) =>
    isToday(text) ? lastWritten(holder, new Date(0)) : NOT_YET;
  await readAll("ConfigMaps with the CA", api.items<TrustHolder>(ROOT_CA_MAPS), (map) =>
    maps.set(map.metadata.namespace ?? "", since(map, map.data?.["ca.crt"])),
  );
  await readAll("token Secrets", api.items<TrustHolder>(TOKEN_SECRETS), (secret) => {
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
