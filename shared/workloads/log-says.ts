/**
 * Where a program does not say with which library it talks to the API, its log may say how it fares. Few and bounded requests; of a log only
 * our own words are shown, how often they stand there and when last: the rest is the tenant's, and may hold a secret.
 */
import type { KubeApi } from "../api/kube-api.ts";
import { FEW } from "../plain.ts";
import { unlessLate } from "../wait-for.ts";
import { label, type PodOwner } from "./pod-owners.ts";

/** In the words of Go, OpenSSL, Java, Node.js and HTTP. */
const TROUBLES = [
  "certificate signed by unknown authority",
  "certificate verify failed",
  "PKIX path building failed",
  "unable to verify the first certificate",
  "self-signed certificate in certificate chain",
  "Unauthorized",
];

/** The kubelet writes the time before each line. */
const LAST = "tailLines=100&limitBytes=65536&timestamps=true";

/** A sentence for each of the first few whose log says something. Logs that cannot be had say nothing. */
export async function logsOf(api: KubeApi, owners: readonly PodOwner[]): Promise<string[]> {
  const said = await Promise.all(owners.slice(0, FEW).map((owner) => logOf(api, owner)));
  return said.flat();
}

async function logOf(api: KubeApi, owner: PodOwner): Promise<string[]> {
  const [pod] = owner.pods;
  const container = pod?.status?.containerStatuses?.[0]?.name;
  if (!pod || !container) return [];
  const path = `/api/v1/namespaces/${owner.namespace}/pods/${pod.metadata.name}/log?container=${encodeURIComponent(container)}&${LAST}`;
  const lines = ((await unlessLate(api.ofKubelet(path))) ?? "").split("\n");
  return TROUBLES.flatMap((trouble) => {
    const found = lines.filter((line) => line.includes(trouble));
    const time = /^\d{4}-\d\d-\d\dT[\d:]+/.exec(found.at(-1) ?? "")?.[0];
    return time ? [`log of ${label(owner)}: "${trouble}" in ${found.length} of its last ${lines.length} lines, last at ${time}`] : [];
  });
}
