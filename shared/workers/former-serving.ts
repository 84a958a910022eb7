/**
 * A kubelet's serving certificate from before: it says which addresses were that node's, as the cluster's CA
 * signed it. A kubelet that asks for a new one has none to show: its port refuses every handshake, and the
 * key of a request is in its memory alone. So `join` leaves the certificate in the Node, as an annotation,
 * and `close` asks for it where several nodes claim one address. Who writes it there does not matter: it is
 * signed, and names its node.
 */
import { dirname } from "node:path";
import type { KubeApi } from "../api/kube-api.ts";
import { Fail } from "../fail.ts";
import { list, readText } from "../files/files.ts";
import type { Node } from "../node/node.ts";
import { certificatesIn } from "../pki/certificate.ts";
import { act, say } from "../run.ts";

export const FORMER_SERVING = "kube-pki-repair/serving-certificate-before";
const NODES = "/api/v1/nodes";

/** The newest that was saved before the join; undefined where the kubelet had none. */
function formerServing({ kubelet }: Node, rescueDir: string): string | undefined {
  const folder = `${rescueDir}/before${dirname(kubelet.serverPem)}`;
  const name = list(folder).findLast((one) => /^kubelet-server-\d.*\.pem$/.test(one));
  return name && certificatesIn(readText(`${folder}/${name}`) ?? "")[0];
}

/**
 * Leaves it in this worker's Node, by its kubelet's own right. Without it the join is as good: `close` may
 * have to ask a person.
 */
export async function leaveFormer(node: Node, self: KubeApi, rescueDir: string) {
  const pem = formerServing(node, rescueDir);
  if (!pem) return;
  try {
    await act("save", "the old serving certificate in this worker's Node, until close", () =>
      annotateFormer(self, node.name, pem),
    );
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    say(`warning: could not save the old serving certificate in this worker's Node: ${err.message}`);
  }
}

/** `null`: it goes. */
export function annotateFormer(api: KubeApi, name: string, pem: string | null) {
  return api.patch(`${NODES}/${name}`, { metadata: { annotations: { [FORMER_SERVING]: pem } } });
}
