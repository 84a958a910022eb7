/** The CAs that the living cluster gives to its pods and to its aggregated API servers. */
import { AUTHENTICATION } from "../api/cluster-trust.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { Candidate } from "./renewal.ts";

export async function casInUse(api: KubeApi): Promise<Record<"ca" | "front-proxy-ca", Candidate[]>> {
  const map = async (from: string, key: string): Promise<Candidate> => ({
    ...{ pem: (await api.configMap("kube-system", from))?.[key] ?? "", from },
  });
  return {
    ca: [await map("kube-root-ca.crt", "ca.crt")],
    "front-proxy-ca": [await map(AUTHENTICATION, "requestheader-client-ca-file")],
  };
}
