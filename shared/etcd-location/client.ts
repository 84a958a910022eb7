/**
 * Asks a running etcd over the JSON gateway of its client port (etcd's rpc.proto, gRPC-gateway paths
 * `/v3/…`), so that the node needs no etcdctl. Numbers come as strings, keys and values as base64; this
 * client returns ids as hex, as etcd prints them.
 */
import { createHash } from "node:crypto";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { endpointUrl, hostAndPort } from "../pki/addresses.ts";
import { type ClusterFacts, type ExternalEtcd, etcdClientFiles } from "../pki/certs.ts";
import { fetchDirectly, trusting } from "../pki/served.ts";
import { quoteUntrusted } from "../plain.ts";
import { answered } from "../wait-for.ts";

export type EtcdStatus = Awaited<ReturnType<EtcdClient["status"]>>;

export interface LiveMember {
  id: string;
  /** Empty: the member has never run. */
  name: string;
  peerURLs: string[];
  clientURLs: string[];
  isLearner: boolean;
}

export class EtcdRefusal extends Fail {
  /** HTTP status: 404 if its gateway is off, 503 if it has no quorum. */
  readonly status: number;

  constructor(message: string, status: number) {
    super(message, { hint: HINT });
    this.status = status;
  }
}

/** Milliseconds for one request: without quorum etcd itself gives up after seven seconds. */
const REQUEST_TIMEOUT = 10_000;

/** Milliseconds if etcd reads its whole database for the answer: 8 GB at 50 MB/s take 160 s. */
const WHOLE_TIMEOUT = 600_000;

const HINT =
  "crictl ps -a --name etcd; crictl logs ID. Then run the same line again: what is done stays done";

/** Keys per request when all keys are listed. */
const PAGE = 10_000;

export class EtcdClient {
  readonly endpoint: string;
  readonly #tls: ReturnType<typeof trusting> & { cert: string; key: string };
  readonly #nodes: ExternalEtcd["nodes"];

  /** @param endpoint a client URL, for instance `https://10.0.0.11:2379` */
  constructor(
    endpoint: string,
    tls: { ca: string; cert: string; key: string },
    nodes: ExternalEtcd["nodes"] = {},
  ) {
    this.endpoint = endpoint;
    this.#tls = { ...tls, ...trusting(tls.ca) };
    this.#nodes = nodes;
  }

  async status() {
    type Answer = {
      header: { cluster_id: string; revision: string };
      leader?: string;
      version: string;
      isLearner?: boolean;
      dbSize?: string;
    };
    const {
      header,
      leader = "0",
      version,
      isLearner = false,
      dbSize = "0",
    } = await this.#post<Answer>("/v3/maintenance/status", {});
    return {
      size: Number(dbSize),
      clusterId: hex(header.cluster_id),
      leaderId: hex(leader),
      revision: Number(header.revision),
      version,
      isLearner,
    };
  }

  /**
   * `agreed`: only the list that a majority confirms now, so there is a leader (etcd rpc.proto,
   * MemberListRequest.linearizable).
   */
  async members({ agreed = false } = {}): Promise<LiveMember[]> {
    type Answer = { members: (Partial<LiveMember> & { ID: string })[] };
    const { members } = await this.#post<Answer>("/v3/cluster/member/list", { linearizable: agreed });
    return members.map(({ ID, name = "", peerURLs = [], clientURLs = [], isLearner = false }) => ({
      id: hex(ID),
      name: this.#nodes[hex(ID)] ?? name,
      peerURLs,
      clientURLs,
      isLearner,
    }));
  }

