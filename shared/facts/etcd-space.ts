/** etcd's database has reached its quota: etcd raises the alarm NOSPACE, and takes no write until it is disarmed (server/etcdserver/quota.go). */
import { shell } from "../shell-line.ts";

/** The sentence about it. */
export const FULL = "etcd's database is full (alarm NOSPACE): it takes no write, so no Lease is renewed and no object changes";

/** What an operator types where etcd runs. By itself etcd compacts nothing more: the API server's compaction is a write, too. */
export function makeRoom({ certificatesDir, revision }: { certificatesDir: string; revision: number }): string {
  const inside = (words: string) => etcdctlLine(words, { certificatesDir });
  return `${inside(shell`compact ${String(revision)}`)}; ${inside("defrag")}; ${inside("alarm disarm")}`;
}

/** etcdctl in the container of this node's static pod: the node itself mostly has none. `words`: what it is to do. */
export function etcdctlLine(words: string, { certificatesDir }: { certificatesDir: string }, option = ""): string {
  const at = `${certificatesDir}/etcd`;
  const etcdctl = shell`etcdctl --cacert ${at}/ca.crt --cert ${at}/healthcheck-client.crt --key ${at}/healthcheck-client.key`;
  const container = "$(crictl ps -q --name '^etcd$' --label io.kubernetes.pod.name=etcd-$(uname -n))";
  return ["crictl exec", ...(option ? [option] : []), container, etcdctl, words].join(" ");
}
