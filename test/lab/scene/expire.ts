/** Makes the certificates of a node what they are after a year and a day: all have expired, but not the CAs. */
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { expiredText } from "../../pretend/expired.ts";
import type { Lab, Machine } from "../machine/machine.ts";

/** Which CA signs what, by the name of the file. */
const SIGNERS: [pattern: RegExp, ca: string][] = [
  [/^(etcd\/|apiserver-etcd-client)/, "etcd/ca"],
  [/^front-proxy-client/, "front-proxy-ca"],
  [/./, "ca"],
];

export async function expireAll(lab: Lab) {
  for (const node of lab.nodes) {
    await expireLeaves(lab, node);
    await expireIn(lab, node, "/etc/kubernetes", "*.conf");
    await expireKubelet(lab, node);
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

async function expireIn({ controlPlanes, profile }: Lab, node: Machine, folder: string, pattern: string) {
  const files = globSync(pattern, { cwd: node.path(folder) }).filter((file) => !/(^|\/)(front-proxy-)?ca\.crt$/.test(file));
  for (const file of files) {
    const ca = SIGNERS.find(([signed]) => signed.test(file))![1];
    const path = node.path(`${folder}/${file}`);
    const text = await expiredText(
      readFileSync(path, "utf8"),
      readFileSync(controlPlanes[0]!.path(`${profile.certificatesDir}/${ca}.key`), "utf8"),
    );
    if (text !== undefined) writeFileSync(path, text);
  }
}
