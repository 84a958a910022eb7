/** Static pods read their certificates and kubeconfigs once, when they start: which of them have to start again. */

import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { stat } from "../files/files.ts";
import type { Container } from "../node/containers.ts";
import { CERTS, certPath } from "../pki/certs.ts";
import { KUBECONFIGS } from "../pki/kubeconfigs.ts";
import { mountedOf, SERVERS } from "./wanted-manifests.ts";

/** Static pods that run since before what they go by was issued, by this run or one that was cut off: they read it once. */
export function staleReaders(cp: ControlPlaneNode, running: readonly Container[]): Container[] {
  const { certificatesDir } = cp.facts;
  const certs = CERTS.map((row) => certPath(row, certificatesDir));
  const readers = [
    ...SERVERS.map((name) => ({ name, namespace: "kube-system", files: readBy(name, certificatesDir) })),
    ...mountedOf(cp, [...certs, ...KUBECONFIGS.map(({ path }) => path)]),
  ];
  return readers.flatMap(({ name, namespace, files }) => {
    const written = files.flatMap((file) => stat(file)?.modified ?? []);
    const isIts = (one: Container) => one.namespace === namespace && one.pod === `${name}-${cp.node.name}`;
    return running.filter((one) => isIts(one) && written.some((time) => time > one.created));
  });
}

/** What part 2 issues for one of kubeadm's servers: an API server's own certificates, or the kubeconfig of a client of it. */
function readBy(server: string, certificatesDir: string): string[] {
  if (server !== "kube-apiserver") return KUBECONFIGS.filter(({ name }) => `kube-${name}` === server).map(({ path }) => path);
  return CERTS.filter((row) => row.ca && !row.file.startsWith("etcd/")).map((row) => certPath(row, certificatesDir));
}
