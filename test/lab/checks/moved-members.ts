/**
 * Three members of real etcd, of both releases, with TLS as kubeadm has it: killed in the moment of an answer, and
 * started at other addresses, all three. They find each other by what part 1 does; each write that was answered is
 * there, and no id has changed.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { $ } from "bun";
import { updatePeerUrls } from "../../../shared/etcd/tell-members.ts";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { EtcdClient, unlessSilent } from "../../../shared/etcd-location/client.ts";
import { withMoved } from "../../../shared/etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../../../shared/facts/node-facts.ts";
import { Fail } from "../../../shared/fail.ts";
import { setRoot } from "../../../shared/files/files.ts";
import { WORDS_FILE } from "../../../shared/node/rescue-folder.ts";
import { asMoved } from "../../../shared/pki/addresses.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { fetchDirectly, trusting } from "../../../shared/pki/served.ts";
import { endOnSignal, run } from "../../../shared/run.ts";
import { testFacts } from "../../pretend/facts.ts";
import { movedWords } from "../../pretend/kept-words.ts";
import { type Started, startProgram } from "../machine/program.ts";
import { onEachRelease } from "./etcd-releases.ts";

export const NAMES = ["m1", "m2", "m3"];
export const OLD = NAMES.map((_, i) => `127.61.0.${i + 1}`);
export const NEW = NAMES.map((_, i) => `127.62.0.${i + 1}`);
const MOVED = new Map(OLD.map((old, i) => [old, NEW[i]!]));
const WRITES = 60;
export const START = 120;
const PKI = "/etc/kubernetes/pki";

async function main() {
  await onEachRelease(async ({ etcd, folder }) => [await check(etcd, folder)]);
}

async function check(etcd: string, folder: string): Promise<string> {
  const ca = await issueCa(certRow("etcd-ca"), testFacts());
  const tls = await issued(folder, ca, OLD);
  const before = await writeUntilKilled(etcd, folder, tls);
  await issued(folder, ca, NEW);
  const members = NAMES.map((name, i) => start(etcd, folder, { name, at: NEW[i]! }));
  try {
    return await moved(folder, { members, tls, ...before });
  } finally {
    await Promise.all(members.map((one) => one.kill()));
  }
}

export type Tls = { ca: string; cert: string; key: string };

/** Each member's own files, for its address of today and the one before, as part 1 issues them; the client's. */
export async function issued(
  folder: string,
  ca: { cert: string; key: string },
  at: readonly string[],
): Promise<Tls> {
  for (const [i, name] of NAMES.entries()) {
    const [own, etcd] = [`${folder}/${name}.pki${PKI}`, `${folder}/${name}.pki${PKI}/etcd`];
    mkdirSync(etcd, { recursive: true });
    const facts = testFacts({ nodeName: name, advertiseAddress: at[i]!, etcdPeerCertSANs: [OLD[i]!] });
    writeFileSync(`${etcd}/ca.crt`, ca.cert);
    for (const row of ["etcd-server", "etcd-peer", "etcd-healthcheck-client"].map(certRow)) {
      const { cert, key } = await issueLeaf(row, ca, facts);
      writeFileSync(`${own}/${row.file}.crt`, cert);
      writeFileSync(`${own}/${row.file}.key`, key, { mode: 0o600 });
    }
  }
  const client = await issueLeaf(certRow("etcd-healthcheck-client"), ca, testFacts());
  return { ca: ca.cert, ...client };
}

