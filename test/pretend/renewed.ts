/** A node whose CA was renewed with its own key: what is in its files now, and what was before. */
import { readFileSync } from "node:fs";
import { certInfo } from "../../shared/pki/certificate.ts";
import { write } from "./cluster.ts";
import { agedText } from "./expired.ts";
import { pretendProcess } from "./memory.ts";

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
