/** What a colleague's `kubeadm init phase certs all` leaves in kubeadm's usual folder: another cluster's shared keys. */
import { rmSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../shared/pki/issue.ts";
import { keyPair } from "../../shared/pki/keys.ts";
import { FACTS, write } from "./cluster.ts";

export const USUAL = "/etc/kubernetes/pki";
const CAS = ["ca", "front-proxy-ca", "etcd-ca"] as const;

/** Made once: a CA of each kind with its key, the API server's certificate, and a service-account key. */
const made = await (async () => {
  const files = new Map<string, string>();
  const pairs = await Promise.all(
    CAS.map(async (name) => [certRow(name).file, await issueCa(certRow(name), FACTS)] as const),
  );
  const leaf = await issueLeaf(certRow("apiserver"), pairs[0]![1], FACTS);
  for (const [file, { cert, key }] of [...pairs, [certRow("apiserver").file, leaf] as const]) {
    files.set(`${file}.crt`, cert);
    files.set(`${file}.key`, key);
  }
  const { key, pub } = await keyPair("RSA-2048");
  return files.set("sa.key", key).set("sa.pub", pub);
})();

/** In the place of what was there, a link, too. `files`: only these. */
export function strangersFolder(root: string, files: readonly string[] = [...made.keys()], at = USUAL) {
  rmSync(root + at, { recursive: true, force: true });
  for (const file of files)
    write(`${root}${at}/${file}`, made.get(file)!, file.endsWith(".key") ? 0o600 : 0o644);
}

export const strangersText = (file: string) => made.get(file)!;
