/**
 * A living API server whose certificate's file is gone: what it shows is the only place that still knows names by hand. It is kept in the
 * rescue folder before the server ends.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { namesByHand, shownCopy } from "../facts/names-before.ts";
import { exists, writeFile } from "../files/files.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { servedPem } from "../pki/served.ts";

/** Only what the cluster's CA has signed counts, so whoever answers there decides nothing. */
export async function keepShown(cp: ControlPlaneNode) {
  const row = certRow("apiserver");
  const { facts, rescue } = cp;
  if (exists(certPath(row, facts.certificatesDir))) return;
  const [shown] = await Promise.allSettled([servedPem(facts.advertiseAddress, facts.bindPort)]);
  if (shown.status === "rejected") return;
  const names = namesByHand([shown.value], row, cp);
  if (names.length === 0) return;
  const note = `the API server shows it; it is for ${names.join(", ")}, too, which kubeadm-config does not have`;
  writeFile(shownCopy(rescue, row, facts), shown.value, { mode: 0o600, folderMode: 0o700, note });
}
