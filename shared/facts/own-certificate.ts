/**
 * The API server may show a certificate that is not kubeadm's: --tls-cert-file of a company's CA, and --tls-sni-cert-key for other names. The
 * files are the operator's: what they hold is trusted where this kit asks that server, and parts 1 to 4 refuse where kubeadm's certificate
 * would not be shown. Reads only.
 */

import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { commandOf, flags, hostPathOf } from "../manifests/command.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import type { PodSpec } from "../objects/objects.ts";
import { signedBy } from "../pki/certificate.ts";
import { type ClusterFacts, certPath, certRow } from "../pki/certs.ts";
import { readable } from "../pki/examine.ts";
import { shell } from "../shell-line.ts";
import type { Repair } from "./repair.ts";

interface Known extends Pick<Repair, "data"> {
  node: { name: string };
  etcd: EtcdFolders;
  facts: ClusterFacts;
}

/** The files of certificates that it shows, on this node, beside kubeadm's own; `main`: that of --tls-cert-file. */
function shownFiles({ data, node, etcd, facts }: Known): { path: string; main: boolean }[] {
  const stored = () => findMirrorPods(data, node.name).find(({ name }) => name === "kube-apiserver")?.pod;
  const pod: { spec: PodSpec } | undefined | Fail = etcd.apiServer ?? attempt(stored);
  if (!pod || pod instanceof Fail) return [];
  const command = commandOf(pod);
  const main = flags(command).get("tls-cert-file");
  const sni = command.flatMap((word) => /^--tls-sni-cert-key=([^,]+),/.exec(word)?.[1] ?? []);
  const all = [...(main ? [{ inside: main, main: true }] : []), ...sni.map((inside) => ({ inside, main: false }))];
  const own = certPath(certRow("apiserver"), facts.certificatesDir);
  const files = all.map(({ inside, main }) => ({ path: hostPathOf(pod, inside) ?? inside, main }));
  return files.filter(({ path }) => path !== own);
}

/** What it shows beside kubeadm's own: PEM; undefined where there is nothing. */
export function shownBeside(known: Known): string | undefined {
  const pems = shownFiles(known).flatMap(({ path }) => readable(path) || []);
  return pems.length > 0 ? pems.join("\n") : undefined;
}

/**
 * Errors: Refused where the API server shows a certificate of --tls-cert-file that is not of the cluster's CA: its clients trust another
 * CA than the one that parts 1 and 2 write into their kubeconfigs.
 */
export function refuseOwnCertificate(known: Known) {
  const main = shownFiles(known).find((one) => one.main);
  const ca = readable(certPath(certRow("ca"), known.facts.certificatesDir)) ?? "";
  if (!main || attempt(() => signedBy(readable(main.path) ?? "", ca)) === true) return;
  const own = certPath(certRow("apiserver"), known.facts.certificatesDir);
  throw new Refused(`The API server shows a certificate of its own, --tls-cert-file=${main.path}, and not one of the cluster's CA`, {
    hint: `nothing was changed. RUNBOOK 2, "If the API server has a certificate of its own": for the time of the repair ${shell`--tls-cert-file=${own}`}, and its key`,
  });
}
