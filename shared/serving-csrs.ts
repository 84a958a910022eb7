/**
 * Certificate signing requests for kubelets' serving certificates. Nobody approves them automatically; here they are approved only if they
 * ask for nothing but what etcd knew of that node before the disaster. What the Node object says now is not asked: the kubelet writes it.
 * Rules: kubernetes pkg/apis/certificates/helpers.go and the docs on kubelet-serving; kubeadm-contract §6.5.
 */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { canonicalIp } from "./addresses.ts";
import type { KnownNode } from "./cluster.ts";
import type { KubeApi, KubeObject } from "./kube-api.ts";

export interface Csr extends KubeObject {
  spec: { request: string; signerName: string; username: string; groups?: string[]; usages?: string[] };
  status?: { conditions?: { type: string }[]; certificate?: string };
}

export const SERVING_SIGNER = "kubernetes.io/kubelet-serving";
const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const USAGES = ["digital signature", "key encipherment", "server auth"];

/** Requests for serving certificates that nobody has decided on. */
export async function pendingServing(api: KubeApi): Promise<Csr[]> {
  const all = await api.list<Csr>(`${CSRS}?fieldSelector=spec.signerName%3D${encodeURIComponent(SERVING_SIGNER)}`);
  return all.filter((csr) => !csr.status?.conditions?.length);
}

/** Approves one request, as `kubectl certificate approve` does. */
export async function approve(api: KubeApi, csr: Csr) {
  const condition = {
    type: "Approved",
    status: "True",
    reason: "KubePkiRepair",
    message: "the node, its names and addresses are those that etcd knew",
  };
  await api.replace(`${CSRS}/${csr.metadata.name}/approval`, { ...csr, status: { ...csr.status, conditions: [condition] } });
}

/** Why a request must not be approved; undefined if it may be. `nodes` are those that etcd knew before. */
export function objection(csr: Csr, nodes: readonly KnownNode[]): string | undefined {
  const { spec } = csr;
  const node = nodes.find(({ name }) => spec.username === `system:node:${name}`);
  if (!node) return `"${spec.username}" is no node that etcd knew`;
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
