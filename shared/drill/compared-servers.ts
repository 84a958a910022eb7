/** The certificates that the servers of this node show now, beside those that the repair would give them. */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { CERTS, certPath } from "../pki/certs.ts";
import { servedPem } from "../pki/served.ts";
import type { SeenFile } from "./compared-files.ts";
import type { ComparedServer } from "./drill-report.ts";
import { certificateFields, fieldDifferences } from "./file-fields.ts";

/** etcd's ports are kubeadm's (app/constants). */
function serversOf({ facts }: ControlPlaneNode) {
  const at = (name: string, port: number) => ({ name, port, host: facts.advertiseAddress });
  return {
    apiserver: at("kube-apiserver", facts.bindPort),
    "etcd-server": at("etcd", 2379),
    "etcd-peer": at("etcd for its peers", 2380),
  } as Record<string, ReturnType<typeof at>>;
}

/** `back`: what the repair has made. A server that does not answer is a difference: on a node that is well all of them do. */
export async function compareServers(cp: ControlPlaneNode, back: Map<string, SeenFile>): Promise<ComparedServer[]> {
  const rows = CERTS.flatMap((row) => {
    const server = serversOf(cp)[row.name];
    return server ? [{ path: certPath(row, cp.facts.certificatesDir), server }] : [];
  });
  return await Promise.all(
    rows.map(async ({ path, server: { name, host, port } }) => {
      const [shown] = await Promise.allSettled([servedPem(host, port)]);
      const fields = shown.status === "fulfilled" ? certificateFields(shown.value) : undefined;
      const made = back.get(path)?.fields;
      const why = shown.status === "rejected" ? String(shown.reason) : "it shows no certificate";
      const differences = fields ? (made ? fieldDifferences(fields, made) : ["-the file"]) : [`-no answer: ${why}`];
      return { server: `${name}, port ${port}`, path, differences };
    }),
  );
}
