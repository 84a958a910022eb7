/** CSRs: good ones as kubelets make them, and bad ones. */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import type { KubeObject } from "../../shared/api/kube-object.ts";

export const SERVING = "kubernetes.io/kubelet-serving";
export const CLIENT = "kubernetes.io/kube-apiserver-client-kubelet";
export const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
export const TOKEN_USER = "system:bootstrap:abcdef";
const KIT_GROUPS = ["system:bootstrappers", "system:bootstrappers:kube-pki-repair", "system:authenticated"];

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const keys = (await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"])) as CryptoKeyPair;

export interface Asked {
  /** Its name; default: csr-1. */
  name?: string;
  subject?: string | x509.JsonName;
  sans?: x509.JsonGeneralNames;
  /** Beside the SANs, each in a list of its own. */
  more?: x509.Attribute[];
  spec?: Partial<Spec>;
}

interface Spec {
  request: string;
  signerName: string;
  username: string;
  groups: string[];
  usages: string[];
}

type Csr = KubeObject & { spec: Spec; status?: { conditions?: { type: string }[] } };

export const dns = (value: string) => ({ type: "dns" as const, value });
export const ip = (value: string) => ({ type: "ip" as const, value });

async function csr(
  { name = "csr-1", subject, sans = [], more = [] }: Asked,
  spec: Omit<Spec, "request">,
): Promise<Csr> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: subject ?? "O=system:nodes, CN=system:node:w1",
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: sans.length > 0 ? [new x509.SubjectAlternativeNameExtension(sans)] : [],
    attributes: more,
  });
  const metadata = { name, creationTimestamp: new Date().toISOString() };
  return { metadata, spec: { request: Buffer.from(request.toString("pem")).toString("base64"), ...spec } };
}

/** The CSR of w1's kubelet for its serving certificate, with the changes of a test. */
export async function servingCsr(asked: Asked = {}): Promise<Csr> {
  return csr(
    { sans: [ip("10.0.0.21")], ...asked },
    {
      signerName: SERVING,
      username: "system:node:w1",
      groups: ["system:nodes", "system:authenticated"],
      usages: ["digital signature", "key encipherment", "server auth"],
      ...asked.spec,
    },
  );
}

/** The CSR of w1's kubelet for its first client certificate, with the kit's bootstrap token. */
export async function clientCsr(asked: Asked = {}): Promise<Csr> {
  const usages = ["digital signature", "client auth"];
  return csr(asked, { signerName: CLIENT, username: TOKEN_USER, groups: KIT_GROUPS, usages, ...asked.spec });
}

/** The private key of all of them, as a kubelet keeps it. */
export async function privatePem(): Promise<string> {
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return `-----BEGIN PRIVATE ${"KEY"}-----\n${der}\n-----END PRIVATE ${"KEY"}-----\n`;
}

/** A second list of extensions, as an attribute: Go reads all lists. */
export function secondList(sans: x509.JsonGeneralNames): x509.Attribute {
  const list = new x509.ExtensionsAttribute([new x509.SubjectAlternativeNameExtension(sans)]);
  return new x509.Attribute(list.type, list.values);
}

/** CSRs as objects of a pretend API. */
export function asObjects(...csrs: Csr[]): Record<string, object> {
  return Object.fromEntries(csrs.map((one) => [`${CSRS}/${one.metadata.name}`, one]));
}

export function approved(one: Csr): Csr {
  return { ...one, status: { conditions: [{ type: "Approved" }] } };
}