export function start(
  etcd: string,
  folder: string,
  { name, at, more = [] }: { name: string; at: string; more?: string[] },
): Started {
  const pki = `${folder}/${name}.pki${PKI}/etcd`;
  const [client, peer] = [`https://${at}:2379`, `https://${at}:2380`];
  const flags = [
    ...[`--name=${name}`, `--data-dir=${folder}/${name}`, "--log-level=warn", "--initial-cluster-state=new"],
    ...[`--listen-client-urls=${client}`, `--advertise-client-urls=${client}`],
    ...[`--listen-peer-urls=${peer}`, `--initial-advertise-peer-urls=${peer}`],
    `--initial-cluster=${NAMES.map((one, i) => `${one}=https://${OLD[i]}:2380`).join(",")}`,
    ...[`--cert-file=${pki}/server.crt`, `--key-file=${pki}/server.key`, "--client-cert-auth"],
    ...[`--peer-cert-file=${pki}/peer.crt`, `--peer-key-file=${pki}/peer.key`, "--peer-client-cert-auth"],
    ...[`--trusted-ca-file=${pki}/ca.crt`, `--peer-trusted-ca-file=${pki}/ca.crt`],
  ];
  return startProgram(name, [etcd, ...flags, ...more], `${folder}/${name}.log`);
}

export const clientAt = (address: string, tls: Tls) => new EtcdClient(`https://${address}:2379`, tls);

interface Before {
  acknowledged: string[];
  ids: string[];
}

/** All members end in the moment of the last answer. */
async function writeUntilKilled(etcd: string, folder: string, tls: Tls): Promise<Before> {
  const members = NAMES.map((name, i) => start(etcd, folder, { name, at: OLD[i]! }));
  const acknowledged: string[] = [];
  try {
    const first = clientAt(OLD[0]!, tls);
    const leads = async () => (await first.status()).leaderId !== "0";
    await members[0]!.until("etcd to have a leader", leads, START);
    const ids = (await first.members()).map(({ id }) => id);
    for (let i = 0; i < WRITES; i++) {
      const key = `/registry/acknowledged/${i}`;
      await put(key, Buffer.from("value"), tls);
      acknowledged.push(key);
    }
    return { acknowledged, ids };
  } finally {
    await Promise.all(members.map((one) => one.kill()));
  }
}

/** To m1 at its old address. */
export async function put(key: string, value: Buffer, tls: Tls) {
  const body = JSON.stringify({ key: btoa(key), value: value.toString("base64") });
  const request = { method: "POST", body, tls: { ...tls, ...trusting(tls.ca) } };
  const response = await fetchDirectly(`https://${OLD[0]}:2379/v3/kv/put`, request);
  if (!response.ok)
    throw new Fail(`etcd does not take a write: ${await response.text()}`, { hint: "its log" });
}

type Case = Before & { members: Started[]; tls: Tls };

/**
 * On m2, as an operator runs part 1 there; the others' part 1 has started their etcd. Twice it is cut off while m1
 * is reached through this machine's loopback: a second run leaves nothing of that.
 */
async function moved(folder: string, { members, tls, acknowledged, ids }: Case): Promise<string> {
  sayMoved(folder, "m2");
  for (const [signal, leaves] of [
    ["SIGKILL", true],
    ["SIGHUP", false],
  ] as const)
    await cutOff(folder, { signal, leaves, members, tls });
  await tell(folder);
  // as a run leaves it that is killed when all is told
  await $`ip addr replace ${OLD[0]}/32 dev lo scope host`;
  await tell(folder);
  const all = await Promise.all(
    NEW.map(async (address, i) => {
      const client = clientAt(address, tls);
      const leads = async () => (await client.status()).leaderId !== "0";
      await members[i]!.until(`${NAMES[i]} to know a leader`, leads, START);
      return {
        client,
        ...(await client.status()),
        keys: await client.keys(),
        members: await client.members(),
      };
    }),
  );
  const revision = Math.min(...all.map((one) => one.revision));
  const hashes = await Promise.all(all.map(({ client }) => client.hashAt(revision)));
  const found = {
    hashes: new Set(hashes.map(({ hash }) => hash)).size,
    missing: acknowledged.filter((key) => all.some(({ keys }) => !keys.has(key))),
    ids: all[0]!.members.map(({ id }) => id).toSorted(),
    old: all
      .flatMap((one) => one.members.flatMap(({ peerURLs }) => peerURLs))
      .filter((url) => asMoved(url, MOVED) !== url),
    alias: await hasAlias(),
  };
  if (!Bun.deepEquals(found, { hashes: 1, missing: [], ids: ids.toSorted(), old: [], alias: false }))
    throw new Fail(`the members have not found each other: ${Bun.inspect(found)}`, { hint: "tellMembers" });
  return `three members at other addresses have found each other: same ids, one hash, ${acknowledged.length} of ${acknowledged.length} acknowledged writes, no old address left; twice cut off while the relay was up`;
}

