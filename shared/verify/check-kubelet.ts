/** The kubelet of this node. */
import { KubeApi } from "../api/kube-api.ts";
import { readText } from "../files/files.ts";
import { trusted } from "../node/kubelet-certs.ts";
import type { Node } from "../node/node.ts";
import { certInfo } from "../pki/certificate.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import type { Checks } from "./checks.ts";

/** This node's kubelet: its certificate is of the CA that it trusts itself, and fits its kubelet.conf. */
export async function checkKubelet(checks: Checks, node: Node) {
  const { kubelet } = node;
  const ca = readText(kubelet.clientCaFile) ?? "";
  await checks.check("kubelet", `${kubelet.clientPem}`, () => {
    if (!trusted(kubelet.clientPem, ca)) throw new Error(`missing, expired, or not signed by ${kubelet.clientCaFile}`);
    const { cn, notAfter } = certInfo(readText(kubelet.clientPem)!);
    if (cn !== `system:node:${node.name}`) throw new Error(`is for "${cn}"`);
    return `${cn}, until ${notAfter.toISOString().slice(0, 10)}`;
  });
  await checks.check("kubelet", kubelet.kubeconfig, async () => {
    const conf = readKubeconfig(kubelet.kubeconfig);
    if (!conf) throw new Error("missing");
    if (conf.caPem.trim() !== ca.trim()) throw new Error(`trusts another CA than ${kubelet.clientCaFile}`);
    await KubeApi.from(conf).get(`/api/v1/nodes/${node.name}`);
    return `${conf.server} answers it`;
  });
  await checks.check("kubelet", kubelet.bootstrapKubeconfig, () => {
    if (readText(kubelet.bootstrapKubeconfig) !== undefined) return { warning: "still there: it holds a token" };
    return "not there, as it should be";
  });
}
