/**
 * Certificate signing requests for kubelets' serving certificates. Nobody approves them automatically; here they are approved only if they
 * ask for nothing but what etcd knew of that node before the disaster. What the Node object says now is not asked: the kubelet writes it.
 * Rules: kubernetes pkg/apis/certificates/helpers.go and the docs on kubelet-serving; kubeadm-contract §6.5.
 */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { insist } from "../api/insist.ts";
import { ApiError, type KubeApi, type KubeObject, withQuery } from "../api/kube-api.ts";
import { watch } from "../api/watch.ts";
import type { KnownNode } from "../cluster.ts";
import { canonicalIp } from "../pki/addresses.ts";

export interface Csr extends KubeObject {
  spec: { request: string; signerName: string; username: string; groups?: string[]; usages?: string[] };
  status?: { conditions?: { type: string }[]; certificate?: string };
}

export const SERVING_SIGNER = "kubernetes.io/kubelet-serving";
const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const USAGES = ["digital signature", "key encipherment", "server auth"];

/** All requests for serving certificates, and what becomes of them. */
export function watchServing(api: KubeApi, signal: AbortSignal) {
  return watch<Csr>(api, withQuery(CSRS, `fieldSelector=spec.signerName%3D${encodeURIComponent(SERVING_SIGNER)}`), signal);
}

export function isPending(csr: Csr): boolean {
  return !csr.status?.conditions?.length;
}

/** The node whose kubelet asks. */
export function nodeAsking(csr: Csr): string {
  return csr.spec.username.replace(/^system:node:/, "");
}

/**
 * Approves one request, as `kubectl certificate approve` does. Returns false where somebody else has just decided on it or removed it: a
 * second master that runs the same script, an operator. Errors: as `insist`.
 */
export async function approve(api: KubeApi, csr: Csr): Promise<boolean> {
  const condition = {
    type: "Approved",
    status: "True",
    reason: "KubePkiRepair",
    message: "the node, its names and addresses are those that etcd knew",
  };
  const approved = { ...csr, status: { ...csr.status, conditions: [condition] } };
  try {
    await insist(`${csr.metadata.name} to be approved`, () => api.replace(`${CSRS}/${csr.metadata.name}/approval`, approved));
    return true;
  } catch (err) {
    if (err instanceof ApiError && (err.status === 409 || err.status === 404)) return false;
    throw err;
  }
}

/** Why a request must not be approved; undefined if it may be. `node` is the one that asks, if etcd knew it before. */
export function objection(csr: Csr, node: KnownNode | undefined): string | undefined {
  const { spec } = csr;
  if (!node || spec.username !== `system:node:${node.name}`) return `"${spec.username}" is no node that etcd knew`;
  if (!spec.groups?.includes("system:nodes")) return "the requester is not in the group system:nodes";
  const strangeUsages = (spec.usages ?? []).filter((usage) => !USAGES.includes(usage));
  if (strangeUsages.length > 0 || !spec.usages?.includes("server auth")) return `usages ${spec.usages}`;

  const request = requestIn(spec.request);
  if (!request) return "the request cannot be read";
  const subject = request.subjectName;
  if (subject.getField("CN").join() !== spec.username) return `common name "${subject.getField("CN")}"`;
  if (subject.getField("O").join() !== "system:nodes") return `organisation "${subject.getField("O")}"`;
  return sanObjection(request, node);
}

/** Undefined where it is no request: whoever may ask for certificates may write anything, and must not stop the others. */
function requestIn(base64: string): x509.Pkcs10CertificateRequest | undefined {
  try {
    return new x509.Pkcs10CertificateRequest(Buffer.from(base64, "base64").toString());
  } catch (err) {
    if (err instanceof Error) return undefined;
    throw err;
  }
}

function sanObjection(request: x509.Pkcs10CertificateRequest, node: KnownNode): string | undefined {
  const extension = request.extensions.find((candidate) => candidate instanceof x509.SubjectAlternativeNameExtension);
  const names = extension?.names.items ?? [];
  if (names.length === 0) return "it names no address";
  for (const { type, value } of names) {
    if (type === "dns" && node.names.includes(value)) continue;
    if (type === "ip" && node.ips.map(canonicalIp).includes(canonicalIp(value))) continue;
    return `${type} "${value}" is not of ${node.name}, which had ${[...node.names, ...node.ips].join(", ")}`;
  }
  return undefined;
}
