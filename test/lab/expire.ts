/** Makes the certificates of a node what they would be in a year and a day: all ended, the authorities not. */
import "reflect-metadata";
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import * as x509 from "@peculiar/x509";
import { parse, stringify } from "yaml";
import { certificatesIn, privateKeyOf } from "../../shared/pki/certificate.ts";
import type { Lab, Machine } from "./machine.ts";

const YEAR_MS = 366 * 24 * 3600_000;
const PKI = "/etc/kubernetes/pki";

/** Which authority signs what, by the name of the file. */
const AUTHORITIES: [pattern: RegExp, ca: string][] = [
  [/^(etcd\/|apiserver-etcd-client)/, "etcd/ca"],
  [/^front-proxy-client/, "front-proxy-ca"],
  [/./, "ca"],
];

type Sign = (pem: string, file: string) => Promise<string>;

export async function expireAll({ nodes, masters }: Lab) {
  const first = masters[0]!;
  const sign: Sign = (pem, file) => ended(pem, first, AUTHORITIES.find(([pattern]) => pattern.test(file))![1]);
  for (const node of nodes) {
    const leaves = globSync("**/*.crt", { cwd: node.path(PKI) }).filter((file) => !/(^|\/)(front-proxy-)?ca\.crt$/.test(file));
    for (const file of leaves) await rewrite(node.path(`${PKI}/${file}`), (text) => sign(text, file));
    for (const file of globSync("*.conf", { cwd: node.path("/etc/kubernetes") }))
      await rewrite(node.path(`/etc/kubernetes/${file}`), (text) => endedKubeconfig(text, sign));
    for (const file of globSync("kubelet-*-2*.pem", { cwd: node.path("/var/lib/kubelet/pki") }))
      await rewrite(node.path(`/var/lib/kubelet/pki/${file}`), (text) => endedBundle(text, sign));
  }
}

async function rewrite(path: string, change: (text: string) => Promise<string>) {
  if (existsSync(path)) writeFileSync(path, await change(readFileSync(path, "utf8")));
}

/** Certificate and key in one file, as the kubelet keeps them. */
async function endedBundle(text: string, sign: Sign): Promise<string> {
  const [cert] = certificatesIn(text);
  return cert ? text.replace(cert.trim(), (await sign(cert, "kubelet")).trim()) : text;
}

async function endedKubeconfig(text: string, sign: Sign): Promise<string> {
  const kubeconfig = parse(text);
  for (const { user } of kubeconfig.users) {
    const data = user["client-certificate-data"];
    if (data) user["client-certificate-data"] = Buffer.from(await sign(Buffer.from(data, "base64").toString(), "conf")).toString("base64");
  }
  return stringify(kubeconfig);
}

/** The same certificate, signed by the same authority, over since yesterday. */
async function ended(pem: string, first: Machine, ca: string): Promise<string> {
  const old = new x509.X509Certificate(certificatesIn(pem)[0]!);
  const key = privateKeyOf(readFileSync(first.path(`${PKI}/${ca}.key`), "utf8")).export({ type: "pkcs8", format: "der" });
  const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: old.serialNumber,
    subject: old.subjectName,
    issuer: old.issuerName,
    notBefore: new Date(old.notBefore.getTime() - YEAR_MS),
    notAfter: new Date(old.notAfter.getTime() - YEAR_MS),
    publicKey: old.publicKey,
    signingKey: await crypto.subtle.importKey("pkcs8", key, algorithm, false, ["sign"]),
    signingAlgorithm: algorithm,
    extensions: old.extensions,
  });
  return `${cert.toString("pem")}\n`;
}
