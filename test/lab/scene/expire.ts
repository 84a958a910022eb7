/**
 * Makes the certificates of a node what they are some time later, but not the CAs: after a year and a day all
 * have expired.
 */
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { agedText } from "../../pretend/expired.ts";
import { ETCD_PKI } from "../machine/external.ts";
import type { Lab, Machine } from "../machine/machine.ts";

/** Which CA signs what, by the name of the file. Without a control plane's etcd/ca.key, that of etcd on other hosts does. */
const SIGNERS: [pattern: RegExp, ca: string][] = [
  [/^(etcd\/|apiserver-etcd-client|server)/, "etcd/ca"],
  [/^front-proxy-client/, "front-proxy-ca"],
  [/./, "ca"],
];

/** A year and a day, in days. */
const EXPIRED = 366;

export async function expireAll(lab: Lab) {
  for (const node of lab.nodes) {
    await ageCertificates(lab, node, EXPIRED);
    await expireKubelet(lab, node);
    await expireIn(lab, node, ETCD_PKI, "*.crt");
  }
}

/** The certificates of a control plane node. */
export async function expireLeaves(lab: Lab, node: Machine) {
  await expireIn(lab, node, lab.profile.certificatesDir, "**/*.crt");
}

/** A kubelet's client and serving certificates. */
export async function expireKubelet(lab: Lab, node: Machine) {
  await expireIn(lab, node, "/var/lib/kubelet/pki", "kubelet-*-2*.pem");
}

/** What kubeadm renews on a control plane node is so many days older than it is. */
export async function ageCertificates(lab: Lab, node: Machine, days: number) {
  await ageIn(lab, node, { folder: lab.profile.certificatesDir, pattern: "**/*.crt", days });
  await ageIn(lab, node, { folder: "/etc/kubernetes", pattern: "*.conf", days });
}

function expireIn(lab: Lab, node: Machine, folder: string, pattern: string) {
  return ageIn(lab, node, { folder, pattern, days: EXPIRED });
}

interface Aged {
  folder: string;
  /** A glob below it. */
  pattern: string;
  days: number;
}

async function ageIn({ nodes, profile }: Lab, node: Machine, { folder, pattern, days }: Aged) {
  const files = globSync(pattern, { cwd: node.path(folder) }).filter(
    (file) => !/(^|\/)(front-proxy-)?ca\.crt$/.test(file),
  );
  for (const file of files) {
    const ca = SIGNERS.find(([signed]) => signed.test(file))![1];
    const path = node.path(`${folder}/${file}`);
    const keys = nodes.flatMap((one) =>
      [`${profile.certificatesDir}/${ca}.key`, `${ETCD_PKI}/ca.key`].map((key) => one.path(key)),
    );
    const key = keys.find((one) => existsSync(one));
    // its CA's key is on no node: the scenario that keeps it has made it older
    if (!key) continue;
    await ageFile(path, readFileSync(key, "utf8"), days);
  }
}

/** A file without a certificate stays as it is. `caKey`: in PEM. */
export async function ageFile(path: string, caKey: string, days = EXPIRED) {
  const text = await agedText(readFileSync(path, "utf8"), caKey, days * 24 * 3600_000);
  if (text !== undefined) writeFileSync(path, text);
}
