/**
 * A time server may serve a wrong time, too. So a clock that follows one is believed against one witness, which may have
 * had a wrong clock itself, and not against two that do not depend on each other: etcd's last write here, the certificates
 * on this disk, and the Leases of other control plane nodes' kubelets. A witness is something of the cluster that is later
 * than now; what is older proves nothing of a clock.
 */
import { duration, minute, TOLERANCE_MS, wrongClock } from "../evidence/server-clock.ts";
import { attempt, type Fail } from "../fail.ts";
import { readable } from "../files/readable.ts";
import { certInfo } from "../pki/certificate.ts";
import { CERTS, certPath } from "../pki/certs.ts";
import { KUBELET_CLIENT_PEM } from "../pki/kubeconfigs.ts";

/** `later`: how a sentence names it, and its time. */
interface Witness {
  later: string;
  at: Date;
}

interface Place {
  /** etcd's. */
  lastWrite: Date;
  certificatesDir: string;
  /** The Leases of other control plane nodes: the node, and milliseconds that its clock was ahead of this one. */
  leases: readonly { name: string; ahead: number }[];
}

/** Fail by two witnesses, a warning by one. */
export function lateClockEvidence({ lastWrite, certificatesDir, leases }: Place): Fail | string[] {
  const ofOthers = leases.map(({ name, ahead }) => ({
    later: `the last renewal of the Lease of ${name}`,
    at: new Date(Date.now() + ahead),
  }));
  const found = [
    latest([{ later: "etcd's last write here", at: lastWrite }]),
    latest(beginnings(certificatesDir)),
    latest(ofOthers),
  ].flatMap((one) => one ?? []);
  if (found.length === 0) return [];
  const before = found.map(({ later, at }) => `${duration(+at - Date.now())} before ${later}, ${minute(at)}`);
  if (found.length > 1) return wrongClock(before.join(", and "));
  return [
    `warning: this node's clock says ${minute(new Date())}, by a time server: that is ${before[0]}. See which is right: date -u on each node, timedatectl`,
  ];
}

/** The latest of what is later than now, if there is one. */
function latest(witnesses: readonly Witness[]): Witness | undefined {
  return witnesses.filter(({ at }) => +at - Date.now() > TOLERANCE_MS).sort((a, b) => +b.at - +a.at)[0];
}

/** When the certificates on this disk begin to be valid. */
function beginnings(certificatesDir: string): Witness[] {
  const files = [KUBELET_CLIENT_PEM, ...CERTS.map((row) => certPath(row, certificatesDir))];
  return files.flatMap((file) => {
    const at = attempt(() => certInfo(readable(file) ?? "").notBefore, undefined);
    return at ? [{ later: `the first day of ${file}`, at }] : [];
  });
}
