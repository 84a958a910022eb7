/**
 * A pretend etcd: the part of its JSON gateway that shared/etcd-location/client.ts uses, over TLS with client
 * certificates.
 */
import { readFileSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { trusting } from "../../shared/pki/served.ts";
import { ADDRESS, FACTS, frozen } from "./cluster.ts";
import { CLUSTER_ID, MEMBER } from "./node.ts";
import { snapshotOf, streamed } from "./write-db.ts";
import type { WrittenMember } from "./write-wal.ts";

export interface EtcdState {
  keys: Map<string, string | Uint8Array>;
  /** Hex. */
  clusterId: string;
  members: { id: string; name: string; peerURLs?: string[]; clientURLs?: string[]; isLearner?: boolean }[];
  /** The member that answers is one. */
  isLearner?: boolean;
  revision: number;
  /** The keys at an earlier revision; default: the same as now. */
  earlier?: Map<string, string>;
  /** Its JSON gateway: off, at a port of its own, or closed to us: it takes connections, and no request. */
  gateway?: "off" | "deaf" | number;
  /** etcd's own authentication is on: it knows no user of the gateway. */
  auth?: boolean;
  /** The CA that it has read when it started, in PEM; default: the one on disk. */
  hasRead?: string;
  /** Too few members run: it only says what it knows by itself. */
  isAlone?: boolean;
  /** It says no to everything, or to some questions. */
  refuses?: () => Response | undefined;
  /** Gets the address and the path of each question. */
  asked?: (what: string) => void;
  /** As `etcdctl alarm list` gives them. */
  alarms?: { memberID: string; alarm: "NOSPACE" | "CORRUPT" }[];
  /** What its gateway streams of a snapshot. */
  snapshot?: string;
}

/** The etcd from before the disaster, with the node's data. */
export function sameEtcd(stored: Map<string, string>): EtcdState {
  return { keys: stored, clusterId: CLUSTER_ID, members: [MEMBER], revision: stored.size + 1 };
}

/**
 * A control plane node that etcd's data has as a member, and that was taken out since; for `members` of a
 * pretend node.
 */
export const TAKEN_OUT = frozen({
  id: "b1b2c3d4e5f60718",
  name: "w2",
  peerURLs: ["https://127.77.0.12:2380"],
});

/** Three members: this node's, m2's, which is lost, and m3's, which the test serves. */
export const LOST = frozen({ id: "b1b2c3d4e5f60718", name: "m2", peerURLs: ["https://127.77.0.12:2380"] });
export const THIRD_AT = ADDRESS.replace(/11$/, "13");
export const THIRD = frozen({ id: "c1b2c3d4e5f60718", name: "m3", peerURLs: [`https://${THIRD_AT}:2380`] });
export const THREE = frozen([MEMBER, LOST, THIRD]);

/**
 * Serves at the pretend control plane node's address or another one, with the certificates on its disk. The
 * peer port only shows its certificate.
 */
export function serveEtcd(root: string, state: EtcdState, hostname = ADDRESS) {
  const [cert, key, ca] = ["server.crt", "server.key", "ca.crt"].map((file) =>
    readFileSync(`${root}/etc/kubernetes/pki/etcd/${file}`, "utf8"),
  );
  return serve(hostname, { cert: cert!, key: key!, ca: ca! }, state);
}

/** The same, with these certificates: an etcd that kubeadm did not make. */
export function serveUnit(
  pems: { cert: string; key: string; ca: string },
  state: EtcdState,
  hostname = ADDRESS,
) {
  const snapshot = streamed(snapshotOf({ members: state.members as WrittenMember[], puts: [...state.keys] }));
  return serve(hostname, pems, { snapshot, ...state });
}

/**
 * Another member of the same etcd, at its own address, with its own certificate of the etcd CA on this node's
 * disk, or of this one.
 */
export async function serveOtherMember(
  root: string,
  state: EtcdState,
  hostname: string,
  other?: { cert: string; key: string },
) {
  const read = (file: string) => readFileSync(`${root}/etc/kubernetes/pki/etcd/${file}`, "utf8");
  const ca = other ?? { cert: read("ca.crt"), key: read("ca.key") };
  const own = await issueLeaf(certRow("etcd-server"), ca, { ...FACTS, advertiseAddress: hostname });
  return serve(hostname, { ...own, ca: ca.cert }, state);
}

function serve(hostname: string, pems: { cert: string; key: string; ca: string }, state: EtcdState) {
  const tls = { ...pems, ...trusting(state.hasRead ?? pems.ca), requestCert: true, rejectUnauthorized: true };
  const { gateway, auth, refuses, snapshot } = state;
  const answer = async (request: Request) => {
    state.asked?.(`${hostname} ${new URL(request.url).pathname}`);
    if (gateway === "off") return new Response("404 page not found\n", { status: 404 });
    if (auth) return Response.json({ error: "etcdserver: user name is empty", code: 3 }, { status: 400 });
    if (snapshot && new URL(request.url).pathname === "/v3/maintenance/snapshot")
      return new Response(snapshot);
    const [path, body] = [new URL(request.url).pathname, await request.json()];
    const isKnown = path.endsWith("/status") || body.serializable || body.linearizable === false;
    if (state.isAlone && !isKnown)
      return Response.json({ error: "etcdserver: request timed out" }, { status: 503 });
    return refuses?.() ?? Response.json(etcdAnswer(path, body, state));
  };
  // gRPC alone: a request of HTTP/1.1 gets no answer
  const closed = {
    hostname,
    port: 2379,
    tls,
    socket: { data: (socket: { end: () => unknown }) => void socket.end() },
  };
  const isClosed = gateway === "deaf" || typeof gateway === "number";
  const clients = [
    ...(isClosed ? [Bun.listen(closed)] : [Bun.serve({ hostname, port: 2379, tls, fetch: answer })]),
    ...(typeof gateway === "number" ? [Bun.serve({ hostname, port: gateway, tls, fetch: answer })] : []),
  ];
  const peers = Bun.serve({ hostname, port: 2380, tls, fetch: () => new Response() });
  return {
    [Symbol.dispose]() {
      for (const server of [...clients, peers]) void server.stop(true);
    },
    /** Its ports are free then, for one that starts again. */
    async [Symbol.asyncDispose]() {
      await Promise.all([...clients, peers].map((server) => server.stop(true)));
      for (const port of [2379, 2380]) await untilFree(hostname, port);
    },
  };
}

/** A server that has stopped with open connections may have its port for some turns more. Errors: where it keeps it. */
async function untilFree(hostname: string, port: number) {
  for (let turn = 0; ; turn++) {
    try {
      return Bun.listen({ hostname, port, socket: { data: () => undefined } }).stop(true);
    } catch (err) {
      if (turn === MOST_TURNS || (err as { code?: string }).code !== "EADDRINUSE") throw err;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const MOST_TURNS = 10_000;

/** The gateway's answers: numbers as decimal text, keys and values as base64. */
export function etcdAnswer(path: string, body: unknown, state: EtcdState): unknown {
  const { clusterId, members, revision } = state;
  if (path === "/v3/maintenance/status") {
    const header = {
      cluster_id: decimal(clusterId),
      member_id: decimal(MEMBER.id),
      revision: String(revision),
    };
    return {
      header,
      leader: decimal(MEMBER.id),
      version: "3.6.5",
      ...(state.isLearner && { isLearner: true }),
    };
  }
  if (path === "/v3/cluster/member/list")
    return { members: members.map(({ id, ...member }) => ({ ID: decimal(id), ...member })) };
  if (path === "/v3/cluster/member/remove") {
    const gone = members.findIndex(({ id }) => decimal(id) === (body as { ID: string }).ID);
    return { members: members.splice(gone, 1) };
  }
  if (path === "/v3/cluster/member/update") {
    const { ID, peerURLs } = body as { ID: string; peerURLs: string[] };
    Object.assign(members.find(({ id }) => decimal(id) === ID)!, { peerURLs });
    return { members };
  }
  if (path === "/v3/maintenance/hashkv") return { hash: 7 };
  if (path === "/v3/maintenance/alarm") return { alarms: state.alarms ?? [] };
  const { key, range_end, revision: asked } = body as { key: string; range_end?: string; revision?: number };
  const keys = asked ? (state.earlier ?? state.keys) : state.keys;
  if (range_end) return { kvs: [...keys.keys()].map((name) => ({ key: base64(name) })) };
  const value = keys.get(Buffer.from(key, "base64").toString());
  return { kvs: value === undefined ? [] : [{ value: base64(value) }] };
}

function decimal(hex: string) {
  return BigInt(`0x${hex}`).toString();
}

function base64(text: string | Uint8Array) {
  return Buffer.from(text).toString("base64");
}

/** TLS: alert, fatal, internal error. */
const ALERT = Buffer.from([0x15, 3, 3, 0, 2, 2, 80]);

/**
 * A member's etcd whose certificate files are gone: it takes each connection, and ends the handshake
 * (crypto/tls, GetCertificate).
 */
export function serveDeaf(hostname: string): Disposable {
  const data = (socket: { end: (bytes: Buffer) => unknown }) => void socket.end(ALERT);
  const servers = [2379, 2380].map((port) => Bun.listen({ hostname, port, socket: { data } }));
  return { [Symbol.dispose]: () => servers.forEach((server) => void server.stop(true)) };
}
