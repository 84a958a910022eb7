/**
 * Gives a worker the cluster's renewed CA. It needs no secret: the key that the worker trusts has signed the
 * certificate, which proves it. So it comes from the files that the cluster gives its pods on this node, from
 * cluster-info, or from a file.
 */
import { KubeApi } from "../api/kube-api.ts";
import type { KubeObject } from "../api/kube-object.ts";
import { IN_PODS, readEvidence } from "../facts/evidence.ts";
import { attemptLater, Fail, Refused } from "../fail.ts";
import type { Node } from "../node/node.ts";
import { certInfo, infoOf, isValidNow } from "../pki/certificate.ts";
import { day } from "../pki/judge.ts";
import { caIn } from "../pki/kubeconfig-fields.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { say } from "../run.ts";
import { asBrought, type Candidate, type Renewal, successorOf } from "./renewal.ts";

/**
 * The CA certificate in its kubelet's trust, and its successor. Errors: Refused if it has expired: then the
 * kubelet's own has, too, and it joins (part 3); Fail if there is no kubelet.conf.
 */
export async function renewalOfWorker(node: Node, brought?: Candidate): Promise<Renewal> {
  const { kubeconfig, clientCaFile } = node.kubelet;
  const conf = readKubeconfig(kubeconfig);
  const now = infoOf(conf?.caPem);
  if (!conf || !now)
    throw new Fail(`"${kubeconfig}" names no CA`, {
      hint: "./bunw scripts/00-assess.ts says what is lost here",
    });
  if (!isValidNow(now))
    throw new Refused(
      `The CA in "${kubeconfig}" has expired (${day(now.notAfter)}): this worker has to join`,
      {
        unchanged: true,
        hint: "type first on the control plane nodes: ./bunw scripts/00-assess.ts; part 3 gives this worker its line",
      },
    );
  const renewal = (pem: string, note: string): Renewal => ({
    ...{ name: "ca", path: clientCaFile, now, next: certInfo(pem), note },
  });
  if (brought) return renewal(...asBrought(now, brought));
  const next = successorOf(now, inPods(node)) ?? successorOf(now, await clusterInfo(conf.server, conf.caPem));
  if (next) return renewal(next.pem, next.from);
  return renewal(now.pem, `unchanged, until ${day(now.notAfter)}: the cluster has none that expires later`);
}

function inPods(node: Node): Candidate[] {
  const { texts } = readEvidence({ data: undefined, node, certificatesDir: "" });
  return texts.flatMap(({ from, text }) => (from === IN_PODS ? { pem: text, from } : []));
}

/** Public, unless a cluster has forbidden it. */
async function clusterInfo(server: string, ca: string): Promise<Candidate[]> {
  const path = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
  const read = () => new KubeApi({ server, ca }).find<KubeObject & { data?: { kubeconfig?: string } }>(path);
  const found = await attemptLater(read);
  if (found instanceof Fail) {
    say(`cluster-info at ${server}: ${found.message}`);
    return [];
  }
  return [{ pem: caIn(found?.data?.kubeconfig ?? "") ?? "", from: `cluster-info at ${server}` }];
}

/** As the kubelet itself, to read its Lease. */
export function asKubelet(node: Node): KubeApi {
  return KubeApi.from(readKubeconfig(node.kubelet.kubeconfig)!);
}
