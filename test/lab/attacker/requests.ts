/** The CSRs of the attacker's worker: for identities that are not its own. */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import type { Lab } from "../machine/machine.ts";
import { TEAM } from "./attacker.ts";

/** All their names begin with it. */
export const PREFIX = `${TEAM}-csr-`;

interface Wanted {
  name: string;
  subject: string;
  signer: string;
  sans?: x509.JsonGeneralNames;
}

const NODE_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING = "kubernetes.io/kubelet-serving";

/** With the bootstrap token that the operator brings to the worker. */
export function clientWishes({ controlPlanes, workers }: Lab): Wanted[] {
  const others = [...controlPlanes, ...workers.slice(0, -1)].map(({ nodeName }) => nodeName);
  const node = (name: string) => ({
    name,
    subject: `O=system:nodes, CN=system:node:${name}`,
    signer: NODE_CLIENT,
  });
  return [
    ...others.map(node),
    node("stranger"),
    {
      name: "system-masters",
      subject: `O=system:masters, CN=system:node:${workers.at(-1)!.nodeName}`,
      signer: NODE_CLIENT,
    },
    {
      name: "escape",
      subject: "O=system:nodes, CN=system:node:\u001b]0;mine\u0007\u001b[2J",
      signer: NODE_CLIENT,
    },
    {
      name: "admin",
      subject: `O=kubeadm:cluster-admins, CN=${TEAM}`,
      signer: "kubernetes.io/kube-apiserver-client",
    },
  ];
}

const dns = (value: string) => ({ type: "dns" as const, value });
const ip = (value: string) => ({ type: "ip" as const, value });

/** The names and addresses that the worker claims: the API's, a control plane node's and another worker's. */
export function stolenNames({ controlPlanes, workers }: Lab) {
  return {
    dns: ["lab-api", "kubernetes.default.svc", "kubernetes", controlPlanes[0]!.nodeName],
    ips: ["10.97.0.1", controlPlanes[0]!.ip, workers[0]!.ip],
  };
}

/** With its own client certificate. */
export function servingWishes(lab: Lab): Wanted[] {
  const own = lab.workers.at(-1)!;
  const subject = `O=system:nodes, CN=system:node:${own.nodeName}`;
  const stolen = stolenNames(lab);
  const of = (name: string, san: x509.JsonGeneralName) => ({
    name: `serving-${name}`,
    subject,
    signer: SERVING,
    sans: [ip(own.ip), san],
  });
  return [
    ...[...stolen.dns.map(dns), ...stolen.ips.map(ip)].map((san) => of(san.value, san)),
    of("escape", dns("\u001b]0;mine\u0007\u001b[2J")),
  ];
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

export async function signingRequests(wishes: Wanted[]): Promise<object[]> {
  const keys = (await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"])) as CryptoKeyPair;
  return Promise.all(
    wishes.map(async ({ name, subject, signer, sans }) => {
      const extensions = sans ? [new x509.SubjectAlternativeNameExtension(sans)] : [];
      const request = await x509.Pkcs10CertificateRequestGenerator.create({
        name: subject,
        keys,
        signingAlgorithm: ALGORITHM,
        extensions,
      });
      const usages = ["digital signature", signer === SERVING ? "server auth" : "client auth"];
      return {
        ...{
          apiVersion: "certificates.k8s.io/v1",
          kind: "CertificateSigningRequest",
          metadata: { name: PREFIX + name },
        },
        spec: {
          request: Buffer.from(request.toString("pem")).toString("base64"),
          signerName: signer,
          usages,
        },
      };
    }),
  );
}
