/** A real etcd member on the loopback, under a name and addresses of its own, that may be one of several. */
import { existsSync } from "node:fs";
import { EtcdClient } from "../../../shared/etcd-location/client.ts";
import { fetchDirectly } from "../../../shared/pki/served.ts";
import { ask } from "../machine/loopback-etcd.ts";
import { freePort, startProgram } from "../machine/program.ts";
import { askEtcd } from "./etcd-equal.ts";

export interface Member {
  name: string;
  url: string;
  peerUrl: string;
  dataDir: string;
  /** The first member, of a cluster that this one joins. */
  joins?: Member;
}

const START = 120;

/** In this folder, at free ports; nothing is started. */
export function memberAt(folder: string, name: string): Member {
  const [url, peerUrl] = [freePort(), freePort()].map((port) => `http://127.0.0.1:${port}`) as [
    string,
    string,
  ];
  return { name, url, peerUrl, dataDir: `${folder}/${name}` };
}

/** `cluster`: all members of a new one. Ends the process, by SIGKILL, when it is disposed of. */
export async function startMember(
  etcd: string,
  member: Member,
  { cluster = [member], flags = [] }: { cluster?: Member[]; flags?: string[] } = {},
) {
  const { name, url, peerUrl, dataDir, joins } = member;
  const initial = [...cluster, ...(joins ? [joins] : [])]
    .map((one) => `${one.name}=${one.peerUrl}`)
    .join(",");
  const state = joins || existsSync(`${dataDir}/member`) ? "existing" : "new";
  const program = startProgram(
    name,
    [
      ...[etcd, `--name=${name}`, `--data-dir=${dataDir}`],
      ...[`--listen-client-urls=${url}`, `--advertise-client-urls=${url}`],
      ...[`--listen-peer-urls=${peerUrl}`, `--initial-advertise-peer-urls=${peerUrl}`],
      ...[`--initial-cluster=${initial}`, `--initial-cluster-state=${state}`, "--log-level=warn", ...flags],
    ],
    `${dataDir}.log`,
  );
  const until = (what: string, probe: () => Promise<unknown>) => program.until(what, probe, START);
  const stop = async () => {
    await program.kill();
  };
  try {
    // a learner that catches up is not healthy yet
    const leads = () => statusOf(url).then(({ leader }) => leader !== "0");
    await until(`${name} to know a leader`, leads);
  } catch (err) {
    await stop();
    throw err;
  }
  return { ...member, until, stop, [Symbol.asyncDispose]: stop };
}

export async function statusOf(url: string) {
  const { header, leader = "0" } = await ask<{ header: { revision: string }; leader?: string }>(
    ...([url, "maintenance/status", {}] as const),
  );
  return { revision: header.revision, leader };
}

/** Ids, number of keys, and the hash over all of them. */
export async function askMember(url: string) {
  const etcd = await askEtcd(url);
  const { hash } = await ask<{ hash: number }>(url, "maintenance/hashkv", {
    revision: String(etcd.revision),
  });
  const { clusterId, memberId, revision } = etcd;
  return { etcd, said: { clusterId, memberId, revision, keys: etcd.keys.size, hash } };
}

export async function membersOf(url: string): Promise<string[]> {
  type Answer = { members: { ID: string; name?: string; peerURLs: string[]; isLearner?: boolean }[] };
  const { members } = await ask<Answer>(url, "cluster/member/list", {});
  return members
    .map(({ ID, name = "", peerURLs, isLearner }) =>
      [BigInt(ID).toString(16), name, peerURLs.join(), isLearner ? "learner" : ""].join(" ").trim(),
    )
    .sort();
}

/** As `hand-over pack --with-etcd` asks for it. */
export async function takeSnapshot(url: string): Promise<Buffer> {
  const client = new EtcdClient(url, { ca: "", cert: "", key: "" });
  return Buffer.concat(await Array.fromAsync(client.snapshot()));
}

/**
 * A client that watches all keys from this revision on, while one is written: it is told that the revision is
 * compacted, it sees the change, or it misses it.
 */
export async function watchFrom(url: string, revision: number): Promise<"compacted" | "seen" | "missed"> {
  const range = { key: btoa("\0"), range_end: btoa("\0"), start_revision: String(revision) };
  const body = JSON.stringify({ create_request: range });
  const answer = await fetchDirectly(`${url}/v3/watch`, { method: "POST", body });
  await ask(url, "kv/put", { key: btoa("/registry/watched"), value: btoa("new") });
  // what comes after it has been sent when this has
  const { header } = await ask<{ header: { revision: string } }>(url, "kv/range", {
    key: btoa("/registry/watched"),
  });
  const reader = answer.body!.getReader();
  let said = "";
  for (;;) {
    const { value, done } = await Promise.race([reader.read(), quiet()]);
    if (value) said += Buffer.from(value).toString();
    if (said.includes('"compact_revision"')) return "compacted";
    if (said.includes('"events"')) return "seen";
    if (done) return Number(header.revision) < revision ? "missed" : "seen";
  }
}

/** Seconds of silence that say that nothing comes. */
const SILENCE = 2000;

function quiet(): Promise<{ value: undefined; done: true }> {
  return new Promise((resolve) =>
    AbortSignal.timeout(SILENCE).addEventListener("abort", () => resolve({ value: undefined, done: true })),
  );
}
