/** A node whose CA was renewed with its own key: what is in its files now, and what was before. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { certInfo } from "../../shared/pki/certificate.ts";
import { insideOf } from "../../shared/pki/keys.ts";
import { write } from "./cluster.ts";
import { agedText } from "./expired.ts";
import { pretendProcess } from "./memory.ts";

/** All of a certificate that a renewal keeps, byte for byte: but for serial number, end and signature. */
export function keptBytes(pem: string): string {
  const [tbs, algorithm] = insideOf(new X509Certificate(pem).raw) as [Buffer, Buffer];
  // version, serial, algorithm, issuer, validity, …: kubeadm's are all of version 3
  const [version, , inner, issuer, validity, ...rest] = insideOf(tbs) as [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
  ];
  const kept = [version, inner, issuer, insideOf(validity)[0]!, ...rest, algorithm];
  return kept.map((piece) => piece.toString("hex")).join(" ");
}

const DAY_MS = 86_400_000;

/** Where a repair has put what was there before, a moment ago. */
export const ASIDE = "/root/kube-pki-repair-20260101T000000/aside";

/**
 * What is in a CA's file counts as the renewed one: the one before it, of the same key, ends so many days from
 * now.
 */
export async function olderOf(root: string, file: "ca" | "etcd/ca", days: number): Promise<string> {
  const pki = `${root}/etc/kubernetes/pki/${file}`;
  const [cert, key] = [readFileSync(`${pki}.crt`, "utf8"), readFileSync(`${pki}.key`, "utf8")];
  const earlier = certInfo(cert).notAfter.getTime() - Date.now() - days * DAY_MS;
  return (await agedText(cert, key, earlier))!;
}

/**
 * Files renewed, and nothing restarted: etcd has read its CA's file before. The one before is in a rescue
 * folder.
 */
export async function renewedOnly({ root }: { root: string }, days: number) {
  const file = "/etc/kubernetes/pki/etcd/ca.crt";
  write(`${root}${ASIDE}${file}`, await olderOf(root, "etcd/ca", days), 0o644);
  const args = ["etcd", `--trusted-ca-file=${file}`];
  pretendProcess(root, { pid: 41, comm: "etcd", args, started: new Date(Date.now() - DAY_MS) });
}
