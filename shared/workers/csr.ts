/**
 * Certificate signing requests, as part 3 meets them: read strictly, because the API server signs what its own reader (Go's crypto/x509) sees in the
 * same bytes. What the two could read differently, such as a second list of extensions, is no request here.
 * Rules: kubernetes pkg/apis/certificates/helpers.go; kubeadm-contract §6.5.
 */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { ApiError, type KubeApi, type KubeObject, withQuery } from "../api/kube-api.ts";
import { insist } from "../api/many.ts";
import { watch } from "../api/watch.ts";

export interface Csr extends KubeObject {
  spec: { request: string; signerName: string; username: string; groups?: string[]; usages?: string[] };
  status?: { conditions?: { type: string }[]; certificate?: string };
}

/** What a request asks for. */
export interface Asked {
  /** Of several common names or organisations all, with commas between. */
  cn: string;
  o: string;
  /** The subject's other fields, `OU=x`. */
  others: string[];
  /** In whatever form they were written. */
  names: { type: string; value: string }[];
}

export const SERVING_SIGNER = "kubernetes.io/kubelet-serving";
export const CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet";

/** The name that a node's certificates are made out to begins so. */
export const NODE_USER = "system:node:";

const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/** The collection of all requests to one signer. */
export function requestsTo(signer: string): string {
  return withQuery(CSRS, `fieldSelector=spec.signerName%3D${encodeURIComponent(signer)}`);
}

/** All requests to one signer, and what becomes of them. */
export function watchRequests(api: KubeApi, signer: string, signal: AbortSignal) {
  return watch<Csr>(api, requestsTo(signer), signal);
}

export function isPending(csr: Csr): boolean {
  return !csr.status?.conditions?.length;
}

export function isApproved(csr: Csr): boolean {
  return csr.status?.conditions?.some(({ type }) => type === "Approved") ?? false;
}

/** The node whose kubelet asks, where the requester is one. */
export function nodeAsking(csr: Csr): string {
  return csr.spec.username.startsWith(NODE_USER) ? csr.spec.username.slice(NODE_USER.length) : csr.spec.username;
}

/**
 * Approves one request, as `kubectl certificate approve` does; `message` is kept with it. Returns false where somebody else has just decided on it or
 * removed it: a second control plane node that runs the same script, an operator. Errors: as `insist`.
 */
export async function approve(api: KubeApi, csr: Csr, message: string): Promise<boolean> {
  const condition = { type: "Approved", status: "True", reason: "KubePkiRepair", message };
  const approved = { ...csr, status: { ...csr.status, conditions: [condition] } };
  try {
    await insist(`${csr.metadata.name} to be approved`, () => api.replace(`${CSRS}/${csr.metadata.name}/approval`, approved));
    return true;
  } catch (err) {
    if (err instanceof ApiError && (err.status === 409 || err.status === 404)) return false;
    throw err;
  }
}

/** Whether these are exactly the usages a kubelet asks for: those of an ECDSA key, or of an RSA key. */
export function hasUsages({ spec }: Csr, role: "server auth" | "client auth"): boolean {
  const asked = [...(spec.usages ?? [])].sort().join();
  return [
    ["digital signature", role],
    ["digital signature", "key encipherment", role],
  ].some((usages) => usages.sort().join() === asked);
}

/** Why the subject is not that of this node's certificates: its common name, and one organisation; undefined where it is. */
export function subjectObjection({ cn, o, others }: Asked, node: string): string | undefined {
  if (cn !== NODE_USER + node) return `common name "${cn}"`;
  if (o !== "system:nodes") return `organisation "${o}"`;
  return others.length > 0 ? `subject "${others.join(", ")}"` : undefined;
}

const PEM = /^-----BEGIN CERTIFICATE REQUEST-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE REQUEST-----\s*$/;
const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";

/** Undefined where it is no plain request: whoever may ask for certificates may write anything, and must not stop the others. */
export function requestIn(csr: Csr): Asked | undefined {
  const [, base64] = PEM.exec(Buffer.from(csr.spec.request, "base64").toString("latin1")) ?? [];
  if (!base64) return undefined;
  try {
    return read(new x509.Pkcs10CertificateRequest(Buffer.from(base64, "base64")));
  } catch (err) {
    if (err instanceof Error) return undefined;
    throw err;
  }
}

function read(request: x509.Pkcs10CertificateRequest): Asked | undefined {
  const { attributes, extensions, subjectName } = request;
  const isPlain = attributes.length <= 1 && attributes.every(({ type, values }) => type === EXTENSION_REQUEST && values.length === 1);
  const names = extensions.filter((extension) => extension instanceof x509.SubjectAlternativeNameExtension);
  if (!isPlain || extensions.length !== names.length || names.length > 1) return undefined;
  const fields = subjectName.toJSON().flatMap((part) => Object.entries(part));
  return {
    cn: subjectName.getField("CN").join(),
    o: subjectName.getField("O").join(),
    others: fields.flatMap(([type, values]) => (type === "CN" || type === "O" ? [] : values.map((value) => `${type}=${value}`))),
    names: names.flatMap((extension) => extension.names.items.map(({ type, value }) => ({ type, value }))),
  };
}
