/**
 * Compares `readEtcdData` with etcd itself, key by key: `const answers = await
 * askEtcd("http://127.0.0.1:2379")`, then `compareWithEtcd(dataDir, answers)`, while etcd runs, or after it
 * was stopped or killed.
 */
import { createHash } from "node:crypto";
import { type EtcdData, type KeyValue, readEtcdData } from "../../../shared/etcd-data/data.ts";

export interface EtcdAnswers {
  revision: number;
  clusterId: string;
  memberId: string;
  /** Key → createRevision, modRevision, version, lease, SHA-256 of the value. */
  keys: Map<string, string>;
}

interface Difference {
  /** A key, or "revision", "clusterId", "memberId". */
  what: string;
  etcd: string;
  offline: string;
}

/**
 * Everything in etcd at its present revision, through its JSON gateway. `tls` as in Bun's fetch: ca, cert,
 * key.
 */
export async function askEtcd(endpoint: string, options: { tls?: object } = {}): Promise<EtcdAnswers> {
  const answers: EtcdAnswers = { revision: 0, clusterId: "", memberId: "", keys: new Map() };
  for (let start = "\0"; ; ) {
    const body = {
      key: base64(start),
      range_end: base64("\0"),
      limit: 500,
      revision: answers.revision || undefined,
    };
    const response = await fetch(`${endpoint}/v3/kv/range`, {
      method: "POST",
      body: JSON.stringify(body),
      ...options,
    });
    if (!response.ok) throw new Error(`etcd answered ${response.status}: ${await response.text()}`);
    const page = (await response.json()) as Page;
    if (answers.revision === 0) Object.assign(answers, readHeader(page.header));
    const kvs = page.kvs ?? [];
    for (const kv of kvs) answers.keys.set(latin1(kv.key), line(fromJson(kv)));
    if (!page.more) return answers;
    start = `${latin1(kvs.at(-1)!.key)}\0`;
  }
}

/** The differences between etcd's answers and the data directory. Values are shown as hashes. */
export function compareWithEtcd(
  dataDir: string,
  answers: EtcdAnswers,
  data: EtcdData = readEtcdData(dataDir),
): Difference[] {
  const differences: Difference[] = [];
  const compare = (what: string, etcd: unknown, offline: unknown) => {
    if (etcd !== offline) differences.push({ what, etcd: String(etcd), offline: String(offline) });
  };
  compare("revision", answers.revision, data.revision);
  compare("clusterId", answers.clusterId, data.clusterId);
  compare("memberId", answers.memberId, data.memberId);
  compare("keyCount", answers.keys.size, data.keyCount);
  const offline = new Map(
    data.list("").map((keyValue) => [Buffer.from(keyValue.key).toString("latin1"), line(keyValue)]),
  );
  for (const key of new Set([...answers.keys.keys(), ...offline.keys()]))
    compare(key, answers.keys.get(key), offline.get(key));
  return differences;
}

interface JsonKeyValue {
  key: string;
  value?: string;
  create_revision: string;
  mod_revision: string;
  version: string;
  lease?: string;
}

interface Page {
  header: { cluster_id: string; member_id: string; revision: string };
  kvs?: JsonKeyValue[];
  more?: boolean;
}

function readHeader(header: Page["header"]) {
  return {
    revision: Number(header.revision),
    clusterId: BigInt(header.cluster_id).toString(16),
    memberId: BigInt(header.member_id).toString(16),
  };
}

function fromJson(kv: JsonKeyValue): Omit<KeyValue, "key"> {
  return {
    value: Buffer.from(kv.value ?? "", "base64"),
    createRevision: Number(kv.create_revision),
    modRevision: Number(kv.mod_revision),
    version: Number(kv.version),
    lease: BigInt(kv.lease ?? 0),
  };
}

function line(kv: Omit<KeyValue, "key">): string {
  const hash = createHash("sha256").update(kv.value).digest("hex");
  return `create ${kv.createRevision} mod ${kv.modRevision} version ${kv.version} lease ${kv.lease} value ${kv.value.length} ${hash}`;
}

function base64(text: string): string {
  return Buffer.from(text, "latin1").toString("base64");
}

function latin1(encoded: string): string {
  return Buffer.from(encoded, "base64").toString("latin1");
}