  /** Whether a member's database is full: etcd takes no writes then, until the alarm is disarmed. */
  async isFull(): Promise<boolean> {
    const { alarms = [] } = await this.#post<{ alarms?: { alarm?: string }[] }>("/v3/maintenance/alarm", {
      action: "GET",
    });
    return alarms.some(({ alarm }) => alarm === "NOSPACE");
  }

  /** `agreed`: read through the leader, so an answer also proves quorum; else this member's own copy. */
  async get(key: string, { agreed = true } = {}): Promise<Uint8Array | undefined> {
    const answer = await this.#post<{ kvs?: { value?: string }[] }>("/v3/kv/range", {
      key: base64(key),
      serializable: !agreed,
    });
    return answer.kvs?.[0] ? Buffer.from(answer.kvs[0].value ?? "", "base64") : undefined;
  }

  /** Whether a key was there at an earlier revision; "compacted" where etcd no longer knows. */
  async wasThere(key: string, revision: number): Promise<boolean | "compacted"> {
    try {
      const answer = await this.#post<{ kvs?: unknown[] }>("/v3/kv/range", {
        key: base64(key),
        revision,
        keys_only: true,
      });
      return (answer.kvs ?? []).length > 0;
    } catch (err) {
      if (err instanceof Error && /compacted/.test(err.message)) return "compacted";
      throw err;
    }
  }

  /**
   * A hash over all keys up to a revision, to compare members with each other (rpc.proto HashKV). Only if
   * both have compacted to the same revision: the hash leaves out compacted keys
   * (server/etcdserver/corrupt.go).
   */
  async hashAt(revision: number): Promise<{ hash: string; compacted: string }> {
    const { hash, compact_revision: compacted = "0" } = await this.#post<{
      hash: number;
      compact_revision?: string;
    }>("/v3/maintenance/hashkv", { revision }, WHOLE_TIMEOUT);
    return { hash: String(hash), compacted };
  }

  /** A member that is gone already is no error: another control plane node may have been faster. */
  async removeMember(id: string) {
    try {
      await this.#post("/v3/cluster/member/remove", { ID: BigInt(`0x${id}`).toString() });
    } catch (err) {
      if (!(err instanceof Error && /member not found/.test(err.message))) throw err;
    }
  }

  /** Needs a majority. The same URLs again change nothing. */
  async updateMember(id: string, peerURLs: readonly string[]) {
    await this.#post("/v3/cluster/member/update", { ID: BigInt(`0x${id}`).toString(), peerURLs });
  }

  /**
   * Pieces of the database, then its SHA-256, as `etcdctl snapshot save` writes it. Source: etcd
   * server/etcdserver/api/v3rpc/maintenance.go (Snapshot); the gateway sends a line of JSON for each piece. Errors:
   * Fail if etcd breaks it off, or if the sum does not match.
   */
  async *snapshot(): AsyncGenerator<Uint8Array> {
    const hash = createHash("sha256");
    let tail = Buffer.alloc(0);
    for await (const line of linesOf(await this.#snapshotLines())) {
      const piece = pieceIn(line, this.endpoint);
      const bytes = Buffer.concat([tail, piece]);
      const end = Math.max(0, bytes.length - SUM);
      hash.update(bytes.subarray(0, end));
      tail = Buffer.from(bytes.subarray(end));
      yield piece;
    }
    if (tail.length === SUM && hash.digest().equals(tail)) return;
    throw new Fail(`The snapshot of etcd at ${this.endpoint} was cut off, or changed on its way`, {
      hint: CUT_OFF,
    });
  }

  async #snapshotLines(): Promise<ReadableStream<Uint8Array>> {
    const path = "/v3/maintenance/snapshot";
    const request = { method: "POST", body: "{}", tls: this.#tls };
    const server = `etcd at ${this.endpoint}`;
    const response = await answered(fetchDirectly(this.endpoint + path, request), server, HINT);
    if (!response.ok || !response.body)
      throw new EtcdRefusal(`${server}${path}: HTTP ${response.status}`, response.status);
    return response.body;
  }

  async keys(): Promise<Set<string>> {
    const keys = new Set<string>();
    for (let from = "\0"; ; ) {
      const range = { key: base64(from), range_end: base64("\0"), keys_only: true, limit: PAGE };
      const answer = await this.#post<{ kvs?: { key: string }[]; more?: boolean }>(
        "/v3/kv/range",
        range,
        WHOLE_TIMEOUT,
      );
      for (const kv of answer.kvs ?? []) keys.add(Buffer.from(kv.key, "base64").toString());
      const last = answer.kvs?.at(-1);
      if (!answer.more || !last) return keys;
      from = `${Buffer.from(last.key, "base64").toString()}\0`;
    }
  }

  /** Errors: Fail if etcd does not answer, or refuses. */
  async #post<T>(path: string, body: unknown, timeout = REQUEST_TIMEOUT): Promise<T> {
    const from = `etcd at ${this.endpoint}`;
    const request = {
      method: "POST",
      body: JSON.stringify(body),
      tls: this.#tls,
      signal: AbortSignal.timeout(timeout),
    };
    const response = await answered(fetchDirectly(this.endpoint + path, request), from, HINT);
    const text = await answered(response.text(), from, HINT);
    if (!response.ok)
      throw new EtcdRefusal(
        `${from}${path}: HTTP ${response.status} ${quoteUntrusted(text.trim())}`,
        response.status,
      );
    return JSON.parse(text) as T;
  }
}

const SUM = 32;
const CUT_OFF = "see whether etcd is well: ./bunw scripts/05-verify.ts. Then run the same line again";

function pieceIn(line: string, endpoint: string): Buffer {
  const { result, error } = JSON.parse(line) as { result?: { blob?: string }; error?: { message?: string } };
  if (result) return Buffer.from(result.blob ?? "", "base64");
  throw new Fail(`etcd at ${endpoint} stopped its snapshot: ${quoteUntrusted(error?.message ?? line)}`, {
    hint: CUT_OFF,
  });
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let begun: string[] = [];
  for await (const bytes of stream) {
    const [first = "", ...more] = Buffer.from(bytes).toString("latin1").split("\n");
    begun.push(first);
    for (const next of more) {
      if (begun.some(Boolean)) yield begun.join("");
      begun = [next];
    }
  }
  if (begun.some(Boolean)) yield begun.join("");
}

function base64(text: string) {
  return Buffer.from(text).toString("base64");
}

function hex(decimal: string) {
  return BigInt(decimal).toString(16);
}

/** Undefined if etcd does not answer. */
export async function unlessSilent<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    return undefined;
  }
}

type Reached = Pick<
  ClusterFacts,
  "certificatesDir" | "advertiseAddress" | "etcdAt" | "etcdGateway" | "externalEtcd"
>;

/** Has the health check's certificate from disk, or the API server's; undefined if that is missing. */
export function etcdClient(facts: Reached, host?: string): EtcdClient | undefined {
  const paths = etcdClientFiles(facts);
  const [ca, cert, key] = [paths.ca, paths.cert, paths.key].map((path) => readText(path));
  if (!ca || !cert || !key) return undefined;
  return new EtcdClient(gatewayAt(facts, host), { ca, cert, key }, facts.externalEtcd?.nodes);
}

/** Each member has the same port. */
function gatewayAt({ advertiseAddress, etcdAt, etcdGateway, externalEtcd }: Reached, asked?: string): string {
  if (externalEtcd && asked === undefined) return externalEtcd.server;
  const host = asked ?? etcdAt?.client ?? advertiseAddress;
  if (etcdGateway && [etcdAt?.client, advertiseAddress].includes(host)) return etcdGateway;
  const server = etcdGateway ?? externalEtcd?.server;
  return endpointUrl(host, server ? hostAndPort(server).port : 2379);
}
