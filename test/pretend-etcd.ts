/** A pretend etcd: the JSON gateway of its client port, as far as shared/etcd/live.ts asks it, over TLS with clients' certificates. */
import { readFileSync, watch } from "node:fs";
import { ADDRESS } from "./pretend-cluster.ts";
import { CLUSTER_ID, MEMBER } from "./pretend-node.ts";

export interface EtcdState {
  keys: Map<string, string>;
  /** Hex. */
  clusterId: string;
  members: { id: string; name: string }[];
  revision: number;
}

/** The etcd from before: what the node's data held. */
export function sameEtcd(stored: Map<string, string>): EtcdState {
  return { keys: stored, clusterId: CLUSTER_ID, members: [MEMBER], revision: stored.size + 1 };
}

/** Serves on the pretend master's address, with the certificates that are on its disk. */
export function serveEtcd(root: string, state: EtcdState) {
  const [cert, key, ca] = ["server.crt", "server.key", "ca.crt"].map((file) =>
    readFileSync(`${root}/etc/kubernetes/pki/etcd/${file}`, "utf8"),
  );
  const server = Bun.serve({
    hostname: ADDRESS,
    port: 2379,
    tls: { cert: cert!, key: key!, ca: ca!, requestCert: true, rejectUnauthorized: true },
    fetch: async (request) => Response.json(etcdAnswer(new URL(request.url).pathname, await request.json(), state)),
  });
  const peers = servePeers(root);
  return {
    [Symbol.dispose]: () => {
      void server.stop(true);
      peers[Symbol.dispose]();
    },
  };
}

/** The peer port of an etcd that has found no quorum yet: it shows its certificate, and that is all. */
export function servePeers(root: string) {
  const [cert, key] = ["peer.crt", "peer.key"].map((file) => readFileSync(`${root}/etc/kubernetes/pki/etcd/${file}`, "utf8"));
  const server = Bun.serve({ hostname: ADDRESS, port: 2380, tls: { cert: cert!, key: key! }, fetch: () => new Response() });
  return { [Symbol.dispose]: () => void server.stop(true) };
}

/** What the gateway answers: numbers as decimal text, keys and values as base64. */
export function etcdAnswer(path: string, body: unknown, { keys, clusterId, members, revision }: EtcdState): unknown {
  if (path === "/v3/maintenance/status") {
    const header = { cluster_id: decimal(clusterId), member_id: decimal(MEMBER.id), revision: String(revision) };
    return { header, leader: decimal(MEMBER.id), version: "3.6.5" };
  }
  if (path === "/v3/cluster/member/list") return { members: members.map(({ id, name }) => ({ ID: decimal(id), name })) };
  const { key, range_end } = body as { key: string; range_end?: string };
  if (range_end) return { kvs: [...keys.keys()].map((name) => ({ key: base64(name) })) };
  const value = keys.get(Buffer.from(key, "base64").toString());
  return { kvs: value === undefined ? [] : [{ value: base64(value) }] };
}

/** Ends when the node's programs have been called so. */
export async function called(callsFile: string, call: string): Promise<void> {
  const isThere = () => readFileSync(callsFile, "utf8").split("\n").includes(call);
  await new Promise<void>((resolve) => {
    const watcher = watch(callsFile, () => {
      if (!isThere()) return;
      watcher.close();
      resolve();
    });
  });
}

function decimal(hex: string) {
  return BigInt(`0x${hex}`).toString();
}

function base64(text: string) {
  return Buffer.from(text).toString("base64");
}
