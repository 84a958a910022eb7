/**
 * Reads deleted kubeconfigs that processes still have mounted: kubeadm's static pods mount controller-manager.conf and scheduler.conf as
 * single files, and these stay readable below /proc/PID/root.
 */
import { attempt, Fail } from "../../fail.ts";
import { readText } from "../../files/files.ts";
import { textBelow } from "../../files/host-file.ts";
import { keyMatches, shareCertificate, signedBy } from "../../pki/certificate.ts";
import { KUBECONFIGS, parseKubeconfig } from "../../pki/kubeconfigs.ts";
import type { Process } from "./processes.ts";

interface Mounted {
  path: string;
  content: string;
  from: string;
}

/** Those that are missing on this node, whole, and of the cluster's CA. */
export function mountedKubeconfigs(processes: readonly Process[], caPem: string): Mounted[] {
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
  const { caPem: trusted, clientCertPem, clientKeyPem } = parseKubeconfig(content, path);
  if (!clientCertPem || !clientKeyPem) throw new Fail(`"${path}" holds no client certificate`, { hint: "part 2 makes a new one" });
  return shareCertificate(trusted, caPem) && signedBy(clientCertPem, caPem) && keyMatches(clientCertPem, clientKeyPem);
}