/** As move.ts keeps it. */
export function sayMoved(folder: string, name: string) {
  const rescue = `${folder}/${name}.pki/root/kube-pki-repair-20261129T080000`;
  mkdirSync(rescue, { recursive: true });
  writeFileSync(`${rescue}/${WORDS_FILE}`, movedWords(MOVED));
}

export async function hasAlias(): Promise<boolean> {
  return (await $`ip -br addr show dev lo`.text()).includes("127.61.");
}

/** Part 1's step, on m2 unless it says another one. */
export async function tell(folder: string, name = "m2") {
  const address = NEW[NAMES.indexOf(name)]!;
  const facts = testFacts({ nodeName: name, advertiseAddress: address, certificatesDir: PKI });
  using raw = readEtcdData(`${folder}/${name}`);
  setRoot(`${folder}/${name}.pki`);
  const cp = {
    data: withMoved(raw, MOVED),
    facts,
    node: { addresses: [address], kubelet: { staticPodPath: "/etc/kubernetes/manifests" } },
  } as unknown as ControlPlaneNode;
  await updatePeerUrls(cp);
  setRoot("/");
}

/** A process of its own does the step, and gets the signal as soon as it has taken an old address. */
async function cutOff(
  folder: string,
  {
    signal,
    leaves,
    members,
    tls,
  }: { signal: "SIGKILL" | "SIGHUP"; leaves: boolean } & Pick<Case, "members" | "tls">,
) {
  // who knows none since it started does not answer
  const leader = async (at: string) =>
    (await unlessSilent(() => clientAt(at, tls).status()))?.leaderId ?? "0";
  const nobodyLeads = async () => (await Promise.all(NEW.map(leader))).every((id) => id === "0");
  await members[1]!.until("the members to have no leader", nobodyLeads, START);
  const child = tellBeside(folder);
  const said = await saysUntil(child.stderr, " to lo");
  child.kill(signal);
  await child.exited;
  const found = {
    said,
    isCut: child.signalCode === signal || child.exitCode === 130,
    leaves: await hasAlias(),
  };
  if (!Bun.deepEquals(found, { said: true, isCut: true, leaves }))
    throw new Fail(`cut off by ${signal}: ${Bun.inspect(found)}`, { hint: "tell-members.ts, this-run.ts" });
}

/** In a process of its own, on m2. */
export function tellBeside(folder: string) {
  return Bun.spawn([process.execPath, import.meta.path, TELL, folder], { stderr: "pipe", stdout: "ignore" });
}

/** Whether it says so before it ends. What comes then is read, too: it may not wait for a reader. */
export async function saysUntil(stream: ReadableStream<Uint8Array>, words: string): Promise<boolean> {
  const reader = stream
    .pipeThrough(new TextDecoderStream() as never)
    .getReader() as ReadableStreamDefaultReader<string>;
  let said = "";
  while (!said.includes(words)) {
    const { done, value } = await reader.read();
    if (done) return false;
    said += value;
  }
  void reader.closed;
  return true;
}

/** The argument of a process that only does the step. */
const TELL = "tell";

async function tellOnly() {
  endOnSignal();
  await tell(process.argv[3]!);
}

if (import.meta.main) await run(process.argv[2] === TELL ? tellOnly : main);
