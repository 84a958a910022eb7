/** Keys and bundles for tests of the hand-over. Each run makes new ones. */
import { writeFile } from "../../shared/files/files.ts";
import { sha256Of } from "../../shared/files/sha256.ts";
import { type Bundle, type BundleManifest, modeOf } from "../../shared/hand-over/bundle.ts";
import { fingerprints } from "../../shared/hand-over/operators-bundle.ts";
import { certRow, SHARED_FILES } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import { keyPair } from "../../shared/pki/keys.ts";
import { testFacts } from "./facts.ts";

export const PKI = "/etc/kubernetes/pki";

/** Three CAs and the service-account key, as kubeadm makes them at `now`. */
export async function sharedFiles(now?: Date): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const name of ["ca", "front-proxy-ca", "etcd-ca"]) {
    const row = certRow(name);
    const { cert, key } = await issueCa(row, testFacts(), { now });
    files.set(`${row.file}.crt`, Buffer.from(cert)).set(`${row.file}.key`, Buffer.from(key));
  }
  const sa = await keyPair("ECDSA-P256");
  return files.set("sa.key", Buffer.from(sa.key)).set("sa.pub", Buffer.from(sa.pub));
}

export function bundleOf(files: Map<string, Uint8Array>, different: Partial<BundleManifest> = {}): Bundle {
  const sha256 = Object.fromEntries([...files].map(([name, bytes]) => [name, sha256Of(bytes)]));
  const manifest = {
    tool: "kube-pki-repair 0",
    made: "2026-05-01T10:00:00.000Z",
    node: "m1",
    ca: fingerprints(files).ca!,
    sha256,
  };
  return { files, manifest: { ...manifest, ...different } };
}

/** Puts all keys, or those in `names`, where a control plane node has them. */
export function put(files: Map<string, Uint8Array>, names: readonly string[] = SHARED_FILES) {
  for (const name of names) writeFile(`${PKI}/${name}`, files.get(name)!, { mode: modeOf(name) });
}
