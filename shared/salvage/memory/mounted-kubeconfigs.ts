/**
 * Reads deleted kubeconfigs that processes still have mounted: kubeadm's static pods mount controller-manager.conf and scheduler.conf as
 * single files, and these stay readable below /proc/PID/root.
 */
import { attempt } from "../../fail.ts";
import { readText } from "../../files/files.ts";
import { textBelow } from "../../files/host-file.ts";
import { keyMatches, shareCertificate, signedBy } from "../../pki/certificate.ts";
import { KUBECONFIGS, parseKubeconfig } from "../../pki/kubeconfigs.ts";
import type { Process } from "./processes.ts";

/** Those that are missing on this node, whole, and of the cluster's CA. */
export function mountedKubeconfigs(processes: readonly Process[], caPem: string): { path: string; content: string; from: string }[] {
  const missing = KUBECONFIGS.filter(({ path }) => !readText(path)?.trim());
  return missing.flatMap(({ path }) => {
    for (const process of processes) {
      const content = textBelow(process.pid, path);
      if (content && attempt(() => isOurs(content, path, caPem)) === true)
        return [{ path, content, from: `still mounted in ${process.name} (pid ${process.pid})` }];
    }
    return [];
  });
}

/** Errors: Fail where it cannot be read. */
function isOurs(content: string, path: string, caPem: string): boolean {
  const { caPem: trusted, clientCertPem: cert = "", clientKeyPem: key = "" } = parseKubeconfig(content, path);
  return shareCertificate(trusted, caPem) && signedBy(cert, caPem) && keyMatches(cert, key);
}
