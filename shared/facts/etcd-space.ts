/** etcd's database has reached its quota: etcd raises the alarm NOSPACE, and takes no write until it is disarmed (server/etcdserver/quota.go). */
import { shell } from "../shell-line.ts";

/** What an operator types where etcd runs. By itself etcd compacts nothing more: the API server's compaction is a write, too. */
export function makeRoom({ certificatesDir, revision }: { certificatesDir: string; revision: number }): string {
  const pki = `${certificatesDir}/etcd`;
  const etcdctl = shell`etcdctl --cacert ${pki}/ca.crt --cert ${pki}/healthcheck-client.crt --key ${pki}/healthcheck-client.key`;
  const inside = (words: string) => `crictl exec $(crictl ps -q --name '^etcd$') ${etcdctl} ${words}`;
  return `${inside(shell`compact ${String(revision)}`)}; ${inside("defrag")}; ${inside("alarm disarm")}`;
}

/** The sentence about it. */
export const FULL = "etcd's database is full (alarm NOSPACE): it takes no write, so no Lease is renewed and no object changes";
