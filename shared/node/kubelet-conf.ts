/**
 * kubelet.conf as 00-assess and parts 1 and 2 judge it: what the one calls well, the others leave. A kubelet that rotates
 * its certificate takes only the server and the CA from this file, whatever its user signs in by
 * (cmd/kubelet/app/server.go, buildKubeletClientConfig).
 */
import { attempt, Fail } from "../fail.ts";
import { trustsCa } from "../pki/certificate.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { acceptedCas } from "../pki/examine.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { clientText, inside } from "./kubelet-config.ts";
import { isOwnClient, type Node } from "./node.ts";

type OfKubelet = Pick<Node, "kubelet">;

/** Undefined where the file can be read, trusts this CA, and the files that it names are here. */
export function stateOfConf({ kubelet }: OfKubelet, caPem: string): string | undefined {
  const { kubeconfig, clientPem } = kubelet;
  const conf = attempt(() => readKubeconfig(kubeconfig));
  if (conf instanceof Fail) return "unreadable";
  if (!conf) return "missing";
  if (!trustsCa(conf.caPem, caPem)) return "other CA";
  const { clientCertificatePath: named } = conf;
  // the kubelet's own file has a row of its own
  return named !== undefined && named !== clientPem && !inside(conf) ? "certificate missing" : undefined;
}

/**
 * The program or the token of a kubelet that keeps what kubelet.conf names, and has no certificate: no file here judges
 * it. Undefined where a certificate counts, and where the file is not sound.
 */
export function signsInWithoutCertificate({ kubelet }: OfKubelet, caPem: string): string | undefined {
  if (!kubelet.keepsCertificate || stateOfConf({ kubelet }, caPem)) return undefined;
  return readKubeconfig(kubelet.kubeconfig)?.signsInBy;
}

/** Whether the API server here takes this kubelet for its node's: by a certificate of a CA that it trusts, or as said above. */
export function hasOwnClient(node: Node, caPem: string, facts: Pick<ClusterFacts, "alsoTrusted">): boolean {
  const cas = acceptedCas(caPem, "clients", facts);
  return (
    isOwnClient(node, clientText(node.kubelet), cas) || signsInWithoutCertificate(node, caPem) !== undefined
  );
}
