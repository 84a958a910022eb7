/**
 * Files of other places that hold a copy of one of the cluster's CAs, beside others mostly: the flags of the control plane's components name
 * them. With an old copy the API server refuses admin.conf (401), and kubectl logs and exec fail. Mostly a flag names the PKI's own file, and
 * then nothing is to be done.
 *
 * The CA of before goes out of such a file, as it does out of pki/ca.crt: its key is lost, not known to be destroyed, and as long as it is
 * trusted an old kubelet's certificate passes for one of a node that is back. The file is copied aside.
 */

import { caIsNew } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { madeFiles } from "../facts/lost-files.ts";
import { certificatesBefore } from "../facts/names-before.ts";
import { copyToRescue } from "../files/file-tree.ts";
import { writeFile } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { commandOf, flags, hostPathOf } from "../manifests/command.ts";
import type { Manifest } from "../objects/objects.ts";
import { certInfo, certificatesIn, infoOf, madeAt } from "../pki/certificate.ts";
import { certRow, keyPath } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import { knowsCa, type TrustedKeys, trustedKeys } from "../pki/trusted-keys.ts";
import { wantedManifests } from "./wanted-manifests.ts";

type Ca = "ca" | "etcd-ca" | "front-proxy-ca";

const SIGNING_CERT = "cluster-signing-cert-file";

/** By component: the flags that may name a copy of a CA. */
// biome-ignore format: a table
const FLAGS: Record<string, Record<string, Ca>> = {
  etcd:                      { "trusted-ca-file": "etcd-ca", "peer-trusted-ca-file": "etcd-ca" },
  "kube-apiserver":          { "client-ca-file": "ca", "kubelet-certificate-authority": "ca", "etcd-cafile": "etcd-ca", "requestheader-client-ca-file": "front-proxy-ca" },
  "kube-controller-manager": { "client-ca-file": "ca", "root-ca-file": "ca", [SIGNING_CERT]: "ca", "requestheader-client-ca-file": "front-proxy-ca" },
  "kube-scheduler":          { "client-ca-file": "ca", "requestheader-client-ca-file": "front-proxy-ca" },
};

/** Today's CA takes the place of the one before in each such file; other CAs stay. `names`: of static pods. Returns the paths written. */
export function fitNamedCas(cp: ControlPlaneNode, names?: readonly string[]): string[] {
  const made = madeFiles(cp.facts.certificatesDir);
  const written = new Set<string>();
  for (const { name, manifest } of wantedManifests(cp, names))
    for (const [flag, ca] of Object.entries(FLAGS[name] ?? {})) {
      const path = pathOf(manifest, flag);
      if (path === undefined || made.has(path) || written.has(path)) continue;
      const content = fitted(path, ca, cp, flag === SIGNING_CERT && pathOf(manifest, "cluster-signing-key-file"));
      if (content === undefined) continue;
      copyToRescue(path, cp.asideDir);
      writeFile(path, content, { note: `${name} --${flag}: today's CA in place of the one before; other CAs stay` });
      written.add(path);
    }
  return [...written];
}

function pathOf(manifest: Manifest, flag: string): string | undefined {
  const inside = flags(commandOf(manifest)).get(flag);
  return inside && hostPathOf(manifest, inside);
}

/** Undefined where the file is not there, has no CA of before, or has today's already. `signingKey`: the controller-manager signs with it. */
function fitted(path: string, ca: Ca, cp: ControlPlaneNode, signingKey: string | false | undefined): string | undefined {
  const [text, today] = [smallText(path), caText(certRow(ca), cp.facts.certificatesDir)];
  if (text === undefined || !today || knowsCa(text, today)) return undefined;
  const all = certificatesIn(text);
  const isBefore = before(ca, today, cp);
  const others = all.filter((pem) => !isBefore(pem));
  if (others.length === all.length) return undefined;
  // it takes one certificate only, and that of its key (pkg/controller/certificates/signer/ca_provider.go)
  if (signingKey !== false) return signingKey === keyPath(certRow("ca"), cp.facts.certificatesDir) ? certInfo(today).pem : undefined;
  return [today, ...others].map((pem) => `${pem.trim()}\n`).join("");
}

/** What was replaced: by etcd's data; of etcd's own CA nothing there tells, so by what the repair has kept, and by its name. */
function before(ca: Ca, today: string, cp: ControlPlaneNode): (pem: string) => boolean {
  const isIn = (keys: TrustedKeys) => (pem: string) => !trustedKeys(pem).isDisjointFrom(keys);
  if (ca === "ca") return isIn(caIsNew(cp) ? trustedKeys(cp.cluster.oldCaPem) : new Set());
  const known =
    ca === "front-proxy-ca" ? [cp.cluster.aggregated["requestheader-client-ca-file"] ?? ""] : certificatesBefore(certRow(ca), cp);
  const own = certInfo(today);
  const isNamed = (pem: string) => madeAt(today) >= cp.rescue.made && infoOf(pem)?.subject === own.subject;
  return (pem) => isNamed(pem) || (infoOf(pem)?.subject === own.subject && isIn(trustedKeys(...known))(pem));
}
