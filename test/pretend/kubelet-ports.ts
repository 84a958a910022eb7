/** Kubelets' ports on addresses of this machine's loopback, each with a serving certificate. */
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf, type Pair } from "../../shared/pki/issue.ts";
import { KUBELET_PORT } from "../../shared/workers/node-status.ts";
import { ADDRESS } from "./cluster.ts";
import { testFacts } from "./facts.ts";

/** An address of this test file's own network. */
export const at = (last: number) => ADDRESS.replace(/\d+$/, String(last));

/** Serves there with a certificate that this CA signs. */
export async function servedKubelet(last: number, by: Pair, cn?: string) {
  const names = () => ({ dns: [], ips: [at(last)] });
  const row = { ...certRow("apiserver"), names, ...(cn ? { cn } : {}) };
  const { cert, key } = await issueLeaf(row, by, testFacts());
  return Bun.serve({
    hostname: at(last),
    port: KUBELET_PORT,
    tls: { cert, key },
    fetch: () => new Response(),
  });
}
