/**
 * Reads deleted files that processes still have mounted: what a static pod mounts as a single file stays readable below /proc/PID/root.
 * kubeadm mounts controller-manager.conf and scheduler.conf so; operators often mount an encryption or authentication configuration so.
 */
import type { LostFile } from "../../facts/lost-files.ts";
import { attempt } from "../../fail.ts";
import { readText } from "../../files/files.ts";
import { textBelow } from "../../files/untrusted-file.ts";
import { keyMatches, shareCertificate, signedBy } from "../../pki/certificate.ts";
import { KUBECONFIGS, parseKubeconfig } from "../../pki/kubeconfigs.ts";
import type { Process } from "./processes.ts";

interface Mounted {
  path: string;
  content: string;
  /** For the operator. */
  from: string;
}

/** Of the lost files that the static pods' flags name: those that the pod's own process still has mounted. */
export function mountedFiles(processes: readonly Process[], lost: readonly LostFile[]): Mounted[] {
  return lost.flatMap(({ path, inside, program }) => {
    if (inside === "") return [];
    for (const process of processes.filter(({ name }) => name === program)) {
      const content = textBelow(process.pid, inside);
      if (content?.trim() && !content.includes("\ufffd")) return [{ path, content, from: stillIn(process) }];
    }
    return [];
  });
}

function stillIn({ name, pid }: Process): string {
  return `still mounted in ${name} (pid ${pid})`;
}

/** Kubeconfigs that are missing on this node, whole, and of the cluster's CA. */
export function mountedKubeconfigs(processes: readonly Process[], caPem: string): Mounted[] {
  const missing = KUBECONFIGS.filter(({ path }) => !readText(path)?.trim());
  return missing.flatMap(({ path }) => {
    for (const process of processes) {
      const content = textBelow(process.pid, path);
      if (content && attempt(() => isOurs(content, path, caPem)) === true) return [{ path, content, from: stillIn(process) }];
    }
    return [];
  });
}

/** Errors: Fail where it cannot be read. */
function isOurs(content: string, path: string, caPem: string): boolean {
  const { caPem: trusted, clientCertPem: cert = "", clientKeyPem: key = "" } = parseKubeconfig(content, path);
  return shareCertificate(trusted, caPem) && signedBy(cert, caPem) && keyMatches(cert, key);
}
