/**
 * Certificate signing requests (CSRs) of kubelets. They are read strictly: the API server signs what its own
 * reader (Go's crypto/x509) sees in the same bytes. A CSR that the two could read differently, such as one
 * with a second list of extensions, is refused. Rules: kubernetes pkg/apis/certificates/helpers.go.
 */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { unlessRefused } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { type KubeObject, withQuery } from "../api/kube-object.ts";
import { retry } from "../api/many.ts";
import { orUndefined } from "../pki/certificate.ts";

export interface Csr extends KubeObject {
  spec: { request: string; signerName: string; username: string; groups?: string[]; usages?: string[] };
  status?: { conditions?: { type: string }[]; certificate?: string };
}

export interface Asked {
  /** If there are several common names or organisations: all, separated by commas. */
  cn: string;
  /** "": none. */
  node: string;
  o: string;
  /** The subject's other fields, `OU=x`. */
  others: string[];
  /** The names as they were written in the request. */
  names: { type: string; value: string }[];
}

export const SERVING_SIGNER = "kubernetes.io/kubelet-serving";
export const CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet";

export const NODE_USER = "system:node:";

const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

export function requestsTo(signer: string): string {
  return withQuery(CSRS, `fieldSelector=spec.signerName%3D${encodeURIComponent(signer)}`);
}

export function isPending(csr: Csr): boolean {
  return !csr.status?.conditions?.length;
}

export function isApproved(csr: Csr): boolean {
  return csr.status?.conditions?.some(({ type }) => type === "Approved") ?? false;
}

/** If the requester is no node: its username. */
export function nodeAsking(csr: Csr): string {
  return nodeIn(csr.spec.username) || csr.spec.username;
}

/** "": none. */
export function nodeIn(user: string): string {
  return user.startsWith(NODE_USER) ? user.slice(NODE_USER.length) : "";
}

/**
 * Whoever asks chooses the name, and the API allows nearly every letter in it (certificates/validation:
 * ValidateCertificateRequestName).
 */
function pathOf({ metadata }: Csr): string {
  return `${CSRS}/${encodeURIComponent(metadata.name)}`;
}

/**
 * Decides on one CSR, as `kubectl certificate approve` and `deny` do, and keeps `message` in it. Returns false
 * if somebody else has just decided on it or removed it: another control plane node that runs the same script,
 * or an operator. A kubelet that is denied asks again within seconds; without an answer it waits for 15 minutes
 * (client-go's certificate_manager.go). Errors: as `retry`.
 */
export async function decide(
  api: KubeApi,
  csr: Csr,
  type: "Approved" | "Denied",
  message: string,
): Promise<boolean> {
  const condition = { type, status: "True", reason: "KubePkiRepair", message };
  const decided = { ...csr, status: { ...csr.status, conditions: [condition] } };
  const write = () =>
    retry(`${csr.metadata.name} to be decided on`, () => api.replace(`${pathOf(csr)}/approval`, decided));
  return (await unlessRefused([404, 409], write)) !== undefined;
}

/** Whether these are the usages that a kubelet asks for, with an ECDSA key or an RSA key. */
export function hasUsages({ spec }: Csr, role: "server auth" | "client auth"): boolean {
  const wanted = [...(spec.usages ?? [])].sort().join();
  return [
    ["digital signature", role],
    ["digital signature", "key encipherment", role],
  ].some((usages) => usages.sort().join() === wanted);
}

/** Undefined if it is this node's: its common name, and one organisation. */
export function subjectObjection({ cn, o, others }: Asked, node: string): string | undefined {
  if (cn !== NODE_USER + node) return `common name "${cn}"`;
  if (o !== "system:nodes") return `organisation "${o}"`;
  return others.length > 0 ? `subject "${others.join(", ")}"` : undefined;
}

const PEM = /^-----BEGIN CERTIFICATE REQUEST-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE REQUEST-----\s*$/;
const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";

/** Undefined if it is no plain CSR: a requester may write anything into it, and must not stop the others. */
export function requestIn(csr: Csr): Asked | undefined {
  const [, base64] = PEM.exec(Buffer.from(csr.spec.request, "base64").toString("latin1")) ?? [];
  return base64 === undefined
    ? undefined
    : orUndefined(() => read(new x509.Pkcs10CertificateRequest(Buffer.from(base64, "base64"))));
}

function read(request: x509.Pkcs10CertificateRequest): Asked | undefined {
  const { attributes, extensions, subjectName } = request;
  const isPlain =
    attributes.length <= 1 &&
    attributes.every(({ type, values }) => type === EXTENSION_REQUEST && values.length === 1);
  const names = extensions.filter((extension) => extension instanceof x509.SubjectAlternativeNameExtension);
  if (!isPlain || extensions.length !== names.length || names.length > 1) return undefined;
  const fields = subjectName.toJSON().flatMap((part) => Object.entries(part));
  const cn = subjectName.getField("CN").join();
  return {
    cn,
    node: nodeIn(cn),
    o: subjectName.getField("O").join(),
    others: fields.flatMap(([type, values]) =>
      type === "CN" || type === "O" ? [] : values.map((value) => `${type}=${value}`),
    ),
    names: names.flatMap((extension) => extension.names.items.map(({ type, value }) => ({ type, value }))),
  };
}
