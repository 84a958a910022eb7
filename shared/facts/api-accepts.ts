/**
 * A kubelet's client certificate of another CA than the one that it trusts itself: kubelets may have a CA of their own
 * (--cluster-signing-kubelet-client-cert-file). The API server's client CA file decides, and no file of a worker names
 * it, so the API is asked: with this certificate it answers for the node's own object, or not. Reads only.
 */
import { KubeApi } from "../api/kube-api.ts";
import { attempt, attemptLater, Fail } from "../fail.ts";
import { stateOfPem } from "../node/credentials.ts";
import { clientText } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { infoOf } from "../pki/certificate.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";

/** As `stateOfPem`; "other CA" only where the API does not take the certificate, or does not answer. */
export async function stateOfClient(
  node: Node,
  cas: string | undefined,
  nodeName?: string,
): Promise<string | undefined> {
  const state = stateOfPem(() => clientText(node.kubelet), cas, nodeName);
  return state === "other CA" && (await apiAccepts(node)) ? undefined : state;
}

/** Whether the API server, proved by the CA in kubelet.conf, takes this certificate as this node's. */
export async function apiAccepts({ name, kubelet }: Node): Promise<boolean> {
  const pem = attempt(() => clientText(kubelet), "");
  const conf = attempt(() => readKubeconfig(kubelet.kubeconfig), undefined);
  if (!conf || infoOf(pem)?.cn !== `system:node:${name}`) return false;
  const answer = await attemptLater(() =>
    KubeApi.from({ ...conf, token: undefined, clientCertPem: pem, clientKeyPem: pem }).get(
      `/api/v1/nodes/${name}`,
    ),
  );
  return !(answer instanceof Fail);
}
